"""Generated images from which a library learns the range of a network's values, for INT8."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..imaging.color import rgb_to_luma

IMAGES = 12
_SIDE_PX = 96
_SUPERSAMPLE = 2
_LEAVES = 160
_RADIUS_PX, _RADIUS_POWER = 3.0, -0.7
_GRAIN = 0.0, 0.02, 0.05
_LIGHT = 0.3
_NOISE = 0.02


def calibration_images(channels: int, count: int = IMAGES) -> list[Tensor]:
    """Draws images like pictures in what a network sees of them: edges, flat places, gradients, grain and noise.

    They are dead leaves: overlapping disks whose radii follow a power law, as the sizes of objects in photographs do (Lee,
    Mumford and Huang, Occlusion Models for Natural Images, 2001), under a ramp of light.

    Args:
        channels: 1 for luma, 3 for RGB.
        count: How many to draw.

    Returns:
        Images ``(1, channels, H, W)`` in [0, 1]; always the same ones.
    """
    generator = np.random.default_rng(0)
    images = [_leaves(generator) for _ in range(count)]
    return images if channels == 3 else [rgb_to_luma(image) for image in images]


def _leaves(generator: np.random.Generator) -> Tensor:
    side = _SIDE_PX * _SUPERSAMPLE
    positions = np.arange(side)
    canvas = np.tile(generator.random((3, 1, 1), np.float32), (1, side, side))
    for _ in range(_LEAVES):
        y, x, share = generator.random(3)
        radius = min(side / 3, _RADIUS_PX * max(share, 1e-3) ** _RADIUS_POWER)
        rows, columns = (positions[abs(positions - center * side) < radius] for center in (y, x))
        inside = (rows[:, None] - y * side) ** 2 + (columns - x * side) ** 2 < radius**2
        leaf = generator.random((3, 1, 1), np.float32)
        leaf = leaf + generator.choice(_GRAIN) * generator.standard_normal(inside.shape, np.float32)
        box = np.ix_(np.arange(3), rows, columns)
        canvas[box] = np.where(inside, leaf, canvas[box])
    image = avg_pool2d(torch.from_numpy(canvas).clamp(0, 1)[None], _SUPERSAMPLE).numpy()
    light = np.linspace(-_LIGHT, _LIGHT, _SIDE_PX, dtype=np.float32)
    down, right, noise = generator.random(3, np.float32)
    image = image + down * light[:, None] + right * light + noise * _NOISE * generator.standard_normal(image.shape, np.float32)
    return torch.from_numpy(image).clamp(0, 1)
