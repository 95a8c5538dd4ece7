"""The node that restores faces and leaves the rest of the image alone."""

from typing import Any

import torch
from comfy_api.latest import io

from ..fidelity.errors import RefusedError
from ..fidelity.progress import part_of
from ..fidelity.steps.faces import FACE_MARGIN, FACE_PX, Box, clip_box, find_boxes, parse_boxes, restore_faces
from . import host


class FidelityRestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityRestoreFaces",
            display_name="Restore Faces (Fidelity)",
            category=host.CATEGORY,
            description="Restores faces with a face model (GFPGAN, RestoreFormer, CodeFormer), preserving their colors; "
            "nothing else changes. Mark the faces by hand, or connect a detector such as Detect Face Landmarks (MediaPipe). "
            "Face models invent detail: the likeness may suffer.",
            search_aliases=[
                "gfpgan",
                "codeformer",
                "restoreformer",
                "face restore",
                "face fix",
                "face detailer",
                "face detection",
            ],
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
                    "If empty, those of bboxes; without these, every separate area of the mask is a face.",
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
                io.BoundingBox.Input(
                    "bboxes",
                    optional=True,
                    force_input=True,
                    tooltip="Faces that a detector found in this image, such as Detect Face Landmarks (MediaPipe). An image "
                    "without any stays as it is.",
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
        bboxes: Any = None,
    ) -> io.NodeOutput:
        source = host.to_engine(image)
        shares = host.mask_to_engine(mask)
        faces = parse_boxes(boxes)
        model, compute = host.prepare_model(face_model, source[:, :, :FACE_PX, :FACE_PX])
        if not faces and bboxes is not None:
            found = _read_boxes(bboxes, source)
            track = host.track_progress()
            made: list[torch.Tensor] = []
            for index, one in enumerate(source.split(1)):
                share = shares if shares is None or shares.shape[0] == 1 else shares[index : index + 1]
                part = part_of(track, index / len(found), (index + 1) / len(found))
                own = found[index]
                made.append(restore_faces(one, model, own, share, strength, margin, compute.device, part) if own else one)
            return io.NodeOutput(host.to_host(torch.cat(made)))
        faces = faces or (find_boxes(shares[:1]) if shares is not None else [])
        result = restore_faces(source, model, faces, shares, strength, margin, compute.device, host.track_progress())
        return io.NodeOutput(host.to_host(result))


def _read_boxes(given: Any, images: torch.Tensor) -> list[list[Box]]:
    """The faces in each image, as the host's detectors tell them: one box, or a list of boxes for each image."""
    lists: list[Any] = given if isinstance(given, list) else [[given]]
    if lists and not isinstance(lists[0], list):
        lists = [lists]
    try:
        boxes = [[clip_box(one["x"], one["y"], one["width"], one["height"], images) for one in own] for own in lists]
    except (KeyError, TypeError) as error:
        raise RefusedError(f"bboxes are {str(given)[:80]}; wanted boxes with x, y, width and height") from error
    kept = [[box for box in own if box] for own in boxes] or [[]]
    return [kept[min(index, len(kept) - 1)] for index in range(images.shape[0])]
