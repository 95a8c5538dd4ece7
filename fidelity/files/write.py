"""Writing image files: every format at the depth asked for, whole or not at all, with what belongs beside the pixels."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import iterate_bands
from .icc import read_profile, to_srgb
from .paths import FileRefusedError, check_folder, write_whole
from .sixteen_bit import Samples, encode_deep
from .tags import Extras, load_tags

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Formats that results are written in, by ending."""

DEEP_SUFFIXES = (".png", ".tif", ".tiff")
"""Endings of formats that hold 16 bits a channel."""

_LONGEST_SIDE_PX = {"JPEG": 65_500, "WEBP": 16_383}
_LARGEST_EXIF_BYTES = {"JPEG": 65_533 - 6}
_MAX_TIFF_BYTES = 2**32 - 2**20
_METERS_PER_INCH = 0.0254
_BASELINE_DPI = 72.0
"""What TIFF asks for where nothing is known."""
_PNG_HEAD_BYTES = 33  # the signature and the first chunk
_OLD_DEFLATE, _DEFLATE = 32_946, 8  # the same data under the number that more programs know
_XMP_TAG = 700
_INCHES = 2
_STRAIGHT_ALPHA = 2
_STRUCTURE = (
    TiffImagePlugin.IMAGEWIDTH,
    TiffImagePlugin.IMAGELENGTH,
    TiffImagePlugin.BITSPERSAMPLE,
    TiffImagePlugin.COMPRESSION,
    TiffImagePlugin.PHOTOMETRIC_INTERPRETATION,
    TiffImagePlugin.SAMPLESPERPIXEL,
    TiffImagePlugin.ROWSPERSTRIP,
    TiffImagePlugin.STRIPBYTECOUNTS,
    TiffImagePlugin.PLANAR_CONFIGURATION,
)
"""Tags that say how a TIFF stores its samples."""


@dataclass(frozen=True)
class Export:
    """How samples are stored; what a format has no choice in is ignored."""

    bits: Literal[8, 16] = 8
    """Bits a channel, in PNG and TIFF."""
    quality: int = 95
    """Of JPEG, and of WebP if it is not lossless; 1 to 100."""
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    """Of JPEG's colour differences; anything but 4:4:4 blurs colours."""
    lossless: bool = True
    """Whether a WebP keeps every sample."""
    compression: Literal["deflate", "lzw", "raw"] = "deflate"
    """Of TIFF; all three are lossless."""

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise RefusedError(f"bits is {self.bits}; wanted 8 or 16")
        if not 1 <= self.quality <= 100:
            raise RefusedError(f"quality is {self.quality}; wanted 1 to 100")


DEFAULT_EXPORT = Export()


def write_image(path: Path, image: Tensor, extras: Extras | None = None, export: Export = DEFAULT_EXPORT) -> None:
    """Writes an image, rounded to nearest; the file appears whole or not at all.

    Args:
        path: Where to; the ending chooses the format.
        image: ``(1, C, H, W)`` in [0, 1].
        extras: What to write beside the pixels.
        export: How to store them.

    Raises:
        FileRefusedError: If the format cannot hold the image, or the disk cannot hold the file.
    """
    check_writable(path, (image.shape[2], image.shape[3]), image.shape[1], export)
    extras = extras or Extras()
    kind = FORMATS[path.suffix.lower()]
    if kind == "WEBP" and image.shape[1] == 1 and extras.icc_profile:
        profile = read_profile(extras.icc_profile)  # WebP makes RGB of grey, which a profile of grey does not describe
        image, extras = to_srgb(image, profile) if profile else image, replace(extras, icc_profile=None)
    samples = quantise(image[0], export.bits if path.suffix.lower() in DEEP_SUFFIXES else 8)
    if kind == "TIFF":
        encoded = _encode_tiff(samples, extras, export)
        write_whole(path, lambda file: file.writelines(encoded))
    elif samples.itemsize == 2:
        content = encode_deep(samples, "png")
        parts = (content[:_PNG_HEAD_BYTES], *_png_chunks(extras), content[content.index(b"IDAT") - 4 :])
        write_whole(path, lambda file: file.writelines(parts))
    else:
        picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        options = _pillow_options(kind, extras, export)
        write_whole(path, lambda file: picture.save(file, kind, **options))


def check_writable(path: Path, size: tuple[int, int], channels: int, export: Export = DEFAULT_EXPORT) -> None:
    """Refuses early, before any work is done, what `write_image` could not write.

    Args:
        path: Where to.
        size: (height, width).
        channels: 1, 3 or 4.
        export: How it is to be stored.

    Raises:
        FileRefusedError: If the format cannot hold such an image, or the folder cannot be written to.
    """
    check_folder(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise FileRefusedError(f"{path}: cannot write {path.suffix or 'a file without ending'}; wanted {', '.join(FORMATS)}")
    if kind == "JPEG" and channels == 4:
        raise FileRefusedError(f"{path}: JPEG holds no transparency; wanted .png, .webp or .tif")
    longest = _LONGEST_SIDE_PX.get(kind)
    if longest and max(size) > longest:
        raise FileRefusedError(
            f"{path}: {kind} holds at most {longest} px a side, not {size[1]}x{size[0]}; wanted .png or .tif"
        )
    if kind == "TIFF" and size[0] * size[1] * channels * export.bits // 8 > _MAX_TIFF_BYTES:
        raise FileRefusedError(f"{path}: TIFF holds at most 4 GiB, not {size[1]}x{size[0]} of {export.bits} bits; wanted .png")


def check_options(suffix: str, bits: int | None, quality: int | None) -> None:
    """Refuses options that a format has no use for, rather than ignore them.

    Args:
        suffix: Ending of the files.
        bits: A channel, if that was asked for.
        quality: If that was asked for.

    Raises:
        FileRefusedError: If the format stores no 16 bits, or has no quality.
    """
    if bits == 16 and suffix in FORMATS and suffix not in DEEP_SUFFIXES:
        raise FileRefusedError(f"{FORMATS[suffix]} stores 8 bits a channel; wanted {', '.join(DEEP_SUFFIXES)} for 16")
    if quality is not None and FORMATS.get(suffix) in ("PNG", "TIFF"):
        raise FileRefusedError(f"{FORMATS[suffix]} is lossless and has no quality; wanted .jpg or .webp")


def max_exif_bytes(suffix: str) -> int | None:
    """The most EXIF that files of an ending hold; None for no limit worth speaking of."""
    return _LARGEST_EXIF_BYTES.get(FORMATS.get(suffix.lower(), ""))


def quantise(image: Tensor, bits: Literal[8, 16]) -> Samples:
    """``(C, H, W)`` in [0, 1] as ``(H, W, C)`` whole numbers, rounded; in bands, because every step of it is a copy.

    Args:
        image: The image.
        bits: 8 for bytes, 16 for two of them.
    """
    channels, height, width = image.shape
    white = 2**bits - 1
    samples: Samples = np.empty((height, width, channels), np.uint8 if bits == 8 else np.uint16)
    for rows in iterate_bands(height, channels * width * 4):
        scaled = image[:, rows].float().clamp(0, 1).mul(white).round()
        samples[rows] = scaled.movedim(0, -1).cpu().numpy()
    return samples


def _pillow_options(kind: str, extras: Extras, export: Export) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if extras.icc_profile:
        options["icc_profile"] = extras.icc_profile
    if extras.exif:
        options["exif"] = extras.exif
    if extras.dpi and kind != "WEBP":
        options["dpi"] = (extras.dpi, extras.dpi)
    if kind == "PNG":
        options |= {"compress_level": 4, "pnginfo": _png_texts(extras)}
    else:
        if extras.xmp:
            options["xmp"] = extras.xmp
        if kind == "JPEG":
            options |= {"quality": export.quality, "subsampling": export.subsampling}
        elif export.lossless:
            options |= {"lossless": True, "quality": 60, "exact": True}
        else:
            options |= {"quality": export.quality}
    return options


def _png_texts(extras: Extras) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for name, text in extras.texts.items():
        texts.add_text(name, text)
    if extras.xmp:
        texts.add_itxt("XML:com.adobe.xmp", extras.xmp.decode())
    return texts


def _png_chunks(extras: Extras) -> Iterator[bytes]:
    """The chunks that stand between a PNG's header and its pixels."""
    chunks: list[tuple[bytes, bytes]] = []
    if extras.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(extras.icc_profile)))
    if extras.exif:
        chunks.append((b"eXIf", extras.exif.removeprefix(b"Exif\0\0")))
    if extras.dpi:
        per_meter = round(extras.dpi / _METERS_PER_INCH)
        chunks.append((b"pHYs", struct.pack(">IIB", per_meter, per_meter, 1)))
    chunks += [(name, data) for name, data, *_ in _png_texts(extras).chunks]
    for name, data in chunks:
        yield struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _encode_tiff(samples: Samples, extras: Extras, export: Export) -> list[bytes]:
    """A TIFF whose strips FFmpeg made and whose directory Pillow writes, so that it can hold profile, EXIF and XMP."""
    content = encode_deep(samples, "tiff", export.compression)
    with Image.open(io.BytesIO(content)) as opened:
        assert isinstance(opened, TiffImagePlugin.TiffImageFile)
        made = opened.tag_v2
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    if extras.exif:
        for tag, value in load_tags(extras.exif).items():
            directory[tag] = value
    for tag in _STRUCTURE:
        if tag in made:
            directory[tag] = made[tag]
    if made[TiffImagePlugin.COMPRESSION] == _OLD_DEFLATE:
        directory[TiffImagePlugin.COMPRESSION] = _DEFLATE
    offsets, counts = made[TiffImagePlugin.STRIPOFFSETS], made[TiffImagePlugin.STRIPBYTECOUNTS]
    strips = [content[offset : offset + count] for offset, count in zip(offsets, counts, strict=True)]
    directory[TiffImagePlugin.STRIPOFFSETS] = tuple(int(place) for place in np.cumsum([0, *counts[:-1]]))
    if extras.dpi or TiffImagePlugin.X_RESOLUTION not in directory:
        dots = extras.dpi or _BASELINE_DPI
        directory[TiffImagePlugin.X_RESOLUTION] = directory[TiffImagePlugin.Y_RESOLUTION] = dots
        directory[TiffImagePlugin.RESOLUTION_UNIT] = _INCHES
    if samples.shape[2] == 4:
        directory[TiffImagePlugin.EXTRASAMPLES] = _STRAIGHT_ALPHA
    if extras.icc_profile:
        directory[TiffImagePlugin.ICCPROFILE] = extras.icc_profile
    if extras.xmp:
        directory[_XMP_TAG] = extras.xmp
    head = io.BytesIO()
    directory.save(head)
    return [head.getvalue(), *strips]
