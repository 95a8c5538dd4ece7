"""What `fidelity video` does with one video after another, and what it tells of them."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import RefusedError
from .terminal import StageProgress, refusing, say, say_line, show_progress

if TYPE_CHECKING:
    from ..session import Session
    from ..video.forecast import VideoForecast
    from ..video.job import VideoJob
    from ..video.options import VideoOptions
    from ..video.records import VideoReport

PIPE = Path("-")
"""Stands for standard input and output."""


@dataclass(frozen=True)
class _Done:
    """What became of one video."""

    name: str
    outcome: str
    """Size and speed, or what happened in its place."""
    report: "VideoReport | None" = None
    failed: bool = False


@dataclass
class VideoJobs:
    """Videos, and what is asked of them."""

    pairs: Sequence[tuple[Path, Path]]
    """Each video with the file or folder to write."""
    session: "Session"
    options: "VideoOptions"
    report: Path | None = None
    """The file for all reports."""
    verbose: bool = False
    _done: list[_Done] = field(default_factory=list[_Done], init=False)

    def run(self) -> int:
        """Enlarges the videos, tells of each, and writes the report; returns how many failed.

        Raises:
            Exit: With 130, if the user has interrupted it.
        """
        began = time.perf_counter()
        for number, (source, out) in enumerate(self.pairs, 1):
            try:
                self._done.append(self._run_one(number, source, out))
            except KeyboardInterrupt:
                self._tell(out, self._tell_interruption(out))
                raise typer.Exit(130) from None
        failures = sum(one.failed for one in self._done)
        if len(self.pairs) > 1:
            for line in _tabulate(self._done, time.perf_counter() - began):
                say_line(line)
        if self.report:
            with refusing() as refused:
                _write_report(self.report, [one.report for one in self._done if one.report])
            failures += len(refused)
        return failures

    def _run_one(self, number: int, source: Path, out: Path) -> _Done:
        from ..files.paths import SkippedError

        with refusing(source) as refused:
            try:
                made = self._enlarge(number, source, out)
            except SkippedError as error:
                self._tell(out, f"{self._place(number)}{error}")
                return _Done(source.name, "skipped: its result exists")
            except BrokenPipeError:
                raise RefusedError("standard output: its reader has ended") from None
            lines = [*_describe(made), *(self._describe_more(made) if self.verbose else ())]
            for line in (f"{self._place(number)}{lines[0]}", *lines[1:]):
                self._tell(out, line)
            size = f"{made.output['width']}x{made.output['height']}"
            outcome = f"{size}, {made.frames} frames, {made.seconds:.1f} s"
            if not made.fault:
                return _Done(source.name, outcome, made)
            with refusing():
                raise RefusedError(f"{source}: {made.fault}; the {made.frames} frames before are in {made.output['path']}")
            return _Done(source.name, f"{outcome}; then damaged", made, failed=True)
        return _Done(source.name, f"failed: {refused[0].removeprefix(f'{source}: ')}", failed=True)

    def _enlarge(self, number: int, source: Path, out: Path) -> "VideoReport":
        from ..video.job import upscale_video
        from ..video.source import VideoSource

        opened = VideoSource(source, self.options.deinterlace, stream=sys.stdin.buffer) if source == PIPE else None
        count = f"{number} of {len(self.pairs)}: " if len(self.pairs) > 1 else ""
        with show_progress(f"{count}opening the video") as progress:
            output = sys.stdout.buffer if out == PIPE else out
            return upscale_video(source, output, self.session, self.options, _count_videos(progress, count), opened)

    def _place(self, number: int) -> str:
        return f"[{number}/{len(self.pairs)}] " if len(self.pairs) > 1 else ""

    def _tell(self, out: Path, line: str) -> None:
        if out == PIPE:
            print(line, file=sys.stderr)
        else:
            say_line(line)

    def _tell_interruption(self, out: Path) -> str:
        if len(self.pairs) == 1:
            return f"interrupted{_tell_kept(out)}"
        finished = sum(not one.failed for one in self._done)
        again = "; the same command with --existing skip does the rest" if finished else ""
        return f"interrupted; {finished} of {len(self.pairs)} videos finished{_tell_kept(out)}{again}"

    def _describe_more(self, made: "VideoReport") -> Iterable[str]:
        """What was assumed, and what was decided for each scene."""
        yield from (f"note: {detail}" for detail in made.details)
        for scene in made.scenes:
            model = Path(scene.model).stem if scene.model else "resized only"
            restored = () if scene.restore_strength else ("not restored",)
            reasons = "; ".join((*restored, *scene.reasons))
            yield f"scene {scene.scene + 1} from frame {scene.first + 1}: {scene.domain}, {model}: {reasons}"

    def forecast(self) -> int:
        """Tells what would be done and how long it would take, without doing it; returns how many are refused."""
        from ..files.paths import SkippedError
        from ..progress import describe_time
        from ..video.forecast import forecast_video
        from ..video.job import prepare_video

        failures, ready, total = 0, 0, 0.0
        for source, out in self.pairs:
            with refusing(source) as refused:
                if PIPE in (source, out):
                    raise RefusedError("--dry-run was given for a pipe; wanted files")
                try:
                    job = prepare_video(source, out, self.session, self.options)
                except SkippedError as error:
                    say_line(str(error))
                    continue
                with show_progress("trying a few frames"):
                    found = forecast_video(job)
                for line in (_describe_forecast(job, found), *(f"note: {note}" for note in job.told)):
                    say_line(line)
                ready, total = ready + 1, total + (found.seconds or 0.0)
            failures += len(refused)
        so_long = f", in about {describe_time(total)} one after another" if ready > 1 else ""
        count = f"{ready} of {len(self.pairs)} would be enlarged{so_long}; " if len(self.pairs) > 1 else ""
        if ready or len(self.pairs) > 1:
            say(f"dry run: {count}nothing was written")
        return failures


def _count_videos(progress: StageProgress | None, count: str) -> StageProgress | None:
    """Shows which of several videos it is; while its first frames are computed, nothing tells its share and time left."""
    if progress is None:
        return None
    from ..video.pipeline import FIRST_FRAMES, STOPPING

    unknown = (FIRST_FRAMES, STOPPING)
    return lambda stage, done, total: progress(f"{count}{stage}", done, 0 if stage.startswith(unknown) else total)


def _tell_kept(out: Path) -> str:
    """What an interrupted run has left of a video."""
    from ..files.journal import parts_folder
    from ..video.segments import count_kept

    if out == PIPE:
        return ""
    if not out.suffix:
        return f"; the frames so far are in {out}; a folder of frames is not resumed"
    parts = "a part ends with a scene, or after 10 s of video"
    kept = count_kept(out)
    if not kept:
        return f"; nothing is kept ({parts})"
    frames = f"{kept} frame{'s' if kept > 1 else ''}"
    return f"; {frames} in whole parts are kept in {parts_folder(out)} ({parts}), and a rerun resumes from there"


def _tabulate(done: Sequence[_Done], seconds: float) -> Iterable[str]:
    """A line for each video, and one for all."""
    from ..progress import describe_time

    widest = max(len(one.name) for one in done)
    yield from (f"{one.name:{widest}}  {one.outcome}" for one in done)
    failed = sum(one.failed for one in done)
    made = sum(one.report is not None and not one.failed for one in done)
    skipped = len(done) - failed - made
    counts = [f"{made} of {len(done)} enlarged"]
    counts += [f"{skipped} skipped"] if skipped else []
    counts += [f"{failed} failed"] if failed else []
    yield f"{', '.join(counts)}, in {describe_time(seconds)}"


def _write_report(path: Path, reports: Sequence["VideoReport"]) -> None:
    from ..files.paths import write_whole

    content = "".join(json.dumps(line) + "\n" for made in reports for line in made.lines())
    write_whole(path, lambda file: file.write(content.encode()))


def _describe(made: "VideoReport") -> list[str]:
    from ..video.records import describe_scenes

    given, result = made.input, made.output
    sizes = f"{given['path']} {given['width']}x{given['height']} -> {result['path']} {result['width']}x{result['height']}"
    decided = f"  {describe_scenes(made.scenes)}" if made.scenes else ""
    frames = f"{made.frames} frames in {made.seconds:.1f} s ({made.frames_per_second:.2f} fps)"
    resumed = f", {made.resumed_at} of them by an earlier run" if made.resumed_at else ""
    drift = f"color drift mean {made.drift.mean:.2f}, largest {made.drift.max:.2f} {made.output['difference']}"
    worst = f", most in frame {made.worst.frame + 1} at {made.worst.seconds:.2f} s" if made.worst else ""
    return [f"{sizes}{decided}  {frames}{resumed}", f"{drift}{worst}", *(f"note: {note}" for note in made.notes)]


def _describe_forecast(job: "VideoJob", found: "VideoForecast") -> str:
    from ..progress import describe_time
    from ..video.records import describe_scenes

    (height, width), (new_height, new_width) = job.info.size, job.format.size
    sizes = f"{job.info.path} {width}x{height} -> {job.output} {new_width}x{new_height}"
    each = f"{found.seconds_per_frame:.2f} s a frame"
    frames = "of unknown length" if found.seconds is None else f"about {found.frames} frames in {describe_time(found.seconds)}"
    return f"{sizes}  {describe_scenes([found.scene])}  {frames} ({each})"
