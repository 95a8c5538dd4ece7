"""The rows of a batch: what became of every picture, in a file beside the results."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ..files.paths import write_whole
from .items import key_of

Row = dict[str, Any]
"""What became of a picture, as JSON: see `fidelity.batch.work.Worker.run`."""

RESULTS_NAME = "batch.jsonl"
"""The rows of a batch, in the folder of its results; the last row of a picture counts."""

COLUMNS: dict[str, str] = {
    **dict.fromkeys(("source", "output", "status", "reason", "sha256", "identity", "domain", "model", "gate"), "string"),
    **dict.fromkeys(("width", "height", "frames", "bytes", "source_bytes", "source_time"), "int64"),
    **dict.fromkeys(("seconds", "drift_mean", "drift_p99", "drift_max"), "float64"),
    **dict.fromkeys(("source_drift_mean", "source_drift_p99", "source_drift_max"), "float64"),
    "notes": "list",
}
"""Columns of the table, with their types in Arrow; a list is one of strings."""
OTHER_COLUMNS = ("options", "max_megapixels", "server", "files")
"""What rows may hold besides."""


def parse_row(line: bytes) -> Row | None:
    """The row of a line; None for a torn one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and is_row(row) else None


def is_row(content: dict[str, Any]) -> bool:
    """Whether an object is such a row."""
    return {"source", "output", "status"} <= content.keys()


def read_last_rows(out: Path) -> Iterator[Row]:
    """The last row of every picture; of those that were done before and are the same, the row of then."""
    last: dict[str, int] = {}
    try:
        file = (out / RESULTS_NAME).open("rb")
    except FileNotFoundError:
        return
    with file:
        while True:
            place = file.tell()
            line = file.readline()
            if not line:
                break
            row = parse_row(line)
            if row:
                last[key_of(row["source"], row["output"])] = place
        for place in sorted(last.values()):
            file.seek(place)
            row = parse_row(file.readline())
            if row:
                yield row


def rewrite(out: Path, keeps: Callable[[Row], bool]) -> None:
    """Rewrites the rows with the last one of every picture alone, whole or not at all.

    Args:
        out: Folder of the results.
        keeps: Whether a row stays.

    Raises:
        FileRefusedError: If the file cannot be written; it is then as it was.
    """

    def write(file: IO[bytes]) -> None:
        for row in read_last_rows(out):
            if keeps(row):
                file.write(to_line(row))

    write_whole(out / RESULTS_NAME, write)


def to_line(row: Row) -> bytes:
    """A row as a line of the file; bytes of names that are not UTF-8 are kept, as Python's lone surrogates."""
    return json.dumps(row, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"
