"""Codecs: encoders and their settings, the pixel formats that they take, and what fits in which container."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from av.codec.codec import Codec
from av.video.stream import VideoStream

from ..choices import DEFAULT_CRF, DEFAULT_VIDEO_CODEC, VideoCodec, VideoEncoder
from ..errors import RefusedError
from ..imaging.yuv import PlaneFormat
from .colors import FULL_RANGE, LIMITED_RANGE, MATRIX_CODES, ColorCodes, MasteringLight

CONTAINERS: Mapping[str, str] = {".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska", ".mov": "mov", ".webm": "webm"}
"""FFmpeg's names of the containers by file name ending."""


@dataclass(frozen=True)
class _Codec:
    encoders: Mapping[VideoEncoder, str]
    """FFmpeg's encoders."""
    containers: tuple[str, ...]
    """File name endings that can hold it."""
    bits: tuple[int, ...]
    """Bits per sample that it stores, ascending."""
    samplings: tuple[tuple[int, int], ...]
    """Chroma subsampling that it stores."""
    least_bits: int = 8
    """Bits that are stored even if the source has fewer."""
    crf: int | None = None
    """Default quality; None if it has no such setting."""
    crf_range: tuple[int, int] = (0, 0)
    preset: str | None = None
    """Default of the encoder's speed."""
    presets: tuple[str, ...] = ()


_X26X = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_SVT = tuple(map(str, range(14)))
_SAMPLINGS = ((2, 2), (1, 2), (1, 1))
CODECS: Mapping[VideoCodec, _Codec] = {
    "h265": _Codec(
        encoders={"cpu": "libx265", "nvenc": "hevc_nvenc", "qsv": "hevc_qsv", "videotoolbox": "hevc_videotoolbox"},
        containers=(".mp4", ".m4v", ".mkv", ".mov"),
        bits=(8, 10, 12),
        samplings=_SAMPLINGS,
        least_bits=10,
        crf=DEFAULT_CRF["h265"],
        crf_range=(0, 51),
        preset="medium",
        presets=_X26X,
    ),
    "h264": _Codec(
        encoders={"cpu": "libx264", "nvenc": "h264_nvenc", "qsv": "h264_qsv", "videotoolbox": "h264_videotoolbox"},
        containers=(".mp4", ".m4v", ".mkv", ".mov"),
        bits=(8, 10),
        samplings=_SAMPLINGS,
        crf=DEFAULT_CRF["h264"],
        crf_range=(0, 51),
        preset="medium",
        presets=_X26X,
    ),
    "av1": _Codec(
        encoders={"cpu": "libsvtav1", "nvenc": "av1_nvenc", "qsv": "av1_qsv"},
        containers=(".mp4", ".m4v", ".mkv", ".webm"),
        bits=(8, 10),
        samplings=((2, 2),),
        least_bits=10,
        crf=DEFAULT_CRF["av1"],
        crf_range=(1, 63),
        preset="6",
        presets=_SVT,
    ),
    "ffv1": _Codec({"cpu": "ffv1"}, (".mkv", ".mov"), bits=(8, 10, 12, 16), samplings=_SAMPLINGS, least_bits=10),
    "prores": _Codec({"cpu": "prores_ks"}, (".mov", ".mkv"), bits=(10,), samplings=((1, 2), (1, 1)), least_bits=10),
}
_ANY_CONTAINER = ".mkv"  # Matroska holds whatever there is


def result_suffix(source_suffix: str, codec: VideoCodec) -> str:
    """The ending of a video's result: that of its source if such a container holds the codec, else .mkv."""
    suffix = source_suffix.lower()
    return suffix if suffix in CODECS[codec].containers else _ANY_CONTAINER


_HARDWARE_BITS = (8, 10)
_SAMPLING_NAMES = {(2, 2): "4:2:0", (1, 2): "4:2:2", (1, 1): "4:4:4"}


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded."""

    codec: VideoCodec = DEFAULT_VIDEO_CODEC
    crf: int | None = None
    """Quality: lower is better and larger; None takes the codec's default."""
    preset: str | None = None
    """The encoder's own name for how long it tries; None takes the default."""
    encoder: VideoEncoder = "cpu"
    """What encodes."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise RefusedError(f"codec is {self.codec!r}; wanted {', '.join(CODECS)}")
        one = CODECS[self.codec]
        if self.encoder not in get_args(VideoEncoder) or self.encoder not in one.encoders:
            raise RefusedError(f"encoder is {self.encoder!r}; wanted {', '.join(one.encoders)} for {self.codec}")
        if self.crf is not None:
            if one.crf is None:
                raise RefusedError(f"crf is {self.crf}, but {self.codec} has no such setting; wanted none")
            low, high = one.crf_range
            if not low <= self.crf <= high:
                raise RefusedError(f"crf is {self.crf}; wanted {low} to {high} for {self.codec}")
        if self.preset is not None and self.encoder == "cpu" and self.preset not in one.presets:
            known = ", ".join(one.presets) or "none"
            raise RefusedError(f"encoder preset is {self.preset!r}; wanted {known} for {self.codec}")

    @property
    def encoder_name(self) -> str:
        """FFmpeg's name of the encoder."""
        return CODECS[self.codec].encoders[self.encoder]

    def check(self, output: Path) -> None:
        """Refuses a container that cannot hold the codec, and an encoder that this build or machine lacks.

        Raises:
            RefusedError: If so.
        """
        suffix, endings = output.suffix.lower(), CODECS[self.codec].containers
        if suffix not in CONTAINERS:
            raise RefusedError(f"{output}: wanted a file ending in {', '.join(CONTAINERS)}, or a folder for frames")
        if suffix not in endings:
            able = ", ".join(codec for codec, one in CODECS.items() if suffix in one.containers)
            raise RefusedError(f"{output}: {suffix} cannot hold {self.codec}; wanted {', '.join(endings)}, or --codec {able}")
        try:
            Codec(self.encoder_name, "w")
        except ValueError as error:  # PyAV's UnknownCodecError is one
            raise RefusedError(f"this build of FFmpeg has no encoder {self.encoder_name}; wanted another --codec") from error

    def fit(self, source: PlaneFormat) -> tuple[PlaneFormat, tuple[str, ...]]:
        """The format that is encoded, and what it lacks of the source's, as text.

        Args:
            source: Format of the source's planes.
        """
        one, notes = CODECS[self.codec], list[str]()
        bits_held = _HARDWARE_BITS if self.encoder != "cpu" else one.bits
        wanted = max(source.bits, one.least_bits)
        bits = next((held for held in bits_held if held >= wanted), bits_held[-1])
        if bits < source.bits:
            notes.append(f"{self.codec} stores {bits} of the source's {source.bits} bits")
        form = replace(source, bits=bits, is_grey=False)
        if source.matrix == "rgb":
            form = replace(form, matrix="bt709", is_full=False)
            notes.append("RGB is stored as BT.709 luma and chroma")
        subsampling = source.subsampling
        samplings = ((2, 2),) if self.encoder != "cpu" else one.samplings
        if source.is_grey:
            subsampling = samplings[0]
            form = replace(form, subsampling=subsampling)
        if subsampling not in samplings:
            finer = [held for held in samplings if held[0] <= subsampling[0] and held[1] <= subsampling[1]]
            subsampling = max(finer, default=samplings[0])
            if not finer:
                notes.append(f"{self.codec} stores chroma as 4:2:0, at half of the source's resolution or less")
            form = replace(form, subsampling=subsampling)
        if self.codec == "h264" and (form.bits > 8 or form.subsampling != (2, 2)):
            stored = f"{form.bits}-bit {_SAMPLING_NAMES[form.subsampling]}"
            notes.append(f"the result is {stored} H.264; many devices play only 8-bit 4:2:0")
        return form, tuple(notes)

    def open_stream(
        self,
        container: Any,
        size: tuple[int, int],
        form: PlaneFormat,
        codes: ColorCodes,
        rate: Fraction,
        time_base: Fraction,
        mastering: MasteringLight,
    ) -> VideoStream:
        """Adds a stream of encoded video to an output container.

        Args:
            container: PyAV's.
            size: (height, width) in pixels.
            form: Format of the planes that are encoded.
            codes: Color tags; the matrix is that of `form`.
            rate: Frames per second, on average.
            time_base: Seconds per tick of the frames' time stamps.
            mastering: Static metadata of high dynamic range.
        """
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints what it is set to otherwise
        stream = container.add_stream(self.encoder_name, rate=rate, options=self._options(form, mastering))
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format(form) if self.encoder == "cpu" else _HARDWARE_FORMATS[form.bits]
        context = stream.codec_context
        context.time_base = time_base
        context.color_range = FULL_RANGE if form.is_full else LIMITED_RANGE
        context.colorspace = MATRIX_CODES[form.matrix]
        context.color_primaries, context.color_trc = codes.primaries, codes.transfer
        context.thread_type = "AUTO"
        return stream

    def _options(self, form: PlaneFormat, mastering: MasteringLight) -> dict[str, str]:
        one = CODECS[self.codec]
        crf = str(self.crf if self.crf is not None else one.crf)
        preset = self.preset or one.preset
        options: dict[str, str] = {}
        if form.subsampling != (1, 1):
            options["chroma_sample_location"] = form.siting
        if self.encoder != "cpu":
            quality = {"nvenc": "cq", "qsv": "global_quality", "videotoolbox": "q:v"}[self.encoder]
            return options | {quality: crf} | ({"preset": self.preset} if self.preset else {})
        if self.codec in ("h265", "h264", "av1"):
            options |= {"crf": crf, "preset": preset or ""}
        if self.codec == "h265":
            lines = ["log-level=none"]
            lines += [f"master-display={mastering.display}"] if mastering.display else []
            lines += [f"max-cll={mastering.light}"] if mastering.light else []
            lines += ["hdr10=1"] if mastering.display or mastering.light else []
            options["x265-params"] = ":".join(lines)
        if self.codec == "ffv1":
            options |= {"level": "3", "slicecrc": "1", "slices": "4"}
        if self.codec == "prores":
            options["profile"] = "hq" if form.subsampling == (1, 2) else "4444"
        return options


_HARDWARE_FORMATS = {8: "nv12", 10: "p010le"}


def pixel_format(form: PlaneFormat) -> str:
    """FFmpeg's name of a planar format."""
    sampling = {(2, 2): "420", (1, 2): "422", (1, 1): "444"}[form.subsampling]
    return f"yuv{sampling}p" if form.bits == 8 else f"yuv{sampling}p{form.bits}le"


def fit_size(size: tuple[int, int], form: PlaneFormat, codec: VideoCodec, beside: bool = False) -> tuple[int, int]:
    """The nearest (height, width) that a codec can encode: with subsampled chroma, an even number; FFV1 takes any.

    Args:
        size: (height, width) as wanted.
        form: Format of the planes.
        codec: The codec.
        beside: Whether two pictures will be put side by side, which needs whole chroma samples too.
    """
    if codec == "ffv1" and not beside:
        return size
    height, width = (max(step, -(-length // step) * step) for length, step in zip(size, form.subsampling, strict=True))
    return height, width
