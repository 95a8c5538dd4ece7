"""Cuts a video into runs of whole scenes that workers make apart, and joins what they made.

Scenes are decided and steadied one by one, and a segment of the encoder begins with each; so the joined video has the same bits
as one that a single run makes.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import RefusedError
from ..files.journal import discard_parts, parts_folder, sync
from ..session import Session, StageProgress
from .job import VideoJob
from .join import join
from .options import VideoOptions
from .records import FrameRecord, SceneRecord, VideoReport
from .scenes import SceneFinder
from .segments import SEGMENT_FILES
from .sinks import PartSink
from .source import VideoSource

_PART_SECONDS = 20
"""Length that a part has at least, unless it is the last one."""
MOST_PARTS = 24
"""How many there are at most, since each is reached by decoding all frames before it."""


@dataclass(frozen=True)
class Part:
    """Some scenes of a video."""

    number: int
    """Its place among all parts, from 0."""
    first: int
    """How many frames are before it."""
    end: int
    """How many frames there are with it."""

    def path(self, output: Path) -> Path:
        """The name beside a result that its folder of segments follows from."""
        return output.with_name(f"{output.stem}.{self.number:05}{output.suffix}")


def find_parts(source: VideoSource, options: VideoOptions) -> tuple[Part, ...]:
    """Cuts a video where scenes begin, by reading all of it.

    Args:
        source: The video.
        options: How it is read and processed.
    """
    finder, starts, count = SceneFinder(source.info.form, options.near_repeats), list[int](), 0
    for frame in source.frames():
        if finder.place(frame).starts_scene:
            starts.append(count)
        count += 1
    least = max(round(_PART_SECONDS * source.info.rate), count // MOST_PARTS, 1)
    edges = [0]
    for start in starts:
        if start - edges[-1] >= least:
            edges.append(start)
    pairs = zip(edges, [*edges[1:], count], strict=True)
    return tuple(Part(number, first, end) for number, (first, end) in enumerate(pairs) if end > first)


def enlarge_part(
    source: VideoSource,
    output: Path,
    session: Session,
    options: VideoOptions,
    part: Part,
    progress: StageProgress | None = None,
) -> VideoReport:
    """Makes the segments of one part, beside the result; those of an interrupted run are kept.

    Args:
        source: The whole video.
        output: The file that all parts will be joined into.
        session: Settings, networks and compute.
        options: How to read, process and write.
        part: Which part.
        progress: See `fidelity.video.job.upscale_video`.

    Raises:
        RefusedError: If the video, a setting or a network is refused, or the part cannot be written.
    """
    job = VideoJob(source, output, session, options, progress)
    return job.run(_open_part(job, output, part), part.end)


def join_parts(
    source: VideoSource, output: Path, session: Session, options: VideoOptions, parts: tuple[Part, ...]
) -> VideoReport:
    """Joins the segments of all parts into the result, and removes them.

    Args:
        source: The whole video.
        output: The file to write.
        session: Settings, networks and compute, as for the parts.
        options: The same as for the parts.
        parts: All parts, in order.

    Raises:
        RefusedError: If a part is not finished, or the result cannot be written.
    """
    started = time.perf_counter()
    job = VideoJob(source, output, session, options)
    records: list[FrameRecord] = []
    scenes: list[SceneRecord] = []
    with ExitStack() as stack:
        sinks = [_open_part(job, output, part) for part in parts]
        for part, sink in zip(parts, sinks, strict=True):
            stack.enter_context(sink)
            if sink.done != part.end:
                raise RefusedError(f"{output}: part {part.number + 1} of {len(parts)} is not finished; wanted the same command")
            records += sink.records
            scenes += sink.scenes
        folders = [parts_folder(part.path(output)) for part in parts]
        pairs = zip(folders, sinks, strict=True)
        segments = [replace(one, file=f"../{folder.name}/{one.file}") for folder, sink in pairs for one in sink.segments]
        joined = folders[0] / "joined.part"
        assert job.copied  # parts are those of a file
        join(joined, output.suffix.lower(), folders[0], segments, source, job.copied)
        os.replace(joined, output)  # noqa: PTH105  over an existing file, on any system
        sync(output.parent)
    for folder in folders:
        discard_parts(folder, SEGMENT_FILES)
    return job.report(records, scenes, 0, time.perf_counter() - started)


def _open_part(job: VideoJob, output: Path, part: Part) -> PartSink:
    assert job.copied
    compute = job.session.compute  # other machines may have other devices
    identity = job.identity() | {"part": [part.first, part.end], "compute": f"{compute.precision} {compute.backend}"}
    return PartSink(part.path(output), part.first, job.source, job.format, job.copied, job.options, identity)
