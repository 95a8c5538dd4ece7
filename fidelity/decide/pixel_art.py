"""Recognizes pixel art: pictures of few colors without gradients, whose pixels are meant to be seen."""

from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

_MOST_COLORS = 64
_FEWEST_COLORS = 3
"""Fewer are a scan or a mask."""
_LOOK_PX = 256
"""A part of this size is looked at first, which spares large pictures the rest."""
_LARGEST_PX = 2048
"""Of larger pictures, the upper left part decides."""
_LARGEST_SPRITE_PX = 512
"""Of pixel art that has not been enlarged before."""
_LEAST_DISTANCE = 8.0
"""Shades of a drawing in few colors are closer together than those of a palette."""
_LEAST_EQUAL = 0.4
"""Share of neighbors of one color; dithered photographs have fewer."""
_LEAST_STEP = 10.0
"""Median difference between neighbors of different colors, in 8-bit levels; gradients have smaller ones."""
_LEAST_SIDE_PX = 8


@dataclass(frozen=True)
class PixelArt:
    """What was recognized."""

    colors: int
    """Number of colors."""
    block_px: int
    """Side of the blocks of equal pixels that it consists of; 1 if it has not been enlarged before."""

    def __str__(self) -> str:
        blocks = f", each pixel a block of {self.block_px}x{self.block_px}" if self.block_px > 1 else ""
        return f"pixel art of {self.colors} colors{blocks}"


def find_pixel_art(image: Tensor) -> PixelArt | None:
    """Recognizes pixel art.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1]; transparent pixels count as one color.

    Returns:
        What was found; None for every other picture, and for pixel art that was compressed or resized smoothly.
    """
    height, width = image.shape[2:]
    if min(height, width) < _LEAST_SIDE_PX or count_colors(image) > _MOST_COLORS:
        return None
    image = image[:, :, :_LARGEST_PX, :_LARGEST_PX]
    codes = _codes(image)
    palette = codes.unique()
    if not _FEWEST_COLORS <= len(palette) <= _MOST_COLORS or _nearest_distance(palette) < _LEAST_DISTANCE:
        return None
    levels = (image[0, :3].float() * 255).round()
    block = 0
    for axis in (0, 1):
        changes = codes.diff(dim=axis) != 0
        if 1 - changes.float().mean() < _LEAST_EQUAL:
            return None
        steps = levels.diff(dim=axis + 1).abs().amax(dim=0)[changes]
        if len(steps) and steps.median() < _LEAST_STEP:
            return None
        for place in changes.any(dim=1 - axis).nonzero().flatten().tolist():
            block = gcd(block, place + 1)
    is_screenshot = block <= 1 and max(height, width) > _LARGEST_SPRITE_PX  # or a chart
    return None if is_screenshot else PixelArt(len(palette), max(1, block))


def count_colors(image: Tensor) -> int:
    """Number of colors in the middle of an image, ``(1, 1, 3 or 4, H, W)``."""
    top, left = (max(0, (side - _LOOK_PX) // 2) for side in image.shape[2:])
    return len(_codes(image[:, :, top : top + _LOOK_PX, left : left + _LOOK_PX]).unique())


def _codes(image: Tensor) -> Tensor:
    """One integer for each color, ``(H, W)``."""
    levels = (image[0].float().clamp(0, 1) * 255).round().int()
    whole = levels[0]
    for channel in levels[1:3]:
        whole = 256 * whole + channel
    return torch.where(levels[3] < 128, -1, whole) if len(levels) == 4 else whole


def _nearest_distance(palette: Tensor) -> float:
    """Median distance of a color from its nearest other, in the channel where they differ most."""
    channels = torch.stack((palette >> 16, (palette >> 8) & 255, palette & 255)).float()
    apart = (channels[:, :, None] - channels[:, None]).abs().amax(dim=0)
    return float(apart.fill_diagonal_(256).amin(dim=1).median())
