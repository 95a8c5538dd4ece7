"""Reads image files of every mode with Pillow, and those of more than 8 bits with FFmpeg or libvips."""

import io
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from ..choices import ColorSpace, HdrChoice
from ..imaging.hdr import WideSignal
from ..limits import total_bytes
from ..quiet import no_warnings
from .color_tags import read_told_color, widen
from .formats import DECODING_ERRORS, TiffOfAnyLayout, count_pixels, explain_unread, open_picture
from .full_depth import (
    EXTRA_LEFT_OUT,
    PNG_DEPTH_AT,
    UnusableError,
    as_tuple,
    check_range,
    find_depth,
    has_unspecified_extra,
    name_reader,
    read_full_depth,
)
from .icc import convert_by_tables, read_profile, to_srgb
from .icc_tables import read_table_profile, tables_to_srgb
from .paths import VIDEO_SUFFIXES, FileRefusedError, check_regular, one_line
from .repair import complete_jpeg, is_jpeg_too_short, repair
from .tags import Captions, collect_captions, collect_exif, collect_graphs
from .tone import WHITE_NITS, tone_map
from .vips import VipsError
from .write import quantise

UNNAMED = Path("image")
"""Stands for a picture without a file in messages."""

KEPT_TEXTS = ("prompt", "workflow", "parameters")
"""PNG text chunks that say how an image was generated."""

_MEMORY_SHARE = 0.6
_BYTES_PER_SAMPLE = 12  # the float32 source, a working copy, and Pillow's own
_BLACK_IS_ONE = 0
_NEW_SUBFILE_TYPE, _REDUCED = 254, 1
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706
_GAIN_MAP_LEFT_OUT = "its gain map for high dynamic range was left out: this is its standard picture"
_MOST_PAGES = 64
"""More are not looked at: a file may chain any number."""


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
    """Bits per channel that were read: 8, 16 (of 10 to 16 in the file) or, of floats and 32-bit integers, 32."""
    dpi: float | None
    """Print resolution in dots per inch, stored outside EXIF; None if unknown."""
    exif: bytes | None
    """EXIF tags that describe the picture, orientation included; None if there are none."""
    texts: dict[str, str]
    """Texts that say how it was generated, by keyword: PNG text chunks, or graphs in the EXIF of other formats."""
    captions: Captions
    """What it says about its picture outside EXIF."""
    notes: tuple[str, ...]
    """Notes for the user, such as the frame chosen or a conversion made."""
    signal: WideSignal | None = None
    """How the samples stand for light, if high dynamic range was kept; they then have no color profile."""

    def as_seen(self) -> Tensor:
        """The image as a screen of standard range shows it, in sRGB or in its profile's space."""
        return tone_map(self.image, self.signal) if self.signal else self.image


def read_image(path: Path, color_space: ColorSpace = "source", hdr: HdrChoice = "auto") -> SourceFile:
    """Reads an image file.

    EXIF orientation is applied. Palettes become RGB, and CMYK and Lab are converted to sRGB. Animations give their first
    frame, a TIFF its largest page that is no reduced copy. 16 bits per channel are preserved. Colors that are told by other
    tags than a profile get one that says the same; PQ and HLG are tone mapped to sRGB unless they are to be kept.

    Args:
        path: A file of one of `fidelity.files.formats.READ_FORMATS`.
        color_space: See `ColorSpace`.
        hdr: See `HdrChoice`.

    Raises:
        FileRefusedError: If the file does not exist, is not an image, is damaged, or is too large for the memory.
    """
    try:
        check_regular(path)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileRefusedError(f"{path}: no such file") from error
    except OSError as error:
        raise FileRefusedError(f"{path}: cannot be read ({error.strerror})") from error
    return read_content(content, path, color_space, hdr)


def read_content(
    content: bytes, path: Path = UNNAMED, color_space: ColorSpace = "source", hdr: HdrChoice = "auto"
) -> SourceFile:
    """Reads the content of an image file; see `read_image`.

    Args:
        content: All of its bytes.
        path: What messages name it by.
        color_space: See `ColorSpace`.
        hdr: See `HdrChoice`.
    """
    if not content:
        raise FileRefusedError(f"{path}: is empty; wanted an image")
    limit, repaired = max_source_pixels(), repair(content)
    try:
        with open_picture(io.BytesIO(repaired.content)) as opened, no_warnings():
            notes = [*repaired.notes, *_choose_frame(opened, content)]
            width, height = opened.size
            if width * height > limit:
                raise Image.DecompressionBombError
            _check_content(opened, content)
            if repaired.profile:
                opened.info["icc_profile"] = repaired.profile
            orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)  # loading a TIFF rotates it and drops this tag
            source = _read_opened(path, _load(opened, content, notes), repaired.content, notes, orientation, hdr)
    except Image.DecompressionBombError as error:
        raise FileRefusedError(
            f"{path}: too large for this machine's memory; wanted at most {limit / 1e6:.0f} megapixels; fidelity upscale with "
            "a whole --scale makes a .tif, .png or .dzi of it in pieces, with libvips (pip install 'pyvips[binary]')"
        ) from error
    except (UnusableError, VipsError) as error:
        raise FileRefusedError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        unread = explain_unread(content)
        if unread:
            raise FileRefusedError(f"{path}: {unread}") from error
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise FileRefusedError(f"{path}: not an image; a video is enlarged by: fidelity video") from error
        raise FileRefusedError(f"{path}: not an image, or an unknown format") from error
    except DECODING_ERRORS as error:
        raise FileRefusedError(f"{path}: damaged or truncated ({one_line(error)})") from error
    return _to_srgb(source) if color_space == "srgb" else source


def take_picture(picture: Image.Image, color_space: ColorSpace = "source") -> SourceFile:
    """Takes a PIL image as a file of it would be read: upright, with its color profile, EXIF and depth.

    Raises:
        FileRefusedError: If its file is damaged, or its samples are not in the range of its mode: [0, 1] for F, 16 bits for I.
    """
    notes: list[str] = []
    try:
        with no_warnings():
            source = _read_opened(UNNAMED, _without_format(picture), b"", notes, 1, "auto")
    except UnusableError as error:
        raise FileRefusedError(f"{UNNAMED}: {error}") from error
    except (*DECODING_ERRORS, AssertionError) as error:  # Pillow asserts that its file is still open
        raise FileRefusedError(f"{UNNAMED}: damaged, truncated or closed ({one_line(error)})") from error
    return _to_srgb(source) if color_space == "srgb" else source


def _without_format(picture: Image.Image) -> Image.Image:
    """A copy of a PIL image that is of no file format, with its EXIF tags among its info, as those of all formats can be."""
    picture.load()
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.mode.startswith("I"):
        own = Image.fromarray(_read_grey(picture)[..., 0])
        own.info = dict(picture.info)
    else:
        own = picture.convert("LA") if picture.mode == "La" else picture.copy()
    exif = picture.getexif()
    if exif:
        own.info["exif"] = exif.tobytes()
    return own


def _load(opened: Image.Image, content: bytes, notes: list[str]) -> Image.Image:
    """Decodes a picture; a JPEG also if only its last bytes are missing. A TIFF that is not for Pillow stays undecoded."""
    if isinstance(opened, TiffOfAnyLayout) and opened.is_undecodable:
        return opened
    try:
        opened.load()
    except OSError:
        completed = complete_jpeg(content) if opened.format in ("JPEG", "MPO") else None
        if completed is None:
            raise
        notes.append("the last bytes of the file are missing, but hardly any pixels")
        return completed
    return opened


def count_source_pixels(path: Path) -> int:
    """Pixels of the picture that is read, by headers alone; of a TIFF, the largest page's. 0 if they cannot be read."""
    pixels = count_pixels(path)
    with suppress(*DECODING_ERRORS, UnidentifiedImageError), path.open("rb") as file:
        if file.read(4) in _TIFF_HEADS:
            file.seek(0)
            with open_picture(file) as opened, no_warnings():
                _choose_frame(opened, b"")
                pixels = max(pixels, opened.width * opened.height)
    return pixels


_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def max_source_pixels() -> int:
    """The most pixels of a source that fit this machine's memory, with room to work."""
    return int(total_bytes() * _MEMORY_SHARE / (3 * _BYTES_PER_SAMPLE))


def _read_opened(
    path: Path, opened: Image.Image, content: bytes, notes: list[str], orientation: int, hdr: HdrChoice
) -> SourceFile:
    info: dict[str, Any] = {str(key): value for key, value in opened.info.items()}
    exif, captions = collect_exif(opened), collect_captions(opened)
    profile = info.get("icc_profile")
    stored = find_depth(opened, content)
    full = read_full_depth(opened, content, stored, notes)
    if full is None:
        depth = content[PNG_DEPTH_AT] if opened.format == "PNG" else 8
        array, profile = _to_array(opened, profile, depth, notes)
        bits = 32 if opened.mode == "F" else 16 if opened.mode.startswith("I") else 8
        orientation = 1 if opened.format == "JXL" else opened.getexif().get(ExifTags.Base.Orientation, 1)
        if bits == 8 and stored > 8:
            notes.append(f"{stored} bits per channel, read at 8{name_reader(opened)}")
        if has_unspecified_extra(opened):
            notes.append(EXTRA_LEFT_OUT)
    else:
        array, bits = full.array, full.bits
        orientation = 1 if full.is_upright else orientation
        profile = None if full.is_converted else profile
    tensor = _to_tensor(_turn(array, orientation))
    is_converted = opened.mode in ("CMYK", "LAB") or (full is not None and full.is_converted)
    told = None if is_converted else read_told_color(opened, content, profile, tensor.shape[1] == 1)
    signal = told.wide if told else None
    if told and told.is_narrow:
        tensor = widen(tensor, bits)
        notes.append("samples of narrow range, as in video: brought to full range")
    if told and signal:
        profile = None
        tensor = tensor.expand(-1, 3, -1, -1) if tensor.shape[1] == 1 else tensor
        if hdr != "keep":
            tensor = tone_map(tensor, signal)
            how = f"tone mapped to sRGB, white at {WHITE_NITS:.0f} nits"
            notes.append(f"high dynamic range ({signal.transfer}, by {told.tag}): {how}")
            signal = None
    elif told:
        profile = told.profile
        notes += [f"colors are those of its {told.tag}"] if profile else []
    if tensor.shape[1] == 4 and profile and profile[16:20] == b"GRAY":
        found = read_profile(profile)
        if found:  # no profile describes grey stored as RGB with alpha
            tensor = torch.cat((to_srgb(tensor[:, :1], found).expand(-1, 3, -1, -1), tensor[:, 3:]), dim=1)
            notes.append("grey with transparency: converted to sRGB by its color profile")
            profile = None
    fitting = _fitting(profile, b"GRAY" if tensor.shape[1] == 1 else b"RGB ")
    if profile and not fitting:
        notes.append("color profile does not match the image, or is cut short: ignored")
    texts = collect_graphs(opened) | {name: info[name] for name in KEPT_TEXTS if isinstance(info.get(name), str)}
    return SourceFile(path, tensor, fitting, fitting, bits, read_dpi(info), exif, texts, captions, tuple(notes), signal)


def _to_tensor(array: np.ndarray) -> Tensor:
    """``(H, W, C)``, float32 in [0, 1] or of 8 bits, as ``(1, C, H, W)`` float32 in [0, 1]."""
    planes = torch.from_numpy(array if min(array.strides) >= 0 else array.copy()).movedim(-1, 0)[None]
    image = planes.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
    return image.div_(255) if array.dtype == np.uint8 else image


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
    shown = _to_tensor(np.asarray(converted))
    image = torch.cat((shown, source.image[:, 3:]), dim=1)
    return replace(
        source, image=image, icc_profile=None, notes=(*source.notes, "converted to sRGB by its color tables, in 8 bits")
    )


def read_dpi(info: dict[str, Any]) -> float | None:
    """Dots per inch; None if missing or implausible."""
    dots = info.get("dpi")
    if not isinstance(dots, tuple) or len(cast("tuple[Any, ...]", dots)) != 2:
        return None
    across = float(cast("tuple[Any, ...]", dots)[0])
    return across if 2 <= across <= 100_000 else None


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


def _choose_frame(opened: Image.Image, content: bytes) -> list[str]:
    """Goes to the frame to read, and returns notes on it."""
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return _choose_page(opened)
    frames = getattr(opened, "n_frames", 1)
    has_gain_map = _has_gain_map(opened, content)
    notes = [_GAIN_MAP_LEFT_OUT] if has_gain_map else []
    if frames < 2:
        return notes
    if opened.format in ("MPO", "HEIF"):
        left = frames - 1 - (has_gain_map and opened.format == "MPO")
        return [*notes, *([f"{left} more in the file, such as a depth map or preview, left out"] if left else [])]
    return [f"animated: using the first of {frames} frames"]


def _has_gain_map(opened: Image.Image, content: bytes) -> bool:
    """Whether a file has a second picture that widens the dynamic range of the first: Ultra HDR, ISO 21496-1 or Apple's."""
    if opened.format in ("JPEG", "MPO"):
        has_second = opened.format == "MPO" or content.find(_JPEG_START, len(content) // 4) >= 0
        return has_second and any(name in content for name in _JPEG_GAIN_MAPS)
    if opened.format not in ("HEIF", "AVIF"):
        return False
    boxes = content[:_META_BYTES]
    return _APPLE_GAIN_MAP in boxes or _TONE_MAPPED_ITEM.search(boxes) is not None


_JPEG_GAIN_MAPS = b"hdrgm:Version", b"HDRGainMapVersion", b"urn:iso:std:iso:ts:21496"
_JPEG_START = b"\xff\xd8\xff"
_APPLE_GAIN_MAP = b"urn:com:apple:photo:2020:aux:hdrgainmap"
_TONE_MAPPED_ITEM = re.compile(rb"infe[\2\3].{7,9}tmap", re.DOTALL)  # ISO/IEC 23008-12, amendment 1
_META_BYTES = 2**18


def _choose_page(opened: TiffImagePlugin.TiffImageFile) -> list[str]:
    """Goes to the largest page of a TIFF that is no reduced copy of another."""
    pages: list[tuple[bool, int, int]] = []
    with suppress(*DECODING_ERRORS):  # the end, an unknown type, or Pillow's own limit on pixels, which all but the first have
        for index in range(_MOST_PAGES):
            opened.seek(index)
            is_reduced = bool(opened.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED)
            pages.append((is_reduced, -opened.size[0] * opened.size[1], index))
    chosen = min(pages)[2] if pages else 0
    opened.seek(chosen)
    if len(pages) < 2:
        return []
    count = f"{len(pages)} pages" if len(pages) < _MOST_PAGES else f"{_MOST_PAGES} pages or more"
    return [f"{count}: using the {'first' if chosen == 0 else f'largest, number {chosen + 1}'}"]


def _check_content(opened: Image.Image, content: bytes) -> None:
    """Refuses a file that does not hold the picture that it seems to hold."""
    if _is_raw(opened, content):
        raise UnusableError("is a camera's raw file, which is not read; wanted an image developed from it")
    if _is_signed(opened):
        raise UnusableError("has signed integers; wanted unsigned ones, or floats")
    if is_jpeg_too_short(opened, content):
        width, height = opened.size
        raise OSError(f"{len(content)} bytes cannot hold the {width}x{height} px that it claims")


def _is_signed(opened: Image.Image) -> bool:
    """Whether a TIFF has signed integers of 8 bits, which Pillow takes for unsigned ones."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile) or TiffImagePlugin.SAMPLEFORMAT not in opened.tag_v2:
        return False
    bits = as_tuple(opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1))
    return max(bits) == 8 and _SIGNED in as_tuple(opened.tag_v2[TiffImagePlugin.SAMPLEFORMAT])


_SIGNED = 2


def _is_raw(opened: Image.Image, content: bytes) -> bool:
    """Whether a TIFF is a camera's raw file, of which only a preview could be read."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        return False
    is_preview = bool(opened.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & _REDUCED) and _SUB_DIRECTORIES in opened.tag_v2
    return is_preview or _DNG_VERSION in opened.tag_v2 or content[8:10] == b"CR"


def _to_array(picture: Image.Image, profile: bytes | None, depth: int, notes: list[str]) -> tuple[np.ndarray, bytes | None]:
    """Samples as (H, W, C), of 8 bits as they are and of more in [0, 1], and their color profile."""
    mode = picture.mode
    if mode in ("I;16", "I;16B", "I;16L", "I"):
        return _read_grey(picture), profile
    if mode == "F":
        return _scaled(np.asarray(picture), 1), profile
    if mode in ("CMYK", "LAB"):
        picture, profile = _foreign_to_srgb(picture, profile, notes), None
    if mode in ("1", "L") and isinstance(picture.info.get("transparency"), int):
        return _read_keyed_grey(picture, depth), profile
    if mode in ("1", "L") and "transparency" not in picture.info:
        return np.asarray(picture.convert("L"))[..., None], profile
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    return np.asarray(picture), profile


def _read_keyed_grey(picture: Image.Image, depth: int) -> np.ndarray:
    """Grey of at most 8 bits, of which one level, given in that depth, is transparent; as (H, W, 4) of 8 bits."""
    grey = np.asarray(picture.convert("L"))
    level = int(picture.info["transparency"])
    key = 255 * bool(level) if picture.mode == "1" else level * 255 // (2**depth - 1)
    return np.stack((grey, grey, grey, np.where(grey == key, 0, 255).astype(np.uint8)), axis=2)


def _read_grey(picture: Image.Image) -> np.ndarray:
    """Grey of more than 8 bits, which Pillow returns as stored, even if a TIFF has 12 bits or 0 for white."""
    white, inverted = 65535, False
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        if as_tuple(picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 16)) == (12,):
            white = 4095
        inverted = picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _BLACK_IS_ONE
    samples = _scaled(np.asarray(picture), white)
    return 1 - samples if inverted else samples


def _scaled(samples: np.ndarray, white: int) -> np.ndarray:
    """Grey samples of more than 8 bits as (H, W, 1) in [0, 1]."""
    check_range(samples, white)
    return (samples.astype(np.float32) / white)[..., None]


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
    """The profile if it is whole (bytes 0 to 3 of its header) and for that color space (16 to 19), else None."""
    if not profile or profile[16:20] != space or int.from_bytes(profile[:4], "big") > len(profile):
        return None
    return profile
