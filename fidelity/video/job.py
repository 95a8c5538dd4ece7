"""One video from input to output: decode, enlarge, encode, each in threads of its own, with memory that no length changes."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..choices import DEFAULT_EXISTING
from ..decide.target import resolve_target
from ..errors import RefusedError
from ..files.journal import fingerprint
from ..files.paths import check_apart, check_folder, keys_of, settle_output
from ..progress import describe_time
from ..session import Session, StageProgress
from .codecs import fit_size
from .colors import BT709, SRGB
from .frames import FrameMaker
from .join import check_rotation, choose_copied, refuse_dropped
from .light import for_video
from .motion import has_motion
from .options import DEFAULT_VIDEO_OPTIONS, VideoOptions
from .pipeline import Pipeline, Task
from .records import FrameRecord, SceneRecord, VideoReport, describe_info, summarize
from .segments import Format
from .sinks import FileSink, FolderSink, PipeSink, Sink
from .source import VideoInfo, VideoSource

VIDEO_SCALE = 2
"""Enlargement factor if no size is given."""
_USUAL_PEAK_NITS = 1000.0
"""The peak of HLG and of most masters."""


def upscale_video(
    path: Path,
    output: Path | IO[bytes],
    session: Session,
    options: VideoOptions = DEFAULT_VIDEO_OPTIONS,
    progress: StageProgress | None = None,
    source: VideoSource | None = None,
) -> VideoReport:
    """Enlarges a video.

    Args:
        path: File or folder of frames to read.
        output: File to write; or, without a file name ending, a folder for frames; or a stream, which gets raw frames as
            YUV4MPEG2, of which the encoding chooses only the bits and the chroma.
        session: Settings, networks and compute; without a target, the size is doubled.
        options: How to read, process and write.
        progress: Called with (what is done, frames done, frames in total); raising in it cancels the work.
        source: The opened video, if it is not read from the path.

    Returns:
        What was decided, done and measured. Where its source was damaged, the frames before are delivered and `fault` says why.

    Raises:
        SkippedError: If the output exists, and is to be skipped.
        RefusedError: If the video, a setting or a network is refused, or the output cannot hold what the source does.
    """
    return prepare_video(path, output, session, options, progress, source).run()


def prepare_video(
    path: Path,
    output: Path | IO[bytes],
    session: Session,
    options: VideoOptions = DEFAULT_VIDEO_OPTIONS,
    progress: StageProgress | None = None,
    source: VideoSource | None = None,
) -> "VideoJob":
    """Opens a video and settles what will be made of it, without writing anything; see `upscale_video`."""
    if isinstance(output, Path):
        check_apart(keys_of([path]), [output])
        if output.suffix:
            options.encoding.check(output)
            output = settle_output(output, options.existing)
            check_folder(output)
    source = source or VideoSource(path, options.deinterlace, options.rate)
    return VideoJob(source, output, session, options, progress)


class VideoJob:
    """A video, what is asked of it, and all that follows from both before the first frame is read."""

    def __init__(
        self,
        source: VideoSource,
        output: Path | IO[bytes],
        session: Session,
        options: VideoOptions,
        progress: StageProgress | None = None,
    ) -> None:
        """Settles what will be made; see `upscale_video`.

        Raises:
            RefusedError: If the video, a setting or a network is refused, or the output cannot hold what the source does.
        """
        self.source, self.options, self.progress, self.output = source, options, progress, output
        info = self.info = source.info
        self.to_sdr = options.hdr == "sdr" and info.colors.signal is not None
        form, self.notes = options.encoding.fit(info.form)
        codes = info.colors.codes
        if self.to_sdr:
            form, codes = (
                replace(form, matrix="bt709", is_full=False),
                replace(codes, primaries=BT709, transfer=SRGB, matrix=BT709),
            )
        fixed = session.chooser.fixed
        scale = fixed.scale if fixed and fixed.scale > 1 else VIDEO_SCALE
        exact = resolve_target(info.size, session.settings.target, scale)
        self.target = fit_size(exact, form, options.encoding.codec, options.compare)
        self.notes = (*info.colors.notes, *self.notes)
        if self.target != exact:
            asked, given = (f"{width}x{height}" for height, width in (exact, self.target))
            self.notes += (f"{given} in place of {asked}: subsampled chroma needs an even size",)
        self.notes += tuple(_tell_stretch(info, self.target))
        if info.has_alpha and not options.drop:
            raise RefusedError(f"{source.path}: has transparency, which no codec here keeps; wanted --drop to leave it out")
        if info.has_alpha or info.is_see_through:
            self.notes += ("transparency is left out",)
        copied = choose_copied(source, output) if isinstance(output, Path) and output.suffix else None
        if copied and isinstance(output, Path) and not options.drop:
            refuse_dropped(source.path, output, copied)
        if copied:
            check_rotation(info.rotation)
        self.copied = copied
        if copied:
            self.notes += tuple(f"{what} is left out" for what in (*copied.dropped, *copied.left_out))
        elif source.stream is None and not source.path.is_dir():
            self.notes += ("only frames are written: no sound, no time stamps",)
        white_nits = info.mastering.brightest_nits or _USUAL_PEAK_NITS if self.to_sdr else None
        self.notes += tuple(_tell_range(info, options, white_nits))
        self._models = session.chooser.models
        self.session, self._chooser = for_video(session.aimed_at(self.target))
        self.maker = FrameMaker(self.session, info.colors, form, self.target, white_nits, options.compare)
        self.steadies = options.steady == "auto" and has_motion()
        if options.steady == "auto" and not self.steadies:
            self.notes += ("flicker reduction is off; install OpenCV to enable it",)
        height, width = self.target
        size = (height, 2 * width) if options.compare else self.target
        mastering = replace(info.mastering, display=None, light=None) if self.to_sdr else info.mastering
        self.format = Format(
            options.encoding, size, form, codes, info.rate, info.time_base, _aspect(info, self.target), mastering
        )

    def _open_sink(self) -> Sink:
        if not isinstance(self.output, Path):
            return PipeSink(self.output, self.format)
        if self.copied:
            return FileSink(self.output, self.source, self.format, self.copied, self.options, self.identity())
        return FolderSink(self.output, self.format, self.options.existing == "overwrite")

    @property
    def told(self) -> tuple[str, ...]:
        """All notes, those on what was found out while frames were read and decided included."""
        return (*self._chooser.notes, *self.notes, *(("deinterlaced",) if self.source.was_deinterlaced else ()))

    def identity(self) -> dict[str, Any]:
        """What the result follows from, so that an interrupted run is resumed only by its like."""
        options = asdict(replace(self.options, at_once=None, existing=DEFAULT_EXISTING))
        height, width = self.target
        settings = asdict(self.session.settings) | {"target": f"{width}x{height}"}
        return {
            "version": __version__,
            "source": fingerprint(self.source.path),
            "settings": {name: str(value) for name, value in settings.items()},
            "compute": str(replace(self.session.compute, memory_bytes=None)),
            "options": {name: str(value) for name, value in (options | options.pop("encoding")).items()},
            "flicker reduction": "on" if self.steadies else "off",
            "models": {name: path.stat().st_size for name, path in sorted(self._models.items())},
        }

    def run(self, sink: Sink | None = None, end: int | None = None) -> VideoReport:
        """Enlarges all frames, or those up to a place that a sink lacks.

        Args:
            sink: Where they go; the output if not given.
            end: How many frames of the source are enough; all if not given.

        Raises:
            RefusedError: If there is no frame, or one or the output is refused.
        """
        started = time.perf_counter()
        sink = sink or self._open_sink()
        done = len(sink.records)
        device = self.session.compute.device
        pipeline = Pipeline(Task(self.source, self.maker, sink, self.options, device, self.steadies, self.progress, end))
        with sink:
            if sink.done != end:
                pipeline.run()
            if not sink.count:
                raise RefusedError(f"{self.source.path}: {self.source.fault or self.tell_beyond()}")
            sink.finish()
        return self.report(sink.records, sink.scenes, done, time.perf_counter() - started)

    def tell_beyond(self) -> str:
        """Why no frame lies in the part that was asked for."""
        window, info = self.options.window, self.info
        if window is None or not info.frames:
            return "no frame lies in that part"
        return (
            f"--preview begins at {describe_time(window.start)}, but the video is {describe_time(info.frames / info.rate)} long"
        )

    def report(self, records: Sequence[FrameRecord], scenes: Sequence[SceneRecord], done: int, seconds: float) -> VideoReport:
        """The report of frames that are finished.

        Args:
            records: Of all frames.
            scenes: What was decided for all scenes.
            done: How many frames an earlier run had finished.
            seconds: Wall time of this run.
        """
        drift, worst = summarize(records)
        made = len(records) - done
        return VideoReport(
            input=describe_info(self.info).to_json(),
            output={
                "path": str(self.output) if isinstance(self.output, Path) else "-",
                "width": self.format.size[1],
                "height": self.format.size[0],
                "codec": self.options.encoding.codec,
                "bits": self.format.form.bits,
                "difference": "BT.2124" if self.maker.signal else "CIEDE2000",
                "copied_streams": list(self.copied.kept) if self.copied else [],
                "dropped_streams": list(self.copied.dropped) if self.copied else [],
            },
            frames=len(records),
            scenes=tuple(scenes),
            drift=drift,
            worst=worst,
            repeated=sum(1 for record in records if record.gate == "repeat"),
            resumed_at=done,
            seconds=seconds,
            frames_per_second=made / seconds if seconds else 0.0,
            notes=self.told,
            fault=self.source.fault,
            details=self.info.colors.details,
            records=tuple(records),
        )


def _tell_range(info: VideoInfo, options: VideoOptions, white_nits: float | None) -> Iterator[str]:
    """What happens to high dynamic range and its metadata."""
    if white_nits:
        yield f"mapped to BT.709: light of {white_nits:.0f} nits becomes white"
    elif info.mastering.display and options.encoding.codec != "h265":
        yield f"the mastering display's metadata is left out: only h265 stores it here, not {options.encoding.codec}"
    if info.dynamic_metadata:
        yield f"the dynamic metadata of {info.dynamic_metadata} is left out"


def _tell_stretch(info: VideoInfo, target: tuple[int, int]) -> Iterator[str]:
    """Whether the picture changes its shape by more than rounding; pixels of another shape make up for it."""
    (height, width), (new_height, new_width) = info.size, target
    off_px = min(abs(new_width - width * new_height / height), abs(new_height - height * new_width / width))
    stretch = new_width * height / (width * new_height)
    if info.sample_aspect or off_px <= _ROUNDING_PX or max(stretch, 1 / stretch) <= _STRETCH:
        return
    shapes = f"from {_name_shape(width, height)} to {_name_shape(new_width, new_height)}"
    yield f"the picture is stretched {shapes}; --long-edge keeps its shape"


_ROUNDING_PX = 2
_STRETCH = 1.01
_SHAPES = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 10), (16, 9), (2, 1), (21, 9))


def _name_shape(width: int, height: int) -> str:
    """The shape of a picture as it is usually told, as in 16:9, or 2.39:1."""
    ratio = width / height
    shapes = [(long, short) if width >= height else (short, long) for long, short in _SHAPES]
    near = [f"{across}:{down}" for across, down in shapes if abs(across / down / ratio - 1) < _STRETCH - 1]
    return near[0] if near else f"{ratio:.2f}:1"


def _aspect(info: VideoInfo, target: tuple[int, int]) -> Fraction | None:
    """The shape of the result's pixels, so that it is shown as wide as the source."""
    if not info.sample_aspect:
        return None
    stretched = Fraction(target[0] * info.size[1], info.size[0] * target[1])
    aspect = (info.sample_aspect * stretched).limit_denominator(4096)
    return None if aspect == 1 else aspect
