"""Edge-preserving filters and sharpening, each as in its paper; borders are mirrored unless stated otherwise.

ComfyUI includes kornia, but its filters unfold every window into memory: a 5 x 5 bilateral filter of an 8K image needs tens
of gigabytes. These filters keep a few planes (a large median keeps one per window position) and are just as exact;
`tools.benchmarks.filters` compares both.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .filters import box_mean, gaussian_blur, local_range


def bilateral_filter(plane: Tensor, radius_px: int, sigma_px: float, value_range: float, guide: Tensor | None = None) -> Tensor:
    """Averages the neighborhood, weighted by distance and by similarity in the plane itself or in a guide.

    Sources: Tomasi and Manduchi, "Bilateral filtering for gray and color images", 1998; with a guide, Petschnigg et al.,
    "Digital photography with flash and no-flash image pairs", 2004.

    Args:
        plane: ``(B, C, H, W)``.
        radius_px: Radius of the square window.
        sigma_px: Sigma of the Gaussian over distance.
        value_range: Sigma of the Gaussian over differences (root mean square over all channels), in the guide's unit.
        guide: ``(B, G, H, W)`` that similarity is measured in; the plane itself if None.
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
    """Scales and shifts the guide to fit the plane in every window; the result is smooth where the guide is.

    Source: He, Sun and Tang, "Guided image filtering", 2010, with a guide of one channel. Border pixels are repeated.

    Args:
        plane: ``(B, C, H, W)``.
        radius_px: Radius of the square windows; the whole filter has twice this radius.
        epsilon: Guide variance above which edges are preserved, in the guide's unit squared.
        guide: ``(B, 1, H, W)`` or with as many channels as the plane; the plane itself if None.
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
    """Returns the exact median of a square window.

    Source of the comparison order for 3 x 3: Smith, "Implementing median filters in XC4000E FPGAs", 1996.

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
    """Adds back the detail that a blur removes, up to the local range widened by `halo`.

    Args:
        plane: ``(B, C, H, W)``.
        sigma_px: Sigma of the blur.
        amount: Share of the detail to add.
        threshold: Detail below this is left alone, in the plane's unit.
        halo: How far the result may exceed the range of its 3 x 3 neighborhood; 0 prevents halos entirely.
    """
    detail = plane - gaussian_blur(plane, sigma_px)
    detail = detail.sign() * (detail.abs() - threshold).clamp_(min=0)
    lowest, highest = local_range(plane, 3)
    return torch.minimum(torch.maximum(plane + amount * detail, lowest - halo), highest + halo)


def smooth_along_edges(plane: Tensor, sigma_px: float) -> Tensor:
    """Averages along edges, never across them: jagged edges become smooth and stay sharp.

    The direction is that of least change in the structure tensor. Source of the idea: Cabral and Leedom, "Imaging vector
    fields using line integral convolution", 1993.

    Args:
        plane: ``(B, 1, H, W)``.
        sigma_px: Sigma of the Gaussian along the edge.
    """
    height, width = plane.shape[2:]
    padded = mirror(plane, 1)
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    tensor = gaussian_blur(torch.cat((down * down, across * across, down * across), dim=1), TENSOR_SIGMA_PX)
    first, second, mixed = tensor.split(1, dim=1)
    spread = ((first - second).square() + 4 * mixed.square()).sqrt()
    coherence = spread / (first + second).clamp(min=1e-8)
    # The angle of the strongest change; the edge is perpendicular to it.
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
"""Sigma that the structure tensor is averaged with."""
EDGE_SLOPE = 0.05
"""Change per pixel from which a position counts fully as an edge."""


def mirror(plane: Tensor, radius_px: int) -> Tensor:
    """Pads by mirroring without the border pixel; repeats the border pixel if the plane is too small for that."""
    mode = "reflect" if min(plane.shape[2:]) > radius_px else "replicate"
    return functional.pad(plane, (radius_px,) * 4, mode=mode)


def _sort_three(first: Tensor, second: Tensor, third: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    return torch.minimum(low, third), torch.maximum(low, torch.minimum(high, third)), torch.maximum(high, third)
