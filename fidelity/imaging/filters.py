"""Local filters."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from .resample import apply_separable, gaussian_weights
from .tensors import check_image


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blurs with a Gaussian; the image is mirrored at its border.

    Args:
        image: ``(B, C, H, W)``, any number of channels.
        sigma_px: Standard deviation in pixels; 0 returns a copy.

    Raises:
        RefusedError: If sigma is negative.
    """
    if sigma_px < 0:
        raise RefusedError(f"sigma is {sigma_px} px; wanted 0 or more")
    check_image(image, channels=tuple(range(1, 65)))
    if sigma_px == 0:
        return image.clone()
    height, width = image.shape[2:]
    return apply_separable(image, gaussian_weights(height, sigma_px), gaussian_weights(width, sigma_px))


def dct_matrix(size: int) -> Tensor:
    """Returns the orthonormal DCT-II matrix, ``(size, size)``, frequencies first, in float32."""
    place = torch.arange(size, dtype=torch.float32)
    matrix = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / (2 * size)) * (2 / size) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


def box_mean(image: Tensor, size_px: int) -> Tensor:
    """Returns the mean over a square of odd side `size_px`, with border pixels repeated; same shape."""
    radius = size_px // 2
    padded = functional.pad(image, (radius, radius, radius, radius), mode="replicate")
    return functional.avg_pool2d(padded, size_px, stride=1)


def local_range(image: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Returns the minimum and the maximum over a square of odd side `size_px` around every sample; same shapes."""
    return -_local_maximum(-image, size_px), _local_maximum(image, size_px)


def _local_maximum(image: Tensor, size_px: int) -> Tensor:
    for axis in (2, 3):
        image = _running_maximum(image, size_px, axis)
    return image


def _running_maximum(image: Tensor, size_px: int, axis: int) -> Tensor:
    """The maximum over a window along one axis: windows of doubling length, as few comparisons as possible."""
    length, radius = image.shape[axis], size_px // 2
    pads = [0, 0, 0, 0]
    pads[6 - 2 * axis] = pads[7 - 2 * axis] = radius
    wide, reached = functional.pad(image, pads, value=-math.inf), 1
    while reached < size_px:
        step = min(reached, size_px - reached)
        count = wide.shape[axis] - step
        wide, reached = torch.maximum(wide.narrow(axis, 0, count), wide.narrow(axis, step, count)), reached + step
    return wide.narrow(axis, 0, length)


def wavelet_low(planes: Tensor, levels: int) -> Tensor:
    """The low band that remains after some levels of detail are removed ("a trous" wavelets with a cubic spline).

    Args:
        planes: ``(B, C, H, W)``, of any range.
        levels: Number of levels; each doubles the reach, which begins with 2 px.

    Source: Starck and Murtagh, "Astronomical image and data analysis", 2006, chapter 2.
    """
    count = planes.shape[1]
    spline = planes.new_tensor([1, 4, 6, 4, 1]) / 16
    for level in range(levels):
        dilation = 2**level
        reach = 2 * dilation
        for axis in (2, 3):
            shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
            pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
            step = (dilation, 1) if axis == 2 else (1, dilation)
            kernel = spline.reshape(shape).expand(count, -1, -1, -1)
            padded = functional.pad(planes, pad, mode="replicate")
            planes = functional.conv2d(padded, kernel, dilation=step, groups=count)
    return planes
