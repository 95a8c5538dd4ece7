"""Pairs of low-resolution and high-resolution training images, all generated."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fidelity.imaging.resample import resize
from tools.training.generators.drawn import drawing
from tools.training.generators.natural import dead_leaves

Generator = Callable[[int, np.random.Generator, int], NDArray[np.float32]]
"""Makes one ``(channels, side, side)`` image in [0, 1] from its side, a random generator and 1 or 3 channels."""

GENERATORS: dict[str, Generator] = {"natural": dead_leaves, "drawn": drawing}

Pair = tuple[Tensor, Tensor]
"""Low resolution and high resolution, ``(1, C, H, W)`` in [0, 1]; the low resolution is rounded to 8 bits."""

_SIDE_PX = 240  # divisible by 2, 3 and 4


def reduce(high: Tensor, scale: int) -> Tensor:
    """Downscales an image to the network's input: antialiased bicubic, rounded to 8 bits."""
    low = resize(high, (high.shape[2] // scale, high.shape[3] // scale)).clamp(0, 1)
    return (low * 255).round() / 255


@cache
def make_bank(generator: str, scale: int, channels: int, count: int, seed: int) -> list[Pair]:
    """Makes `count` images of 240 px and downscales them.

    Args:
        generator: A name in `GENERATORS`.
        scale: Enlargement factor of the network.
        channels: 1 or 3.
        count: Number of pairs.
        seed: The same seed gives the same images.
    """
    draw = GENERATORS[generator]
    images = (draw(_SIDE_PX, np.random.default_rng((seed, index)), channels) for index in range(count))
    return [(reduce(high, scale), high) for high in (torch.from_numpy(image)[None] for image in images)]


def draw_batch(pairs: list[Pair], scale: int, batch: int, patch_px: int, generator: np.random.Generator) -> Pair:
    """Draws a batch of aligned windows, flipped and rotated at random; `patch_px` is the side of the low-resolution one."""
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    for index in generator.integers(0, len(pairs), batch):
        low, high = pairs[index]
        top, left = generator.integers(0, low.shape[2] - patch_px + 1, 2)
        low = low[..., top : top + patch_px, left : left + patch_px]
        high = high[..., top * scale : (top + patch_px) * scale, left * scale : (left + patch_px) * scale]
        turns, flip = int(generator.integers(4)), bool(generator.integers(2))
        low, high = (torch.rot90(image, turns, (2, 3)) for image in (low, high))
        if flip:
            low, high = low.flip(3), high.flip(3)
        lows.append(low)
        highs.append(high)
    return torch.cat(lows), torch.cat(highs)
