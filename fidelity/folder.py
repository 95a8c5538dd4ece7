"""Many files, several at a time on a CPU."""

import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import torch

from .errors import MemoryLimitError
from .files.formats import count_pixels
from .files.paths import FileRefusedError
from .files.read import count_source_pixels
from .job import DEFAULT_FILE_OPTIONS, FileOptions, upscale_file
from .large.job import SOURCE_BYTES_PER_PIXEL, needs_pieces, upscale_large
from .large.source import count_readable_pixels
from .networks.memory import free_host_bytes, is_out_of_memory
from .report.report import Report
from .session import Session, StageProgress

_UNITS = 1000
_LARGEST_PIXEL_BYTES = 8


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
        for outcome in _run_at_once(tuple(remaining), files, part, options, bar, workers, max(1, threads // workers)):
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
    assert session.compute.memory_bytes
    most_pixels = session.compute.memory_bytes // SOURCE_BYTES_PER_PIXEL

    def work(index: int) -> Outcome:
        if _count_pixels(files[index][0]) > most_pixels:
            return Outcome(index, MemoryLimitError(f"{files[index][0]}: too large to be read beside others"))
        result = _try(files[index], session, options, bar.part(index), in_memory=True)
        if not isinstance(result, MemoryLimitError):
            bar.finish(index)
        return Outcome(index, result)

    with ThreadPoolExecutor(workers, "fidelity", torch.set_num_threads, (threads,)) as pool:
        try:
            for future in as_completed([pool.submit(work, index) for index in indices]):
                yield future.result()
        except BaseException:  # the caller stopped before the last
            bar.cancel()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)  # threads that begin later would otherwise begin with the workers' number


def _try(
    file: tuple[Path, Path], session: Session, options: FileOptions, progress: StageProgress, in_memory: bool = False
) -> Report | Exception:
    try:
        check_megapixels(file[0], options.max_megapixels)
        if needs_pieces(*file, session, options):
            if in_memory:
                raise MemoryLimitError(f"{file[0]}: is enlarged in pieces; wanted to be alone")
            return upscale_large(*file, session, options, progress)
        return upscale_file(*file, session, options, progress, in_memory=in_memory)
    except Exception as error:  # whatever it is, the others go on
        traceback.clear_frames(error.__traceback__)  # they hold the picture
        if is_out_of_memory(error):
            told = MemoryLimitError(f"{file[0]}: the system gives no more memory; wanted more, or a limit such as --memory 1GB")
            told.__cause__ = error
            return told
        return error


def check_megapixels(path: Path, limit: float | None) -> None:
    """Refuses an image by its header, before any of it is decoded.

    Args:
        path: The file; one whose header cannot be read passes, as it is refused when it is read.
        limit: Most megapixels; None for no limit.

    Raises:
        FileRefusedError: If it has more.
    """
    if limit is None:
        return
    megapixels = (count_source_pixels(path) or count_readable_pixels(path)) / 1e6
    if megapixels > limit:
        raise FileRefusedError(f"{path}: has {megapixels:.4g} megapixels; wanted at most {limit:g}, as --max-megapixels says")


def _count_pixels(path: Path) -> int:
    """About how many pixels an image file has, at least: by its header, and by its size, which other pages count in.

    0 if the header cannot be read.
    """
    pixels = count_pixels(path)
    return max(pixels, path.stat().st_size // _LARGEST_PIXEL_BYTES) if pixels else 0


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

    def _show(self) -> None:
        if self._progress:
            done = round(_UNITS * sum(tuple(self._shares.values())))
            self._progress(f"{self._finished} of {self._count}", done, _UNITS * self._count)
