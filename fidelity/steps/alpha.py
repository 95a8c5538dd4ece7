"""Straight alpha: fills in the colors under transparent pixels, so that enlarging leaves no fringes."""

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.tensors import check_image


def bleed_colors(image: Tensor) -> Tensor:
    """Spreads the visible colors into the transparent area around them.

    Files may store any color, usually black, where alpha is 0. Enlarging mixes it into the visible edge, where it
    shows as a dark fringe. This replaces it with the nearest visible colors, coarser with distance.

    Args:
        image: ``(B, 4, H, W)``, straight alpha last.

    Returns:
        ``(B, 3, H, W)`` colors, unchanged wherever alpha is 1.
    """
    check_image(image, channels=(4,))
    colors, alpha = image[:, :3].float(), image[:, 3:4].float()
    return _fill(colors * alpha, alpha, colors).to(image.dtype)


def _fill(weighted: Tensor, weight: Tensor, colors: Tensor | None) -> Tensor:
    known = weighted / weight.clamp(min=1e-6)
    height, width = weight.shape[2:]
    if max(height, width) == 1:
        return torch.where(weight > 0, known, torch.full_like(known, 0.5))
    coarse = _fill(_halve(weighted), _halve(weight), None)
    guess = functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    if colors is not None:  # visible pixels keep their exact color
        return torch.where(weight > 0, colors, guess)
    trust = (4 * weight).clamp(max=1)
    return known * trust + guess * (1 - trust)


def _halve(image: Tensor) -> Tensor:
    return functional.avg_pool2d(image, 2, ceil_mode=True)


def flatten(image: Tensor, background: Tensor) -> Tensor:
    """Lays an image with alpha on a color, as viewers do: in its own encoding.

    Args:
        image: ``(B, C, H, W)``; returned as it is without alpha.
        background: ``(1, 3, 1, 1)``, in the image's color space.

    Returns:
        ``(B, 3, H, W)``.
    """
    if image.shape[1] < 4:
        return image
    return torch.lerp(background.to(image), image[:, :3], image[:, 3:])
