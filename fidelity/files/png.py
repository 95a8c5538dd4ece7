"""Writes PNG from rows: in bands, on all processors, without the whole image in memory.

Each row gets the filter that leaves the smallest differences, as the PNG specification recommends. Filtered images of
continuous tone hardly repeat, so deflate's run-length strategy makes smaller files than its search for repetitions, in a
quarter of the time (tools/benchmarks/README.md). Where a sample of a band says otherwise, as in pixel art, the search is used.
Bands are compressed independently and joined into one stream.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from ..imaging.bands import iterate_bands
from ..imaging.rows import RowSource
from .formats import SIGNATURE

_Bytes = NDArray[np.uint8]

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
_BAND_BYTES = 2**20
_SAMPLE_BYTES = 2**16
"""Bytes of a band that both ways of compression are tried on."""
_SUB, _UP = 1, 2
_ZLIB_HEADER = b"\x78\x5e"


def write_png(file: IO[bytes], image: RowSource, bits: Literal[8, 16], chunks: Iterable[bytes]) -> None:
    """Writes a PNG; samples are rounded to nearest.

    Args:
        file: Where to write, from the current position.
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1]; read once, from top to bottom.
        bits: Bits per channel.
        chunks: Complete chunks to write between header and pixels.
    """
    _, channels, height, width = image.shape
    file.write(SIGNATURE)
    file.write(make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _COLOR_TYPES[channels], 0, 0, 0)))
    file.writelines(chunks)
    checksum, head = 1, _ZLIB_HEADER
    for filtered, compressed in _compress(_filtered_bands(image, bits)):
        checksum = zlib.adler32(filtered, checksum)
        file.write(make_chunk(b"IDAT", head + compressed))
        head = b""
    # An empty last block ends the stream.
    file.write(make_chunk(b"IDAT", zlib.compressobj(1, zlib.DEFLATED, -15).flush() + struct.pack(">I", checksum)))
    file.write(make_chunk(b"IEND", b""))


def round_samples(image: RowSource, rows: slice, bits: Literal[8, 16]) -> NDArray[np.float32]:
    """Returns some rows of ``(1, C, H, W)`` in [0, 1] as ``(rows, W, C)`` whole numbers from 0 to the largest of that depth."""
    scaled = image.read(rows)[0].clamp(0, 1).mul_(2**bits - 1).round_()
    return scaled.movedim(0, -1).cpu().numpy()


def make_chunk(name: bytes, data: bytes) -> bytes:
    """Returns a complete chunk: length, name, data and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def iterate_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields name, start and end of each chunk of a PNG, its length, name and checksum included; the last may be cut off."""
    start = len(SIGNATURE)
    while start + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        yield name, start, start + 12 + length
        start += 12 + length


def _filtered_bands(image: RowSource, bits: Literal[8, 16]) -> Iterator[bytes]:
    """Yields bands of rows: each row's filter and its filtered bytes."""
    _, channels, height, width = image.shape
    pixel_bytes = channels * bits // 8
    above = np.zeros(width * pixel_bytes, np.uint8)
    for rows in iterate_bands(height, width * pixel_bytes, _BAND_BYTES):
        integers = np.ascontiguousarray(round_samples(image, rows, bits), np.uint8 if bits == 8 else ">u2")
        samples = integers.view(np.uint8).reshape(rows.stop - rows.start, -1)
        yield _filter(samples, above, pixel_bytes).tobytes()
        above = samples[-1]


def _filter(samples: _Bytes, above: _Bytes, pixel_bytes: int) -> _Bytes:
    """Subtracts from each row its left or its upper neighbor, whichever leaves less."""
    by_left = samples.copy()
    by_left[:, pixel_bytes:] -= samples[:, :-pixel_bytes]
    by_upper = samples - np.vstack((above[None], samples[:-1]))
    costs = [np.abs(one.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for one in (by_left, by_upper)]
    is_left = costs[0] < costs[1]
    filtered = np.empty((samples.shape[0], samples.shape[1] + 1), np.uint8)
    filtered[:, 0] = np.where(is_left, _SUB, _UP)
    filtered[:, 1:] = np.where(is_left[:, None], by_left, by_upper)
    return filtered


def _compress(bands: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yields each band with its compressed blocks, a few bands ahead of the consumer."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[bytes, Future[bytes]]] = []
        for band in chain(bands, [None] * (2 * workers)):
            if band is not None:
                waiting.append((band, pool.submit(_deflate, band)))
            if waiting and (band is None or len(waiting) > 2 * workers):
                filtered, compressed = waiting.pop(0)
                yield filtered, compressed.result()


def _deflate(content: bytes) -> bytes:
    """Compresses a band into blocks that end on a byte and can be followed by others."""
    sample = content[:_SAMPLE_BYTES]
    ways = [(3, zlib.Z_RLE), (4, zlib.Z_FILTERED)]
    level, strategy = min(ways, key=lambda way: len(_deflate_as(sample, *way)))
    return _deflate_as(content, level, strategy)


def _deflate_as(content: bytes, level: int, strategy: int) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(content) + packer.flush(zlib.Z_SYNC_FLUSH)
