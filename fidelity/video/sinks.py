"""Where finished frames go: segments of a video file, a folder of images, or a pipe."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import av.error
from torch import Tensor

from ..errors import RefusedError
from ..files.journal import OtherRunError, discard_parts, parts_folder, sync
from ..files.paths import FileRefusedError
from ..files.write import Export, write_image
from ..imaging.yuv import levels_to_planes, planes_to_rgb
from .codecs import pixel_format
from .colors import FULL_RANGE, LIMITED_RANGE
from .join import Copied, join
from .options import VideoOptions
from .records import FrameRecord, SceneRecord
from .segments import SEGMENT_FILES, Format, Segment, SegmentJournal, SegmentWriter, to_video_frame
from .source import SourceFrame, VideoSource


class Sink(ABC):
    """Takes finished frames in order; used as a context, which ends early if the work fails."""

    def __init__(self) -> None:
        self.done = 0
        """Frames that an earlier run had finished."""
        self.count = 0
        """Frames taken, and those of an earlier run."""
        self.records: list[FrameRecord] = []
        """What was measured of them."""
        self.scenes: list[SceneRecord] = []
        """What was decided for their scenes, and maybe for the next ones."""

    def note_scene(self, scene: SceneRecord) -> None:
        """Notes what was decided for a scene, unless an earlier run did so and this one only goes on with it."""
        if all(scene.scene != known.scene for known in self.scenes):
            self.scenes.append(scene)

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leaves nothing half-written."""

    def begin(self, state: Tensor | None) -> None:
        """Begins a segment; the state is what this one needs of the last, if it is to begin alone."""

    def load_state(self) -> Tensor | None:
        """What the segment after those that are done needs of them."""

    @abstractmethod
    def add(self, levels: Sequence[Tensor], frame: SourceFrame, record: FrameRecord) -> None:
        """Takes the next frame: planes of integers, the source's time stamp, and what was measured."""

    def finish(self) -> None:
        """Makes the result appear, whole."""


class FileSink(Sink):
    """Encodes segments beside a video file, from which the file is joined at the end."""

    def __init__(
        self,
        output: Path,
        source: VideoSource,
        made: Format,
        copied: Copied,
        options: VideoOptions,
        identity: dict[str, Any],
    ) -> None:
        """Opens the journal; what an interrupted run has finished is kept.

        Raises:
            RefusedError: If the container or the encoder is not usable, or the journal is that of other work.
        """
        super().__init__()
        self._output, self._source, self._made, self._copied = output, source, made, copied
        self._window = (options.window.start, options.window.end) if options.window else None
        with _Told(output):
            self._journal = self._open_journal(output, identity, options.existing == "overwrite")
            if source.stream is not None and self._journal.done:  # what comes through a pipe now may be anything
                self._journal.remove()
                self._journal = SegmentJournal(output, identity)
        self.done = self.count = self._journal.done
        self.records = [record for segment in self._journal.segments for record in segment.records]
        self.scenes = [scene for segment in self._journal.segments for scene in segment.scenes]
        self._writer: SegmentWriter | None = None
        self._open_records: list[FrameRecord] = []

    def _open_journal(self, output: Path, identity: dict[str, Any], overwrites: bool) -> SegmentJournal:
        try:
            return SegmentJournal(output, identity)
        except OtherRunError:
            if not overwrites:
                raise
            discard_parts(parts_folder(output), SEGMENT_FILES)
            return SegmentJournal(output, identity)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer:
            self._writer.discard()
            self._writer = None
        if error is not None and not self._journal.segments:
            self._journal.remove()
        self._journal.close()

    def begin(self, state: Tensor | None) -> None:
        """See `Sink`."""
        self._close(state)
        with _Told(self._output):
            self._writer = SegmentWriter(self._journal.next_path(), self._made)

    def add(self, levels: Sequence[Tensor], frame: SourceFrame, record: FrameRecord) -> None:
        """See `Sink`."""
        assert self._writer
        with _Told(self._output):
            self._writer.add(levels, frame.pts, frame.duration)
        self._open_records.append(record)
        self.records.append(record)
        self.count += 1

    def _close(self, state: Tensor | None = None) -> None:
        if self._writer is None:
            return
        with _Told(self._output):
            state_bytes = self._journal.write_state(state)
            first, last = self._open_records[0].frame, self._open_records[-1].frame
            scenes = [scene for scene in self.scenes if first <= scene.first <= last]
            self._journal.add(self._writer.close(self._journal.done, self._open_records, state_bytes, scenes))
        self._writer, self._open_records = None, []

    def load_state(self) -> Tensor | None:
        """See `Sink`."""
        return self._journal.read_state()

    def finish(self) -> None:
        """See `Sink`."""
        self._close()
        joined = self._journal.folder / "joined.part"
        with _Told(self._output):
            folder, segments = self._journal.folder, self._journal.segments
            join(joined, self._output.suffix.lower(), folder, segments, self._source, self._copied, self._window)
            os.replace(joined, self._output)  # noqa: PTH105  over an existing file, on any system
            sync(self._output.parent)
        self._journal.remove()


class PartSink(FileSink):
    """Encodes the segments of some scenes, which are kept to be joined with others."""

    def __init__(
        self, output: Path, first: int, source: VideoSource, made: Format, copied: Copied, options: VideoOptions, identity: Any
    ) -> None:
        """Opens the journal.

        Args:
            output: A path beside the result, that names the folder of parts.
            first: How many frames are before this part.
            source: The video.
            made: What all segments have in common.
            copied: The source's streams to copy.
            options: How to read, process and write.
            identity: What the part follows from.
        """
        super().__init__(output, source, made, copied, options, identity)
        self.done = self.count = first + self._journal.done

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Those that are finished."""
        return tuple(self._journal.segments)

    def finish(self) -> None:
        """See `Sink`; the segments stay."""
        self._close()


class _Told:
    """Turns errors of files and encoders into refusals that name the output."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError | av.error.FFmpegError) and not isinstance(error, RefusedError):
            why = error.strerror or str(error)
            kept = f"; what is finished stays in {parts_folder(self._output)}, and the same command resumes"
            raise FileRefusedError(f"{self._output}: cannot be written ({why}){kept}") from error


class FolderSink(Sink):
    """Writes each frame as a PNG, numbered from 1: of 16 bits if the frames have more than 8."""

    def __init__(self, folder: Path, made: Format, overwrites: bool) -> None:
        """Prepares the folder.

        Args:
            folder: The folder; created if it does not exist.
            made: The format of the frames.
            overwrites: Whether frames that are there are replaced.

        Raises:
            FileRefusedError: If it holds frames already, or is a file.
        """
        super().__init__()
        if folder.exists() and not folder.is_dir():
            raise FileRefusedError(f"{folder}: is a file; wanted a folder for frames, or a name with an ending, as in .mp4")
        there = sorted(folder.glob("frame-*.png")) if folder.is_dir() else []
        if folder.is_dir() and not there and any(folder.iterdir()):
            wanted = f"an empty folder for frames, or a video as in {folder / 'video.mp4'}"
            raise FileRefusedError(f"{folder}: is a folder with other files; wanted {wanted}")
        if there and not overwrites:
            raise FileRefusedError(f"{folder}: holds frames already; wanted an empty folder, or --existing overwrite")
        for path in there:
            path.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._form = folder, made.form
        self._export = Export(bits=16 if made.form.bits > 8 else 8)

    def add(self, levels: Sequence[Tensor], frame: SourceFrame, record: FrameRecord) -> None:  # noqa: ARG002
        """See `Sink`; a folder of images has no time stamps."""
        self.count += 1
        image = planes_to_rgb(levels_to_planes(levels, self._form), self._form).clamp_(0, 1)
        write_image(self._folder / f"frame-{self.count:06}.png", image, None, self._export)
        self.records.append(record)


class PipeSink(Sink):
    """Writes raw frames as YUV4MPEG2 to a stream, for other programs."""

    def __init__(self, stream: IO[bytes], made: Format) -> None:
        """Begins the stream."""
        super().__init__()
        self._made = made
        self._container: Any = av.open(stream, "w", format="yuv4mpegpipe", options={"strict": "-1"})
        options = {"chroma_sample_location": made.form.siting}
        self._stream = self._container.add_stream("wrapped_avframe", rate=made.rate, options=options)
        self._stream.height, self._stream.width = made.size
        self._stream.pix_fmt = pixel_format(made.form)
        context = self._stream.codec_context
        context.time_base = 1 / made.rate
        context.color_range = FULL_RANGE if made.form.is_full else LIMITED_RANGE
        if made.sample_aspect:
            context.sample_aspect_ratio = made.sample_aspect

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(av.error.FFmpegError, OSError):
            self._container.close()

    def add(self, levels: Sequence[Tensor], frame: SourceFrame, record: FrameRecord) -> None:  # noqa: ARG002
        """See `Sink`; the stream has one rate and no time stamps."""
        picture = to_video_frame(levels, self._made.form)
        picture.pts, picture.time_base = self.count, 1 / self._made.rate
        for packet in self._stream.encode(picture):
            self._container.mux_one(packet)
        self.count += 1
        self.records.append(record)

    def finish(self) -> None:
        """See `Sink`."""
        for packet in self._stream.encode(None):
            self._container.mux_one(packet)
