"""Quality metrics: PSNR, SSIM and MS-SSIM as the super-resolution literature reports them, and tile seam energy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from .tensors import check_image

# ITU-R BT.601 studio range, as in MATLAB's rgb2ycbcr; every published super-resolution PSNR-Y uses it.
_STUDIO_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_STUDIO_BLACK = 16 / 255
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first, from the paper."""

WINDOW_PX = 11
"""Side of the SSIM window, and the smallest side of an image."""
MS_SSIM_PX = WINDOW_PX * 2 ** (len(_SCALE_WEIGHTS) - 1)
"""The smallest side for MS-SSIM, which halves the image four times."""
SEAM_REACH_PX = 8
"""How far from a tile border lines are compared with it."""


def studio_luma(image: Tensor) -> Tensor:
    """Returns luma in BT.601 studio range, [16/255, 235/255], from ``(B, 3, H, W)`` or grey ``(B, 1, H, W)``."""
    check_image(image, channels=(1, 3))
    weights = torch.tensor(_STUDIO_LUMA, dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1)
    return (image.expand(-1, 3, -1, -1) * weights).sum(dim=1, keepdim=True) + _STUDIO_BLACK


def psnr(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Peak signal-to-noise ratio in dB, over the whole batch.

    Args:
        reference: ``(B, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.
        luma: Compare only BT.601 studio-range luma (PSNR-Y).
        crop_px: Border to leave out on each side, conventionally the scale factor.

    Returns:
        Decibels; infinity if the images are equal.

    Raises:
        RefusedError: If the shapes differ or the crop leaves nothing.
    """
    error = mse(reference, candidate, luma=luma, crop_px=crop_px)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Structural similarity with a Gaussian 11x11 window of sigma 1.5, averaged over channels and batch.

    Args:
        reference: ``(B, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.
        luma: Compare only BT.601 studio-range luma.
        crop_px: Border to leave out on each side.

    Returns:
        At most 1, which means equal.

    Raises:
        RefusedError: If the shapes differ or a remaining side is shorter than `WINDOW_PX`.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", 2004.
    """
    reference, candidate = _comparable(reference, candidate, luma, crop_px)
    if min(reference.shape[2:]) < WINDOW_PX:
        raise RefusedError(f"compared area is {tuple(reference.shape[2:])}; wanted at least 11x11 pixels for SSIM")
    similarity, _ = _compare_windows(_exact(reference), _exact(candidate))
    return similarity.mean().item()


def ms_ssim(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Multi-scale structural similarity over five scales, averaged over the batch.

    Args:
        reference: ``(B, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.
        luma: Compare only BT.601 studio-range luma.
        crop_px: Border to leave out on each side.

    Returns:
        At most 1, which means equal; a scale with a negative mean counts as 0.

    Raises:
        RefusedError: If the shapes differ or a remaining side is shorter than `MS_SSIM_PX`.

    Source: Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment", 2003.
    """
    reference, candidate = _comparable(reference, candidate, luma, crop_px)
    if min(reference.shape[2:]) < MS_SSIM_PX:
        raise RefusedError(
            f"compared area is {tuple(reference.shape[2:])}; wanted at least {MS_SSIM_PX} pixels a side for MS-SSIM"
        )
    reference, candidate = _exact(reference), _exact(candidate)
    total = torch.ones(reference.shape[0], dtype=torch.double, device=reference.device)
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        similarity, contrast = _compare_windows(reference, candidate)
        last = scale == len(_SCALE_WEIGHTS) - 1
        total = total * (similarity if last else contrast).mean(dim=(1, 2, 3)).clamp(min=0) ** weight
        if not last:
            reference, candidate = functional.avg_pool2d(reference, 2), functional.avg_pool2d(candidate, 2)
    return total.mean().item()


def mse(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Mean squared error of samples in [0, 1], over the whole batch; arguments as for `psnr`.

    Raises:
        RefusedError: If the shapes differ or the crop leaves nothing.
    """
    reference, candidate = _comparable(reference, candidate, luma, crop_px)
    return (_exact(reference) - _exact(candidate)).square().mean().item()


def seam_energy(image: Tensor, rows: Sequence[int] = (), columns: Sequence[int] = ()) -> float:
    """Returns how much larger steps are across tile borders than beside them; 1 if the borders are invisible.

    Args:
        image: ``(B, 1, 3 or 4, H, W)``, in any range. The difference from an untiled result or from the upscaled
            source works best, because image content at a border then does not count.
        rows: Borders between rows: the index of the first row below each.
        columns: Borders between columns: the index of the first column to the right of each.

    Returns:
        Mean squared step across the borders divided by that of the lines up to `SEAM_REACH_PX` beside them; infinity if those
        are flat and the borders are not.

    Raises:
        RefusedError: If there are no borders, or one lies outside the image.
    """
    across, beside = list[Tensor](), list[Tensor]()
    for dim, borders in ((2, rows), (3, columns)):
        for border in borders:
            if not 0 < border < image.shape[dim]:
                raise RefusedError(f"a border at {border} of {image.shape[dim]} pixels; wanted one inside the image")
        steps, near = _line_steps(image, dim)
        across += [steps[border - 1] for border in borders]
        beside += [near[border - 1] for border in borders]
    if not across:
        raise RefusedError("no borders to measure; wanted rows or columns")
    return float(_ratio(torch.stack(across).mean(), torch.stack(beside).mean()))


def worst_seam(image: Tensor) -> float:
    """Returns the highest `seam_energy` of any single line between rows or columns, for results whose tiles are unknown.

    Args:
        image: As for `seam_energy`, at least 2 pixels a side.
    """
    return max(float(_ratio(*_line_steps(image, dim)).max()) for dim in (2, 3))


def _exact(image: Tensor) -> Tensor:
    """Converts to float64, on the CPU if the device lacks it (Apple's GPUs)."""
    return (image.cpu() if image.device.type == "mps" else image).double()


def _line_steps(image: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Returns the mean squared step from each line to the next, and its mean over nearby lines except the nearest."""
    check_image(image)
    steps = _exact(image).diff(dim=dim).square().movedim(dim, 0).flatten(1).mean(dim=1)
    kernel = steps.new_ones(2 * SEAM_REACH_PX + 1)
    kernel[SEAM_REACH_PX - 1 : SEAM_REACH_PX + 2] = 0
    sums, counts = (
        functional.conv1d(line[None, None], kernel[None, None], padding=SEAM_REACH_PX)[0, 0]
        for line in (steps, torch.ones_like(steps))
    )
    return steps, torch.where(counts > 0, sums / counts.clamp(min=1), steps)


def _ratio(across: Tensor, beside: Tensor) -> Tensor:
    """Returns across / beside; 1 where both are 0."""
    return torch.where((across == 0) & (beside == 0), 1.0, across / beside)


def _comparable(reference: Tensor, candidate: Tensor, luma: bool, crop_px: int) -> tuple[Tensor, Tensor]:
    check_image(reference, "reference", channels=(1, 3))
    check_image(candidate, "candidate", channels=(1, 3))
    if reference.shape != candidate.shape:
        raise RefusedError(f"reference is {tuple(reference.shape)}, candidate {tuple(candidate.shape)}; wanted the same shape")
    height, width = reference.shape[2:]
    if min(height, width) <= 2 * crop_px:
        raise RefusedError(f"a crop of {crop_px} px leaves nothing of {height}x{width} pixels; wanted a smaller crop")
    if luma:
        reference, candidate = studio_luma(reference.float()), studio_luma(candidate.float())
    inner = (..., slice(crop_px, height - crop_px), slice(crop_px, width - crop_px))
    return reference[inner], candidate[inner]


def _compare_windows(reference: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the SSIM of every window, and its contrast-structure term alone."""
    mean_a, mean_b = _window_mean(reference), _window_mean(candidate)
    variance_a = _window_mean(reference.square()) - mean_a.square()
    variance_b = _window_mean(candidate.square()) - mean_b.square()
    covariance = _window_mean(reference * candidate) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return contrast * (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1), contrast


def _window_mean(image: Tensor) -> Tensor:
    offsets = torch.arange(-(WINDOW_PX // 2), WINDOW_PX // 2 + 1, dtype=image.dtype, device=image.device)
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = window / window.sum()
    flat = image.flatten(0, 1).unsqueeze(1)
    flat = functional.conv2d(flat, window.reshape(1, 1, -1, 1))
    flat = functional.conv2d(flat, window.reshape(1, 1, 1, -1))
    return flat.reshape(*image.shape[:2], *flat.shape[2:])
