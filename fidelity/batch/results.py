"""The rows of a batch in its folder: added one by one, counted, and read by the run that resumes it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files.paths import FileRefusedError, hold
from ..imaging.drift import Drift
from ..progress import describe_left
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
    seconds: float = 0.0
    """Of all workers together."""
    measured: int = 0
    """Pictures whose drift was measured, from what colors were held to; so are the next two."""
    drift_sum: float = 0.0
    drift_max: float = 0.0
    retried: int = 0
    """Pictures whose worker died, and that another one took."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def finished(self) -> int:
        """Pictures of which something became."""
        return self.done + self.same + self.failed

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
        """Progress in a few words."""
        per_minute = 60 * self.done / max(1e-6, self.elapsed)
        drift = f", drift {self.drift_sum / self.measured:.2f}" if self.measured else ""
        failed = f", {self.failed} failed" if self.failed else ""
        left = (self.total - self.finished) * self.elapsed / max(1, self.done)
        clock = f", {describe_left(left)}" if self.done else ""
        return f"{self.finished} of {self.total}, {per_minute:.1f} a minute{clock}{drift}{failed}"


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
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                row = parse_row(line)
                if row is None:
                    continue
                key = key_of(row["source"], row["output"])
                self.known.pop(key, None)
                if row["status"] in ("done", "same"):
                    self.known[key] = {name: value for name, value in row.items() if name not in _TOLD_ANEW}
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
        rows: Callable[[Sequence[Item], Tally], Iterator[Row]],
        progress: Told | None = None,
        say: Say | None = None,
    ) -> Tally:
        """Does what is missing, rewrites the file with one row per picture, and closes it; interrupted, it only closes it.

        Args:
            items: The pictures.
            is_same: Whether a picture needs nothing, by its row of an earlier run.
            rows: Does some pictures, and tells what became of each.
            progress: See `Told`.
            say: Called with each row as it comes.
        """
        tally, left = Tally(len(items)), list[Item]()
        try:
            for item in items:
                known = self.known.get(item.key)
                if known and is_same(item, known):
                    tally.add(known | {"status": "same"})
                else:
                    left.append(item)
            if progress:
                progress(tally.describe(), tally.finished, tally.total)
            for row in rows(left, tally) if left else ():
                self.add(row)
                tally.add(row)
                if say:
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


_TOLD_ANEW = ("source", "output", "status", "seconds")
