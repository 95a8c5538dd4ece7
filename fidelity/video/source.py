"""Reads a video: what its stream holds, and its frames one after another with their time stamps."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import av.error
import numpy as np
import torch
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image
from torch import Tensor

from ..choices import Deinterlace
from ..errors import RefusedError
from ..files.formats import DECODING_ERRORS
from ..files.paths import READ_SUFFIXES, FileRefusedError, check_regular, number_key, one_line
from ..files.tone import tone_map
from ..imaging.yuv import PlaneFormat, Siting, levels_to_planes, planes_to_rgb
from .colors import MasteringLight, StreamColors, find_dynamic_metadata, has_alpha, read_colors, read_mastering, read_siting
from .demuxers import check_format

SEQUENCE_SUFFIXES = (".png", ".tif", ".tiff")
"""File name endings of frames in a folder."""
_PICTURES = tuple(one for one in READ_SUFFIXES if one not in (".gif", ".webp", ".avif"))  # those may be animated
_RUNNING_CLOCKS = ("mpeg", "vob")
"""Containers whose time stamps are those of a broadcast's clock, so that they begin anywhere."""
_CENTERED = ("mjpeg", "mpeg1video")
"""Codecs whose chroma samples lie between those of luma."""
_USUAL_RATE = Fraction(25)
_FASTEST, _SLOWEST = 1000, Fraction(1, 3600)
_ENDED_EARLY_SECONDS = 0.5
_ENDED_EARLY_FRAMES = 8
_JUMP_SECONDS = Fraction(1, 2)
_LEAD_SECONDS = Fraction(2)
"""How long before a part that is wanted reading begins, so that cuts and motion are known there."""
_PIPED_SITINGS: dict[bytes, Siting] = {b"C420jpeg": "center", b"C420mpeg2": "left", b"C420paldv": "topleft"}
"""What YUV4MPEG2's tags of 4:2:0 say of chroma."""
_HEADER_BYTES = 4096


@dataclass(frozen=True)
class VideoInfo:
    """What a video's stream holds."""

    path: Path
    codec: str
    """FFmpeg's name of its codec."""
    size: tuple[int, int]
    """(height, width) in pixels, as stored: before rotation and sample aspect."""
    time_base: Fraction
    """Seconds per tick of its time stamps."""
    rate: Fraction
    """Frames per second, on average."""
    frames: int | None
    """About how many frames there are; None if the file does not tell."""
    colors: StreamColors
    """What its samples stand for."""
    sample_aspect: Fraction | None
    """Width of a pixel divided by its height; None if they are square."""
    rotation: tuple[int, ...] | None
    """Nine integers of the display matrix; None if the picture is shown as it is stored."""
    mastering: MasteringLight
    """Static metadata of high dynamic range."""
    dynamic_metadata: str | None
    """See `fidelity.video.colors.find_dynamic_metadata`."""
    is_interlaced: bool
    """Whether its first frame is tagged as interlaced; False for a pipe."""
    has_alpha: bool
    """Whether it has transparency, which is not kept; a GIF's is often only how it stores what does not change."""
    is_see_through: bool
    """Whether its first frame has transparent pixels although `has_alpha` is False, as a GIF's may."""

    @property
    def form(self) -> PlaneFormat:
        """The format of its planes."""
        return self.colors.form


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One decoded frame."""

    index: int
    """Its place, from 0."""
    pts: int
    """Time stamp in ticks of the stream's time base."""
    duration: int
    """In ticks; 0 if unknown."""
    levels: tuple[Tensor, ...]
    """Its planes, each ``(h, w)``, as `fidelity.imaging.yuv.levels_to_planes` takes them."""


class VideoRefusedError(FileRefusedError):
    """A video that cannot be read, with the reason in one line."""


@dataclass
class VideoSource:
    """A video that is read from its start, once by each call of `frames`."""

    path: Path
    deinterlace: Deinterlace = "auto"
    rate: Fraction | None = None
    """Frames per second of a folder of images."""
    stream: IO[bytes] | None = None
    """What is read in place of the path: YUV4MPEG2 from a pipe, once."""
    stream_index: int = field(default=0, init=False)
    """Place of the video among the file's streams."""
    late_start: Fraction = field(default=Fraction(0), init=False)
    """Seconds at which a broadcast's clock begins, which the result leaves out; 0 for files."""
    was_deinterlaced: bool = field(default=False, init=False)
    """Whether frames read so far were made progressive."""
    fault: str | None = field(default=None, init=False)
    """Why reading ended before the video did; None as long as nothing is wrong."""
    _opened: Any = field(default=None, init=False, repr=False)
    _first_pts: int = field(default=0, init=False, repr=False)
    _header: bytes = field(default=b"", init=False, repr=False)
    """First line of what comes through a pipe."""
    _files: tuple[Path, ...] = field(default=(), init=False, repr=False)
    """Pictures of a folder, in order."""

    def __post_init__(self) -> None:
        if self.stream is None:
            self._check()
        try:
            self.info = self._probe()
        except av.error.InvalidDataError as error:
            raise VideoRefusedError(f"{self.path}: not a video, or of no known format") from error
        except (av.error.FFmpegError, OSError) as error:
            raise VideoRefusedError(f"{self.path}: cannot be read as a video ({one_line(error)})") from error
        except RefusedError as error:
            raise VideoRefusedError(f"{self.path}: {error}") from error

    def _check(self) -> None:
        if not self.path.exists():
            raise VideoRefusedError(f"{self.path}: no such file or folder")
        if self.path.is_dir():
            self._files = _find_pictures(self.path)
            _check_sizes(self.path, self._files)
        else:
            check_regular(self.path)

    def open(self) -> Any:
        """Opens the container anew; of a folder, its first picture."""
        if self.stream is not None:
            if self._opened is None:
                self._header = _read_header(self.stream)
                self._opened = av.open(_Rejoined(self._header, self.stream), format="yuv4mpegpipe")
            return self._opened
        return av.open(str(self._files[0] if self._files else self.path), metadata_errors="replace")

    def _close(self, container: Any) -> None:
        if self.stream is None:
            container.close()

    def _probe(self) -> VideoInfo:
        container = self.open()
        try:
            is_file = self.stream is None and not self._files
            if is_file:
                check_format(self.path, container)
            stream = find_video(container)
            if stream is None:
                kinds = sorted({one.type or "unknown" for one in container.streams}) or ["no streams"]
                raise RefusedError(f"has no video, only {', '.join(kinds)}; wanted a video stream")
            self.stream_index = stream.index
            self.late_start = Fraction(0)
            if container.start_time and _has_running_clock(container):
                self.late_start = Fraction(container.start_time, av.time_base)
            context = stream.codec_context
            if is_file and self.path.suffix.lower() in _PICTURES:
                raise RefusedError(f"is a picture, not a video; wanted fidelity upscale {self.path.name}")
            placed: Siting | None = "center" if context.name in _CENTERED else None
            if is_file:
                placed = read_siting(str(self.path), stream.index) or placed
            elif self.stream is not None:
                placed = next((siting for tag, siting in _PIPED_SITINGS.items() if tag in self._header.split()), None)
            colors = read_colors(stream, placed)
            first = next(_each_frame(container, stream), None) if is_file else None
            if is_file and first is None:
                raise RefusedError("has no frame that can be decoded")
            side = read_side_data(first) if first else {}
            self._first_pts = (first.pts if first else None) or 0
            matrix = side.get("DISPLAYMATRIX")
            turned = tuple(struct.unpack("=9i", matrix)) if matrix and len(matrix) == 36 else None
            if self._files:
                rate = self.rate or _USUAL_RATE
                time_base, frames = 1 / rate, len(self._files)
            else:
                rate, time_base, frames = _choose_rate(stream), stream.time_base, stream.frames
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
            if seconds is None and container.duration:
                seconds = container.duration / av.time_base
            aspect = stream.sample_aspect_ratio
            return VideoInfo(
                path=self.path,
                codec=context.name,
                size=(context.height, context.width),
                time_base=time_base or 1 / rate,
                rate=Fraction(rate),
                frames=frames or (round(seconds * rate) if seconds else None),
                colors=colors,
                sample_aspect=aspect if aspect and aspect not in (0, 1) else None,
                rotation=None if turned == _UPRIGHT else turned,
                mastering=read_mastering(side),
                dynamic_metadata=find_dynamic_metadata(side),
                is_interlaced=bool(first and first.interlaced_frame),
                has_alpha=context.format is not None and has_alpha(context.format) and context.name != "gif",
                is_see_through=first is not None and context.name == "gif" and _is_see_through(first),
            )
        finally:
            self._close(container)

    def frames(self, start: Fraction = Fraction(0)) -> Iterator[SourceFrame]:
        """Decodes frames in the order they are shown.

        Where the file is damaged, frames end, and `fault` says why.

        Args:
            start: Seconds from which on frames are wanted; where the file can be searched, only some of those before come.
        """
        container = self.open()
        try:
            skipped = self._search(container, start)
            yield from self._decode(container, skipped)
        finally:
            self._close(container)

    def _search(self, container: Any, start: Fraction) -> bool:
        """Goes to a frame that decodes by itself, some time before one that is wanted; returns whether frames were skipped."""
        early = start - _LEAD_SECONDS
        if early <= 0 or self.stream is not None or self._files or _has_running_clock(container):
            return False  # a broadcast is searched by its clock alone, not for frames that decode by themselves
        try:
            place = self._first_pts + round(early / self.info.time_base)
            container.seek(place, stream=container.streams[self.stream_index])
        except av.error.FFmpegError:  # a file without an index
            container.seek(0)
            return False
        return True

    def _pictures(self) -> Iterator[VideoFrame]:
        """The pictures of a folder as frames; each is decoded by itself."""
        for index, path in enumerate(self._files):
            try:
                with av.open(str(path)) as one:
                    frame = next(one.decode(video=0))
            except (av.error.FFmpegError, StopIteration) as error:
                raise OSError(f"{path.name} cannot be read as an image") from error
            frame.pts, frame.time_base, frame.duration = index, self.info.time_base, 1
            yield frame

    def _decode(self, container: Any, skipped: bool) -> Iterator[SourceFrame]:
        stream = container.streams[self.stream_index]
        stream.thread_type = "AUTO"
        info, last, index, lasts = self.info, None, 0, 0
        step = max(1, round(1 / (info.rate * info.time_base)))
        try:
            frames = self._pictures() if self._files else _each_frame(container, stream)
            for frame in self._progressive(frames, stream):
                size = (frame.height, frame.width)
                if size != info.size:
                    wanted = f"{info.size[1]}x{info.size[0]}"
                    self.fault = f"frame {index + 1} is {size[1]}x{size[0]}; wanted {wanted}, as the frames before it"
                    return
                pts = frame.pts if frame.pts is not None else (0 if last is None else last + step)
                if frame.pts is not None and frame.time_base and frame.time_base != info.time_base:
                    pts = round(frame.pts * frame.time_base / info.time_base)
                if last is None and skipped:
                    index = max(0, round((pts - self._first_pts) * info.time_base * info.rate))
                if last is not None and last - pts > _JUMP_SECONDS / info.time_base:
                    back = float((last - pts) * info.time_base)
                    self.fault = f"its time jumps back by {back:.2f} s after {index} frames"
                    return
                pts = pts if last is None or pts > last else last + 1  # a broken file's
                lasts = round((frame.duration or 0) * (frame.time_base or info.time_base) / info.time_base)
                yield SourceFrame(index, pts, lasts, read_planes(frame, info.colors))
                last, index = pts, index + 1
        except (av.error.FFmpegError, OSError) as error:
            self.fault = f"reading failed after {index} frames ({one_line(error)})"
            return
        if not skipped:
            self._check_end(container, stream, last, lasts, index)

    def _progressive(self, frames: Iterator[VideoFrame], stream: VideoStream) -> Iterator[VideoFrame]:
        """Makes frames progressive, from the first on that is tagged as interlaced, or all."""
        graph = _deinterlacer(stream, "all") if self.deinterlace == "on" else None
        for frame in frames:
            if graph is None and self.deinterlace == "auto" and frame.interlaced_frame:
                graph = _deinterlacer(stream, "interlaced")
            if graph is None:
                yield frame
            else:
                self.was_deinterlaced = True
                graph.push(frame)
                yield from _pull(graph)
        if graph is not None:
            graph.push(None)
            yield from _pull(graph)

    def _check_end(self, container: Any, stream: VideoStream, last: int | None, lasts: int, count: int) -> None:
        """Finds out whether a file ended before the time that it told."""
        if last is None:
            self.fault = "has no frame that can be decoded"
            return
        told = _told_seconds(container, stream)
        if self.stream is not None or self._files or told is None:
            return
        start = (stream.start_time or 0) * self.info.time_base
        reached = last * self.info.time_base - start + max(lasts * self.info.time_base, 1 / self.info.rate)
        missing = stream.frames - count if stream.frames else 0  # what an edit list hides is counted too
        is_short = told - reached > max(_ENDED_EARLY_SECONDS, 3 / self.info.rate)
        if (is_short and (missing or not stream.frames)) or missing > max(_ENDED_EARLY_FRAMES, count // 10):
            self.fault = f"ended after {count} frames, at {float(reached):.2f} of {float(told):.2f} s"


_UPRIGHT = (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
_COVER = 1 << 10
"""FFmpeg's disposition of a cover picture."""


def _find_pictures(folder: Path) -> tuple[Path, ...]:
    """The frames in a folder, in the order of the numbers in their names.

    Raises:
        VideoRefusedError: If there is none, or they are of several types.
    """
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        end = path.suffix.lower()
        if end in SEQUENCE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            found.setdefault(end, []).append(path)
    if not found:
        raise VideoRefusedError(f"{folder}: no videos and no PNG or TIFF frames in this folder")
    if len(found) != 1:
        seen = ", ".join(f"{len(paths)} {end}" for end, paths in sorted(found.items()))
        raise VideoRefusedError(f"{folder}: has {seen}; wanted frames as PNG or TIFF files, all of one type")
    return tuple(sorted(next(iter(found.values())), key=number_key))


def _check_sizes(folder: Path, files: tuple[Path, ...]) -> None:
    """Refuses frames of several sizes before any work; what cannot be told from a header is found out later."""
    first: tuple[int, int] | None = None
    for path in files:
        try:
            with Image.open(path) as opened:
                size = opened.size
        except (*DECODING_ERRORS, RefusedError):
            continue
        first = first or size
        if size != first:
            seen = f"{size[0]}x{size[1]} in {path.name}, {first[0]}x{first[1]} before"
            raise VideoRefusedError(
                f"{folder}: has frames of several sizes ({seen}); wanted one: for pictures, fidelity upscale"
            )


def _read_header(stream: IO[bytes]) -> bytes:
    """The first line of a pipe, by which a YUV4MPEG2 stream tells its format."""
    header = bytearray()
    while len(header) < _HEADER_BYTES and not header.endswith(b"\n"):
        one = stream.read(1)
        if not one:
            break
        header += one
    return bytes(header)


class _Rejoined:
    """A stream of which the first bytes were read already."""

    def __init__(self, first: bytes, stream: IO[bytes]) -> None:
        self._first, self._stream = first, stream

    def read(self, size: int) -> bytes:
        if self._first:
            part, self._first = self._first[:size], self._first[size:]
            return part
        return self._stream.read(size)


def show_first_frame(source: VideoSource) -> Tensor:
    """The first frame of a video as RGB by its own tags, ``(1, 3, H, W)`` in [0, 1]; high dynamic range is tone mapped.

    Raises:
        VideoRefusedError: If no frame can be decoded.
    """
    info = source.info
    frame = next(source.frames(), None)
    if frame is None:
        raise VideoRefusedError(f"{source.path}: {source.fault}")
    image = planes_to_rgb(levels_to_planes(frame.levels, info.form), info.form).clamp_(0, 1)
    return tone_map(image, info.colors.signal) if info.colors.signal else image


def find_video(container: Any) -> VideoStream | None:
    """The first video stream that is not a cover picture."""
    return next((one for one in container.streams.video if not is_cover(one)), None)


def is_cover(stream: Any) -> bool:
    """Whether a stream is a cover picture."""
    return stream.type == "video" and bool(int(stream.disposition) & _COVER)


def _has_running_clock(container: Any) -> bool:
    return any(name in container.format.name for name in _RUNNING_CLOCKS)


def _choose_rate(stream: VideoStream) -> Fraction:
    """The first rate that can be: that of few frames or of broken headers may not."""
    rates = [Fraction(rate) for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate]
    for rate in rates:
        if _SLOWEST <= rate <= _FASTEST:
            return rate
    if rates:
        raise RefusedError(f"has {float(rates[0]):g} frames per second; wanted {float(_SLOWEST):.2g} to {_FASTEST}")
    return _USUAL_RATE


def _told_seconds(container: Any, stream: VideoStream) -> Fraction | None:
    """How long a video is by its own header; None if only the longest of its file's streams is told."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    text = next((value for key, value in stream.metadata.items() if key.upper() == "DURATION"), None)  # Matroska's
    if text:
        try:
            hours, minutes, seconds = (Fraction(part) for part in text.split(":"))
        except ValueError:
            return None
        return 3600 * hours + 60 * minutes + seconds
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None


def _each_frame(container: Any, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        yield from packet.decode()


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.pull()  # pyright: ignore[reportReturnType]  of a graph for video
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def read_side_data(frame: Any) -> dict[str, bytes]:
    """What comes with a frame, by the names of PyAV's types."""
    try:
        return {one.type.name: bytes(one) for one in frame.side_data}
    except ValueError:  # of a type that this PyAV has no name for
        return {}


def _is_see_through(frame: VideoFrame) -> bool:
    return bool((frame.to_ndarray(format="rgba")[..., 3] < 255).any())


def _deinterlacer(stream: VideoStream, which: str) -> Graph:
    """FFmpeg's bwdif: one frame for each, with its time stamp."""
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}"),
        graph.add("buffersink"),
    ).configure()
    return graph


def read_planes(frame: VideoFrame, colors: StreamColors) -> tuple[Tensor, ...]:
    """Copies a frame's planes, ``(h, w)`` each, in `PlaneFormat.dtype`."""
    if frame.format.name != colors.planar and frame.format.name.replace("yuvj", "yuv") != colors.planar:
        frame = frame.reformat(format=colors.planar)
    form = colors.form
    kind = np.uint8 if form.bits == 8 else np.dtype("<u2")
    count = 1 if form.is_grey else 3
    return tuple(_read_plane(plane, kind) for plane in frame.planes[:count])


def _read_plane(plane: Any, kind: Any) -> Tensor:
    samples = np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
    samples = samples[: plane.height, : plane.width]
    return torch.from_numpy(samples.copy() if kind is np.uint8 else samples.astype(np.int32))
