"""Reads TIFFs of any layout, and AVIF at full depth, through libvips, which is an extra.

Pillow reads these at 8 bits per channel or not at all; FFmpeg reads only TIFFs of 16 integer bits, in strips.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np

VipsFormat = Literal["TIFF", "AVIF"]

_LOADERS: dict[VipsFormat, str] = {"TIFF": "tiffload_buffer", "AVIF": "heifload_buffer"}
_CONVERTED = {"cmyk": 4, "lab": 3, "labs": 3}
"""Color spaces that become sRGB, with their numbers of channels."""
_COLOR_CHANNELS = 3
_MOST_CHANNELS = 8


class VipsError(Exception):
    """A file that libvips cannot read, with its reason."""


@dataclass(frozen=True)
class VipsPicture:
    """A picture that libvips has decoded."""

    samples: np.ndarray
    """``(H, W, C)`` float32; integers are divided by their white, floats are as stored. Alpha is straight."""
    colors: int
    """Channels of color, 1 or 3; those that follow are extra channels."""
    converted: Literal["", "by profile", "by formula"] = ""
    """How it became sRGB, if it was CMYK or Lab."""


@cache
def has_vips() -> bool:
    """Whether libvips is installed: the package, and the library that it needs."""
    try:
        import_module("pyvips")
    except (ImportError, OSError):
        return False
    return True


def decode_with_vips(content: bytes, kind: VipsFormat, bits: int, page: int = 0) -> VipsPicture:
    """Decodes a picture at full depth.

    Args:
        content: The whole file.
        kind: Its format.
        bits: Bits per channel in the file.
        page: Number of the page in a TIFF, from 0.

    Raises:
        VipsError: If it cannot be decoded.
    """
    import pyvips

    options: dict[str, Any] = {"page": page} if kind == "TIFF" else {}
    try:
        image: Any = getattr(pyvips.Image, _LOADERS[kind])(content, fail_on="error", **options)
        if image.bands > _MOST_CHANNELS:
            raise VipsError(f"has {image.bands} channels; wanted at most {_MOST_CHANNELS}")
        space = str(image.interpretation)
        if space in _CONVERTED:
            return _convert(image, _CONVERTED[space])
        samples = _scale(image.numpy(), bits if kind == "AVIF" else None)
    except pyvips.Error as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise VipsError(f"damaged, or of a type that is not read (libvips: {reason})") from error
    is_color = image.bands >= _COLOR_CHANNELS and space not in ("b-w", "grey16")
    return VipsPicture(samples, _COLOR_CHANNELS if is_color else 1)


def _convert(image: Any, inks: int) -> VipsPicture:
    """Converts CMYK or Lab to sRGB of 16 bits; extra channels stay as they are."""
    extra = _scale(image[inks:].numpy()) if image.bands > inks else None
    colors, how = image[:inks], "by profile"
    if inks == _COLOR_CHANNELS:
        converted = _scale(colors.icc_export(output_profile="srgb", depth=16).numpy())
    elif image.get_typeof("icc-profile-data"):
        converted = _scale(colors.icc_transform("srgb", embedded=True, depth=16).numpy())
    else:
        amounts, how = _scale(colors.numpy()), "by formula"
        converted = (1 - amounts[..., :3]) * (1 - amounts[..., 3:])
    samples = converted if extra is None else np.concatenate((converted, extra), axis=2)
    return VipsPicture(samples, _COLOR_CHANNELS, how)


def _scale(values: np.ndarray, bits: int | None = None) -> np.ndarray:
    """Samples as (H, W, C) in float32; integers divided by their white, whose bits may be the highest of more."""
    samples = values if values.ndim == 3 else values[..., None]
    if samples.dtype.kind == "i":
        raise VipsError("has signed integers; wanted unsigned ones, or floats")
    if samples.dtype.kind != "u":
        return samples.astype(np.float32)
    depth = 8 * samples.itemsize
    used = min(bits or depth, depth)
    white = (2**used - 1) << (depth - used)
    return (samples / white).astype(np.float32) if depth > 16 else samples.astype(np.float32) / np.float32(white)
