"""Reads pictures of more than 8 bits per channel at their own depth, with FFmpeg, libvips or libheif."""

import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from .formats import INSTALL, TiffOfAnyLayout
from .jxl import find_jxl_depth
from .sixteen_bit import DeepFormat, DeepFormatError, decode_deep
from .vips import VipsError, decode_with_vips, has_vips

EXTRA_LEFT_OUT = "its extra channel, of unspecified meaning, was left out"

PNG_DEPTH_AT = 24  # after the signature and the length, name, width and height of the first chunk
_CLASSIC_TIFF = b"II*\0", b"MM\0*"
_UNSPECIFIED_EXTRA, _ASSOCIATED_ALPHA, _STRAIGHT_ALPHA = 0, 1, 2
_ROUNDING = 1e-4
_BITS, _FLOATS, _PLANES = TiffImagePlugin.BITSPERSAMPLE, 3, 2


class UnusableError(Exception):
    """A file that cannot be used although nothing in it is damaged, such as samples outside the range of their format."""


@dataclass(frozen=True)
class FullDepth:
    """A picture read at its own depth."""

    array: np.ndarray
    """(H, W, C) in [0, 1]; C is 1, 3 or 4."""
    bits: int
    """16, or 32 for floats and integers of 32 bits."""
    is_upright: bool = False
    """Whether its decoder has turned it."""
    is_converted: bool = False
    """Whether its decoder has converted it to sRGB."""


def find_depth(opened: Image.Image, content: bytes) -> int:
    """Bits per channel that a file has, however many are read."""
    if opened.format == "PNG":
        return content[PNG_DEPTH_AT]
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return max(as_tuple(opened.tag_v2.get(_BITS, 1)))
    if opened.format == "HEIF":
        return int(opened.info.get("bit_depth", 8))
    if opened.format == "JXL":
        return find_jxl_depth(content)
    place = content.find(b"av1C") if opened.format == "AVIF" else -1
    if place < 0 or place + 7 > len(content):
        return 8
    is_deep, is_deepest = content[place + 6] & 0x40, content[place + 6] & 0x20  # AV1 in ISO base media, section 2.3.3
    return 12 if is_deep and is_deepest else 10 if is_deep else 8


def name_reader(opened: Image.Image) -> str:
    """What would read a picture at its full depth, as the end of a sentence; empty if nothing would."""
    return f"; for all, {INSTALL['pyvips']}" if opened.format in ("AVIF", "TIFF") and not has_vips() else ""


def read_full_depth(opened: Image.Image, content: bytes, stored: int, notes: list[str]) -> FullDepth | None:
    """Reads a picture at its own depth; None if that is 8 bits, or Pillow has to read it.

    Args:
        opened: The picture, opened by Pillow at the page to read.
        content: The whole file.
        stored: From `find_depth`.
        notes: Where to add notes for the user.

    Raises:
        UnusableError: If the meaning of its samples is unknown, or only libvips reads it, which is not installed.
        VipsError: If libvips cannot decode it.
    """
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return _read_any_tiff(opened, content, stored, notes)
    if stored <= 8:
        return None
    if opened.format == "PNG":
        samples = _decode_by_ffmpeg(content, "png")
        return None if samples is None else FullDepth(_spread_grey(samples), 16)
    if opened.format == "HEIF" and opened.mode in ("RGB", "RGBA"):
        return FullDepth(_decode_heif(content, stored), 16)
    if opened.format == "AVIF" and has_vips():
        with suppress(VipsError):  # Pillow reads it at 8 bits
            return FullDepth(_spread_grey(decode_with_vips(content, "AVIF", stored).samples), 16, is_upright=True)
    return None


def _read_any_tiff(opened: TiffImagePlugin.TiffImageFile, content: bytes, stored: int, notes: list[str]) -> FullDepth | None:
    if isinstance(opened, TiffOfAnyLayout) and opened.is_undecodable:
        return _read_deep_tiff(opened, content, stored, notes)
    with suppress(VipsError):  # Pillow reads it at 8 bits
        return _read_deep_tiff(opened, content, stored, notes) if stored > 8 else None
    return None


def _read_deep_tiff(opened: TiffImagePlugin.TiffImageFile, content: bytes, stored: int, notes: list[str]) -> FullDepth | None:
    depths, formats = (set(as_tuple(opened.tag_v2.get(tag, 1))) for tag in (_BITS, TiffImagePlugin.SAMPLEFORMAT))
    is_stripped = content[:4] in _CLASSIC_TIFF and TiffImagePlugin.TILEOFFSETS not in opened.tag_v2 and not opened.tell()
    if is_stripped and opened.mode not in ("CMYK", "LAB") and (depths, formats) == ({16}, {1}):
        samples = _decode_by_ffmpeg(content, "tiff")
        if samples is not None:
            colors = _sort_extra(opened, samples, 3 if samples.shape[2] > 2 else 1, notes)
            is_associated = as_tuple(opened.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, 0)) == (_ASSOCIATED_ALPHA,)
            if is_associated and colors.shape[2] == 4:
                colors[..., :3] = (colors[..., :3] / np.maximum(colors[..., 3:], 1e-6)).clip(0, 1)
            return FullDepth(colors, 16)
    if (opened.mode.startswith("I") and stored <= 16) or (opened.mode == "F" and formats == {_FLOATS}):
        return None  # grey, of which Pillow reads all bits
    if depths == {16} and _FLOATS in formats and opened.tag_v2.get(TiffImagePlugin.PLANAR_CONFIGURATION) == _PLANES:
        raise UnusableError("has floats of 16 bits in separate planes; wanted 32 bits")  # libvips reads them wrongly
    if has_vips():
        picture = decode_with_vips(content, "TIFF", stored, opened.tell())
        if picture.converted == "by formula":
            notes.append("CMYK without a profile: converted to RGB by formula, colors are approximate")
        elif picture.converted:
            notes.append("converted to sRGB by its color profile")
        samples = _sort_extra(opened, picture.samples, picture.colors, notes)
        bits = 8 if stored <= 8 else 16 if stored <= 16 else 32
        return FullDepth(samples, bits, is_converted=bool(picture.converted))
    if isinstance(opened, TiffOfAnyLayout) and opened.is_undecodable:
        raise UnusableError(f"is a type of TIFF that only pyvips reads; {INSTALL['pyvips']}")
    return None


def _sort_extra(opened: TiffImagePlugin.TiffImageFile, samples: np.ndarray, count: int, notes: list[str]) -> np.ndarray:
    """Colors in [0, 1] and the first extra channel that is alpha; others are left out, and grey becomes RGB beside alpha."""
    colors, extra = samples[..., :count], samples[..., count:]
    colors = _within(colors)
    if not extra.shape[2]:
        return colors
    kinds = as_tuple(opened.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, _STRAIGHT_ALPHA))
    place = next((index for index, kind in enumerate(kinds[: extra.shape[2]]) if kind != _UNSPECIFIED_EXTRA), None)
    if place is None:
        notes.append(EXTRA_LEFT_OUT)
        return colors
    alpha = _within(extra[..., place : place + 1])
    return _spread_grey(np.concatenate((colors, alpha), axis=2))


def _within(samples: np.ndarray) -> np.ndarray:
    """Samples that are in [0, 1] but for rounding, clipped to it."""
    check_range(samples, 1)
    return samples.clip(0, 1)


def _spread_grey(samples: np.ndarray) -> np.ndarray:
    """Grey with alpha as RGB with alpha; everything else as it is."""
    return np.concatenate((samples[..., :1],) * 3 + (samples[..., 1:],), axis=2) if samples.shape[2] == 2 else samples


def _decode_by_ffmpeg(content: bytes, kind: DeepFormat) -> np.ndarray | None:
    """16-bit samples as (H, W, C) in [0, 1]; None if FFmpeg does not read the file."""
    try:
        return decode_deep(content, kind).astype(np.float32) / 65535
    except DeepFormatError:
        return None


def _decode_heif(content: bytes, bits: int) -> np.ndarray:
    """Samples of more than 8 bits as (H, W, C) in [0, 1]."""
    import pillow_heif

    samples = np.asarray(pillow_heif.open_heif(io.BytesIO(content), convert_hdr_to_8bit=False))
    return samples.astype(np.float32) / float((2**bits - 1) << (16 - bits))  # stored in the highest bits


def has_unspecified_extra(opened: Image.Image) -> bool:
    """Whether a TIFF has a channel beside its colors that is no alpha."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return False
    return _UNSPECIFIED_EXTRA in as_tuple(opened.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ()))


def as_tuple(value: Any) -> tuple[int, ...]:
    """The values of a TIFF's tag, which Pillow gives bare if there is one."""
    return value if isinstance(value, tuple) else (value,)


def check_range(samples: np.ndarray, white: int) -> None:
    """Refuses samples of which the meaning is unknown.

    Raises:
        UnusableError: If some are not finite, or outside [0, white].
    """
    if not np.isfinite(samples).all():
        raise UnusableError("has samples that are NaN or infinite; wanted finite numbers")
    lowest, highest = samples.min(), samples.max()
    if lowest < -_ROUNDING * white or highest > (1 + _ROUNDING) * white:
        raise UnusableError(f"has samples from {lowest:g} to {highest:g}; wanted 0 to {white} for this format")
