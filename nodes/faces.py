"""The node that restores faces and leaves the rest of the image alone."""

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
            description="Restores the faces you mark with a face model (GFPGAN, RestoreFormer, CodeFormer), preserving their "
            "colors; nothing else changes. Face models invent detail: the likeness may suffer.",
            search_aliases=["gfpgan", "codeformer", "restoreformer", "face restore", "face fix", "face detailer"],
            inputs=[
                io.Image.Input("image", tooltip="The image, after upscaling. All images of a batch use the same boxes."),
                io.UpscaleModel.Input(
                    "face_model", tooltip="GFPGAN, RestoreFormer or CodeFormer, from any upscale model loader."
                ),
                io.String.Input(
                    "boxes",
                    default="",
                    multiline=True,
                    tooltip="Left, top, width and height of each face in image pixels, chin to forehead, one face per line. "
                    "If empty, every separate area of the mask is a face.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0,
                    max=1,
                    step=0.05,
                    tooltip="How much of the restored faces to blend in, 0 to 1. Lower it if the likeness suffers.",
                ),
                io.Float.Input(
                    "margin",
                    default=FACE_MARGIN,
                    min=0,
                    max=2,
                    step=0.05,
                    advanced=True,
                    tooltip="Padding added on each side of a box, as a fraction of its longer side.",
                ),
                io.Mask.Input(
                    "mask", optional=True, tooltip="Weight of the restored face at each pixel; must match the image's size."
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The image with its faces restored.")],
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
        model, compute = host.prepare_model(face_model, source[:, :, :FACE_PX, :FACE_PX])
        result = restore_faces(source, model, faces, shares, strength, margin, compute.device, host.track_progress())
        return io.NodeOutput(host.to_host(result))
