"""Reads PNG and TIFF with 16 bits per channel and writes TIFF, through FFmpeg's codecs; Pillow preserves only 8.

PyAV takes a tenth of a second to import, and few pictures need it, so it is imported where it is used.
"""

from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import RefusedError

DeepFormat = Literal["png", "tiff"]
"""Formats with 16 bits per channel, by the names of FFmpeg's codecs."""

TiffCompression = Literal["deflate", "lzw", "raw"]

Samples = NDArray[np.uint8 | np.uint16]

_PIXEL_FORMATS: dict[tuple[int, int], str] = {
    (16, 1): "gray16le",
    (16, 3): "rgb48le",
    (16, 4): "rgba64le",
    (8, 1): "gray",
    (8, 3): "rgb24",
    (8, 4): "rgba",
}
"""FFmpeg's pixel formats in a TIFF, by bits and channels."""


class DeepFormatError(RefusedError):
    """A file that these codecs cannot read at full depth."""


def decode_deep(content: bytes, kind: DeepFormat) -> NDArray[np.uint16]:
    """Decodes a file with 16 bits per channel.

    Args:
        content: The whole file.
        kind: Its format.

    Returns:
        ``(H, W, C)``; C is 1, 2, 3 or 4, alpha last.

    Raises:
        DeepFormatError: If the codec cannot read it, or finds fewer bits.
    """
    import av
    from av.error import FFmpegError

    array: Any
    try:
        codec = av.CodecContext.create(kind, "r")
        frames = [*codec.decode(av.Packet(content)), *codec.decode(None)]
        if not frames:
            raise DeepFormatError("contains no picture")
        frame = frames[0]
        if frame.format.name.startswith("ya16"):
            order = ">u2" if frame.format.name.endswith("be") else "<u2"
            rows = np.frombuffer(bytes(frame.planes[0]), order).reshape(frame.height, -1)
            array = rows[:, : 2 * frame.width].reshape(frame.height, frame.width, 2).astype(np.uint16)
        else:
            array = frame.to_ndarray()
    except (FFmpegError, ValueError, OSError) as error:
        raise DeepFormatError(str(error)) from error
    if array.dtype != np.uint16:
        raise DeepFormatError(f"decoded as {array.dtype}; wanted uint16")
    return array[..., None] if array.ndim == 2 else array


def encode_tiff(samples: Samples, compression: TiffCompression = "deflate") -> bytes:
    """Encodes a TIFF with 8 or 16 bits per channel.

    Args:
        samples: ``(H, W, C)`` of 16 or 8 bits; C is 1, 3 or 4.
        compression: Its compression.

    Returns:
        The whole file, without metadata.
    """
    import av

    height, width, channels = samples.shape
    pixel_format = _PIXEL_FORMATS[samples.itemsize * 8, channels]
    codec = av.CodecContext.create("tiff", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, pixel_format, Fraction(1)
    codec.options = {"compression_algo": compression}
    plane: Any = np.ascontiguousarray(samples[..., 0] if channels == 1 else samples)
    frame = av.VideoFrame.from_ndarray(plane, format=pixel_format)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
