"""Many files, several at a time on a CPU."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch

from .errors import MemoryLimitError
from .files.formats import open_picture
from .job import DEFAULT_FILE_OPTIONS, FileOptions, upscale_file
from .networks.memory import free_host_bytes
from .report.report import Report
from .session import Session, StageProgress

_UNITS = 1000
_SOURCE_BYTES_PER_PIXEL = 40
"""Of a source while it is read and judged: its samples in float32, and copies for the measurements."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    index: int
    """Its place among those given."""
    result: Report | Exception
    """Its report, or the reason why it failed."""

    def report(self) -> Report:
        """Returns the report, or raises the reason why there is none."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class _CanceledError(Exception):
    """Raised in the progress of files whose results nobody waits for any more."""


def upscale_files(
    files: Sequence[tuple[Path, Path]],
    session: Session,
    options: FileOptions = DEFAULT_FILE_OPTIONS,
    progress: StageProgress | None = None,
) -> Iterator[Outcome]:
    """Enlarges image files; see `fidelity.job.upscale_file`.

    On a CPU as many at a time as it has cores, one core each: the steps around a network are many small operations, which gain
    little from more cores (tools/benchmarks/folder.py). Each may use an equal share of the memory; files that need more
    follow, one at a time, with all cores. On a GPU all go one at a time.

    Args:
        files: Each file to read, with the file to write.
        session: Settings, networks and compute.
        options: How to read and write.
        progress: Called with (what is done, units done, units in total).

    Yields:
        An outcome for each file as it is finished. If the caller stops before the last, the others are canceled.
    """
    threads, device = torch.get_num_threads(), session.compute.device
    workers = min(len(files), threads) if device is None or device.type == "cpu" else 1
    bar = _Bar(len(files), progress)
    remaining = list(range(len(files)))
    if workers > 1:
        memory = (session.compute.memory_bytes or free_host_bytes()) // workers
        part = session.within(memory)
        fitting = [index for index in remaining if _count_pixels(files[index][0]) * _SOURCE_BYTES_PER_PIXEL < memory]
        for outcome in _run_at_once(fitting, files, part, options, bar, workers, max(1, threads // workers)):
            if not isinstance(outcome.result, MemoryLimitError):
                remaining.remove(outcome.index)
                yield outcome
    for index in remaining:
        yield Outcome(index, _try(files[index], session, options, bar.part(index)))
        bar.finish(index)


def _run_at_once(
    indices: Sequence[int],
    files: Sequence[tuple[Path, Path]],
    session: Session,
    options: FileOptions,
    bar: "_Bar",
    workers: int,
    threads: int,
) -> Iterator[Outcome]:
    before = torch.get_num_threads()

    def work(index: int) -> Outcome:
        result = _try(files[index], session, options, bar.part(index), in_memory=True)
        if not isinstance(result, MemoryLimitError):
            bar.finish(index)
        return Outcome(index, result)

    with ThreadPoolExecutor(workers, "fidelity", torch.set_num_threads, (threads,)) as pool:
        waiting: list[Future[Outcome]] = [pool.submit(work, index) for index in indices]
        try:
            for future in as_completed(waiting):
                yield future.result()
        finally:
            bar.cancel()  # if the caller stopped before the last
            pool.shutdown(cancel_futures=True)
            bar.resume()
            torch.set_num_threads(before)  # threads that begin later would otherwise begin with the workers' number


def _try(
    file: tuple[Path, Path], session: Session, options: FileOptions, progress: StageProgress, in_memory: bool = False
) -> Report | Exception:
    try:
        return upscale_file(*file, session, options, progress, in_memory=in_memory)
    except Exception as error:  # whatever it is, the others go on
        return error


def _count_pixels(path: Path) -> int:
    """Pixels of an image file by its header; 0 if that cannot be read, and the file will be refused."""
    try:
        with path.open("rb") as file:
            width, height = open_picture(file).size
    except Exception:
        return 0
    return width * height


class _Bar:
    """One progress for many files, some of them at a time."""

    def __init__(self, count: int, progress: StageProgress | None) -> None:
        self._progress, self._count = progress, count
        self._shares: dict[int, float] = {}
        self._finished = 0
        self._is_canceled = Event()

    def part(self, index: int) -> StageProgress:
        """The progress of one file."""

        def report(stage: str, done: int, total: int) -> None:
            if self._is_canceled.is_set():
                raise _CanceledError
            self._shares[index] = done / max(1, total)
            if self._count > 1:
                self._show()
            elif self._progress:
                self._progress(stage, done, total)

        return report

    def finish(self, index: int) -> None:
        self._shares[index] = 1.0
        self._finished += 1
        self._show()

    def cancel(self) -> None:
        self._is_canceled.set()

    def resume(self) -> None:
        self._is_canceled.clear()

    def _show(self) -> None:
        if self._progress:
            done = round(_UNITS * sum(tuple(self._shares.values())))
            self._progress(f"{self._finished} of {self._count}", done, _UNITS * self._count)
