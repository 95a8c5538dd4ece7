"""Encoded segments of a video in a folder beside the result, and the journal that an interrupted run resumes from.

Each segment is a file of its own encoder, begun and finished, so that the joined video is the same however often the run was
interrupted. Its container holds places of frames in place of time stamps; the true ones are in the journal.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from ..errors import RefusedError
from ..files.journal import Journal, discard_parts, parts_folder, read_entries, sync
from ..imaging.yuv import PlaneFormat
from .codecs import Encoding, pixel_format
from .colors import ColorCodes, MasteringLight
from .records import FrameRecord, SceneRecord

STEP_MS = 10
"""Milliseconds between two frames in a segment's file, whatever the video's own."""
_MILLISECOND = Fraction(1, 1000)
_MOST_DELAYED = 64
"""Frames that an encoder may hold back; decoding times are this much earlier than those shown."""


@dataclass(frozen=True)
class Format:
    """What all segments of a video have in common."""

    encoding: Encoding
    size: tuple[int, int]
    """(height, width) in pixels."""
    form: PlaneFormat
    """Of the planes that are encoded."""
    codes: ColorCodes
    """Color tags."""
    rate: Fraction
    """Frames per second, on average."""
    time_base: Fraction
    """Seconds per tick of the time stamps."""
    sample_aspect: Fraction | None
    """Width of a pixel divided by its height."""
    mastering: MasteringLight
    """Static metadata of high dynamic range."""


@dataclass(frozen=True)
class Segment:
    """One finished segment."""

    file: str
    """Name of its file in the folder."""
    size_bytes: int
    """Its length, so that a torn file is noticed."""
    first: int
    """How many frames are in the segments before it."""
    pts: tuple[int, ...]
    """Time stamps of its frames."""
    durations: tuple[int, ...]
    """Their durations in ticks; 0 if unknown."""
    delay: int
    """By how many places frames come later in the file than they are shown, at most."""
    state_bytes: int = 0
    """Length of the file with what the next segment needs of this one; 0 if it needs nothing."""
    records: tuple[FrameRecord, ...] = field(default=())
    """What was measured of its frames."""
    scenes: tuple[SceneRecord, ...] = field(default=())
    """What was decided for the scenes that begin in it."""

    @property
    def end(self) -> int:
        """How many frames there are with it."""
        return self.first + len(self.pts)


class SegmentWriter:
    """Encodes one segment into a file that appears when it is whole."""

    def __init__(self, path: Path, made: Format) -> None:
        """Opens the encoder.

        Raises:
            RefusedError: If the encoder does not open.
        """
        self._path, self._made = path, made
        self._part = path.with_name(f"{path.name}.part")
        self._container: Any = av.open(str(self._part), "w", format="matroska", options={"fflags": "+bitexact"})
        self._places: dict[int, int] = {}
        self._durations: list[int] = []
        self._count = self._delay = 0
        encoding = made.encoding
        try:
            self._stream: VideoStream = encoding.open_stream(
                self._container, made.size, made.form, made.codes, made.rate, made.time_base, made.mastering
            )
            if made.sample_aspect:
                self._stream.codec_context.sample_aspect_ratio = made.sample_aspect
            self._stream.codec_context.open(strict=True)
        except (av.error.FFmpegError, ValueError) as error:
            self.discard()
            raise RefusedError(f"encoder {encoding.encoder_name} does not open here ({error}); wanted another one") from error

    def add(self, levels: Sequence[Tensor], pts: int, duration: int) -> None:
        """Encodes the next frame."""
        frame = to_video_frame(levels, self._made.form, self._stream.pix_fmt)
        frame.pts, frame.time_base = pts, self._made.time_base
        self._places[pts] = len(self._places)
        self._durations.append(duration)
        self._mux(self._stream.encode(frame))

    def close(
        self, first: int, records: Sequence[FrameRecord], state_bytes: int = 0, scenes: Sequence[SceneRecord] = ()
    ) -> Segment:
        """Finishes the file and gives it its name; see `Segment` for what is noted of it."""
        self._mux(self._stream.encode(None))
        self._container.close()
        if self._count != len(self._places):
            raise RefusedError(f"the encoder returned {self._count} of {len(self._places)} frames; wanted all")
        sync(self._part)
        self._part.replace(self._path)
        sync(self._path.parent)
        size, pts = self._path.stat().st_size, tuple(self._places)
        durations = tuple(self._durations)
        return Segment(self._path.name, size, first, pts, durations, self._delay, state_bytes, tuple(records), tuple(scenes))

    def discard(self) -> None:
        """Removes an unfinished file."""
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()
        self._part.unlink(missing_ok=True)

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            assert packet.pts is not None
            place = self._places[round(packet.pts * packet.time_base / self._made.time_base)]
            self._delay = max(self._delay, self._count - place)
            packet.stream = self._stream
            packet.time_base = _MILLISECOND
            packet.pts, packet.dts = place * STEP_MS, (self._count - _MOST_DELAYED) * STEP_MS
            packet.duration = STEP_MS
            self._count += 1
            self._container.mux_one(packet)


def to_video_frame(levels: Sequence[Tensor], form: PlaneFormat, wanted: str | None = None) -> VideoFrame:
    """A frame of PyAV's from planes of integers.

    Args:
        levels: ``(h, w)`` each.
        form: What they stand for.
        wanted: FFmpeg's name of the pixel format, if it is not the planar one.
    """
    height, width = levels[0].shape
    name = pixel_format(form)
    frame = VideoFrame(width, height, name)
    kind = np.uint8 if form.bits == 8 else np.dtype("<u2")
    for plane, samples in zip(frame.planes, levels, strict=True):
        rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
        rows[:, : plane.width] = samples.numpy()
        plane.update(rows)  # pyright: ignore[reportArgumentType]  any buffer will do
    return frame if wanted in (None, name) else frame.reformat(format=wanted)


class SegmentJournal:
    """The finished segments of a run, in a folder beside its result."""

    def __init__(self, output: Path, identity: dict[str, Any]) -> None:
        """Opens the folder, or begins it.

        Args:
            output: The video that is made.
            identity: What the result follows from: the source and all settings, as JSON.

        Raises:
            FileRefusedError: If the folder belongs to another source or other settings.
        """
        self.folder = parts_folder(output)
        self._journal = Journal(self.folder, identity)
        self.segments: list[Segment] = []
        for entry in self._journal.entries:
            segment = _to_segment(entry)
            if segment is None or segment.first != self.done or not self._is_whole(segment):
                break
            self.segments.append(segment)
        while self.segments and not self._has_state(self.segments[-1]):
            self.segments.pop()
        self._journal.keep(len(self.segments))

    def _is_whole(self, segment: Segment) -> bool:
        path = self.folder / segment.file
        return path.is_file() and path.stat().st_size == segment.size_bytes

    def _has_state(self, segment: Segment) -> bool:
        path = self.state_path(len(self.segments))
        return not segment.state_bytes or (path.is_file() and path.stat().st_size == segment.state_bytes)

    def state_path(self, number: int) -> Path:
        """The file with what the segment after that number needs of it."""
        return self.folder / f"state-{number:05}.npy"

    def write_state(self, state: Tensor | None) -> int:
        """Writes what the segment after the next one needs of it; returns the file's length, 0 for None."""
        if state is None:
            return 0
        path = self.state_path(len(self.segments) + 1)
        with path.open("wb") as file:
            np.save(file, state.cpu().numpy())
            file.flush()
            os.fsync(file.fileno())
        return path.stat().st_size

    def read_state(self) -> Tensor | None:
        """What the next segment needs of the last finished one."""
        if not self.segments or not self.segments[-1].state_bytes:
            return None
        return torch.from_numpy(np.load(self.state_path(len(self.segments))))

    @property
    def done(self) -> int:
        """How many frames are finished."""
        return self.segments[-1].end if self.segments else 0

    def next_path(self) -> Path:
        """The file of the next segment."""
        return self.folder / f"segment-{len(self.segments) + 1:05}.mkv"

    def add(self, segment: Segment) -> None:
        """Notes that a segment is finished."""
        self._journal.add(asdict(segment))
        self.segments.append(segment)
        self.state_path(len(self.segments) - 2).unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes what was written here, and the folder unless it holds anything else."""
        self.close()
        discard_parts(self.folder, SEGMENT_FILES)

    def close(self) -> None:
        """Lets another run resume here."""
        self._journal.close()


def count_kept(output: Path) -> int:
    """How many frames of a video an interrupted run has finished, by its journal."""
    return sum(len(entry.get("pts", ())) for entry in read_entries(parts_folder(output)))


SEGMENT_FILES = ("segment-*.mkv", "segment-*.mkv.part", "state-*.npy", "joined.part")
"""What a run writes into its folder, as patterns."""


def _to_segment(entry: dict[str, Any]) -> Segment | None:
    try:
        records = tuple(FrameRecord.of(record) for record in entry["records"])
        scenes = tuple(SceneRecord.of(scene) for scene in entry["scenes"])
        lists: dict[str, Any] = {name: tuple(entry[name]) for name in ("pts", "durations")}
        lists |= {"records": records, "scenes": scenes}
        return Segment(**entry | lists)
    except (KeyError, TypeError):
        return None
