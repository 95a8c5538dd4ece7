"""The mathematics of diffusion passes: latent tiles, guidance toward the source, schedules, pass sizes.

Samplers and models are the host's.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.filters import gaussian_blur, wavelet_low

TileBlend = Literal["gaussian", "mean"]
"""gaussian: tiles weigh most at their center (Mixture of Diffusers); mean: uniform weights (MultiDiffusion)."""

GuidanceBand = Literal["all", "gaussian", "wavelet"]
"""Frequencies to pull toward the source: all, or the low ones from a Gaussian or a wavelet."""

TILE_VARIANCE = 0.01
"""Variance of the Gaussian over a tile of side 1, as in Mixture of Diffusers."""
ALIGN_LATENTS = 8
"""Tiles start on multiples of this, so that a network that halves three times has the same grid in each."""
SUPIR_EXPONENT = 4.0
"""SUPIR's default exponent (restoration scale), which a fidelity of 0.5 stands for."""
DENOISE_STEPS = (0.40, 0.30, 0.25)
"""Denoise strength of each pass; later ones refine the first. Further passes use the last value."""
PASS_FACTOR = 2.0
"""Largest enlargement of one diffusion pass: beyond it the source gives too little guidance."""

_TILE_TABLE = ((8, 512, 64), (12, 768, 96), (24, 1024, 128))


@dataclass(frozen=True)
class DiffusionTile:
    """A square tile."""

    side_px: int
    """Side length."""
    overlap_px: int
    """Minimum overlap of neighboring tiles."""


def choose_diffusion_tile(memory_bytes: int) -> DiffusionTile:
    """The tile for a device with this much memory: 512 px (overlap 64) up to 8 GB, 768 (96) up to 12 GB, else 1024 (128)."""
    gigabytes = memory_bytes / 2**30
    side, overlap = next(
        ((side, overlap) for limit, side, overlap in _TILE_TABLE if gigabytes < 1.05 * limit), _TILE_TABLE[-1][1:]
    )
    return DiffusionTile(side, overlap)


def spread_tiles(length: int, tile: int, overlap: int, align: int = ALIGN_LATENTS) -> list[tuple[int, int]]:
    """Equal tiles along one axis, evenly spaced; neighbors overlap by `overlap` or more.

    Args:
        length: Length of the axis.
        tile: Length of a tile; if it is not shorter than the axis, a single tile covers the axis.
        overlap: Minimum overlap of neighbors; must be smaller than the tile.
        align: All tiles but the last start on multiples of this, where the overlap allows it.

    Returns:
        (start, stop) of each tile, in order.

    Raises:
        RefusedError: If the overlap is negative or not smaller than the tile.
    """
    if tile >= length:
        return [(0, length)]
    if not 0 <= overlap < tile:
        raise RefusedError(f"overlap is {overlap} with a tile of {tile}; wanted less than the tile")
    fewest = math.ceil((length - overlap) / (tile - overlap))
    grid = align if overlap <= tile - align else 1
    while True:
        for count in range(fewest, 2 * fewest + 1):  # rounding down to the grid may open a gap; another tile closes it
            starts = [int(index * (length - tile) / (count - 1) // grid * grid) for index in range(count - 1)] + [length - tile]
            if all(after - before <= tile - overlap for before, after in pairwise(starts)):
                return [(start, start + tile) for start in starts]
        grid = 1


def tile_weights(height: int, width: int, blend: TileBlend) -> Tensor:
    """The blend weights of a tile, ``(height, width)`` in float32, above 0.

    Source: Jimenez, "Mixture of Diffusers for scene composition and high resolution image generation", 2023; Bar-Tal, Yariv,
    Lipman and Dekel, "MultiDiffusion: fusing diffusion paths for controlled image generation", 2023.
    """
    if blend == "mean":
        return torch.ones(height, width)
    rows, columns = (_bell(length) for length in (height, width))
    return rows[:, None] * columns


def _bell(length: int) -> Tensor:
    distance = (torch.arange(length, dtype=torch.float32) - (length - 1) / 2) / length
    return torch.exp(-distance.square() / (2 * TILE_VARIANCE))


def guidance_weight(sigma: float, sigma_max: float, fidelity: float) -> float:
    """How far a denoised estimate is pulled toward the source, 0 to 1: ``(sigma / sigma_max) ** p``.

    Args:
        sigma: Noise level of the step.
        sigma_max: Highest noise level of the model.
        fidelity: 0 for no pull, 1 for the full pull at every step; 0.5 is SUPIR's exponent of 4. In between,
            ``p = 4 * (1 - fidelity) / fidelity``: higher fidelity means a smaller exponent and more pull at low noise.

    Source: Yu and others, "Scaling up to excellence: practicing model scaling for photo-realistic image restoration in the
    wild" (SUPIR), 2024, restoration-guided sampling.

    Raises:
        RefusedError: If the fidelity is not within [0, 1].
    """
    if not 0 <= fidelity <= 1:
        raise RefusedError(f"fidelity is {fidelity}; wanted 0 to 1")
    if fidelity == 0:
        return 0.0
    exponent = SUPIR_EXPONENT * (1 - fidelity) / fidelity
    return min(1.0, max(0.0, sigma / sigma_max)) ** exponent


def pull_to_source(denoised: Tensor, source: Tensor, weight: float, band: GuidanceBand = "all", radius: float = 2.0) -> Tensor:
    """Moves a denoised estimate toward the encoded source.

    Args:
        denoised: ``(B, C, H, W)`` or ``(B, C, T, H, W)``.
        source: The encoded source, of the same size, with batch 1 or B.
        weight: Share of the difference to apply: 0 for none, 1 for all.
        band: See `GuidanceBand`; a low band leaves textures free.
        radius: Radius of the low band, in latent samples: the sigma of the Gaussian; the wavelet uses the nearest number of
            levels, of about 1, 2, 4, 8 samples.
    """
    if weight == 0:
        return denoised
    difference = source.to(denoised) - denoised
    if band != "all":
        planes = difference.expand_as(denoised).reshape(-1, 1, *denoised.shape[-2:]).float()
        levels = max(1, round(math.log2(max(radius, 1))) + 1)
        low = gaussian_blur(planes, radius) if band == "gaussian" else wavelet_low(planes, levels)
        difference = low.reshape(denoised.shape).to(denoised)
    return denoised + weight * difference


def linear_schedule(sigma: float, sigma_max: float, start: float, end: float) -> float:
    """A value that goes from `start` at the highest noise to `end` at none, linear in sigma, as SUPIR's CFG and control do."""
    return end + (start - end) * min(1.0, max(0.0, sigma / sigma_max))


def plan_pass_sizes(source: tuple[int, int], target: tuple[int, int], multiple: int = 8) -> list[tuple[int, int]]:
    """The (height, width) of each diffusion pass; the last one covers the target.

    All passes enlarge by the same factor, at most `PASS_FACTOR`, to sizes that are multiples of a latent sample; the result
    is resized to the exact target afterwards.

    Args:
        source: (height, width) of the source.
        target: (height, width) of the target.
        multiple: Pixels per latent sample.
    """
    factor = max(target[0] / source[0], target[1] / source[1], 1.0)
    count = max(1, math.ceil(math.log(factor, PASS_FACTOR) - 1e-6))
    sizes: list[tuple[int, int]] = []
    for index in range(1, count + 1):
        share = index / count
        height, width = (before * (after / before) ** share for before, after in zip(source, target, strict=True))
        sizes.append((_to_multiple(height, multiple), _to_multiple(width, multiple)))
    return sizes


def pass_denoise(index: int, first: float = DENOISE_STEPS[0]) -> float:
    """Denoise strength of a pass (index 0 is the first), in the proportions of `DENOISE_STEPS`."""
    return first * DENOISE_STEPS[min(index, len(DENOISE_STEPS) - 1)] / DENOISE_STEPS[0]


def _to_multiple(length: float, multiple: int) -> int:
    return max(multiple, math.ceil(length / multiple - 1e-6) * multiple)


def truncated_times(steps: int, start: float, end: float) -> list[float]:
    """The times at which a truncated sampler evaluates its model, as fractions of the schedule, 1 being pure noise.

    The first estimate is made at 1. It is noised again to `start`; from there the times are evenly spaced. The estimate at
    `end` is the result; with an end of 0, the last step goes from the last time to no noise, as in any sampler.

    Args:
        steps: Number of evaluations, 1 or more; with one, the first estimate is the result.
        start: Time to noise the first estimate to, in (0, 1]; at 1 there is no separate first estimate.
        end: Time of the last estimate, in [0, start).

    Source: Sun, Wu, Liang and others, "Improving the stability and efficiency of diffusion models for content consistent
    super-resolution" (CCSR), 2024, arXiv:2401.00877, with 2/3 and 1/3; its second version has any number of steps.

    Raises:
        RefusedError: If the times are not in order, or there is no step.
    """
    if not 0 <= end < start <= 1:
        raise RefusedError(f"t_max is {start:g} and t_min {end:g}; wanted 0 <= t_min < t_max <= 1")
    if steps < 1:
        raise RefusedError(f"steps is {steps}; wanted 1 or more")
    first = [] if start == 1 else [1.0]
    left = steps - len(first)
    if left < 1:
        return first
    intervals = left if end == 0 else max(1, left - 1)
    return first + [start + (end - start) * index / intervals for index in range(left)]


def posterior_step(
    noisy: Tensor, estimate: Tensor, noise: Tensor, now: tuple[float, float], then: tuple[float, float]
) -> Tensor:
    """Draws the latent of a lower noise level from what the diffusion process allows, given the estimate of the clean one.

    A noisy latent is ``signal * clean + sigma * noise``. With r the ratio of the two signals, the process from the lower level
    (s) to the higher one (t) adds a variance of ``v = sigma_t ** 2 - r ** 2 * sigma_s ** 2``. Its posterior is normal, with a
    mean of ``(r * sigma_s ** 2 * noisy + signal_s * v * estimate) / sigma_t ** 2`` and a variance of
    ``v * sigma_s ** 2 / sigma_t ** 2``.

    Args:
        noisy: The latent at the higher level, of any shape.
        estimate: The clean latent as the model estimates it.
        noise: Standard normal, of the same shape.
        now: (signal, sigma) of the higher level.
        then: (signal, sigma) of the lower level.

    Source: Kingma, Salimans, Poole and Ho, "Variational diffusion models", 2021, appendix A.4; for a constant signal it is the
    ancestral sampling of Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020.
    """
    (signal_t, sigma_t), (signal_s, sigma_s) = now, then
    ratio = signal_t / signal_s
    added = max(0.0, sigma_t**2 - ratio**2 * sigma_s**2)
    mean = (ratio * sigma_s**2 * noisy + signal_s * added * estimate) / sigma_t**2
    return mean + noise * (added**0.5 * sigma_s / sigma_t)
