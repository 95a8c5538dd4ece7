"""The rows of a batch in its folder: added one by one, counted, and read by the run that resumes it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.paths import FileRefusedError, hold
from ..imaging.drift import Drift
from .items import Item, is_there, key_of, place_of
from .journal import RESULTS_NAME, Row, parse_row, rewrite, to_line

Say = Callable[[Row], None]
Told = Callable[[str, int, int], None]
"""Called with (what is done, pictures done, pictures in total); raising in it ends the batch cleanly."""


@dataclass
class Tally:
    """What has become of a batch so far; as large for a million pictures as for ten."""

    total: int
    done: int = 0
    same: int = 0
    failed: int = 0
    failed_before: int = 0
    """Pictures that failed in an earlier run and were left alone."""
    seconds: float = 0.0
    """Of all workers together."""
    measured: int = 0
    """Pictures whose drift was measured, from what colors were held to; so are the next two."""
    drift_sum: float = 0.0
    drift_max: float = 0.0
    retried: int = 0
    """Pictures whose worker died, and that another one took."""
    other_files: int = 0
    """Files that were skipped, since they are neither pictures nor videos."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def finished(self) -> int:
        """Pictures of which something became."""
        return self.done + self.same + self.failed + self.failed_before

    @property
    def drift_mean(self) -> float:
        """Of the pictures whose drift was measured, of which there is at least one."""
        return self.drift_sum / self.measured

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.began

    def add(self, row: Row) -> None:
        """Counts a row."""
        status = row["status"]
        self.done += status == "done"
        self.same += status == "same"
        self.failed += status == "failed"
        self.seconds += row.get("seconds", 0.0) if status == "done" else 0.0
        if "drift_mean" in row:
            self.measured += 1
            self.drift_sum += row["drift_mean"]
            self.drift_max = max(self.drift_max, row["drift_max"])

    def describe(self) -> str:
        """Progress in a few words, as in "120 of 209, 2 failed, 40 pictures a minute, about 2 min left"."""
        parts = [f"{self.finished} of {self.total}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        if self.done:
            left = (self.total - self.finished) * self.elapsed / (self.done + self.failed)
            rate = 60 * self.done / max(1e-6, self.elapsed)
            parts += [f"{rate:.{0 if rate >= 10 else 1}f} pictures a minute", f"about {describe_time(left)} left"]
        parts += [f"drift {self.drift_mean:.2f}"] if self.measured else []
        return ", ".join(parts)

    def summarize(self) -> str:
        """What became of the batch, in a line."""
        parts = [f"{self.done} enlarged"]
        parts += [f"{self.same} done before"] if self.same else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.failed_before} failed before"] if self.failed_before else []
        parts += [f"{self.retried} taken over from workers that died"] if self.retried else []
        others = f"; {self.other_files} other file{'s' if self.other_files > 1 else ''} skipped" if self.other_files else ""
        return f"{', '.join(parts)} of {self.total} in {self.elapsed:.1f} s{self.describe_drift()}{others}"

    def describe_drift(self) -> str:
        """The drift of all pictures together, to be added to a line; empty if none was measured."""
        if not self.measured:
            return ""
        return f"; color drift {self.drift_mean:.3f} mean, {self.drift_max:.2f} largest"


def describe_time(seconds: float) -> str:
    """A time as people say it, as in "40 s", "2 min" or "3 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


class Results:
    """The rows of a batch in its folder; one process at a time holds them."""

    def __init__(self, out: Path) -> None:
        """Opens the file, and reads what earlier runs have finished.

        Raises:
            FileRefusedError: If another run works in that folder.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / RESULTS_NAME
        self._file = self.path.open("ab")
        if not (hold(self._file) and os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())):
            self._file.close()
            raise FileRefusedError(f"{out}: another batch works on it; wanted another folder, or to wait")
        self.known: dict[str, Row] = {}
        """The last row of every picture, if it is finished, by `Item.key`."""
        self._failed: dict[str, Row] = {}
        """What tells whether a picture would fail again, of those whose last row says that it failed."""
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                row = parse_row(line)
                if row is None:
                    continue
                key = key_of(row["source"], row["output"])
                self.known.pop(key, None)
                self._failed.pop(key, None)
                if row["status"] in ("done", "same"):
                    self.known[key] = {name: value for name, value in row.items() if name not in _TOLD_ANEW}
                elif row["status"] == "failed":
                    self._failed[key] = {name: row[name] for name in _TELLS_FAILURE if name in row}
        if not line.endswith(b"\n"):
            self._file.write(b"\n")

    def add(self, row: Row) -> None:
        """Notes what became of a picture."""
        self._file.write(to_line(row))
        self._file.flush()

    def fill(
        self,
        items: Sequence[Item],
        is_same: Callable[[Item, Row], bool],
        rows: Callable[[Sequence[Item], Tally], Iterator[Row | None]],
        progress: Told | None = None,
        say: Say | None = None,
        fails: Callable[[Item, Row], bool] | None = None,
    ) -> Tally:
        """Does what is missing, rewrites the file with one row per picture, and closes it; interrupted, it only closes it.

        Args:
            items: The pictures.
            is_same: Whether a picture needs nothing, by its row of an earlier run.
            rows: Does some pictures, and tells what became of each; None, now and then, while there is nothing to tell.
            progress: See `Told`.
            say: Called with each row as it comes.
            fails: Whether a picture that failed is left alone, by its row of an earlier run; all are tried again if not given.
        """
        tally, left = Tally(len(items)), list[Item]()
        try:
            for item in items:
                known, failed = self.known.get(item.key), self._failed.get(item.key)
                if known and is_same(item, known):
                    tally.add(known | {"status": "same"})
                elif fails and failed and fails(item, failed):
                    tally.failed_before += 1
                else:
                    left.append(item)
            if progress:
                progress(tally.describe(), tally.finished, tally.total)
            for row in rows(left, tally) if left else ():
                if row:
                    self.add(row)
                    tally.add(row)
                if row and say:
                    say(row)
                if progress:
                    progress(tally.describe(), tally.finished, tally.total)
            self._compact(items)
            return tally
        finally:
            self.close()

    def _compact(self, items: Sequence[Item]) -> None:
        """Leaves one row per picture.

        What this run has replaced goes: earlier failures of its sources, and rows whose result is now that of another source.
        So do failures of sources that are gone.
        """
        keys, outputs = {item.key for item in items}, {item.output for item in items if item.output}
        places = {place_of(item.source) for item in items}

        def keeps(row: Row) -> bool:
            if key_of(row["source"], row["output"]) in keys:
                return True
            if row["status"] == "failed":
                return place_of(row["source"]) not in places and is_there(row["source"])
            return row["output"] not in outputs

        self._file.flush()
        if os.name == "nt":  # which replaces no open file
            self.close()
        rewrite(self.path.parent, keeps)

    def close(self) -> None:
        """Lets another run resume here."""
        if self._file.closed:
            return
        os.fsync(self._file.fileno())
        self._file.close()


def describe_drift(drift: Drift, of: str = "") -> Row:
    """The columns of a drift; `of` begins their names."""
    return {f"{of}drift_{name}": round(getattr(drift, name), 4) for name in ("mean", "p99", "max")}


_TOLD_ANEW = ("source", "output", "status", "seconds", "options")
_TELLS_FAILURE = ("reason", "identity", "source_bytes", "source_time", "max_megapixels")
