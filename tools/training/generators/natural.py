"""Dead-leaves images: occluding shapes of all sizes, with the scale statistics of natural images.

Sources: Lee, Mumford and Huang, "Occlusion models for natural images", 2001; Achddou, Gousseau and
Ladjal, "Synthetic images as a regularity prior for image restoration neural networks", 2021.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

_SUPERSAMPLE = 2


def dead_leaves(size_px: int, generator: np.random.Generator, channels: int = 1) -> Image:
    """Draws one square dead-leaves image.

    Args:
        size_px: Side of the image in pixels.
        generator: Source of all randomness.
        channels: 1 for luma, 3 for muted colors.

    Returns:
        ``(channels, size_px, size_px)`` float32, sRGB-like, in [0, 1].
    """
    canvas_px = size_px * _SUPERSAMPLE
    canvas = np.repeat(_texture(canvas_px, generator)[None], channels, axis=0)
    smallest = generator.uniform(2, 8)
    count = int(generator.integers(300, 1500))
    # A density of r^-3 between the bounds makes the image statistically the same at every scale.
    uniform = generator.random(count)
    low, high = smallest**-2, (canvas_px / 3) ** -2
    radii = (low + uniform * (high - low)) ** -0.5
    tone_spread = generator.uniform(0.1, 0.35)
    tone_center = generator.uniform(0.2, 0.8)
    texture = _texture(canvas_px, generator)
    for radius in radii:
        _paint_leaf(canvas, texture, float(radius), tone_center, tone_spread, generator)
    if generator.random() < 0.4:
        blur = generator.uniform(0.5, 3.0)
        canvas = np.asarray(ndimage.gaussian_filter(canvas, blur, axes=(1, 2)), np.float32)
        for radius in radii[: count // 4]:  # sharp leaves in front of a blurred background: depth of field
            _paint_leaf(canvas, texture, float(radius), tone_center, tone_spread, generator)
    canvas = canvas * _shading(canvas_px, generator)
    if generator.random() < 0.75:  # no lens resolves an edge one pixel wide
        softness = generator.uniform(0.2, 0.9) * _SUPERSAMPLE
        canvas = np.asarray(ndimage.gaussian_filter(canvas, softness, axes=(1, 2)), np.float32)
    small = canvas.reshape(channels, size_px, _SUPERSAMPLE, size_px, _SUPERSAMPLE).mean(axis=(2, 4))
    small = small + generator.normal(0, generator.uniform(0, 0.004), small.shape)
    return np.clip(small, 0, 1).astype(np.float32)


def _paint_leaf(
    canvas: Image, texture: Image, radius: float, center: float, spread: float, generator: np.random.Generator
) -> None:
    extent = int(np.ceil(radius)) + 1
    channels, side, _ = canvas.shape
    y, x = generator.integers(0, side, 2)
    top, bottom = max(0, y - extent), min(side, y + extent + 1)
    left, right = max(0, x - extent), min(side, x + extent + 1)
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] - y
    columns = np.arange(left, right, dtype=np.float32)[None, :] - x
    inside = _shape_mask(rows, columns, radius, generator)
    tone = np.float32(np.clip(generator.normal(center, spread), 0.02, 0.98))
    if channels > 1:
        tone = tone + generator.normal(0, 0.1, (channels, 1, 1)).astype(np.float32)
    amplitude = np.float32(generator.exponential(0.05)) if generator.random() < 0.7 else np.float32(0)
    shift_y, shift_x = generator.integers(0, side // 2, 2)
    patch = np.roll(texture, (-shift_y, -shift_x), axis=(0, 1)) if amplitude and radius > side / 8 else texture
    grain = (patch[top:bottom, left:right] - np.float32(0.5)) * amplitude * 4
    slope_y, slope_x = generator.normal(0, 0.15 / max(radius, 4), 2).astype(np.float32)
    fill = tone + grain + slope_y * rows + slope_x * columns
    region = canvas[:, top:bottom, left:right]
    np.copyto(region, fill, where=inside)


def _shape_mask(rows: Image, columns: Image, radius: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    kind = generator.random()
    angle = generator.uniform(0, np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = -np.sin(angle) * columns + np.cos(angle) * rows
    if kind < 0.45:
        return along**2 + (across / generator.uniform(0.4, 1.0)) ** 2 < radius**2
    if kind < 0.75:
        return (np.abs(along) < radius * 0.9) & (np.abs(across) < radius * generator.uniform(0.15, 0.7))
    if kind < 0.9:  # a thin stroke of any length: twigs, wires, lettering
        return (np.abs(along) < radius * 0.95) & (np.abs(across) < generator.uniform(0.8, 4.0))
    ripple = 1 + 0.25 * np.sin(np.arctan2(across, along) * generator.integers(3, 9) + angle)
    return along**2 + across**2 < (radius * 0.8 * ripple) ** 2


def _texture(side: int, generator: np.random.Generator) -> Image:
    """Noise with a power-law spectrum, or a grating, in [0, 1] with a mean near one half."""
    if generator.random() < 0.25:
        angle = generator.uniform(0, np.pi)
        period = generator.uniform(5, 40)
        rows, columns = np.mgrid[0:side, 0:side].astype(np.float32)
        wave = np.sin(2 * np.pi * (np.cos(angle) * columns + np.sin(angle) * rows) / period)
        return (0.5 + 0.25 * wave).astype(np.float32)
    exponent = generator.uniform(0.6, 1.6)
    frequency_y = np.fft.fftfreq(side)[:, None]
    frequency_x = np.fft.rfftfreq(side)[None, :]
    magnitude = np.maximum(np.hypot(frequency_y, frequency_x), 1 / side) ** -exponent
    phase = np.exp(2j * np.pi * generator.random(magnitude.shape))
    noise = np.fft.irfft2(magnitude * phase, s=(side, side))
    noise = noise / max(float(noise.std()), 1e-9)
    return np.clip(0.5 + 0.15 * noise, 0, 1).astype(np.float32)


def _shading(side: int, generator: np.random.Generator) -> Image:
    slope_y, slope_x = generator.normal(0, 0.1, 2)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    return (1 + slope_y * ramp[:, None] + slope_x * ramp[None, :]).astype(np.float32)
