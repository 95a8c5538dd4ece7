"""Splits protocol buffer messages, so that a graph can be checked before a library reads it.

Source: Google, "Protocol Buffers: Encoding".
"""

_VARINT = 0
_LENGTH = 2
_FIXED_BYTES = {1: 8, 5: 4}


def split_message(content: bytes) -> list[tuple[int, bytes]] | None:
    """Splits a message into field numbers and contents (empty for plain numbers); None if it is not one."""
    fields: list[tuple[int, bytes]] = []
    place = 0
    while place < len(content):
        key, place = _read_varint(content, place)
        if key >> 32:
            return None  # some readers would drop the upper bits, and see another field
        kind, start = key & 7, place
        if kind == _VARINT:
            _, place = _read_varint(content, place)
        elif kind == _LENGTH:
            length, start = _read_varint(content, place)
            place = start + length
        elif kind in _FIXED_BYTES:
            place += _FIXED_BYTES[kind]
        else:
            return None
        if place > len(content) or not key >> 3:
            return None
        fields.append((key >> 3, content[start:place] if kind == _LENGTH else b""))
    return fields


def _read_varint(content: bytes, place: int) -> tuple[int, int]:
    """Reads a number; returns it and the next offset, which is past the end if the number is truncated."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte = content[place]
        number |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return number, place
    return number, len(content) + 1
