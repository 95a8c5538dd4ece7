"""Adds EXIF to a finished TIFF or BigTIFF in place: libvips writes none, and no library adds it without writing the file anew.

The first directory is written again at the end of the file, with the texts of the EXIF and pointers to its directories; the
header then points there. Pixels stay where they are. Source: TIFF 6.0, section 2; the BigTIFF design; EXIF 2.32, section 4.6.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_TEXTS = (270, 271, 272, 305, 306, 315, 33432)
"""Description, make, model, software, date, artist, copyright."""
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes of a number of each type, by which it is swapped."""
_PAIRS = (5, 10)
_LONG, _LONG8 = 4, 16
_BIG = 43


@dataclass(frozen=True)
class _Layout:
    """How a file stores directories."""

    order: str
    """"<" or ">"."""
    is_big: bool

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    data: bytes


def add_exif(path: Path, exif: bytes) -> None:
    """Adds EXIF to a TIFF; what the file says itself is kept.

    Args:
        path: The file, which is changed.
        exif: From `fidelity.files.tags.correct_exif`.

    Raises:
        ValueError: If the file is no TIFF, or the EXIF is damaged; the file is as before.
        OSError: If it cannot be written.
    """
    blob = exif.removeprefix(b"Exif\0\0")
    source, start = _read_header(blob[:16])
    root = _read_directory(blob, source, start)
    parts = {tag: _read_directory(blob, source, _pointer(root[tag], source)) for tag in (_EXIF, _GPS) if tag in root}
    with path.open("r+b") as file:
        layout, first = _read_header(file.read(16))
        own, following = _read_raw(file, layout, first)
        added: dict[int, _Entry] = {tag: _swapped(root[tag], source, layout) for tag in _TEXTS if tag in root}
        for tag, entries in parts.items():
            kept = {number: _swapped(one, source, layout) for number, one in entries.items() if number != _INTEROPERABILITY}
            place = _append(file, layout, _pack(file, layout, kept), b"\0" * struct.calcsize(layout.offset))
            added[tag] = _Entry(_LONG8 if layout.is_big else _LONG, 1, struct.pack(layout.offset, place))
        packed = _pack(file, layout, {tag: one for tag, one in added.items() if tag not in own})
        place = _append(file, layout, {**packed, **own}, following)
        file.seek(8 if layout.is_big else 4)
        file.write(struct.pack(layout.offset, place))


def _read_header(head: bytes) -> tuple[_Layout, int]:
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    layout = _Layout(order, struct.unpack(order + "H", head[2:4])[0] == _BIG)
    return layout, struct.unpack(layout.offset, head[8:16] if layout.is_big else head[4:8])[0]


def _read_directory(blob: bytes, layout: _Layout, start: int) -> dict[int, _Entry]:
    """The entries of a directory of a whole, classic TIFF in memory."""
    entries: dict[int, _Entry] = {}
    try:
        (count,) = struct.unpack_from(layout.count, blob, start)
        for number in range(count):
            tag, kind, length, value = struct.unpack_from(layout.entry, blob, start + 2 + 12 * number)
            size = length * _UNITS.get(kind, 1) * (2 if kind in _PAIRS else 1)
            place = struct.unpack(layout.offset, value)[0]
            data = value[:size] if size <= len(value) else blob[place : place + size]
            if len(data) != size:
                raise ValueError("damaged EXIF")
            entries[tag] = _Entry(kind, length, data)
    except struct.error as error:
        raise ValueError("damaged EXIF") from error
    return entries


def _pointer(entry: _Entry, layout: _Layout) -> int:
    return struct.unpack(layout.order + "I", entry.data[:4])[0]


def _read_raw(file: IO[bytes], layout: _Layout, start: int) -> tuple[dict[int, bytes], bytes]:
    """The entries of a directory as they are in the file, by tag, and the pointer that follows."""
    file.seek(start)
    (count,) = struct.unpack(layout.count, file.read(struct.calcsize(layout.count)))
    size = struct.calcsize(layout.entry)
    entries = [file.read(size) for _ in range(count)]
    return {struct.unpack(layout.order + "H", one[:2])[0]: one for one in entries}, file.read(struct.calcsize(layout.offset))


def _swapped(entry: _Entry, source: _Layout, target: _Layout) -> _Entry:
    unit = _UNITS.get(entry.kind, 1)
    if source.order == target.order or unit == 1:
        return entry
    data = b"".join(entry.data[start : start + unit][::-1] for start in range(0, len(entry.data), unit))
    return _Entry(entry.kind, entry.count, data)


def _pack(file: IO[bytes], layout: _Layout, entries: Mapping[int, _Entry]) -> dict[int, bytes]:
    """Entries as bytes; data that are too long for them are appended to the file."""
    room, packed = struct.calcsize(layout.offset), dict[int, bytes]()
    for tag, entry in entries.items():
        value = entry.data
        if len(value) > room:
            value = struct.pack(layout.offset, _write_at_end(file, entry.data))
        packed[tag] = struct.pack(layout.entry, tag, entry.kind, entry.count, value.ljust(room, b"\0"))
    return packed


def _append(file: IO[bytes], layout: _Layout, entries: Mapping[int, bytes], following: bytes) -> int:
    """Writes a directory at the end, in the order of its tags, and returns its place."""
    parts: Sequence[bytes] = [entries[tag] for tag in sorted(entries)]
    return _write_at_end(file, struct.pack(layout.count, len(parts)) + b"".join(parts) + following)


def _write_at_end(file: IO[bytes], data: bytes) -> int:
    place = file.seek(0, 2)
    place += file.write(b"\0" * (-place % 8))
    file.write(data)
    return place
