"""Redrawing faces, and nothing else."""

from typing import Any

from comfy_api.latest import io

from ..fidelity.steps.faces import FACE_MARGIN, FACE_PX, find_boxes, parse_boxes, restore_faces
from . import host


class FidelityRestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityRestoreFaces",
            display_name="Restore Faces (Fidelity)",
            category=host.CATEGORY,
            description="Redraws given faces by a network made for that (GFPGAN, RestoreFormer, CodeFormer), with the colours "
            "they have; nothing else changes. What such a network draws is invented: a likeness may be lost.",
            search_aliases=["gfpgan", "codeformer", "restoreformer", "face restore", "face fix"],
            inputs=[
                io.Image.Input("image", tooltip="After enlarging. The same faces count for all of a batch."),
                io.UpscaleModel.Input(
                    "face_model", tooltip="GFPGAN, RestoreFormer, CodeFormer; from any upscale model loader."
                ),
                io.String.Input(
                    "boxes",
                    default="",
                    multiline=True,
                    tooltip="Left, top, width, height of each face in pixels of the image, chin to forehead, one face a line. "
                    "Empty: every separate area of the mask is a face.",
                ),
                io.Float.Input("strength", default=1.0, min=0, max=1, step=0.05, tooltip="Share of what was drawn, 0 to 1."),
                io.Float.Input(
                    "margin",
                    default=FACE_MARGIN,
                    min=0,
                    max=2,
                    step=0.05,
                    advanced=True,
                    tooltip="Added around each box on every side, as a share of its longer side.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where what was drawn is taken, and how much of it."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The image with its faces redrawn.")],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        face_model: Any,
        boxes: str,
        strength: float,
        margin: float,
        mask: io.Mask.Type | None = None,
    ) -> io.NodeOutput:
        source = host.to_engine(image)
        shares = host.mask_to_engine(mask)
        faces = parse_boxes(boxes) or (find_boxes(shares[:1]) if shares is not None else [])
        model, device = host.prepare_model(face_model, source[:, :, :FACE_PX, :FACE_PX])
        result = restore_faces(source, model, faces, shares, strength, margin, device, host.track_progress())
        return io.NodeOutput(host.to_host(result))
