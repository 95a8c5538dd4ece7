"""A journal beside a result says what of it is finished, so that an interrupted run resumes.

One line of JSON for each finished part, after a first one that says what the result follows from. A line is on the disk before
the next part begins; a torn last line, as a power cut leaves it, is dropped.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .paths import FileRefusedError, hold

JOURNAL_NAME = "journal.jsonl"
"""Name of its file in the folder of parts."""
_HASHED_BYTES = 2**20


class OtherRunError(FileRefusedError):
    """A folder that holds an interrupted run of another source or other settings."""


class Journal:
    """The lines of a journal; one process at a time holds it."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        """Opens the journal in a folder, or begins both.

        Args:
            folder: The folder of parts.
            identity: What the result follows from: the source and all settings, as JSON.

        Raises:
            FileRefusedError: If another run works there, or the folder is someone else's.
            OtherRunError: If it is that of another source or other settings.
        """
        path = folder / JOURNAL_NAME
        if folder.exists() and not path.is_file():
            raise FileRefusedError(f"{folder}: exists and holds no journal of an interrupted run; wanted another output")
        self._path, self._identity = path, json.loads(json.dumps(identity))
        self._kept: list[bytes] = []
        self.entries: list[dict[str, Any]] = []
        """What the lines say of parts, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if not hold(self._file):
            self._file.close()
            raise FileRefusedError(f"{folder}: another run works on it; wanted another output, or to wait")
        self._read(folder)

    def _read(self, folder: Path) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        head = _parse(lines[0]) if lines else None
        if head is None or "identity" not in head:  # new, or torn before its first line was on the disk
            self._replace([])
            self._write({"identity": self._identity})
            return
        if head["identity"] != self._identity:
            self._file.close()
            changed = ", ".join(_differences(head["identity"], self._identity))
            raise OtherRunError(
                f"{folder}: holds an interrupted run with another {changed}; wanted the same to resume it, another "
                "output, or --existing overwrite to begin anew"
            )
        self.entries = list(_whole_entries(lines))
        self._kept = lines[: 1 + len(self.entries)]
        if len(self._kept) < len(lines):
            self._replace(self._kept)

    def keep(self, count: int) -> None:
        """Drops all entries but the first ones."""
        if count < len(self.entries):
            del self.entries[count:], self._kept[count + 1 :]
            self._replace(self._kept)

    def add(self, entry: dict[str, Any]) -> None:
        """Notes that a part is finished."""
        self._write(entry)
        self.entries.append(entry)

    def close(self) -> None:
        """Lets another run resume here."""
        self._file.close()

    def _replace(self, lines: list[bytes]) -> None:
        """Replaces all lines, in place, as the file is locked: what is lost if that is interrupted is only the work."""
        with self._path.open("r+b") as file:
            file.write(b"".join(lines))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _write(self, content: dict[str, Any]) -> None:
        line = json.dumps(content).encode() + b"\n"
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._kept.append(line)


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """What the journal in a folder says of parts, in order; nothing if there is none."""
    try:
        return list(_whole_entries((folder / JOURNAL_NAME).read_bytes().splitlines(keepends=True)))
    except OSError:
        return []


def _whole_entries(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The entries of a journal's lines, up to the first torn one."""
    for line in lines[1:]:
        entry = _parse(line)
        if entry is None:
            return
        yield entry


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    """What differs between two identities, with both values of options, as in "crf (18 there, 20 here)"."""
    for name in sorted({*there, *here}):
        before, now = there.get(name), here.get(name)
        if before == now:
            continue
        if name in ("options", "settings") and isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now)
        elif all(isinstance(value, str) and len(value) <= _LONGEST_SHOWN for value in (before, now)):
            yield f"{_NAMES.get(name, name)} ({_tell(before)} there, {_tell(now)} here)"
        else:
            yield _NAMES.get(name, name)


_NAMES = {"window": "--preview"}
"""Names of options where they differ from those of the command."""


def _tell(value: object) -> object:
    return "the default" if value == "None" else value


_LONGEST_SHOWN = 40


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def fingerprint(path: Path) -> dict[str, Any]:
    """Tells a source from another of its name: a file by its size and its first and last bytes, a folder by its files."""
    if path.is_dir():
        return {"files": sorted((one.name, one.stat().st_size) for one in path.iterdir())}
    if not path.is_file():
        return {"path": str(path)}
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return {"name": path.name, "bytes": size, "sha256 of its ends": digest.hexdigest()}


def parts_folder(output: Path) -> Path:
    """The folder beside a result that holds its finished parts."""
    return output.with_name(f"{output.name}.parts")


def discard_parts(folder: Path, patterns: tuple[str, ...]) -> None:
    """Removes what a run has left in its folder, its journal last, and the folder unless it holds anything else."""
    for pattern in (*patterns, JOURNAL_NAME):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def sync(path: Path) -> None:
    """Waits until a file or a folder is on the disk."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folder
        return
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
