"""Files whose pixels are all there although Pillow refuses them."""

import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .formats import SIGNATURE, open_picture
from .png import iterate_chunks, make_chunk

_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"fdAT")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4}
_LARGEST_TEXT = 2**20
"""What Pillow reads of one text."""
_LARGEST_TEXTS = 16 * 2**20
"""Of all texts together."""
_MOST_NOTES = 4
_LARGEST_PROFILE = 64 * 2**20
_JPEG_END = b"\xff\xd9"
_FILLING = b"\x55" * 65536
_LARGEST_GAP = 0.02
_SMALLEST_GAP_PX = 4 * 16**2
"""Four of a JPEG's largest units may be missing whatever the picture's size."""
_PIXELS_PER_JPEG_BYTE = 4096
"""More than any JPEG holds: a block of 64 pixels takes a bit at least, and a progressive scan may skip runs of them."""


@dataclass(frozen=True)
class Repaired:
    """A file in a form that Pillow reads."""

    content: bytes
    """The file."""
    profile: bytes | None = None
    """A color profile that was taken out because it is too large for Pillow."""
    notes: tuple[str, ...] = ()
    """What was left out, as readable text."""


def repair(content: bytes) -> Repaired:
    """Takes out of a PNG what pixels do not need and Pillow refuses: damaged side chunks, long texts and large profiles."""
    if not content.startswith(SIGNATURE):
        return Repaired(content)
    left_out, notes, profile, texts = list[tuple[int, int]](), list[str](), None, 0
    for name, start, stop in iterate_chunks(content):
        if name in _PIXEL_CHUNKS:
            continue
        body = content[start + 8 : stop - 4]
        size = _text_size(name, body) if name in _TEXT_CHUNKS else 0
        if content[start:stop] != make_chunk(name, body) or len(body) != _LENGTHS.get(name, len(body)):
            notes.append(f"a damaged {name.decode('latin-1')} chunk was left out")
        elif name == b"iCCP" and (found := _read_profile(body)) and len(found) >= _LARGEST_TEXT:
            profile = found
        elif size > _LARGEST_TEXT or texts + size > _LARGEST_TEXTS:
            notes.append("a text of more than 1 MiB was left out")
        else:
            texts += size
            continue
        left_out.append((start, stop))
    return Repaired(_cut(content, left_out), profile, tuple(dict.fromkeys(notes))[:_MOST_NOTES])


def _cut(content: bytes, spans: list[tuple[int, int]]) -> bytes:
    """The content without some spans; itself if there are none."""
    if not spans:
        return content
    starts, stops = [0, *(stop for _, stop in spans)], [*(start for start, _ in spans), len(content)]
    return b"".join(content[start:stop] for start, stop in zip(starts, stops, strict=True))


def _text_size(name: bytes, body: bytes) -> int:
    """The size of a text, or just more than Pillow reads."""
    if name == b"tEXt":
        return len(body)
    keyword, _, rest = body.partition(b"\0")
    if name == b"zTXt":
        return len(keyword) + _inflated_size(rest[1:])
    if rest[:1] != b"\1":
        return len(body)
    return len(keyword) + _inflated_size(rest[2:].split(b"\0", 2)[-1])


def _inflated_size(content: bytes) -> int:
    try:
        return len(zlib.decompressobj().decompress(content, _LARGEST_TEXT + 1))
    except zlib.error:
        return 0  # which Pillow skips


def _read_profile(body: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        found = inflater.decompress(body.partition(b"\0")[2][1:], _LARGEST_PROFILE)
    except zlib.error:
        return None
    return found if inflater.eof else None


def is_jpeg_too_short(opened: Image.Image, content: bytes) -> bool:
    """Whether a JPEG claims more pixels than its bytes can hold."""
    return opened.format in ("JPEG", "MPO") and opened.size[0] * opened.size[1] > _PIXELS_PER_JPEG_BYTE * len(content)


def complete_jpeg(content: bytes) -> Image.Image | None:
    """Decodes a JPEG without its last bytes.

    It is decoded with its end appended, and once more with some other bytes before that: pixels that differ are those that are
    missing.

    Returns:
        The picture, loaded; None if it has several scans, if more than 2 % of it, or four units, are missing, or if it is
        damaged otherwise.
    """
    first_try = open_picture(io.BytesIO(content))
    last_scan = content.rfind(b"\xff\xda")
    if first_try.info.get("progressive") or content[last_scan + 4 : last_scan + 5] != bytes([len(first_try.getbands())]):
        return None  # whole scans may be missing, which no pixel would tell
    pictures: list[Image.Image] = []
    for filling in (b"", _FILLING):
        try:
            picture = open_picture(io.BytesIO(content.rstrip(b"\xff") + filling + _JPEG_END))
            picture.load()
        except (OSError, SyntaxError, ValueError):
            return None
        pictures.append(picture)
    first, second = (np.asarray(picture) for picture in pictures)
    missing = np.count_nonzero((first != second).reshape(first.shape[0], first.shape[1], -1).any(axis=2))
    return pictures[0] if missing <= max(_SMALLEST_GAP_PX, _LARGEST_GAP * first.shape[0] * first.shape[1]) else None
