"""Luma and chroma planes that can be upscaled separately."""

import torch
from torch import Tensor

from ..errors import RefusedError
from .color import YCbCrMatrix, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from .resample import resize
from .tensors import check_image


def split_planes(image: Tensor, matrix: YCbCrMatrix = "bt601") -> tuple[Tensor, Tensor, Tensor]:
    """Splits an image into Y, Cb and Cr, each ``(B, 1, H, W)`` in [0, 1]; alpha is dropped.

    Args:
        image: ``(B, 1, 3 or 4, H, W)``.
        matrix: See `fidelity.imaging.color.rgb_to_ycbcr`.
    """
    check_image(image)
    planes = rgb_to_ycbcr(image[:, :3].expand(-1, 3, -1, -1), matrix)
    return planes[:, 0:1], planes[:, 1:2], planes[:, 2:3]


def merge_planes(luma: Tensor, blue: Tensor, red: Tensor, matrix: YCbCrMatrix = "bt601") -> Tensor:
    """Merges Y, Cb and Cr into RGB; chroma is resized to the luma's size if they differ.

    Args:
        luma: ``(B, C, H, W)``; for a color image, its luma is used.
        blue: Cb, ``(B, C, h, w)``; the first channel is used.
        red: Cr, likewise.
        matrix: The matrix that the planes were split with.

    Returns:
        ``(B, 3, H, W)`` in [0, 1].

    Raises:
        RefusedError: If the batch sizes differ.
    """
    if not luma.shape[0] == blue.shape[0] == red.shape[0]:
        raise RefusedError(
            f"planes have batches of {luma.shape[0]}, {blue.shape[0]} and {red.shape[0]} images; wanted the same size"
        )
    size = (luma.shape[2], luma.shape[3])
    planes = [rgb_to_luma(luma[:, :3], matrix)]
    planes += [resize(plane[:, :1].to(luma), size) for plane in (blue, red)]
    return ycbcr_to_rgb(torch.cat(planes, dim=1), matrix).clamp_(0, 1)
