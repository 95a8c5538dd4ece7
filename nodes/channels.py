"""Nodes that split an image into luma and chroma, and merge them again."""

from comfy_api.latest import io

from ..fidelity.imaging.planes import merge_planes, split_planes
from . import host

_MATRIX_TOOLTIP = "bt601: JPEG and nearly all still images. bt709: HD video frames. Use the same one to split and to merge."


def _matrix_input() -> io.Combo.Input:
    return io.Combo.Input("matrix", options=["bt601", "bt709"], default="bt601", tooltip=_MATRIX_TOOLTIP)


class FidelitySplitYCbCr(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelitySplitYCbCr",
            display_name="Split YCbCr (Fidelity)",
            category=host.CATEGORY,
            description="Splits an image into luma and two chroma channels, full range, as grey images. Upscale the luma with "
            "any node and merge again: colors stay true.",
            search_aliases=["ycbcr", "luma", "chroma", "split channels", "yuv"],
            inputs=[io.Image.Input("image", tooltip="Grey, RGB or RGBA."), _matrix_input()],
            outputs=[
                io.Image.Output(display_name="y", tooltip="Luma, as a grey RGB image."),
                io.Image.Output(display_name="cb", tooltip="Blue-difference chroma as a grey RGB image; mid-grey is neutral."),
                io.Image.Output(display_name="cr", tooltip="Red-difference chroma as a grey RGB image; mid-grey is neutral."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, matrix: str) -> io.NodeOutput:
        planes = split_planes(host.to_engine(image), matrix)  # type: ignore[arg-type]
        return io.NodeOutput(*(host.to_host(plane.repeat(1, 3, 1, 1)) for plane in planes))


class FidelityMergeYCbCr(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityMergeYCbCr",
            display_name="Merge YCbCr (Fidelity)",
            category=host.CATEGORY,
            description="Merges luma and chroma into an RGB image. Chroma of another size is resampled to the luma's size, so "
            "only the luma needs upscaling.",
            search_aliases=["ycbcr", "luma", "chroma", "merge channels", "yuv"],
            inputs=[
                io.Image.Input("y", tooltip="Luma; for a color image, its luma is used. Sets the result's size."),
                io.Image.Input("cb", tooltip="Blue-difference chroma from Split YCbCr."),
                io.Image.Input("cr", tooltip="Red-difference chroma from Split YCbCr."),
                _matrix_input(),
            ],
            outputs=[io.Image.Output(tooltip="The RGB image.")],
        )

    @classmethod
    def execute(cls, y: io.Image.Type, cb: io.Image.Type, cr: io.Image.Type, matrix: str) -> io.NodeOutput:
        merged = merge_planes(host.to_engine(y, "y"), host.to_engine(cb, "cb"), host.to_engine(cr, "cr"), matrix)  # type: ignore[arg-type]
        return io.NodeOutput(host.to_host(merged))
