"""Mild local filters on luma, for what networks amplify: ringing, jagged lines, softness.

They work in bands of rows with enough rows around, so memory in use does not grow with the image.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.bands import BAND_BYTES, check_finite, check_image, iterate_bands_around
from ..imaging.color import rgb_to_luma
from ..imaging.filters import gaussian_blur, local_range
from ..progress import Progress

CleanupMethod = Literal["bilateral", "median", "unsharp"]
"""bilateral: evens out what wavers by little, and leaves edges; median: takes the steps out of jagged lines;
unsharp: steepens edges, without halos."""

BILATERAL_RADIUS_PX = 2
BILATERAL_SIGMA_PX = 1.2
BILATERAL_RANGE = 6 / 255
"""How different neighbours may be and still be averaged; about the height of the rings that networks draw."""
UNSHARP_SIGMA_PX = 1.0
UNSHARP_AMOUNT = 0.5
UNSHARP_THRESHOLD = 2 / 255
"""Detail below this is left as it is: it is grain more often than not."""

CLEANUP_REACH_PX = 4
"""Rows and columns around a sample that any of the filters looks at."""
_LIVE_PLANES = 30  # float32 planes of luma that the bilateral filter keeps while it works


def clean(
    image: Tensor, method: CleanupMethod, strength: float = 1.0, noise_sigma: float = 0.0, progress: Progress | None = None
) -> Tensor:
    """Cleans the luma of an image; colour differences and alpha stay as they are.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        method: See `CleanupMethod`.
        strength: 0 for nothing, 1 for the whole effect.
        noise_sigma: Standard deviation of noise in luma, in steps of 8 bits; the bilateral filter evens out that much too.
        progress: Called with (rows done, rows in all).

    Returns:
        The cleaned image in [0, 1]; shape, dtype, device and memory format are kept.

    Raises:
        ValueError: If the image is not finite, the method is unknown, or the strength lies outside [0, 1].
    """
    check_image(image)
    check_finite(image)
    value_range = max(BILATERAL_RANGE, 2 * noise_sigma / 255)
    filters: dict[str, Callable[[Tensor], Tensor]] = {
        "bilateral": lambda plane: bilateral_filter(plane, value_range=value_range),
        "median": median_filter,
        "unsharp": unsharp_mask,
    }
    if method not in filters:
        raise ValueError(f"method is {method!r}; wanted {', '.join(filters)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; wanted 0 to 1")
    output = image.clone()
    height, width = image.shape[2:]
    for index in range(image.shape[0]):
        colors = image[index : index + 1, :3]
        row_bytes = width * 4 * _LIVE_PLANES
        for rows, wide, inner in iterate_bands_around(height, row_bytes, CLEANUP_REACH_PX, 8 * BAND_BYTES):
            around = colors[:, :, wide].float()
            luma = around if around.shape[1] == 1 else rgb_to_luma(around)
            change = (filters[method](luma) - luma)[:, :, inner] * strength
            band = output[index : index + 1, :3, rows]
            band.copy_((band.float() + change).clamp_(0, 1))
            if progress:
                progress(index * height + rows.stop, image.shape[0] * height)
    return output


def bilateral_filter(
    plane: Tensor,
    radius_px: int = BILATERAL_RADIUS_PX,
    sigma_px: float = BILATERAL_SIGMA_PX,
    value_range: float = BILATERAL_RANGE,
) -> Tensor:
    """The mean of the neighbourhood, weighed by distance and by likeness; the border is mirrored.

    Source: Tomasi and Manduchi, "Bilateral filtering for gray and color images", 1998.

    Args:
        plane: ``(B, 1, H, W)``.
        radius_px: Of the square window.
        sigma_px: Of the Gaussian over distance.
        value_range: Sigma of the Gaussian over differences in value, in the plane's own unit.
    """
    height, width = plane.shape[2:]
    padded = _mirror(plane, radius_px)
    total, weights = plane.clone(), torch.ones_like(plane)
    for y in range(-radius_px, radius_px + 1):
        for x in range(-radius_px, radius_px + 1):
            if x == y == 0:
                continue
            other = padded[..., radius_px + y : radius_px + y + height, radius_px + x : radius_px + x + width]
            distance = (y * y + x * x) / (2 * sigma_px * sigma_px)
            weight = (other - plane).square_().div_(-2 * value_range * value_range).sub_(distance).exp_()
            total.addcmul_(weight, other)
            weights.add_(weight)
    return total.div_(weights)


def median_filter(plane: Tensor) -> Tensor:
    """The median of 3 x 3, exact; the border is mirrored.

    Source of the exchanges: Smith, "Implementing median filters in XC4000E FPGAs", 1996.

    Args:
        plane: ``(B, C, H, W)``.
    """
    height, width = plane.shape[2:]
    padded = _mirror(plane, 1)
    columns = [[padded[..., y : y + height, x : x + width] for y in range(3)] for x in range(3)]
    ordered = [_sort_three(*column) for column in columns]
    largest_low = torch.maximum(torch.maximum(ordered[0][0], ordered[1][0]), ordered[2][0])
    smallest_high = torch.minimum(torch.minimum(ordered[0][2], ordered[1][2]), ordered[2][2])
    middle = _sort_three(ordered[0][1], ordered[1][1], ordered[2][1])[1]
    return _sort_three(largest_low, middle, smallest_high)[1]


def unsharp_mask(
    plane: Tensor,
    sigma_px: float = UNSHARP_SIGMA_PX,
    amount: float = UNSHARP_AMOUNT,
    threshold: float = UNSHARP_THRESHOLD,
) -> Tensor:
    """Adds back what a blur takes away, within the range that the neighbourhood has, so that no halo is drawn.

    Args:
        plane: ``(B, 1, H, W)``.
        sigma_px: Of the blur.
        amount: Share of the detail that is added.
        threshold: Detail below it is left alone, in the plane's own unit.
    """
    detail = plane - gaussian_blur(plane, sigma_px)
    detail = detail.sign() * (detail.abs() - threshold).clamp_(min=0)
    lowest, highest = local_range(plane, 3)
    return torch.minimum(torch.maximum(plane + amount * detail, lowest), highest)


def _sort_three(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    return torch.minimum(low, third), torch.maximum(low, torch.minimum(high, third)), torch.maximum(high, third)


def _mirror(plane: Tensor, radius_px: int) -> Tensor:
    """Mirrored without repeating the border where the plane is large enough for that, else the border repeated."""
    mode = "reflect" if min(plane.shape[2:]) > radius_px else "replicate"
    return functional.pad(plane, (radius_px,) * 4, mode=mode)
