"""Edge-preserving filters and sharpening, each as its paper has it; borders are mirrored unless said otherwise.

ComfyUI has kornia, whose filters unfold every window into memory (a 5 x 5 bilateral filter of an 8K image asks for tens of
gigabytes). These keep a few planes (a large median one for each place of its window) and are as exact;
`tools.benchmarks.filters` prints both.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .filters import box_mean, gaussian_blur, local_range


def bilateral_filter(plane: Tensor, radius_px: int, sigma_px: float, value_range: float, guide: Tensor | None = None) -> Tensor:
    """The mean of the neighbourhood, weighed by distance and by likeness in the plane itself or in a guide.

    Sources: Tomasi and Manduchi, "Bilateral filtering for gray and color images", 1998; with a guide, Petschnigg et al.,
    "Digital photography with flash and no-flash image pairs", 2004.

    Args:
        plane: ``(B, C, H, W)``.
        radius_px: Of the square window.
        sigma_px: Of the Gaussian over distance.
        value_range: Sigma of the Gaussian over differences (the root mean square of all channels), in the guide's own unit.
        guide: ``(B, G, H, W)`` whose likeness counts; the plane itself if not given.
    """
    height, width = plane.shape[2:]
    guide = plane if guide is None else guide
    padded, padded_guide = mirror(plane, radius_px), mirror(guide, radius_px)
    total, weights = plane.clone(), torch.ones_like(plane[:, :1])
    scale = -1 / (2 * value_range * value_range * guide.shape[1])
    for y in range(-radius_px, radius_px + 1):
        for x in range(-radius_px, radius_px + 1):
            if x == y == 0:
                continue
            rows, columns = slice(radius_px + y, radius_px + y + height), slice(radius_px + x, radius_px + x + width)
            distance = (y * y + x * x) / (2 * sigma_px * sigma_px)
            weight = (padded_guide[..., rows, columns] - guide).square_()
            weight = weight if guide.shape[1] == 1 else weight.sum(dim=1, keepdim=True)
            weight.mul_(scale).sub_(distance).exp_()
            total.addcmul_(weight, padded[..., rows, columns])
            weights.add_(weight)
    return total.div_(weights)


def guided_filter(plane: Tensor, radius_px: int, epsilon: float, guide: Tensor | None = None) -> Tensor:
    """In every window the guide, scaled and shifted to fit the plane; smooth where the guide is.

    Source: He, Sun and Tang, "Guided image filtering", 2010, with a guide of one channel. The border is repeated.

    Args:
        plane: ``(B, C, H, W)``.
        radius_px: Of the square windows; the filter looks twice as far.
        epsilon: Variance of the guide above which it is followed, in its own unit squared.
        guide: ``(B, 1, H, W)`` or of as many channels as the plane; the plane itself if not given.
    """
    guide = plane if guide is None else guide
    size = 2 * radius_px + 1
    guide_mean, plane_mean = box_mean(guide, size), box_mean(plane, size)
    covariance = box_mean(guide * plane, size) - guide_mean * plane_mean
    variance = box_mean(guide * guide, size) - guide_mean * guide_mean
    slope = covariance / (variance.clamp(min=0) + epsilon)
    offset = plane_mean - slope * guide_mean
    return box_mean(slope, size) * guide + box_mean(offset, size)


def median_filter(plane: Tensor, radius_px: int = 1) -> Tensor:
    """The median of a square window, exact.

    Source of the exchanges for 3 x 3: Smith, "Implementing median filters in XC4000E FPGAs", 1996.

    Args:
        plane: ``(B, C, H, W)``.
        radius_px: 1 for 3 x 3, 2 for 5 x 5 and so on.
    """
    height, width = plane.shape[2:]
    side = 2 * radius_px + 1
    padded = mirror(plane, radius_px)
    if radius_px != 1:
        windows = [padded[..., y : y + height, x : x + width] for y in range(side) for x in range(side)]
        return torch.stack(windows).median(dim=0).values
    columns = [[padded[..., y : y + height, x : x + width] for y in range(side)] for x in range(side)]
    ordered = [_sort_three(*column) for column in columns]
    largest_low = torch.maximum(torch.maximum(ordered[0][0], ordered[1][0]), ordered[2][0])
    smallest_high = torch.minimum(torch.minimum(ordered[0][2], ordered[1][2]), ordered[2][2])
    middle = _sort_three(ordered[0][1], ordered[1][1], ordered[2][1])[1]
    return _sort_three(largest_low, middle, smallest_high)[1]


def unsharp_mask(plane: Tensor, sigma_px: float, amount: float, threshold: float, halo: float = 0.0) -> Tensor:
    """Adds back what a blur takes away, within the range that the neighbourhood has and a limit beyond it.

    Args:
        plane: ``(B, C, H, W)``.
        sigma_px: Of the blur.
        amount: Share of the detail that is added.
        threshold: Detail below it is left alone, in the plane's own unit.
        halo: How far beyond the lightest and darkest of 3 x 3 neighbours the result may go; 0 draws no halo at all.
    """
    detail = plane - gaussian_blur(plane, sigma_px)
    detail = detail.sign() * (detail.abs() - threshold).clamp_(min=0)
    lowest, highest = local_range(plane, 3)
    return torch.minimum(torch.maximum(plane + amount * detail, lowest - halo), highest + halo)


def smooth_along_edges(plane: Tensor, sigma_px: float) -> Tensor:
    """Averages along the direction in which an edge runs, never across it: stairs become slopes, and edges stay steep.

    The direction is that of the least change in the structure tensor. Source of the idea: Cabral and Leedom, "Imaging vector
    fields using line integral convolution", 1993.

    Args:
        plane: ``(B, 1, H, W)``.
        sigma_px: Of the Gaussian along the edge.
    """
    height, width = plane.shape[2:]
    padded = mirror(plane, 1)
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    tensor = gaussian_blur(torch.cat((down * down, across * across, down * across), dim=1), TENSOR_SIGMA_PX)
    first, second, mixed = tensor.split(1, dim=1)
    spread = ((first - second).square() + 4 * mixed.square()).sqrt()
    coherence = spread / (first + second).clamp(min=1e-8)
    # The angle of the strongest change; the edge runs at right angles to it.
    angle = 0.5 * torch.atan2(2 * mixed, second - first)
    step_x, step_y = -angle.sin()[:, 0], angle.cos()[:, 0]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=plane.dtype, device=plane.device),
        torch.arange(width, dtype=plane.dtype, device=plane.device),
        indexing="ij",
    )
    total, weights = plane.clone(), 1.0
    for distance in range(1, math.ceil(2 * sigma_px) + 1):
        weight = math.exp(-(distance**2) / (2 * sigma_px**2))
        for sign in (-distance, distance):
            place = torch.stack((x + sign * step_x, y + sign * step_y), dim=-1)
            grid = place * place.new_tensor([2 / width, 2 / height]) + place.new_tensor([1 / width - 1, 1 / height - 1])
            total += weight * functional.grid_sample(plane, grid, padding_mode="border", align_corners=False)
            weights += weight
    smooth = total / weights
    edge = ((first + second).sqrt() / EDGE_SLOPE).clamp_(max=1)
    return torch.lerp(plane, smooth, coherence * edge)


TENSOR_SIGMA_PX = 1.5
"""Over which directions of change are averaged."""
EDGE_SLOPE = 0.05
"""Change of a sample to the next from which on a place counts as an edge in full."""


def mirror(plane: Tensor, radius_px: int) -> Tensor:
    """Mirrored without repeating the border where the plane is large enough for that, else the border repeated."""
    mode = "reflect" if min(plane.shape[2:]) > radius_px else "replicate"
    return functional.pad(plane, (radius_px,) * 4, mode=mode)


def _sort_three(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    return torch.minimum(low, third), torch.maximum(low, torch.minimum(high, third)), torch.maximum(high, third)
