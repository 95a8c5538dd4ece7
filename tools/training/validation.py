"""Held-out images for choosing between training methods.

Set5 is reserved for the final measurement, since choosing a method on it would bias the result.
"""

from functools import cache

import numpy as np
import torch
from skimage import data
from torch import Tensor, nn

from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from tools.training.data import GENERATORS, reduce

_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")
_SIDE_PX = 240
_HELD_OUT_SEED = 990_000
"""Never used for a training bank."""


@cache
def photographs() -> list[Tensor]:
    """The center crops of five photographs that come with scikit-image, ``(1, 3, 240, 240)``."""
    images: list[Tensor] = []
    for name in _PHOTOGRAPHS:
        image = np.atleast_3d(getattr(data, name)())
        top, left = (image.shape[0] - _SIDE_PX) // 2, (image.shape[1] - _SIDE_PX) // 2
        middle = image[top : top + _SIDE_PX, left : left + _SIDE_PX]
        images.append(torch.from_numpy(middle.copy()).permute(2, 0, 1)[None].float().div(255).expand(-1, 3, -1, -1))
    return images


@cache
def held_out(generator: str, count: int = 24) -> list[Tensor]:
    """Generated gray images with seeds that no bank uses, ``(1, 3, 240, 240)``."""
    draw = GENERATORS[generator]
    images = (draw(_SIDE_PX, np.random.default_rng((_HELD_OUT_SEED, index)), 1) for index in range(count))
    return [torch.from_numpy(image)[None].expand(-1, 3, -1, -1) for image in images]


def luma_psnr(network: nn.Module | None, images: list[Tensor], scale: int, channels: int = 1) -> float:
    """Mean PSNR-Y in dB of a network with `channels` input and output channels, or of bicubic resampling if it is None."""
    figures: list[float] = []
    for image in images:
        truth = rgb_to_luma(image) if channels == 1 else image
        low = reduce(truth, scale)
        with torch.inference_mode():
            large = network(low) if network else resize(low, (truth.shape[2], truth.shape[3]))
        figures.append(psnr(truth, (large.clamp(0, 1) * 255).round() / 255, luma=True, crop_px=scale))
    return float(np.mean(figures))
