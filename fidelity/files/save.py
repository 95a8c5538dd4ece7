"""Writes a result with its metadata: color profile, EXIF, XMP, workflow graphs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..choices import ColorSpace
from ..imaging.rows import MappedSource, RowSource, TensorRows, has_grey_rows
from .icc import from_srgb, read_profile
from .paths import FileRefusedError
from .read import SourceFile
from .tags import Captions, Extras, correct_exif, describe_in_xmp
from .write import DEFAULT_EXPORT, Export, is_deep, max_exif_bytes, write_image


def save_result(
    path: Path,
    image: Tensor | RowSource,
    source: SourceFile | None,
    facts: Mapping[str, str | float],
    export: Export = DEFAULT_EXPORT,
    color_space: ColorSpace = "source",
    keep_gps: bool = True,
    graphs: Mapping[str, str] | None = None,
    dpi: float | None = None,
) -> None:
    """Writes a result with its metadata.

    Args:
        path: File to write; its ending selects the format.
        image: ``(1, C, H, W)`` in the color space of the source's image.
        source: The source file, if there is one.
        facts: What was done, for the XMP packet.
        export: How to store the samples.
        color_space: "source" embeds the source's profile; an image that was converted to sRGB is converted back.
        keep_gps: Whether to keep the GPS position.
        graphs: See `make_extras`.
        dpi: Print resolution in dots per inch; the source's if not given.
    """
    image = TensorRows(image) if isinstance(image, Tensor) else image
    if source and color_space == "source" and source.embedded_profile and not source.icc_profile:
        image = _to_embedded(path, image, source.embedded_profile)
        source = replace(source, icc_profile=source.embedded_profile)
    size = (image.shape[2], image.shape[3])
    extras = make_extras(source, size, path.suffix, facts, keep_gps, graphs)
    write_image(path, image, replace(extras, dpi=dpi or (source.dpi if source else None)), export)


def _to_embedded(path: Path, image: RowSource, embedded: bytes) -> RowSource:
    """Converts an sRGB image to the source's profile; grey that was expanded to RGB becomes one channel again."""
    profile = read_profile(embedded)
    if profile is None:
        raise FileRefusedError(
            f"{path}: cannot convert back to the source's table-based color profile; wanted color_space srgb"
        )
    if len(profile.curves) == 1 and image.shape[1] > 1:
        if image.shape[1] == 4 or not has_grey_rows(image):
            raise FileRefusedError(f"{path}: the source's color profile is grey but the image is not; wanted color_space srgb")
        image = MappedSource(image, lambda band: band[:, :1], 1)
    return MappedSource(image, lambda band: from_srgb(band, profile), image.shape[1])


def choose_depth(export: Export, source: SourceFile | None, output: Path) -> Export:
    """Selects all bits that the format stores, if the source has more than 8."""
    return replace(export, bits=16) if source and source.bits > 8 and is_deep(output.suffix) else export


def make_extras(
    source: SourceFile | None,
    size: tuple[int, int],
    suffix: str,
    facts: Mapping[str, str | float],
    keep_gps: bool = True,
    graphs: Mapping[str, str] | None = None,
) -> Extras:
    """Builds the metadata of a result.

    Args:
        source: The source file, if there is one.
        size: (height, width) of the result.
        suffix: Ending of the result file.
        facts: What was done, for the XMP packet.
        keep_gps: Whether to keep the GPS position.
        graphs: ComfyUI's "prompt" and "workflow"; the source's own if not given.
    """
    texts = dict(source.texts if source else {}) if graphs is None else dict(graphs)
    is_png = suffix.lower() == ".png"
    named = {} if is_png else {name: text for name, text in texts.items() if name in ("prompt", "workflow")}
    captions = source.captions if source else Captions()
    if is_png and captions.comment:
        texts.setdefault("Comment", captions.comment.decode("utf-8", "replace"))
    return Extras(
        icc_profile=source.icc_profile if source else None,
        exif=correct_exif(source.exif if source else None, size, keep_gps, named, max_exif_bytes(suffix)),
        xmp=describe_in_xmp(facts, captions.xmp, keep_gps),
        texts=texts if is_png else {},
        iptc=captions.iptc,
        comment=captions.comment,
        signal=source.signal if source else None,
    )
