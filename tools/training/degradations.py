"""Random damage as found in real pictures: blur, resizing, noise, compression, jagged edges, halos and paper texture.

Each image goes through one or two rounds of damage, from none to heavy. The ranges are those of Real-ESRGAN (Wang et al.,
2021), BSRGAN (Zhang et al., 2021) and, for drawings, APISR (Wang et al., 2024). Images are ``(H, W, 3)`` float32 in [0, 1],
sRGB-encoded.
"""

import io
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.float32]
Size = tuple[int, int]
"""(height, width) in px."""

CLEAN_SHARE = 0.1
"""Share of images that are only downscaled, with an antialiased bicubic filter."""
LIGHTER = 1.4
"""Exponent on the severity of the damage: above 1, light damage is more frequent than heavy damage."""
TWO_ROUNDS_SHARE = 0.5
"""Share of damaged images that go through a second, lighter round: saved, edited, saved again."""
JAGGED_SHARE = 0.1
"""Share of damaged images that are resized by dropping or repeating pixels."""
NIGHT_SHARE = 0.06
"""Share of damaged photographs with the noise of night shots, and of denoising benchmarks: up to 55/255."""


def degrade(high: Pixels, size: Size, draw: np.random.Generator, drawn: bool) -> Pixels:
    """Downscales an image to a size and damages it along the way.

    Args:
        high: ``(H, W, 3)``, clean.
        size: (height, width) of the result; no larger than `high`.
        draw: Source of all randomness.
        drawn: Whether the image is a drawing: adds video codecs, sharpening halos and paper texture, and omits the
            highest levels of sensor noise.

    Returns:
        ``(*size, 3)`` in [0, 1], rounded to 8 bits.
    """
    if draw.random() < CLEAN_SHARE:
        return _to_8_bits(_resize(high, size, "bicubic"))
    severity = 0.03 + 0.97 * draw.random() ** LIGHTER
    image = high
    two_rounds = draw.random() < TWO_ROUNDS_SHARE
    if draw.random() < (0.8 if two_rounds else 0.7):
        image = _blur(image, draw, 0.2 + 2.8 * severity)
    if two_rounds:
        factor = (size[0] / high.shape[0]) ** draw.uniform(0, 1) * _random_factor(draw, severity, 0.15, 1.5)
        between = _scaled_size(image, max(factor, 16 / min(image.shape[:2])))
        image = _resize(image, between, str(draw.choice(_REDUCERS)))
        image = _add_noise(image, draw, severity * (20 if drawn else 30))
        image = _compress(image, draw, severity, drawn)
        if draw.random() < 0.5:
            image = _blur(image, draw, 0.2 + 1.3 * severity)
    image = _alias(image, size, draw) if draw.random() < JAGGED_SHARE else _resize(image, size, str(draw.choice(_REDUCERS)))
    if draw.random() < 0.12:  # resized once more, as messaging apps do
        between = _scaled_size(image, _random_factor(draw, severity, 0.3, 1.2))
        image = _resize(_resize(image, between, "linear"), size, "bicubic")
    for change in draw.permutation(("noise", "sharpen", "sinc")):
        image = _change(str(change), image, draw, severity, drawn)
    if draw.random() < 0.85:
        image = _compress(image, draw, severity, drawn)
    return _to_8_bits(image)


def degrade_enlarged(high: Pixels, size: Size, draw: np.random.Generator, drawn: bool) -> Pixels:
    """Damages an image at a smaller size and then enlarges it, as many pictures were that are passed around; see `degrade`."""
    smaller = draw.uniform(1.2, 3.2)
    image = degrade(high, (max(24, round(size[0] / smaller)), max(24, round(size[1] / smaller))), draw, drawn)
    severity = draw.random()
    if draw.random() < 0.3:
        image = _add_noise(image, draw, 15 if drawn else 30)
    image = _resize(image, size, str(draw.choice(("nearest", "linear", "bicubic", "bicubic", "aliased"))))
    if draw.random() < 0.3:
        image = _sharpen(image, draw)
    if draw.random() < 0.3:
        image = _add_noise(image, draw, 15 * severity)
    return _to_8_bits(_compress(image, draw, severity, drawn) if draw.random() < 0.7 else image)


_REDUCERS = ("area", "area", "linear", "bicubic", "bicubic", "aliased")


def _change(name: str, image: Pixels, draw: np.random.Generator, severity: float, drawn: bool) -> Pixels:
    """Applies one kind of damage to an image of the final size, each with its own probability."""
    if name == "noise":
        if draw.random() < NIGHT_SHARE and not drawn:
            return _add_noise(image, draw, 55)
        return _add_noise(image, draw, severity * (15 if drawn else 25)) if draw.random() < 0.7 else image
    if name == "sharpen":
        return _sharpen(image, draw) if draw.random() < (0.2 if drawn else 0.1) else image
    return _filter(image, _sinc_kernel(draw)) if draw.random() < 0.1 else image


def _random_factor(draw: np.random.Generator, severity: float, low: float, high: float) -> float:
    """A random scale factor: down, up or 1; the heavier the damage, the further from 1."""
    way = draw.random()
    if way < 0.5:
        return 1 - (1 - low) * severity * draw.random()
    return 1 + (high - 1) * severity * draw.random() if way < 0.75 else 1.0


def _scaled_size(image: Pixels, factor: float) -> Size:
    return max(8, round(image.shape[0] * factor)), max(8, round(image.shape[1] * factor))


def _resize(image: Pixels, size: Size, filter_name: str) -> Pixels:
    """Resizes about the center; "aliased" is bicubic without antialiasing, as in careless programs."""
    if size == image.shape[:2]:
        return image
    height, width = size
    if filter_name == "area" and height <= image.shape[0]:
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    if filter_name in ("aliased", "area"):
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    if filter_name == "nearest":
        return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.float32)
    method = Image.Resampling.BILINEAR if filter_name == "linear" else Image.Resampling.BICUBIC
    planes = [Image.fromarray(image[..., channel]).resize((width, height), method) for channel in range(3)]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], axis=2)


def _alias(image: Pixels, size: Size, draw: np.random.Generator) -> Pixels:
    """Makes jagged edges: drops pixels, or downscales too far and then repeats pixels."""
    if draw.random() < 0.5:
        return _resize(image, size, "nearest")
    small = tuple(max(8, round(side / draw.uniform(1.1, 2.2))) for side in size)
    return _resize(_resize(image, (small[0], small[1]), str(draw.choice(_REDUCERS))), size, "nearest")


# Blur


def _blur(image: Pixels, draw: np.random.Generator, sigma_max: float) -> Pixels:
    return _filter(image, _sinc_kernel(draw) if draw.random() < 0.1 else _gaussian_kernel(draw, sigma_max))


def _filter(image: Pixels, kernel: Pixels) -> Pixels:
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)


def _gaussian_kernel(draw: np.random.Generator, sigma_max: float) -> Pixels:
    """A Gaussian, isotropic or not, in its plain, generalized or plateau form (Real-ESRGAN's five kernels)."""
    first = draw.uniform(0.2, sigma_max)
    second = draw.uniform(0.2, sigma_max) if draw.random() < 0.4 else first
    radius = min(10, max(3, math.ceil(3 * max(first, second))))
    angle = draw.uniform(0, math.pi)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    along = math.cos(angle) * columns + math.sin(angle) * rows
    across = -math.sin(angle) * columns + math.cos(angle) * rows
    distance = (along / first) ** 2 + (across / second) ** 2
    form = draw.random()
    if form < 0.7:
        kernel = np.exp(-0.5 * distance)
    elif form < 0.85:
        kernel = np.exp(-0.5 * distance ** draw.uniform(0.5, 4))
    else:
        kernel = 1 / (1 + distance ** draw.uniform(1, 2))
    return np.asarray(kernel / kernel.sum(), np.float32)


def _sinc_kernel(draw: np.random.Generator) -> Pixels:
    """A separable ideal low-pass; it rings, as overshooting resizers and codecs do."""
    radius, cutoff = int(draw.integers(3, 11)), draw.uniform(math.pi / 3, math.pi)
    steps = np.arange(-radius, radius + 1)
    line = np.sinc(steps * cutoff / math.pi) * cutoff / math.pi
    kernel = np.outer(line, line)
    return np.asarray(kernel / kernel.sum(), np.float32)


# Noise, halos and paper


def _add_noise(image: Pixels, draw: np.random.Generator, level_max: float) -> Pixels:
    """Adds Gaussian, Poisson or speckle noise of up to `level_max`, in 1/255; in 40 % of cases it is gray."""
    kind, gray = draw.random(), draw.random() < 0.4
    level = draw.uniform(0, level_max) / 255
    shape = (*image.shape[:2], 1) if gray else image.shape
    noise = draw.standard_normal(shape, np.float32) * np.float32(level)
    if kind < 0.2:  # shot noise: the deviation grows with the square root of the light; the Poisson limit for many photons
        noise = noise * np.sqrt(np.maximum(image, 0)) * np.float32(1.5)
    elif kind < 0.3:
        noise = noise * image * np.float32(2)
    if draw.random() < 0.15:  # demosaicked and denoised by a camera: grain larger than a pixel
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), draw.uniform(0.4, 0.9)), np.float32).reshape(noise.shape) * 2
    if draw.random() < 0.25:
        noise = noise + _coarse_noise(draw, image, level)
    return _clip(image + noise)


def _coarse_noise(draw: np.random.Generator, image: Pixels, level: float) -> Pixels:
    """Noise of several pixels' size, as demosaicking, reduced chroma and a camera's own denoising leave it; mostly in color."""
    reduced = draw.uniform(2, 6)
    height, width, channels = image.shape
    size = max(2, round(width / reduced)), max(2, round(height / reduced))
    small = draw.standard_normal((size[1], size[0], channels), np.float32)
    if channels == 3 and draw.random() < 0.7:
        small -= small.mean(axis=2, keepdims=True)
    enlarged = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    return enlarged.reshape(image.shape) * np.float32(level * draw.uniform(0.15, 0.6))


def _sharpen(image: Pixels, draw: np.random.Generator) -> Pixels:
    """Applies unsharp masking, sometimes strong enough to leave halos."""
    soft = np.asarray(cv2.GaussianBlur(image, (0, 0), draw.uniform(0.6, 2.5)), np.float32)
    return _clip(image + np.float32(draw.uniform(0.2, 1.6)) * (image - soft))


def _paper(image: Pixels, draw: np.random.Generator) -> Pixels:
    """Adds the texture of scanned paper: fibers a pixel or two wide."""
    height, width = image.shape[:2]
    fibers = np.asarray(cv2.GaussianBlur(draw.standard_normal((height, width), np.float32), (0, 0), draw.uniform(0.5, 1.5)))
    return _clip(image * (1 + np.float32(draw.uniform(0, 0.06)) * fibers[..., None]))


# Compression


def _compress(image: Pixels, draw: np.random.Generator, severity: float, drawn: bool) -> Pixels:
    """Compresses, mostly as JPEG, sometimes as WebP, AVIF or, for drawings, a video frame; 15 % stay uncompressed."""
    if drawn and draw.random() < 0.1:
        image = _paper(image, draw)
    if draw.random() < 0.15:
        return image
    quality = round(95 - (95 - 30) * severity * draw.uniform(0.2, 1))
    codecs: Sequence[tuple[float, Callable[[], Pixels]]] = (
        (0.80, lambda: _through_pillow(image, "JPEG", quality=quality, subsampling=int(draw.choice((0, 2, 2))))),
        (0.88, lambda: _through_pillow(image, "WEBP", quality=max(10, quality - 10), method=2)),
        (0.90, lambda: _through_pillow(image, "AVIF", quality=max(15, quality - 15), speed=9)),
        (1.00, lambda: _through_video(image, draw, round(23 + 19 * severity * draw.random()))),
    )
    chosen = draw.uniform(0, 1.0 if drawn else 0.9)
    return next(run for limit, run in codecs if chosen <= limit)()


def _through_pillow(image: Pixels, format_name: str, **options: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)).save(buffer, format_name, **options)
    return np.asarray(Image.open(buffer).convert("RGB"), np.float32) / np.float32(255)


def _through_video(image: Pixels, draw: np.random.Generator, crf: int) -> Pixels:
    """Encodes one frame as H.264 or H.265 in 4:2:0 at a constant rate factor, cropped to the even size that codecs require."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    encoder_name, decoder_name = ("libx264", "h264") if draw.random() < 0.7 else ("libx265", "hevc")
    encoder, decoder = av.CodecContext.create(encoder_name, "w"), av.CodecContext.create(decoder_name, "r")
    assert isinstance(encoder, av.VideoCodecContext) and isinstance(decoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuv420p", Fraction(1, 24)
    quiet = {"x265-params": "log-level=none"} if encoder_name == "libx265" else {}
    encoder.options = {"crf": str(crf), "preset": "veryfast", **quiet}
    frame = av.VideoFrame.from_ndarray((np.clip(image, 0, 1)[:height, :width] * 255 + 0.5).astype(np.uint8), "rgb24")
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    frames = [picture for packet in (*packets, None) for picture in decoder.decode(packet)]
    decoded = frames[0].to_ndarray(format="rgb24")
    result = image.copy()
    result[:height, :width] = decoded.astype(np.float32) / 255
    return result


def _clip(image: NDArray[Any]) -> Pixels:
    return np.clip(image, 0, 1, dtype=np.float32)


def _to_8_bits(image: Pixels) -> Pixels:
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255) / 255, np.float32)
