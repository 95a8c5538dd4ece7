"""Reads TIFFs of any layout, and reads and writes AVIF at full depth, through libvips, which is an extra.

Pillow reads these at 8 bits per channel or not at all; FFmpeg reads only TIFFs of 16 integer bits, in strips.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..progress import Progress

VipsFormat = Literal["TIFF", "AVIF"]

_LOADERS: dict[VipsFormat, str] = {"TIFF": "tiffload_buffer", "AVIF": "heifload_buffer"}
_CONVERTED = {"cmyk": 4, "lab": 3, "labs": 3}
"""Color spaces that become sRGB, with their numbers of channels."""
_COLOR_CHANNELS = 3
_MOST_CHANNELS = 8
_SPACES = {1: "grey16", 3: "rgb16", 4: "rgb16"}
_FASTEST = 0  # 4 megapixels in 0.9 s where the next took 3.2 s, for files 2 % smaller
_MM_PER_INCH = 25.4
LOSSLESS = 100
"""The quality at which `encode_avif` changes nothing but the depth."""
AVIF_BITS = 12
"""The most that AVIF stores."""


class VipsError(Exception):
    """A file that libvips cannot read or write, with its reason."""


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


@cache
def load_vips() -> Any:
    """The package, where `has_vips` says that it is installed; it remembers no files, which may be written anew."""
    vips: Any = import_module("pyvips")
    vips.cache_set_max(0)
    return vips


@cache
def can_write_avif() -> bool:
    """Whether libvips is installed with what it needs to write AVIF."""
    if not has_vips():
        return False
    try:
        encode_avif(np.zeros((8, 8, 3), np.uint16), LOSSLESS, {}, 1.0)
    except VipsError:
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


def encode_avif(samples: NDArray[Any], quality: int, tags: Mapping[str, bytes | None], dpi: float) -> bytes:
    """Encodes an AVIF of `AVIF_BITS` bits per channel, without chroma subsampling.

    Args:
        samples: ``(H, W, C)`` of 16 bits; C is 1, 3 or 4. The lowest bits are rounded off.
        quality: 1 to 100; 100 is lossless.
        tags: Contents by libvips's names of them: "icc-profile-data", "exif-data", "xmp-data".
        dpi: Resolution, in dots per inch; libvips writes one in any case.

    Raises:
        VipsError: If it cannot be encoded.
    """
    import pyvips

    height, width, channels = samples.shape
    step = 2 ** (16 - AVIF_BITS)
    rounded = (samples.astype(np.uint32) * (2**AVIF_BITS - 1) + 32767) // 65535 * step
    image: Any = pyvips.Image.new_from_memory(rounded.astype(np.uint16).tobytes(), width, height, channels, "ushort")
    image = image.copy(interpretation=_SPACES[channels], xres=dpi / _MM_PER_INCH, yres=dpi / _MM_PER_INCH)
    for name, content in tags.items():
        if content:
            image.set_type(pyvips.GValue.blob_type, name, content)
    options: dict[str, Any] = {"lossless": True} if quality == LOSSLESS else {"Q": quality, "subsample_mode": "off"}
    try:
        return image.heifsave_buffer(compression="av1", bitdepth=AVIF_BITS, effort=_FASTEST, **options)
    except pyvips.Error as error:
        raise VipsError(str(error).strip().splitlines()[-1].strip()) from error


def run_vips(image: Any, work: Callable[[], object], progress: Progress | None) -> None:
    """Runs what libvips computes, with progress in percent; what is raised in the progress cancels it, Ctrl-C too."""
    pyvips = load_vips()
    raised: list[BaseException] = []

    def tell(_image: Any, state: Any) -> None:
        try:
            if progress:
                progress(int(state.percent), 100)
        except BaseException as error:  # which cannot pass through libvips
            raised.append(error)
            image.set_kill(True)

    image.set_progress(True)
    image.signal_connect("eval", tell)
    try:
        work()
    except pyvips.Error:
        if raised:
            raise raised[0] from None
        raise
    if raised:
        raise raised[0]


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
