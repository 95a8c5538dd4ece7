"""Writes image files atomically, at the requested bit depth, with their metadata."""

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin, TiffTags
from torch import Tensor

from ..errors import RefusedError
from ..imaging.rows import RowSource, TensorRows, band_rows, read_all
from .color_tags import CODES, tag_nclx
from .icc import read_profile, to_srgb
from .paths import FileRefusedError, check_folder, write_whole
from .png import make_chunk, round_samples, write_png
from .sixteen_bit import Samples, encode_tiff
from .tags import IPTC_TAG, XMP_TAG, Extras, load_tags
from .vips import AVIF_BITS, LOSSLESS, VipsError, can_write_avif, encode_avif

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""Output formats, by file name ending."""

_DEEP_BITS = {"PNG": 16, "TIFF": 16, "AVIF": AVIF_BITS}
"""The most bits per channel, of formats that store more than 8."""

AVIF_NEEDS = "AVIF of more than 8 bits needs libvips: pip install 'pyvips[binary]'"
"""What to say where `is_deep` is false of AVIF."""

_LONGEST_SIDE_PX = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 16_384}  # AVIF: what libavif reads unless told otherwise
_LARGEST_EXIF_BYTES = {"JPEG": 65_533 - 6}
_MAX_TIFF_BYTES = 2**32 - 2**20
_METERS_PER_INCH = 0.0254
_AVIF_SPEED = 8  # 4 megapixels in 0.9 s where speed 6 took 2.6 s, for files a fifth larger
_AVIF_BYTES, _DEEP_AVIF_BYTES = 20.0, 40.0  # per pixel, in the encoder
_BASELINE_DPI = 72.0
"""Default of TIFF, which requires a resolution."""
_OLD_DEFLATE, _DEFLATE = 32_946, 8  # the same compression, under the code that more programs recognize
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
    """How samples are stored; settings that do not apply to a format are ignored."""

    bits: Literal[8, 16] = 8
    """Bits per channel in PNG and TIFF; with 16, AVIF has its most, 12."""
    quality: int = 95
    """Quality of JPEG, AVIF and lossy WebP; 1 to 100, where 100 makes an AVIF of 12 bits lossless."""
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    """Chroma subsampling of JPEG; anything but 4:4:4 blurs colors."""
    lossless: bool = True
    """Whether WebP is lossless."""
    compression: Literal["deflate", "lzw", "raw"] = "deflate"
    """Compression of TIFF; all three are lossless."""
    pyramid: bool = False
    """Whether a TIFF gets smaller copies of itself, each half as large, for viewers of large pictures."""

    def __post_init__(self) -> None:
        if self.bits not in (8, 16):
            raise RefusedError(f"bits is {self.bits}; wanted 8 or 16")
        if isinstance(self.quality, bool) or not isinstance(self.quality, int):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
            raise RefusedError(f"quality is {self.quality!r}; wanted a whole number from 1 to 100")
        if not 1 <= self.quality <= 100:
            raise RefusedError(f"quality is {self.quality}; wanted 1 to 100")


DEFAULT_EXPORT = Export()


def write_image(path: Path, image: Tensor | RowSource, extras: Extras | None = None, export: Export = DEFAULT_EXPORT) -> None:
    """Writes an image atomically, with samples rounded to nearest.

    Args:
        path: File to write; its ending selects the format.
        image: ``(1, C, H, W)`` in [0, 1]. PNG is written in bands; for the other formats the whole image is held as integers.
        extras: Metadata to write.
        export: How to store the samples.

    Raises:
        FileRefusedError: If the format does not support the image or the file cannot be written.
    """
    image = TensorRows(image) if isinstance(image, Tensor) else image
    check_writable(path, (image.shape[2], image.shape[3]), image.shape[1], export)
    extras = extras or Extras()
    kind = FORMATS[path.suffix.lower()]
    if kind in ("WEBP", "AVIF") and image.shape[1] == 1 and extras.icc_profile:
        profile = read_profile(extras.icc_profile)  # these store grey as RGB, which a grey profile does not match
        image = TensorRows(to_srgb(read_all(image), profile)) if profile else image
        extras = replace(extras, icc_profile=None)
    if kind == "PNG":
        write_whole(path, lambda file: write_png(file, image, export.bits, _png_chunks(extras)))
        return
    samples = quantise(image, export.bits if kind in _DEEP_BITS else 8)
    if kind == "TIFF":
        encoded = _encode_tiff(samples, extras, export)
        write_whole(path, lambda file: file.writelines(encoded))
    elif samples.dtype == np.uint16:
        content = _encode_avif(path, samples, extras, export)
        write_whole(path, lambda file: file.write(content))
    else:
        picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
        options = _pillow_options(kind, extras, export)
        write_whole(path, lambda file: picture.save(file, kind, **options))


def check_writable(path: Path, size: tuple[int, int], channels: int, export: Export = DEFAULT_EXPORT) -> None:
    """Refuses what `write_image` could not write, before any work is done.

    Args:
        path: File to write.
        size: (height, width) of the image.
        channels: Number of channels: 1, 3 or 4.
        export: How to store the samples.

    Raises:
        FileRefusedError: If the format does not support the image or the folder is not writable.
    """
    check_folder(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise FileRefusedError(f"{path}: cannot write {path.suffix or 'a file without ending'}; wanted {', '.join(FORMATS)}")
    if kind == "JPEG" and channels == 4:
        raise FileRefusedError(f"{path}: JPEG does not support transparency; wanted .png, .webp, .avif or .tif")
    if kind == "AVIF" and stored_bits(path.suffix, export) == 8:
        Image.init()
        if kind not in Image.SAVE:
            raise FileRefusedError(f"{path}: this Pillow cannot write AVIF; wanted Pillow 11.3 or newer, .png or .webp")
    longest = _LONGEST_SIDE_PX.get(kind)
    if longest and max(size) > longest:
        raise FileRefusedError(
            f"{path}: {kind} allows at most {longest} px per side, not {size[1]}x{size[0]}; wanted .png or .tif"
        )
    if kind == "TIFF" and size[0] * size[1] * channels * export.bits // 8 > _MAX_TIFF_BYTES:
        raise FileRefusedError(f"{path}: {size[1]}x{size[0]} px of {export.bits} bits exceed TIFF's 4 GiB; wanted .png")


def writer_bytes_per_pixel(path: Path, channels: int, export: Export = DEFAULT_EXPORT) -> float:
    """Memory per pixel that `write_image` needs besides the image: none for PNG, which is written in bands."""
    kind = FORMATS.get(path.suffix.lower())
    if kind == "PNG":
        return 0.0
    bits = stored_bits(path.suffix, export)
    whole = channels * (1 if bits == 8 else 2)
    if kind == "AVIF":
        return whole + (_AVIF_BYTES if bits == 8 else _DEEP_AVIF_BYTES)
    return 3.0 * whole if kind == "TIFF" else whole + 4.0  # Pillow stores colors in 4 bytes


def stored_bits(suffix: str, export: Export) -> int:
    """Bits per channel in a file of that ending."""
    return _DEEP_BITS.get(FORMATS.get(suffix.lower(), ""), 8) if export.bits == 16 else 8


def is_deep(suffix: str) -> bool:
    """Whether more than 8 bits per channel can be written to files of that ending here."""
    kind = FORMATS.get(suffix.lower())
    return kind in _DEEP_BITS and (kind != "AVIF" or can_write_avif())


def check_options(suffix: str, bits: int | None, quality: int | None) -> None:
    """Refuses options that do not apply to a format, instead of ignoring them.

    Args:
        suffix: Ending of the files.
        bits: Bits per channel, if requested.
        quality: Quality, if requested.

    Raises:
        FileRefusedError: If the format does not support more than 8 bits or has no quality setting.
    """
    if bits == 16 and suffix in FORMATS and FORMATS[suffix] not in _DEEP_BITS:
        raise FileRefusedError(f"{FORMATS[suffix]} stores 8 bits per channel; wanted .png, .tif or .avif for more")
    if bits == 16 and suffix in FORMATS and not is_deep(suffix):
        raise FileRefusedError(AVIF_NEEDS)
    if quality is not None and FORMATS.get(suffix) in ("PNG", "TIFF"):
        raise FileRefusedError(f"{FORMATS[suffix]} is lossless and has no quality setting; wanted .jpg, .webp or .avif")


def max_exif_bytes(suffix: str) -> int | None:
    """Largest EXIF for files of that ending; None for no practical limit."""
    return _LARGEST_EXIF_BYTES.get(FORMATS.get(suffix.lower(), ""))


def quantise(image: Tensor | RowSource, bits: Literal[8, 16]) -> Samples:
    """Converts ``(1, C, H, W)`` in [0, 1] to ``(H, W, C)`` integers, rounded; in bands, because every step makes a copy.

    Args:
        image: The image.
        bits: 8 for uint8, 16 for uint16.
    """
    image = TensorRows(image) if isinstance(image, Tensor) else image
    _, channels, height, width = image.shape
    samples: Samples = np.empty((height, width, channels), np.uint8 if bits == 8 else np.uint16)
    for rows in band_rows(image):
        samples[rows] = round_samples(image, rows, bits)
    return samples


def _pillow_options(kind: str, extras: Extras, export: Export) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if extras.icc_profile:
        options["icc_profile"] = extras.icc_profile
    if extras.exif:
        options["exif"] = extras.exif
    if extras.dpi and kind == "JPEG":
        options["dpi"] = (extras.dpi, extras.dpi)
    if extras.xmp:
        options["xmp"] = extras.xmp
    if kind == "JPEG":
        options |= {"quality": export.quality, "subsampling": export.subsampling}
        if extras.comment:
            options["comment"] = extras.comment
        if extras.iptc:
            options["extra"] = _photoshop_segment(extras.iptc)
    elif kind == "AVIF":
        options |= {"quality": export.quality, "subsampling": "4:4:4", "speed": _AVIF_SPEED}
    elif export.lossless:
        options |= {"lossless": True, "quality": 60, "exact": True}
    else:
        options |= {"quality": export.quality}
    return options


def _encode_avif(path: Path, samples: Samples, extras: Extras, export: Export) -> bytes:
    """Encodes an AVIF of 12 bits."""
    tags = {"icc-profile-data": extras.icc_profile, "exif-data": extras.exif, "xmp-data": extras.xmp}
    quality = LOSSLESS if extras.signal else export.quality
    try:
        content = encode_avif(samples, quality, tags, extras.dpi or _BASELINE_DPI)
    except VipsError as error:
        raise FileRefusedError(f"{path}: cannot be encoded ({error})") from error
    tagged = tag_nclx(content, extras.signal) if extras.signal else content
    if tagged is None:
        raise FileRefusedError(f"{path}: cannot be encoded (libheif wrote no box for the colors)")
    return tagged


def _photoshop_segment(iptc: bytes) -> bytes:
    """A JPEG's segment with IPTC records, as Adobe stores them."""
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
    content = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _png_texts(extras: Extras) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    for name, text in extras.texts.items():
        texts.add_text(name, text)
    if extras.xmp:
        texts.add_itxt("XML:com.adobe.xmp", extras.xmp.decode())
    return texts


def _png_chunks(extras: Extras) -> list[bytes]:
    """The chunks between a PNG's header and its pixels."""
    chunks: list[tuple[bytes, bytes]] = []
    if extras.signal:
        chunks.append((b"cICP", bytes((extras.signal.primaries, CODES[extras.signal.transfer], 0, 1))))
    if extras.icc_profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(extras.icc_profile)))
    if extras.exif:
        chunks.append((b"eXIf", extras.exif.removeprefix(b"Exif\0\0")))
    if extras.dpi:
        per_meter = round(extras.dpi / _METERS_PER_INCH)
        chunks.append((b"pHYs", struct.pack(">IIB", per_meter, per_meter, 1)))
    chunks += [(name, data) for name, data, *_ in _png_texts(extras).chunks]
    return [make_chunk(name, data) for name, data in chunks]


def _encode_tiff(samples: Samples, extras: Extras, export: Export) -> list[bytes]:
    """Encodes a TIFF with FFmpeg's strips and Pillow's directory, which adds profile, EXIF and XMP."""
    content = encode_tiff(samples, export.compression)
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
        directory[XMP_TAG] = extras.xmp
    if extras.iptc:
        directory[IPTC_TAG] = extras.iptc
        directory.tagtype[IPTC_TAG] = TiffTags.UNDEFINED
    head = io.BytesIO()
    directory.save(head)
    return [head.getvalue(), *strips]
