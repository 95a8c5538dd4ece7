"""Reads metadata that says where an image comes from."""

import io
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image

from ..decide.provenance import Provenance, interpret
from ..quiet import no_warnings
from .formats import DECODING_ERRORS, open_picture
from .repair import repair

_WINDOW_BYTES = 256 * 1024


def read_provenance(path: Path) -> Provenance:
    """Reads what a file's metadata says about its picture; empty if there is none or the file cannot be read.

    Args:
        path: An image file of one of `fidelity.files.formats.READ_FORMATS`.
    """
    try:
        with path.open("rb") as file:
            return provenance_of(file)
    except DECODING_ERRORS:
        return Provenance()


def provenance_of(file: IO[bytes]) -> Provenance:
    """Reads what the metadata of an image file says about its picture; empty if there is none or it cannot be read.

    Args:
        file: The file, open in binary mode at its start, and seekable.
    """
    try:
        try:
            texts, exif = _read(file)
        except DECODING_ERRORS:
            file.seek(0)
            texts, exif = _read(io.BytesIO(repair(file.read()).content))
        return interpret(texts, exif, _has_credentials(file))
    except DECODING_ERRORS:
        return Provenance()


def provenance_of_picture(picture: Image.Image) -> Provenance:
    """Reads what the metadata of a PIL image says about its picture."""
    try:
        return interpret(*_read_opened(picture), False)
    except DECODING_ERRORS:
        return Provenance()


def _read(file: IO[bytes]) -> tuple[dict[str, str], dict[str, str]]:
    with open_picture(file) as opened, no_warnings():
        return _read_opened(opened)


def _read_opened(opened: Image.Image) -> tuple[dict[str, str], dict[str, str]]:
    """The texts and the EXIF tags of an image by name, EXIF's comment among the texts."""
    texts = {str(key): _to_text(value) for key, value in opened.info.items() if isinstance(value, str | bytes)}
    exif = opened.getexif()
    named = {ExifTags.TAGS.get(tag, str(tag)): _to_text(value) for tag, value in exif.items()}
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if comment:
        texts.setdefault("UserComment", _decode_comment(comment))
    return texts, named


def _has_credentials(file: IO[bytes]) -> bool:
    """Whether the start or end of the file contains a manifest of content credentials."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(_WINDOW_BYTES)
    file.seek(max(0, size - _WINDOW_BYTES))
    return any(b"c2pa" in part and b"jumb" in part for part in (head, file.read(_WINDOW_BYTES)))


def _to_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _decode_comment(comment: object) -> str:
    """EXIF's UserComment: eight bytes that name the encoding, then the text."""
    if not isinstance(comment, bytes):
        return str(comment)
    code, body = comment[:8], comment[8:]
    if code.startswith(b"UNICODE"):
        big = body[:1] == b"\x00" or (len(body) > 1 and body[1:2] != b"\x00")
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\x00")
    return (body if code.rstrip(b"\x00 ") in (b"ASCII", b"") else comment).decode("utf-8", "replace").strip("\x00 ")
