"""Files with 16 bits per channel, written by FFmpeg, as programs other than this one write them."""

from fractions import Fraction

import av
import numpy as np

_FORMATS = {1: "gray16", 3: "rgb48", 4: "rgba64"}


def encode_deep(samples, kind):
    """Encodes ``(H, W, C)`` uint16 samples as "png" or "tiff"."""
    height, width, channels = samples.shape
    pixel_format = _FORMATS[channels] + ("be" if kind == "png" else "le")
    codec = av.CodecContext.create(kind, "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, pixel_format, Fraction(1)
    plane = np.ascontiguousarray(samples[..., 0] if channels == 1 else samples)
    frame = av.VideoFrame.from_ndarray(plane, format=pixel_format)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode(None)))
