"""All metrics that compare an image with its reference or its source."""

import math
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ..imaging.drift import flatten_alpha, measure_drift, overshoot_percent, sharpness_ratio
from ..imaging.metrics import MS_SSIM_PX, WINDOW_PX, ms_ssim, mse, psnr, ssim, worst_seam
from ..imaging.naturalness import brisque, niqe
from .perceptual import perceptual_distances


def measure_images(reference: Tensor, candidate: Tensor) -> dict[str, Any]:
    """Full-reference metrics of two images of equal size; for different sizes, the drift at the smaller one.

    Besides, BRISQUE and NIQE of the candidate alone.

    Args:
        reference: ``(1, C, H, W)`` in [0, 1]; images with alpha are composited over mid-grey.
        candidate: ``(1, C, H', W')``.
    """
    first, second = (flatten_alpha(image.float()) for image in (reference, candidate))
    if first.shape[2:] == second.shape[2:]:
        channels = max(first.shape[1], second.shape[1])
        first, second = first.expand(-1, channels, -1, -1), second.expand(-1, channels, -1, -1)
        figures: dict[str, Any] = {
            "compared at": "full size",
            "identical": torch.equal(first, second),
            **measure_quality(first, second),
        }
    else:
        figures = {"compared at": "the smaller size"}
        if first.shape[2] <= second.shape[2] and first.shape[3] <= second.shape[3]:
            figures["overshoot_percent"] = overshoot_percent(first, second)
    figures |= measure_naturalness(second)
    figures["color"] = asdict(measure_drift(first, second))
    figures["ciede2000" if "identical" in figures else "full"] = asdict(measure_drift(first, second, "full"))
    return figures


def measure_naturalness(image: Tensor) -> dict[str, float | None]:
    """BRISQUE and NIQE of an image, ``(1, 1 or 3, H, W)`` in [0, 1]; lower is better. None where it is too small."""
    return {"brisque": brisque(image), "niqe": niqe(image)}


def measure_quality(reference: Tensor, candidate: Tensor) -> dict[str, float | None]:
    """Metrics of an image against the ground truth; None where JSON has no number for it (the PSNR of equal images).

    Args:
        reference: ``(1, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.

    Returns:
        PSNR of all channels and of luma in dB, SSIM, MS-SSIM, mean squared error, sharpness relative to the reference,
        the energy of the most visible seam in the difference (`fidelity.imaging.metrics.worst_seam`), and LPIPS and DISTS
        if they are installed.
    """
    smallest = min(reference.shape[2:])
    return {
        "psnr": _finite(psnr(reference, candidate)),
        "psnr_y": _finite(psnr(reference, candidate, luma=True)),
        "ssim": ssim(reference, candidate) if smallest >= WINDOW_PX else None,
        "ms_ssim": ms_ssim(reference, candidate) if smallest >= MS_SSIM_PX else None,
        "mse": mse(reference, candidate),
        "sharpness_ratio": sharpness_ratio(reference, candidate),
        "seam_energy": _finite(worst_seam(candidate - reference)) if smallest > 1 else None,
        **perceptual_distances(reference, candidate),
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
