"""Adaptive luma enhancement: sharpens edges slightly, unless a color would shift visibly."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.bands import iterate_bands_around
from ..imaging.color import delta_e, rgb_to_luma, rgb_to_ycbcr
from ..imaging.drift import Drift, flatten_alpha, summarize_drift
from ..imaging.filters import gaussian_blur
from ..imaging.tensors import check_finite, check_image, empty_image
from ..progress import Progress
from .gate import GateLimits

_WITHIN = 0.9
"""Samples that shift too far are limited to this share of the allowed maximum, so a few of them do not veto the rest."""
_LIVE_PLANES = 12
_ROUNDS = 5


@dataclass(frozen=True)
class EnhanceSettings:
    """All constants of the enhancement."""

    strength: float = 0.15
    """Share of the detail to add, before adapting to the image."""
    min_strength: float = 0.05
    """Lower limit of the adapted strength."""
    max_strength: float = 0.15
    """Upper limit of the adapted strength."""
    sigma_px: float = 0.8
    """Sigma of the blur that separates detail."""
    edge_threshold: float = 0.08
    """Sobel magnitude of luma above which a pixel counts as an edge; a black-to-white step has 0.71."""
    max_chroma_variance: float = 800.0
    """Mean variance of Cb and Cr, on a scale of 0 to 255, above which an image counts as very colorful."""
    min_edge_density: float = 0.05
    """Share of edge pixels below which an image counts as very smooth."""
    min_chroma_factor: float = 0.3
    """Strength factor for very colorful images, where a lightness change is most easily seen as a color shift."""
    min_edge_factor: float = 0.5
    """Strength factor for images without edges."""
    limits: GateLimits = GateLimits(1.0, 3.0)  # noqa: RUF009  (it is frozen)
    """Per-pixel CIEDE2000 between input and output; above it the image is returned unchanged."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_strength <= self.max_strength <= 10 or not 0 <= self.strength <= 10:
            given = f"{self.strength}, at least {self.min_strength}, at most {self.max_strength}"
            raise RefusedError(f"strength is {given}; wanted 0 to 10, and a minimum below the maximum")
        if not (0 < self.sigma_px <= 32 and self.edge_threshold > 0):
            raise RefusedError(
                f"sigma is {self.sigma_px} px, edge threshold {self.edge_threshold}; wanted more than 0, sigma at most 32"
            )
        if not (self.max_chroma_variance > 0 and self.min_edge_density > 0):
            raise RefusedError("max_chroma_variance or min_edge_density is not positive; wanted more than 0")
        if not (0 <= self.min_chroma_factor <= 1 and 0 <= self.min_edge_factor <= 1):
            raise RefusedError(f"minimum factors are {self.min_chroma_factor} and {self.min_edge_factor}; wanted 0 to 1")


DEFAULT_ENHANCEMENT = EnhanceSettings()


@dataclass(frozen=True)
class Enhanced:
    """The result of `enhance`."""

    image: Tensor
    """The enhanced image, or the unchanged input."""
    applied: bool
    """Whether the image was enhanced."""
    reason: str
    """Why it was or was not, as text."""
    strength: float
    """The adapted strength: the share of the detail to add."""
    chroma_variance: float
    """Mean variance of Cb and Cr, on a scale of 0 to 255."""
    edge_density: float
    """Share of pixels on an edge."""
    drift: Drift | None
    """Per-pixel CIEDE2000 between input and enhanced image; None if enhancement was not tried."""


def enhance(image: Tensor, settings: EnhanceSettings = DEFAULT_ENHANCEMENT, progress: Progress | None = None) -> Enhanced:
    """Sharpens the luma of edges by a strength adapted to the image, unless colors would shift visibly.

    Single samples that would shift too far are limited. An image that is both very colorful and very smooth is left
    unchanged: it has little to gain and much to lose.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1]; a batch is judged as one image.
        settings: Constants of the enhancement.
        progress: Called with (rows done, rows in all).

    Raises:
        RefusedError: If the image is not finite.
    """
    check_image(image)
    check_finite(image)
    variance, density = _measure(image, settings.edge_threshold)
    strength = adapt_strength(variance, density, settings)
    if variance > settings.max_chroma_variance and density < settings.min_edge_density:
        reason = f"left unchanged: chroma variance {variance:.0f} is above {settings.max_chroma_variance:g} and edge density "
        return Enhanced(
            image, False, f"{reason}{density:.3f} below {settings.min_edge_density:g}", 0.0, variance, density, None
        )
    result = _sharpen(image, strength, settings, progress)
    drift = summarize_drift(delta_e(flatten_alpha(image), flatten_alpha(result)))
    if drift.mean >= settings.limits.mean or drift.max >= settings.limits.max:
        reason = f"left unchanged: colors would shift by {drift.mean:.2f} mean, {drift.max:.2f} max"
        return Enhanced(image, False, reason, strength, variance, density, drift)
    return Enhanced(result, True, f"enhanced with strength {strength:.3f}", strength, variance, density, drift)


def adapt_strength(chroma_variance: float, edge_density: float, settings: EnhanceSettings = DEFAULT_ENHANCEMENT) -> float:
    """The strength for an image: lower for colorful images, higher for images with many edges.

    Args:
        chroma_variance: Mean variance of Cb and Cr, on a scale of 0 to 255.
        edge_density: Share of pixels on an edge, in [0, 1].
        settings: Constants of the enhancement.
    """
    colorfulness = min(1.0, chroma_variance / settings.max_chroma_variance)
    chroma_factor = 1 - (1 - settings.min_chroma_factor) * colorfulness
    edged = min(1.0, edge_density / settings.min_edge_density)
    edge_factor = settings.min_edge_factor + (1 - settings.min_edge_factor) * edged
    return min(max(settings.strength * chroma_factor * edge_factor, settings.min_strength), settings.max_strength)


def sobel_magnitude(plane: Tensor) -> Tensor:
    """The Sobel gradient magnitude, scaled as in scikit-image; borders are replicated.

    Args:
        plane: ``(B, 1, H, W)``.
    """
    smooth = plane.new_tensor([1, 2, 1]) / 4
    difference = plane.new_tensor([1, 0, -1])
    masks = torch.stack((torch.outer(difference, smooth), torch.outer(smooth, difference)))[:, None]
    slopes = functional.conv2d(functional.pad(plane, (1, 1, 1, 1), mode="replicate"), masks)
    return (slopes.square().sum(dim=1, keepdim=True) / 2).sqrt()


def _measure(image: Tensor, threshold: float) -> tuple[float, float]:
    """Chroma variance and edge density, in bands."""
    count, edges = 0, 0
    sums, squares = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    height, width = image.shape[2:]
    for _, wide, inner in iterate_bands_around(height, width * 4 * _LIVE_PLANES * image.shape[0], 1):
        band = image[:, :3, wide].float()
        edges += int((sobel_magnitude(rgb_to_luma(band)) > threshold)[:, :, inner].sum())
        count += band[:, :1, inner].numel()
        if band.shape[1] == 3:
            chroma = (rgb_to_ycbcr(band[:, :, inner])[:, 1:] * 255).cpu().double()
            sums += chroma.sum(dim=(0, 2, 3))
            squares += chroma.square().sum(dim=(0, 2, 3))
    variance = (squares / count - (sums / count).square()).clamp(min=0).mean().item()
    return variance, edges / count


def _sharpen(image: Tensor, strength: float, settings: EnhanceSettings, progress: Progress | None) -> Tensor:
    height, width = image.shape[2:]
    output = empty_image(image, image.shape[1], height, width)
    output[:, 3:] = image[:, 3:]
    reach_px = math.ceil(4 * settings.sigma_px) + 1
    for rows, wide, inner in iterate_bands_around(height, width * 4 * _LIVE_PLANES * image.shape[0], reach_px):
        band = image[:, :3, wide].float()
        luma = rgb_to_luma(band)
        # Ramps up between the threshold and 1.5 times it, so that sharpening starts gradually.
        edge = ((sobel_magnitude(luma) / settings.edge_threshold - 1) * 2).clamp_(0, 1)
        change = strength * edge * (luma - gaussian_blur(luma, settings.sigma_px))
        for _ in range(_ROUNDS):
            moved = delta_e(band, (band + change).clamp(0, 1))
            if moved.max() < settings.limits.max:
                break
            change *= (_WITHIN * settings.limits.max / moved.clamp(min=1e-6)).clamp_(max=1)
        output[:, :3, rows] = (band + change)[:, :, inner].clamp(0, 1).to(output.dtype)
        if progress:
            progress(rows.stop, height)
    return output
