"""Color told by anything but an ICC profile: PNG's cICP, gAMA and cHRM, AVIF's nclx, DCF's Adobe RGB, TIFF's chromaticities.

What such a tag says becomes an ICC profile, which then is kept with the samples or converted, as any other. Signals for
high dynamic range (PQ and HLG), which a profile of curves cannot describe, are named by their transfer function.

Sources: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", 2025, section 4.3 (which tag counts) and 11.3.2;
ITU-T H.273 (2024), tables 2 and 3 (code points); JEITA CP-3461, "Design rule for Camera File system 2.0", R03; TIFF 6.0,
section 20; ICC.1:2022, sections 9.2.17 and 10.3 (tag cicp).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin
from torch import Tensor

from ..imaging.hdr import Transfer, WideSignal
from .formats import DECODING_ERRORS
from .icc import read_tags
from .png import iterate_chunks

Chromaticities = tuple[float, ...]
"""x and y of red, green, blue and white."""

_D65, _DCI, _C = (0.3127, 0.3290), (0.314, 0.351), (0.310, 0.316)
BT709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65)
_ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65)
_PRIMARIES: Mapping[int, Chromaticities] = {
    1: BT709,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_DCI),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: Mapping[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), _SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: _SRGB_CURVE,
}
"""g, or g, a, b, c and d, of ICC's parametric curves, by H.273's transfer characteristics.

1, 6, 14 and 15 are a camera's curve; pictures with them were made on screens, and viewers show them with a screen's.
"""
WIDE_CODES: Mapping[int, Transfer] = {16: "PQ", 18: "HLG"}
"""H.273's transfer characteristics for high dynamic range."""
CODES: Mapping[Transfer, int] = {transfer: code for code, transfer in WIDE_CODES.items()}
_UNSPECIFIED, _BT2020 = 2, 9
_ADOBE_GAMMA = 563 / 256
_SRGB_GAMMA = 0.45455
_D50 = np.array([0.96422, 1.0, 0.82521])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_UNCALIBRATED = 65535
_SAME = 1e-3


@dataclass(frozen=True)
class ToldColor:
    """What a file says about its colors."""

    tag: str
    """The tag that says so."""
    profile: bytes | None
    """The ICC profile that says the same; None for sRGB and for high dynamic range."""
    wide: WideSignal | None = None
    """How the samples stand for light, if they are of high dynamic range."""
    is_narrow: bool = False
    """Whether black and white are 16 and 235 of 255, as in video; see `widen`."""


def widen(image: Tensor, bits: int) -> Tensor:
    """Full range of samples of narrow range (ITU-T H.273, equations 20 to 22); what lies beyond black and white is cut off.

    Args:
        image: ``(B, C, H, W)`` in [0, 1]; a fourth channel is alpha, which has full range.
        bits: Bits per channel in the file.
    """
    unit = 2.0 ** (bits - 8) / (2**bits - 1)
    colors = image[:, :3].sub(16 * unit).div_(219 * unit).clamp_(0, 1)
    return torch.cat((colors, image[:, 3:]), dim=1)


def read_told_color(opened: Image.Image, content: bytes, profile: bytes | None, is_grey: bool) -> ToldColor | None:
    """Reads the color that counts, if it is told by a tag other than an ICC profile, or by one with PQ or HLG.

    Args:
        opened: The picture.
        content: Its whole file.
        profile: Its embedded ICC profile.
        is_grey: Whether its samples are grey, so that a profile has to be for grey.
    """
    found = None
    if opened.format == "PNG":
        found = _read_png(content, profile is not None, is_grey)
    elif opened.format in ("AVIF", "HEIF") and not profile:
        found = _read_nclx(content, is_grey)
    elif isinstance(opened, TiffImagePlugin.TiffImageFile) and not profile:
        found = _read_tiff(opened, is_grey)
    if found:
        return found
    return _read_icc_code_points(profile) if profile else _read_dcf(opened, is_grey)


def _read_png(content: bytes, has_profile: bool, is_grey: bool) -> ToldColor | None:
    """In PNG's order: cICP, then iCCP, then sRGB, then gAMA and cHRM."""
    chunks = _list_chunks(content)
    code_points = chunks.get(b"cICP")
    if code_points and len(code_points) == 4:
        found = _from_code_points("cICP", code_points[0], code_points[1], is_grey)
        if found:
            return replace(found, is_narrow=code_points[3] == 0)
    if has_profile:
        return None
    if b"sRGB" in chunks:
        return ToldColor("sRGB chunk", None)
    gamma, primaries = _SRGB_GAMMA, BT709
    if len(chunks.get(b"cHRM", b"")) == 32:
        white, colors = (struct.unpack_from(form, chunks[b"cHRM"], at) for form, at in ((">2I", 0), (">6I", 8)))
        primaries = tuple(value / 1e5 for value in (*colors, *white))
    if len(chunks.get(b"gAMA", b"")) == 4:
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 1e5
    if not 0.05 <= gamma <= 20:
        return None
    is_usual = abs(gamma - _SRGB_GAMMA) < _SAME  # programs write it, with sRGB's primaries, for those that know no sRGB chunk
    curve = _SRGB_CURVE if is_usual else (1 / gamma,)
    if is_usual and (is_grey or np.allclose(primaries, BT709, atol=_SAME)):
        return ToldColor("gAMA", None) if b"gAMA" in chunks else None
    return _told("gAMA and cHRM" if b"cHRM" in chunks else "gAMA", primaries, curve, is_grey)


def _list_chunks(content: bytes) -> dict[bytes, bytes]:
    """The first chunk of each name before the pixels."""
    chunks: dict[bytes, bytes] = {}
    for name, start, stop in iterate_chunks(content):
        if name == b"IDAT":
            break
        chunks.setdefault(name, content[start + 8 : stop - 4])
    return chunks


def _read_nclx(content: bytes, is_grey: bool) -> ToldColor | None:
    place = content.find(_NCLX)
    if place < 0 or place + 12 > len(content):
        return None
    return _from_code_points("nclx", *struct.unpack_from(">2H", content, place + len(_NCLX)), is_grey)


def tag_nclx(content: bytes, signal: WideSignal) -> bytes | None:
    """An AVIF that tells the signal's primaries and transfer in its nclx box; None if it has no such box.

    The matrix and the range, which the box tells too, stay as they were encoded.
    """
    place = content.find(_NCLX)
    if place < 0:
        return None
    tagged = bytearray(content)
    struct.pack_into(">2H", tagged, place + len(_NCLX), signal.primaries, CODES[signal.transfer])
    return bytes(tagged)


_NCLX = b"colrnclx"


def _read_icc_code_points(profile: bytes) -> ToldColor | None:
    """A profile's own code points, if they are for high dynamic range: its curves then cannot say what they say."""
    try:
        tag = read_tags(profile).get(b"cicp", b"")
    except (ValueError, struct.error):
        return None
    if len(tag) < 12 or tag[9] not in WIDE_CODES:
        return None
    return _from_code_points("the color profile's cicp tag", tag[8], tag[9], is_grey=False)


def _read_tiff(opened: TiffImagePlugin.TiffImageFile, is_grey: bool) -> ToldColor | None:
    white: Any = opened.tag_v2.get(ExifTags.Base.WhitePoint)
    colors: Any = opened.tag_v2.get(ExifTags.Base.PrimaryChromaticities)
    try:
        primaries = tuple(float(value) for value in (*(colors or BT709[:6]), *(white or _D65)))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if len(primaries) != 8 or is_grey or np.allclose(primaries, BT709, atol=_SAME):
        return None
    return _told("WhitePoint and PrimaryChromaticities", primaries, _SRGB_CURVE, is_grey)


def _read_dcf(opened: Image.Image, is_grey: bool) -> ToldColor | None:
    """Adobe RGB as cameras tell it: a color space that EXIF has no number for, and the rule for such files."""
    try:
        exif = opened.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        rule = exif.get_ifd(ExifTags.IFD.Interop).get(1)
    except DECODING_ERRORS:
        return None
    text = rule.decode("latin-1") if isinstance(rule, bytes) else str(rule)
    if text.strip("\0 ") != "R03" or space not in (_UNCALIBRATED, None):
        return None
    return _told("DCF rule R03 (Adobe RGB)", _ADOBE, (_ADOBE_GAMMA,), is_grey)


def _from_code_points(tag: str, primaries: int, transfer: int, is_grey: bool) -> ToldColor | None:
    """Of H.273; None if they are unspecified or unknown, so that another tag counts."""
    colors = _PRIMARIES.get(1 if primaries == _UNSPECIFIED else primaries)
    if colors is None:
        return None
    signal = wide_signal(primaries, transfer)
    if signal:
        return ToldColor(tag, None, signal)
    curve = _CURVES.get(13 if transfer == _UNSPECIFIED else transfer)
    if curve is None or (primaries == transfer == _UNSPECIFIED):
        return None
    return _told(tag, colors, curve, is_grey)


def wide_signal(primaries: int, transfer: int) -> WideSignal | None:
    """The signal of high dynamic range that code points of H.273 stand for; None if they stand for none."""
    code = 1 if primaries == _UNSPECIFIED else primaries
    if transfer not in WIDE_CODES or code not in _PRIMARIES:
        return None
    matrix = np.linalg.solve(to_xyz(_PRIMARIES[_BT2020]), to_xyz(_PRIMARIES[code]))
    return WideSignal(WIDE_CODES[transfer], code, tuple((row[0], row[1], row[2]) for row in matrix.tolist()))


def primaries_of(signal: WideSignal) -> Chromaticities:
    """The chromaticities of a signal's red, green, blue and white."""
    return _PRIMARIES[signal.primaries]


def _told(tag: str, primaries: Chromaticities, curve: tuple[float, ...], is_grey: bool) -> ToldColor | None:
    if curve == _SRGB_CURVE and (is_grey or primaries == BT709):
        return ToldColor(tag, None)
    try:
        return ToldColor(tag, make_profile(primaries, curve, is_grey))
    except (np.linalg.LinAlgError, ZeroDivisionError, struct.error):
        return None  # chromaticities that span no colors


def make_profile(primaries: Chromaticities, curve: tuple[float, ...], is_grey: bool = False) -> bytes:
    """Builds an ICC profile (version 4.4) of one curve, and a matrix unless it is for grey.

    Args:
        primaries: x and y of red, green, blue and white.
        curve: g, or g, a, b, c and d, of a parametric curve to linear light (ICC.1:2022, section 10.18).
        is_grey: Whether it is for grey.

    Raises:
        numpy.linalg.LinAlgError, ZeroDivisionError, struct.error: If the chromaticities span no colors.
    """
    adapted = _adapt(_white_of(primaries))
    para = struct.pack(">4s4xHxx", b"para", 0 if len(curve) == 1 else 3) + _fixed(curve)
    tags = {
        b"desc": _text("RGB by its file's color tags" if not is_grey else "grey by its file's color tags"),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": struct.pack(">4s4x", b"XYZ ") + _fixed(_D50),
        b"chad": struct.pack(">4s4x", b"sf32") + _fixed(adapted.flatten()),
    }
    if is_grey:
        tags[b"kTRC"] = para
    else:
        columns = adapted @ to_xyz(primaries)
        tags |= {
            name: struct.pack(">4s4x", b"XYZ ") + _fixed(columns[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))
        }
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), para)
    table, body, place = b"", b"", 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(tag))
        body += tag + bytes(-len(tag) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4sQI12s4s44x",
        *(place + len(body), b"", 0x04400000, b"mntr", b"GRAY" if is_grey else b"RGB ", b"XYZ "),
        *(struct.pack(">6H", 2026, 1, 1, 0, 0, 0), b"acsp", b"", 0, b"", b"", 0, 0, _fixed(_D50), b""),
    )
    return header + struct.pack(">I", len(tags)) + table + body


def to_xyz(primaries: Chromaticities) -> NDArray[np.float64]:
    """The (3, 3) matrix from linear light to XYZ, whose white has Y = 1.

    Raises:
        numpy.linalg.LinAlgError, ZeroDivisionError: If the chromaticities span no colors.
    """
    pairs = [(primaries[at], primaries[at + 1]) for at in (0, 2, 4)]
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in pairs]).T
    return np.asarray(columns * np.linalg.solve(columns, _white_of(primaries)), dtype=np.float64)


def _white_of(primaries: Chromaticities) -> NDArray[np.float64]:
    x, y = primaries[6:]
    return np.array([x / y, 1, (1 - x - y) / y])


def _adapt(white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bradford's adaptation from a white to D50 (ICC.1:2022, annex E)."""
    gain: NDArray[np.float64] = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    return np.asarray(np.linalg.solve(_BRADFORD, gain @ _BRADFORD), dtype=np.float64)


def _fixed(values: Any) -> bytes:
    """Numbers as s15Fixed16."""
    return b"".join(struct.pack(">i", round(65536 * float(value))) for value in values)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII4sII", b"mluc", 1, 12, b"enUS", len(encoded), 28) + encoded
