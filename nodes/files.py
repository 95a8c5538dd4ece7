"""Nodes that load and save image files with their full depth, color profile and metadata."""

import json
from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import ColorSpace
from ..fidelity.errors import RefusedError
from ..fidelity.files.metadata import read_provenance
from ..fidelity.files.read import read_image
from ..fidelity.files.save import choose_depth, save_result
from ..fidelity.files.write import DEFAULT_EXPORT, Export, check_writable
from ..fidelity.report.report import Facts, read_facts
from . import host
from .source import Source, SourceInfo, source_input

_SUFFIXES = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}


class FidelityLoadImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityLoadImage",
            display_name="Load Image (Fidelity)",
            category=host.CATEGORY,
            description="Loads an image at full depth (16 bits from PNG and TIFF), rotated upright, its color profile "
            "converted to sRGB, and keeps what its file says: camera, generator, profile. Wire the source into Auto Upscale, "
            "Classify Domain and Save Image (Fidelity).",
            search_aliases=["load image", "open image", "16 bit", "tiff", "icc", "color profile", "exif"],
            inputs=[
                io.Combo.Input(
                    "image",
                    options=host.list_input_images(),
                    upload=io.UploadType.image,
                    image_folder=io.FolderType.input,
                    tooltip="PNG, JPEG, WebP, TIFF, AVIF, BMP or GIF; for an animation, the first frame.",
                ),
                io.Combo.Input(
                    "transparency",
                    options=["in image", "in mask"],
                    default="in image",
                    tooltip="in image: RGBA for a transparent file; this pack's nodes upscale it too. in mask: always RGB.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="RGB or RGBA in sRGB."),
                io.Mask.Output(display_name="mask", tooltip="1 where the image is transparent."),
                Source.Output(display_name="source", tooltip="What the file says, and how it was stored."),
                io.String.Output(display_name="notes", tooltip="The conversions made, one per line."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, image: str, **_others: object) -> str:
        """See `host.fingerprint_file`."""
        return host.fingerprint_file(image)

    @classmethod
    def validate_inputs(cls, image: str) -> bool | str:
        """See `host.check_file`."""
        return host.check_file(image)

    @classmethod
    def execute(cls, image: str, transparency: str) -> io.NodeOutput:
        path = host.input_path(image)
        file = read_image(path, "srgb")
        colors, alpha = file.image[:, :3].expand(-1, 3, -1, -1), file.image[:, 3:]
        mask = 1 - alpha[:, 0] if alpha.shape[1] else colors[:, 0] * 0
        result = file.image if alpha.shape[1] and transparency == "in image" else colors
        info = SourceInfo(file, read_provenance(path))
        return io.NodeOutput(host.to_host(result), host.to_host(mask[:, None])[..., 0], info, "\n".join(file.notes))


def _depth(default: str = "auto") -> io.Combo.Input:
    return io.Combo.Input(
        "bits",
        options=["auto", "8", "16"],
        default=default,
        tooltip="Bits per channel. auto: the depth of the wired source, or 8 if none is wired.",
    )


class FidelitySaveImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        quality = io.Int.Input(
            "quality", default=DEFAULT_EXPORT.quality, min=1, max=100, tooltip="Quality from 1 (smallest file) to 100 (best)."
        )
        return io.Schema(
            node_id="FidelitySaveImage",
            display_name="Save Image (Fidelity)",
            category=host.CATEGORY,
            description="Saves images with values rounded, not truncated, together with the source's corrected EXIF, its color "
            "profile if wanted, the workflow, the processing and the color drift. A file appears complete or not at all.",
            search_aliases=["save image", "export", "16 bit", "png", "tiff", "jpeg", "webp", "icc", "color profile", "exif"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input("images", tooltip="Grey, RGB or RGBA."),
                io.String.Input(
                    "filename_prefix", default="fidelity/image", tooltip="Folder and name inside the output folder."
                ),
                io.DynamicCombo.Input(
                    "format",
                    tooltip="File format.",
                    options=[
                        io.DynamicCombo.Option("png", [_depth()]),
                        io.DynamicCombo.Option(
                            "tiff",
                            [
                                _depth(),
                                io.Combo.Input(
                                    "compression",
                                    options=["deflate", "lzw", "raw"],
                                    default=DEFAULT_EXPORT.compression,
                                    tooltip="Compression of the TIFF; none of the three loses anything. deflate is smallest, "
                                    "raw is not compressed.",
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option(
                            "jpeg",
                            [
                                quality,
                                io.Combo.Input(
                                    "subsampling",
                                    options=["4:4:4", "4:2:2", "4:2:0"],
                                    default=DEFAULT_EXPORT.subsampling,
                                    tooltip="Chroma subsampling; anything but 4:4:4 blurs colors.",
                                ),
                            ],
                        ),
                        io.DynamicCombo.Option("webp lossless", []),
                        io.DynamicCombo.Option("webp", [quality]),
                        io.DynamicCombo.Option("avif", [quality]),
                    ],
                ),
                io.Combo.Input(
                    "color_space",
                    options=["srgb", "source"],
                    default="srgb",
                    tooltip="source: converts back to the color profile of the source file and embeds it.",
                ),
                io.Boolean.Input(
                    "size_suffix", default=True, tooltip="Adds the size to the name, as in image_00001_2048x1536.png."
                ),
                io.Boolean.Input(
                    "keep_gps", default=True, tooltip="Keeps the location where the source was taken.", advanced=True
                ),
                io.Boolean.Input(
                    "embed_workflow",
                    default=True,
                    tooltip="Embeds the workflow in the file, as ComfyUI's own Save Image does.",
                    advanced=True,
                ),
                source_input(),
                io.String.Input(
                    "report",
                    optional=True,
                    force_input=True,
                    tooltip="From Auto Upscale, Delta-E Gate or Diffusion Pass; its metrics are written into the file.",
                ),
            ],
            outputs=[io.String.Output(display_name="paths", tooltip="The saved files, one per line.")],
        )

    @classmethod
    def execute(
        cls,
        images: io.Image.Type,
        filename_prefix: str,
        color_space: ColorSpace,
        size_suffix: bool,
        keep_gps: bool,
        embed_workflow: bool,
        format: dict[str, Any] | None = None,
        source: SourceInfo | None = None,
        report: str | None = None,
    ) -> io.NodeOutput:
        kind, export = _read_format(format)
        pixels = host.to_engine(images, "images")
        height, width = pixels.shape[2:]
        place = host.next_output(filename_prefix, width, height, f"{width}x{height}" if size_suffix else "")
        paths = [place(index, _SUFFIXES[kind]) for index in range(len(pixels))]
        file = source.file if source else None
        if format and format.get("bits") == "auto":
            export = choose_depth(export, file, paths[0])
        check_writable(paths[0], (height, width), pixels.shape[1], export)
        facts, graphs = _read_report(report), host.collect_graphs(cls) if embed_workflow else {}
        for path, image in zip(paths, pixels.split(1), strict=True):
            save_result(path, image, file, facts, export, color_space, keep_gps, graphs)
        shown = host.preview(pixels.movedim(1, -1)) if kind == "tiff" else host.show_outputs(paths)
        return io.NodeOutput("\n".join(map(str, paths)), ui=shown)


def _read_format(choice: dict[str, Any] | None) -> tuple[str, Export]:
    if choice is None:
        raise RefusedError("format is not one of this node's options; choose it again")
    kind = choice["format"].split()[0]
    export = Export(
        bits=16 if choice.get("bits") == "16" else 8,
        quality=choice.get("quality", DEFAULT_EXPORT.quality),
        subsampling=choice.get("subsampling", DEFAULT_EXPORT.subsampling),
        lossless=choice["format"] == "webp lossless",
        compression=choice.get("compression", DEFAULT_EXPORT.compression),
    )
    return kind, export


def _read_report(report: str | None) -> Facts:
    try:
        return read_facts(json.loads(report)) if report else {}
    except ValueError as error:
        raise RefusedError(
            "report is not from Auto Upscale, Delta-E Gate or Diffusion Pass (Fidelity); wire one of theirs, or nothing"
        ) from error
