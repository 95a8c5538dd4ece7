"""Full-reference quality: PSNR and SSIM as the super-resolution literature reports them."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from .bands import check_image

# ITU-R BT.601 studio range, what MATLAB's rgb2ycbcr gives; every published PSNR-Y of super-resolution uses it.
_STUDIO_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_STUDIO_BLACK = 16 / 255


def studio_luma(image: Tensor) -> Tensor:
    """Luma in BT.601 studio range, [16/255, 235/255], from ``(B, 3, H, W)`` or grey ``(B, 1, H, W)``."""
    check_image(image, channels=(1, 3))
    weights = torch.tensor(_STUDIO_LUMA, dtype=image.dtype, device=image.device).reshape(1, 3, 1, 1)
    return (image.expand(-1, 3, -1, -1) * weights).sum(dim=1, keepdim=True) + _STUDIO_BLACK


def psnr(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Peak signal-to-noise ratio in dB, over the whole batch.

    Args:
        reference: ``(B, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.
        luma: Compare BT.601 studio-range luma alone (PSNR-Y).
        crop_px: Border to leave out on each side, by custom the scale factor.

    Returns:
        Decibels; infinity where the two are equal.

    Raises:
        ValueError: If the shapes differ or the crop leaves nothing.
    """
    reference, candidate = _comparable(reference, candidate, luma, crop_px)
    error = (reference.double() - candidate.double()).square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(reference: Tensor, candidate: Tensor, *, luma: bool = False, crop_px: int = 0) -> float:
    """Structural similarity, Gaussian 11x11 window of sigma 1.5, mean over channels and batch.

    Args:
        reference: ``(B, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.
        luma: Compare BT.601 studio-range luma alone.
        crop_px: Border to leave out on each side.

    Returns:
        At most 1, which means equal.

    Raises:
        ValueError: If the shapes differ or less than 11 x 11 pixels remain.

    Source: Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", 2004.
    """
    reference, candidate = _comparable(reference, candidate, luma, crop_px)
    if min(reference.shape[2:]) < 11:
        raise ValueError(f"compared area is {tuple(reference.shape[2:])}; SSIM wants at least 11x11 pixels")
    reference, candidate = reference.double(), candidate.double()
    mean_a, mean_b = _window_mean(reference), _window_mean(candidate)
    variance_a = _window_mean(reference.square()) - mean_a.square()
    variance_b = _window_mean(candidate.square()) - mean_b.square()
    covariance = _window_mean(reference * candidate) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a.square() + mean_b.square() + c1) * (variance_a + variance_b + c2))
    return similarity.mean().item()


def _comparable(reference: Tensor, candidate: Tensor, luma: bool, crop_px: int) -> tuple[Tensor, Tensor]:
    check_image(reference, "reference", channels=(1, 3))
    check_image(candidate, "candidate", channels=(1, 3))
    if reference.shape != candidate.shape:
        raise ValueError(f"reference is {tuple(reference.shape)}, candidate {tuple(candidate.shape)}; wanted one shape")
    height, width = reference.shape[2:]
    if min(height, width) <= 2 * crop_px:
        raise ValueError(f"a crop of {crop_px} px leaves nothing of {height}x{width} pixels")
    if luma:
        reference, candidate = studio_luma(reference.float()), studio_luma(candidate.float())
    inner = (..., slice(crop_px, height - crop_px), slice(crop_px, width - crop_px))
    return reference[inner], candidate[inner]


def _window_mean(image: Tensor) -> Tensor:
    offsets = torch.arange(-5, 6, dtype=image.dtype, device=image.device)
    window = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    window = window / window.sum()
    flat = image.flatten(0, 1).unsqueeze(1)
    flat = functional.conv2d(flat, window.reshape(1, 1, 11, 1))
    flat = functional.conv2d(flat, window.reshape(1, 1, 1, 11))
    return flat.reshape(*image.shape[:2], *flat.shape[2:])
