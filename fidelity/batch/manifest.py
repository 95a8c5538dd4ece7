"""Manifests: one picture per row, with settings of its own; rows of a batch's journal are read too."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard, cast

from ..files.paths import FileRefusedError
from .items import Item, is_remote
from .journal import COLUMNS, OTHER_COLUMNS, is_row

ROW_OPTIONS = (
    *("scale", "size", "fit", "long_edge", "megapixels"),
    *("domain", "model", "restore", "channels", "consistency", "gate"),
)
"""What a row of a manifest may set, as the options of the command are named."""
SOURCE_COLUMNS = ("source", "path", "file")
"""Columns of which one names the source."""

_TOLD_COLUMNS = {*COLUMNS, *OTHER_COLUMNS} - {"source", "output"}
"""What a row of the journal says of a result, which is no setting."""


def read_manifest(path: Path) -> list[Item]:
    """A picture for each row; a row that cannot be read becomes one that is refused.

    Args:
        path: A CSV or JSONL file. Its paths are relative to its folder; those in rows of a journal, to the current folder, as
            they were for the batch that wrote them.

    Returns:
        Items, without an output where their row names none.

    Raises:
        FileRefusedError: If the file cannot be read, or has columns that are not known.
    """
    rows = _latest(list(_read_rows(path)))
    unknown = sorted({name for row in rows if not isinstance(row, str) for name in _settings(row)} - set(_KNOWN))
    if unknown:
        columns = f"unknown column{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}"
        raise FileRefusedError(f"{path}: {columns}; known: {', '.join(_KNOWN)}")
    taken: set[str] = set()
    return [_to_item(row, f"{path.name}, row {number}", path.parent, taken) for number, row in enumerate(rows, 1)]


def _latest(rows: list[dict[str, Any] | str]) -> list[dict[str, Any] | str]:
    """The rows without those of a journal that a later one of the same picture replaces."""
    last = {(row["source"], row.get("output")): place for place, row in enumerate(rows) if _is_of_journal(row)}
    kept = set(last.values())
    return [row for place, row in enumerate(rows) if place in kept or not _is_of_journal(row)]


def _is_of_journal(row: dict[str, Any] | str) -> TypeGuard[dict[str, Any]]:
    return not isinstance(row, str) and is_row(row)


_KNOWN = (*SOURCE_COLUMNS, "output", *ROW_OPTIONS)


def _to_item(row: dict[str, Any] | str, told: str, folder: Path, taken: set[str]) -> Item:
    """The picture of a row; `taken` are outputs that earlier rows name."""
    if isinstance(row, str):
        return Item(told, "", refused=row)
    values = _settings(row)
    column = next((name for name in SOURCE_COLUMNS if name in values), None)
    if column is None:
        return Item(told, "", refused=f"has no source; wanted a column named {', '.join(SOURCE_COLUMNS)}")
    source, output = values.pop(column), values.pop("output", "")
    if not (is_row(row) or is_remote(source) or Path(source).is_absolute()):
        source = str(folder / source)
    refused = ""
    if Path(output).is_absolute() or ".." in Path(output).parts:
        refused = f"output is {output}; wanted a path within the folder of results"
    elif output in taken:
        refused = f"output {output} is that of another picture; wanted another name"
    if output and not refused:
        taken.add(output)
    return Item(source, "" if refused else output, values, refused)


def _settings(row: dict[str, Any]) -> dict[str, str]:
    """What a row sets: its columns that have a value, without those that a journal writes itself."""
    values = row
    if is_row(row):
        own = cast("dict[str, Any]", row["options"]) if isinstance(row.get("options"), dict) else {}
        values = own | {name: value for name, value in row.items() if name not in _TOLD_COLUMNS}
    return {str(name).strip(): str(value).strip() for name, value in values.items() if name and value not in (None, "")}


def _read_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    """The rows of a manifest; in place of one that is no row, the reason."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        raise FileRefusedError(f"{path}: cannot be read as a manifest ({error})") from error
    if path.suffix.lower() == ".csv":
        yield from csv.DictReader(text.splitlines())
        return
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        raise FileRefusedError(f"{path}: has an unknown ending; wanted a manifest as .csv or .jsonl")
    for line in text.split("\n"):  # names may contain other separators of lines
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield f"is not JSON ({error})"
            continue
        yield row if isinstance(row, dict) else "is no JSON object"
