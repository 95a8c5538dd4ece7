"""What a video stream says about its samples, and what is assumed where it says nothing."""

import re
import struct
from dataclasses import dataclass

import av
import av.error
import av.logging
from av.bitstream import BitStreamFilterContext
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from ..errors import RefusedError
from ..files.color_tags import WIDE_CODES, wide_signal
from ..imaging.hdr import WideSignal
from ..imaging.yuv import Matrix, PlaneFormat, Siting

# ITU-T H.273, tables 2 to 4
_MATRICES: dict[int, Matrix] = {0: "rgb", 1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
MATRIX_CODES: dict[Matrix, int] = {"rgb": 0, "bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}
BT709, UNSPECIFIED, BT470BG, SMPTE170M, BT2020, SRGB = 1, 2, 5, 6, 9, 13
_NAMES = {BT709: "BT.709", BT2020: "BT.2020", BT470BG: "BT.601 (625 lines)", SMPTE170M: "BT.601 (525 lines)"}
_SITINGS: tuple[Siting, ...] = ("left", "center", "topleft", "top", "bottomleft", "bottom")
LIMITED_RANGE, FULL_RANGE = 1, 2
"""FFmpeg's numbers of the ranges."""
_MATRIX_NAMES: dict[Matrix, str] = {"bt601": "BT.601", "bt709": "BT.709", "bt2020": "BT.2020"}
_SD_HEIGHT, _SD_WIDTH = 576, 1024
_HD_HEIGHT, _HD_WIDTH, _UHD_WIDTH = 720, 1280, 3840
_LINES_525 = 480
_SITING_LINE = re.compile(r"chroma_sample_(?:loc_type_top_field|position)\s.*=\s*(\d+)\s*$")
_AV1_SITINGS: dict[int, Siting] = {1: "left", 2: "topleft"}


@dataclass(frozen=True)
class ColorCodes:
    """Color tags by H.273's code points."""

    primaries: int
    transfer: int
    matrix: int


@dataclass(frozen=True)
class StreamColors:
    """How a stream's samples stand for colors."""

    form: PlaneFormat
    """Of its planes once they are planar."""
    codes: ColorCodes
    """Its tags, none of them unspecified."""
    planar: str
    """FFmpeg's name of the planar pixel format that loses nothing."""
    signal: WideSignal | None
    """For PQ and HLG."""
    notes: tuple[str, ...]
    """What was assumed and may well be wrong, as text."""
    details: tuple[str, ...] = ()
    """What was assumed as players do, as text."""


def read_colors(stream: VideoStream, siting: Siting | None) -> StreamColors:
    """Reads what a stream's tags say; missing ones follow from its size.

    Args:
        stream: The stream.
        siting: Where its chroma samples lie, from `read_siting`; None for the usual place.

    Raises:
        RefusedError: If its pixel format or its matrix is not supported.
    """
    context = stream.codec_context
    pixels = context.format
    if pixels is None or not context.pix_fmt or context.width < 1 or context.height < 1:
        raise RefusedError("the video stream has no pixel format; wanted one that this build can decode")
    planar, form = _planar(pixels)
    notes, details = tuple[str, ...](), tuple[str, ...]()
    is_rgb = form.matrix == "rgb"
    is_sd = context.height <= _SD_HEIGHT and context.width <= _SD_WIDTH
    told = ColorCodes(context.color_primaries, context.color_trc, context.colorspace)
    usual = (SMPTE170M if context.height <= _LINES_525 else BT470BG) if is_sd and not is_rgb and not form.is_grey else BT709
    if told.transfer in WIDE_CODES:
        usual = BT2020
    matrix = _MATRICES.get(told.matrix)
    if matrix is None and told.matrix not in (UNSPECIFIED, 3):
        raise RefusedError(f"the color matrix has number {told.matrix} of H.273; wanted one of {sorted(_MATRICES)}")
    if is_rgb or form.is_grey:
        matrix = "rgb" if is_rgb else matrix or "bt709"
    elif matrix is None or matrix == "rgb":
        matrix = "bt601" if is_sd else "bt709"
        if BT2020 in (told.primaries, usual):
            matrix = "bt2020"
        told_of = f"the file does not say its color matrix; {_MATRIX_NAMES[matrix]} assumed"
        if _is_risky(context.height, context.width, form.bits, matrix):
            notes = (f"{told_of}, which is often wrong for {context.width}x{context.height}",)
        else:
            details = (told_of,)
    known = {UNSPECIFIED, 3, 0}
    primaries = usual if told.primaries in known else told.primaries
    transfer = (SRGB if is_rgb else BT709 if usual == BT709 else SMPTE170M) if told.transfer in known else told.transfer
    if told.primaries in known and not form.is_grey and not (notes or details):
        details = (f"the file does not say its color primaries; those of {_NAMES[primaries]} assumed",)
    is_full = is_rgb or context.color_range == FULL_RANGE or (pixels.name or "").startswith("yuvj")
    usual_place: Siting = "topleft" if matrix == "bt2020" and siting is None and transfer in (16, 18) else "left"
    form = PlaneFormat(matrix, is_full, form.bits, form.subsampling, siting or usual_place, form.is_grey)
    codes = ColorCodes(primaries, transfer, MATRIX_CODES[matrix])
    return StreamColors(form, codes, planar, wide_signal(primaries, transfer), notes, details)


def _is_risky(height: int, width: int, bits: int, assumed: Matrix) -> bool:
    """Whether an untagged file often has another matrix: between SD and HD, and where HDR has lost its tags."""
    is_sd = height <= _SD_HEIGHT and width <= _SD_WIDTH
    is_hd = height >= _HD_HEIGHT or width >= _HD_WIDTH
    return not (is_sd or is_hd) or (bits > 8 and width >= _UHD_WIDTH and assumed != "bt2020")


def _planar(pixels: VideoFormat) -> tuple[str, PlaneFormat]:
    """The planar format that holds all of a pixel format's samples, but for its alpha; matrix, range and siting not yet."""
    name = pixels.name
    bits = max((one.bits for one in pixels.components), default=0)
    if not pixels.components or pixels.is_bit_stream or name.startswith(("xyz", "bayer")) or "f16" in name or "f32" in name:
        raise RefusedError(f"the pixel format is {name}; wanted YUV, grey or RGB of 8 to 16 bits")
    count = len(pixels.components) - pixels.has_palette
    bits = max(8, bits if bits in (8, 9, 10, 12, 14) else 16 if bits > 8 else 8)
    depth = "" if bits == 8 else f"{bits}le"
    if pixels.is_rgb or pixels.has_palette or name.startswith("gbr"):
        return f"gbrp{depth}", PlaneFormat("rgb", True, bits, (1, 1))
    if count <= 2 and not any(one.is_chroma for one in pixels.components):
        return f"gray{depth}", PlaneFormat("bt709", False, bits, (1, 1), is_grey=True)
    down, across = (64 // pixels.chroma_height(64), 64 // pixels.chroma_width(64))
    sampling = {(1, 1): "444", (1, 2): "422", (2, 2): "420", (2, 1): "440", (1, 4): "411", (4, 4): "410"}.get((down, across))
    if sampling is None or (sampling in ("440", "411", "410") and bits > 8):
        raise RefusedError(f"the pixel format is {name}; wanted one of 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1 or 4:1:0")
    return f"yuv{sampling}p{depth}", PlaneFormat("bt709", False, bits, (down, across))


def has_alpha(pixels: VideoFormat) -> bool:
    """Whether a pixel format stores transparency."""
    return any(one.is_alpha for one in pixels.components) and not pixels.has_palette


def read_siting(path: str, index: int) -> Siting | None:
    """Where chroma samples lie by a stream's own headers (H.264, H.265, AV1), which PyAV does not tell; None if unsaid.

    FFmpeg's filter trace_headers prints every header; its lines are caught.

    Args:
        path: The file.
        index: Place of the stream.
    """
    level = av.logging.get_level()
    try:
        with av.open(path) as container, av.logging.Capture() as lines:
            av.logging.set_level(av.logging.INFO)
            stream = container.streams[index]
            reader = BitStreamFilterContext("trace_headers", stream)
            reader.filter(next(container.demux(stream)))
            texts = [text for _, _, text in lines]
            name = stream.codec_context.name
    except (av.error.FFmpegError, StopIteration, ValueError):
        return None
    finally:
        av.logging.set_level(level)
    for text in texts:
        found = _SITING_LINE.search(text)
        if found:
            code = int(found[1])
            if "av1" in name:
                return _AV1_SITINGS.get(code)
            return _SITINGS[code] if code < len(_SITINGS) else None
    return None


@dataclass(frozen=True)
class MasteringLight:
    """Static metadata of HDR10 (SMPTE ST 2086 and CTA-861.3), as x265 writes it."""

    display: str | None
    """Primaries, white point and luminance of the mastering display, or None."""
    light: str | None
    """Maximum content and frame-average light level in nits, or None."""

    @property
    def brightest_nits(self) -> float | None:
        """The brightest pixel of the video, where it is told and can be: encoders that do not know it write 0."""
        told = float(self.light.split(",")[0]) if self.light else 0.0
        return told if _DIMMEST_PEAK_NITS <= told <= _PQ_PEAK_NITS else None


def read_mastering(side_data: dict[str, bytes]) -> MasteringLight:
    """Reads a frame's static metadata of high dynamic range.

    Args:
        side_data: A frame's side data by the names of PyAV's types.
    """
    display, light = None, None
    mastering = side_data.get("MASTERING_DISPLAY_METADATA")
    if mastering and len(mastering) >= _MASTERING.size:
        values = _MASTERING.unpack_from(mastering)
        pairs = [top / bottom if bottom else 0.0 for top, bottom in zip(values[:20:2], values[1:20:2], strict=True)]
        if values[20]:
            red, green, blue, white = ([round(50_000 * one) for one in pairs[at : at + 2]] for at in (0, 2, 4, 6))
            least, most = round(10_000 * pairs[8]), round(10_000 * pairs[9])
            display = "G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*green, *blue, *red, *white, most, least)
    levels = side_data.get("CONTENT_LIGHT_LEVEL")
    if levels and len(levels) >= _LEVELS.size:
        light = "{},{}".format(*_LEVELS.unpack_from(levels))
    return MasteringLight(display, light)


_DIMMEST_PEAK_NITS, _PQ_PEAK_NITS = 203.0, 10_000.0
"""Diffuse white of BT.2408, and the most that PQ can tell."""
_DYNAMIC = {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_RPU_BUFFER": "Dolby Vision", "DOVI_METADATA": "Dolby Vision"}


def find_dynamic_metadata(side_data: dict[str, bytes]) -> str | None:
    """The name of what tells a frame's light scene by scene, which is not kept; None if there is nothing of the kind."""
    return " and ".join(dict.fromkeys(name for kind, name in _DYNAMIC.items() if kind in side_data)) or None


_MASTERING = struct.Struct("=20iii")
"""FFmpeg's AVMasteringDisplayMetadata: fractions of primaries, white point and luminance, then which of them are given."""
_LEVELS = struct.Struct("=II")
