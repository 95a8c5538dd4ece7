"""Reads image files of every mode with Pillow, and 16-bit files with FFmpeg."""

import io
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from ..choices import ColorSpace
from .formats import open_picture
from .icc import convert_by_tables, read_profile, to_srgb
from .icc_tables import read_table_profile, tables_to_srgb
from .paths import FileRefusedError, one_line
from .sixteen_bit import DeepFormat, DeepFormatError, decode_deep
from .tags import collect_exif, collect_graphs
from .write import quantise

KEPT_TEXTS = ("prompt", "workflow", "parameters")
"""PNG text chunks that say how an image was generated."""

_DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, MemoryError, RuntimeError),
    *(KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error),
)
"""All exceptions that Pillow's decoders raise on damaged files."""
_MEMORY_SHARE = 0.6
_BYTES_PER_SAMPLE = 12  # the float32 source, a working copy, and Pillow's own
_DEEP_FORMATS: dict[str | None, DeepFormat] = {"PNG": "png", "TIFF": "tiff"}
_PNG_DEPTH_AT = 24  # after the signature and the length, name, width and height of the first chunk
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ASSOCIATED_ALPHA = 1
_BLACK_IS_ONE = 0


@dataclass(frozen=True)
class SourceFile:
    """A decoded image file."""

    path: Path
    """Path of the file."""
    image: Tensor
    """``(1, C, H, W)`` float32 in [0, 1]; C is 1, 3 or 4. Samples are in the color space of `icc_profile`."""
    icc_profile: bytes | None
    """Color profile of the samples, to be carried over to the result; None means sRGB."""
    embedded_profile: bytes | None
    """Color profile in the file, if it matches the image (RGB or grey); None means sRGB."""
    bits: int
    """Bits per channel in the file: 8, 16 or, in a grey float TIFF, 32."""
    dpi: float | None
    """Print resolution in dots per inch, stored outside EXIF; None if unknown."""
    exif: bytes | None
    """EXIF tags that describe the picture, orientation included; None if there are none."""
    texts: dict[str, str]
    """Texts that say how it was generated, by keyword: PNG text chunks, or graphs in the EXIF of other formats."""
    notes: tuple[str, ...]
    """Notes for the user, such as the frame chosen or a conversion made."""


def read_image(path: Path, color_space: ColorSpace = "source") -> SourceFile:
    """Reads an image file.

    EXIF orientation is applied. Palettes become RGB, and CMYK and Lab are converted to sRGB. Animations give their first
    frame. 16 bits per channel are preserved.

    Args:
        path: A file of one of `fidelity.files.formats.READ_FORMATS`.
        color_space: See `ColorSpace`.

    Raises:
        FileRefusedError: If the file does not exist, is not an image, is damaged, or is too large for the memory.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileRefusedError(f"{path}: no such file") from error
    except OSError as error:
        raise FileRefusedError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise FileRefusedError(f"{path}: is empty; wanted an image")
    limit = max_source_pixels()
    try:
        with open_picture(io.BytesIO(content)) as opened, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata: nothing that is kept
            width, height = opened.size
            if width * height > limit:
                raise Image.DecompressionBombError
            notes = _frame_notes(opened)
            orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)  # loading a TIFF rotates it and drops this tag
            opened.load()
            source = _read_opened(path, opened, content, notes, orientation)
    except Image.DecompressionBombError as error:
        raise FileRefusedError(
            f"{path}: too large for this machine's memory; wanted at most {limit / 1e6:.0f} megapixels"
        ) from error
    except _RangeError as error:
        raise FileRefusedError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        if content[:4] in _TIFF_SIGNATURES:
            raise FileRefusedError(f"{path}: unsupported type of TIFF; wanted 8 or 16 integer bits per channel") from error
        raise FileRefusedError(f"{path}: not an image, or an unknown format") from error
    except _DECODING_ERRORS as error:
        raise FileRefusedError(f"{path}: damaged or truncated ({one_line(error)})") from error
    return _to_srgb(source) if color_space == "srgb" else source


def max_source_pixels() -> int:
    """The most pixels of a source that fit this machine's memory, with room to work."""
    return int(psutil.virtual_memory().total * _MEMORY_SHARE / (3 * _BYTES_PER_SAMPLE))


def _read_opened(path: Path, opened: Image.Image, content: bytes, notes: list[str], orientation: int) -> SourceFile:
    info: dict[str, Any] = {str(key): value for key, value in opened.info.items()}
    exif = collect_exif(opened)
    bits = 16
    array = _read_deep(opened, content, notes) if _holds_16_bits(opened, content) else None
    profile = info.get("icc_profile")
    if array is None:
        bits = 32 if opened.mode == "F" else 16 if opened.mode.startswith("I") else 8
        array, profile = _to_array(opened, profile, notes)
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    array = _turn(array, orientation)
    tensor = torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, 0).unsqueeze(0).contiguous()
    if tensor.shape[1] == 4 and profile and profile[16:20] == b"GRAY":
        found = read_profile(profile)
        if found:  # no profile describes grey stored as RGB with alpha
            tensor = torch.cat((to_srgb(tensor[:, :1], found).expand(-1, 3, -1, -1), tensor[:, 3:]), dim=1)
            notes.append("grey with transparency: converted to sRGB by its color profile")
            profile = None
    fitting = _fitting(profile, b"GRAY" if tensor.shape[1] == 1 else b"RGB ")
    if profile and not fitting:
        notes.append("color profile does not match the image: ignored")
    texts = collect_graphs(opened) | {name: info[name] for name in KEPT_TEXTS if isinstance(info.get(name), str)}
    return SourceFile(path, tensor, fitting, fitting, bits, _read_dpi(info), exif, texts, tuple(notes))


def _to_srgb(source: SourceFile) -> SourceFile:
    if not source.icc_profile:
        return source
    profile = read_profile(source.icc_profile)
    if profile:
        image = source.image if profile.is_srgb() else to_srgb(source.image, profile)
        return replace(source, image=image, icc_profile=None)
    tables = read_table_profile(source.icc_profile)
    if tables:
        return replace(source, image=tables_to_srgb(source.image, tables), icc_profile=None)
    colors = quantise(source.image[:, :3], 8)
    picture = Image.fromarray(colors[..., 0] if colors.shape[2] == 1 else colors)
    converted = convert_by_tables(picture, source.icc_profile)
    if converted is None:
        return replace(source, icc_profile=None, notes=(*source.notes, "color profile is damaged: ignored"))
    shown = torch.from_numpy(np.asarray(converted).astype(np.float32) / 255).movedim(-1, 0)[None]
    image = torch.cat((shown, source.image[:, 3:]), dim=1)
    return replace(
        source, image=image, icc_profile=None, notes=(*source.notes, "converted to sRGB by its color tables, in 8 bits")
    )


def _read_dpi(info: dict[str, Any]) -> float | None:
    """Dots per inch; None if missing or implausible."""
    dots = info.get("dpi")
    if not isinstance(dots, tuple) or len(cast("tuple[Any, ...]", dots)) != 2:
        return None
    across = float(cast("tuple[Any, ...]", dots)[0])
    return across if 2 <= across <= 100_000 else None


def _holds_16_bits(opened: Image.Image, content: bytes) -> bool:
    """Whether a file has 16 bits per channel in a form that FFmpeg reads."""
    if opened.format == "PNG":
        return content[_PNG_DEPTH_AT] == 16
    if not isinstance(opened, TiffImagePlugin.TiffImageFile) or content[:4] not in _TIFF_SIGNATURES[:2]:
        return False
    depths = _as_tuple(opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1))
    return set(depths) == {16} and set(_as_tuple(opened.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, 1))) == {1}


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _read_deep(opened: Image.Image, content: bytes, notes: list[str]) -> np.ndarray | None:
    """16-bit samples as (H, W, C) in [0, 1]; None if Pillow has to read the file."""
    kind = _DEEP_FORMATS[opened.format]
    if opened.mode in ("CMYK", "LAB"):
        return None
    try:
        if isinstance(opened, TiffImagePlugin.TiffImageFile) and TiffImagePlugin.TILEOFFSETS in opened.tag_v2:
            raise DeepFormatError("stored in tiles")
        samples = decode_deep(content, kind)
    except DeepFormatError:
        if not opened.mode.startswith("I"):
            notes.append("16 bits per channel, stored in a form that can only be read at 8")
        return None
    array = samples.astype(np.float32) / 65535
    extra = opened.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, 0) if isinstance(opened, TiffImagePlugin.TiffImageFile) else 0
    if array.shape[2] == 4 and _as_tuple(extra) == (_ASSOCIATED_ALPHA,):
        array[..., :3] = (array[..., :3] / np.maximum(array[..., 3:], 1e-6)).clip(0, 1)
    return np.concatenate((array[..., :1],) * 3 + (array[..., 1:],), axis=2) if array.shape[2] == 2 else array


def _turn(array: np.ndarray, orientation: object) -> np.ndarray:
    """Turns (H, W, C) upright, by the EXIF orientation."""
    turns = {
        2: lambda: array[:, ::-1],
        3: lambda: array[::-1, ::-1],
        4: lambda: array[::-1],
        5: lambda: array.swapaxes(0, 1),
        6: lambda: array.swapaxes(0, 1)[:, ::-1],
        7: lambda: array[::-1, ::-1].swapaxes(0, 1),
        8: lambda: array.swapaxes(0, 1)[::-1],
    }
    return turns.get(cast(int, orientation), lambda: array)()


def _frame_notes(opened: Image.Image) -> list[str]:
    try:
        frames = getattr(opened, "n_frames", 1)
    except Image.DecompressionBombError:  # counting the pages of a TIFF asks for Pillow's own limit
        frames = 1
    if frames < 2:
        return []
    return [f"{frames} pages: using the first" if opened.format == "TIFF" else f"animated: using the first of {frames} frames"]


def _to_array(picture: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[np.ndarray, bytes | None]:
    """Samples as (H, W, C) in [0, 1], and their color profile."""
    mode = picture.mode
    if mode in ("I;16", "I;16B", "I;16L", "I"):
        return _read_grey(picture), profile
    if mode == "F":
        return _scaled(np.asarray(picture), 1), profile
    if mode in ("CMYK", "LAB"):
        picture, profile = _foreign_to_srgb(picture, profile, notes), None
    elif mode in ("1", "L") and "transparency" not in picture.info:
        return (np.asarray(picture.convert("L")).astype(np.float32) / 255)[..., None], profile
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    return np.asarray(picture).astype(np.float32) / 255, profile


def _read_grey(picture: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits, which Pillow returns as stored, even if a TIFF has 12 bits or 0 for white."""
    white, inverted = 65535, False
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        if _as_tuple(picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 16)) == (12,):
            white = 4095
        inverted = picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _BLACK_IS_ONE
    samples = _scaled(np.asarray(picture), white)
    return 1 - samples if inverted else samples


def _scaled(samples: np.ndarray, white: int) -> np.ndarray:
    """Grey samples of more than 8 bits as (H, W, 1) in [0, 1].

    Raises:
        _RangeError: If some are not finite or outside [0, white], so that their meaning is unknown.
    """
    if not np.isfinite(samples).all():
        raise _RangeError("has samples that are NaN or infinite; wanted finite numbers")
    lowest, highest = samples.min(), samples.max()
    if lowest < 0 or highest > white:
        raise _RangeError(f"has samples from {lowest:g} to {highest:g}; wanted 0 to {white} for this format")
    return (samples.astype(np.float32) / white)[..., None]


class _RangeError(Exception):
    """Samples outside the range that their format defines."""


def _foreign_to_srgb(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    converted = convert_by_tables(picture, profile) if profile else None
    if converted is not None:
        notes.append(f"{picture.mode}: converted to sRGB by its embedded profile")
        return converted
    if picture.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        notes.append("Lab: converted to sRGB")
        return convert_by_tables(picture, lab) or picture.convert("L")
    notes.append("CMYK without a usable profile: converted to RGB by formula, colors are approximate")
    return picture.convert("RGB")


def _fitting(profile: bytes | None, space: bytes) -> bytes | None:
    """The profile if it is for that color space (bytes 16 to 19 of its header), else None."""
    return profile if profile and profile[16:20] == space else None
