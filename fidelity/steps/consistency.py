"""The consistency projection: changes an enlargement so that it shrinks back to its source, whatever produced it.

Let x be the enlargement, y the source, D the antialiased bicubic reduction to the source's size and U
the bicubic enlargement back. Mode **full** is iterative back-projection (Irani and Peleg, "Improving
resolution by image registration", 1991): x + U(s) with s such that y = D(x + U(s)). It corrects every
frequency, so it also rings wherever the network moved an edge.

Mode **color** corrects only what a viewer would call color and tone. It solves for the correction s, at
the source's resolution, that minimizes

    |B (r - s)|²  +  λ Σ w |∇s|²        r = y - D(x)

separately in luma and the color differences. The first term is the color drift: B is a Gaussian of 1.5
source pixels, so an edge sharper than the source's does not count. The second term controls where the
correction may vary: w is 1 where the raw output is flat and falls, as 1 / (1 + (|∇D(x)| / θ)²), to a floor
at its edges. So the correction is smooth inside an area and adds no texture there, but may jump from one
area to the next (weighted least squares, after Farbman, Fattal, Lischinski and Szeliski, "Edge-preserving
decompositions for multi-scale tone and detail manipulation", 2008, applied to the drift instead of the
image). The floor on w keeps the solution from following noise in textured areas. The color differences have
a lower floor and a smaller λ, because correcting them does not soften lines. A plain low-pass of r either
leaves drift beside every edge or spreads the network's errors at edges into flat areas as mottle.
Conjugate gradients solve for s; the large image only receives U(s).

Sharpening networks also exceed the source's local color range. Samples outside the range of the source's
5x5 neighborhood are pulled back by firm shrinkage (Gao and Bruce, "WaveShrink with firm shrinkage", 1997):
it removes small excesses such as halos and speckle, and keeps the strongest, the cores of fine lines that
the source could not resolve. The threshold is set so that about 2 % of the samples stay outside. Ground
truth itself has 3 to 7 % of them on Set5, a sharpening network up to 47 %. An area whose tone has drifted is
outside that range as a whole, and pulling it back sample by sample would imprint the steps of the range on
it. So a first, much smoother correction moves areas back before the range is applied.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.color import is_grey, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from ..imaging.drift import COLOR_BAND_SIGMA_PX, OVERSHOOT_TOLERANCE, SourceRange, common_size
from ..imaging.filters import gaussian_blur
from ..imaging.resample import AxisWeights, apply_separable, compose_weights, iterate_separable, resize, resize_weights
from ..imaging.tensors import check_pair
from ..progress import Progress
from .alpha import bleed_colors

ConsistencyMode = Literal["color", "full"]


@dataclass(frozen=True)
class ConsistencySettings:
    """Constants of the projection; the defaults produced the measurements in tools/benchmarks/README.md."""

    rounds: int = 3
    """Corrections of the large image; each compensates for clipping in the previous one. Mode color adds a smooth first
    one."""
    luma_smoothness: float = 0.2
    """λ for luma: the cost of variation inside an area relative to drift; 0 corrects every frequency."""
    luma_floor: float = 0.07
    """Smallest w for luma: smoothness across edges, as a share of that inside areas."""
    chroma_smoothness: float = 0.02
    """λ for the color differences, where texture is least visible and drift most."""
    chroma_floor: float = 0.03
    """Smallest w for the color differences."""
    tone_smoothness: float = 1000.0
    """Smoothness factor of the first correction in mode color, so that it moves the tones of areas but not the halos along
    their edges."""
    edge: float = 2 / 255
    """θ: step between neighboring source pixels at which an area ends."""
    solver_steps: int = 12
    """Conjugate-gradient steps in each round of mode color."""
    overshoot_share: float = 0.018
    """Share of samples that may stay outside the source's local range; 1 allows all of them."""
    full_steps: int = 30
    """Back-projection steps in each round of mode full, at the source's size."""


def project(
    image: Tensor,
    reference: Tensor,
    mode: ConsistencyMode = "color",
    settings: ConsistencySettings | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Changes an enlargement so that it shrinks back to its source.

    Args:
        image: The enlargement, ``(B, C, H, W)``, from any upscaler, at any ratio to the source.
        reference: The source, ``(B or 1, C, h, w)``, showing the same scene in the same frame.
        mode: "color" preserves colors and tones and leaves edges to the upscaler; "full" preserves every source pixel.
        settings: Constants; the defaults if not given.
        progress: Called after each part of the work.

    Returns:
        The projected image, in [0, 1]. Alpha is unchanged. If the source is grey, so is the result.

    Raises:
        RefusedError: If the shapes do not match or the mode is unknown.
    """
    return project_(image.clone(), reference, mode, settings, progress)


def project_(
    image: Tensor,
    reference: Tensor,
    mode: ConsistencyMode = "color",
    settings: ConsistencySettings | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """`project`, in place: overwrites the enlargement, which saves a copy."""
    check_pair(image, reference)
    if mode not in ("color", "full"):
        raise RefusedError(f"mode is {mode!r}; wanted 'color' or 'full'")
    settings = settings or ConsistencySettings()
    rounds = settings.rounds + (mode == "color")
    for index in range(image.shape[0]):
        source = reference[index % reference.shape[0]].unsqueeze(0).to(image.device)
        target = image[index : index + 1, : min(3, image.shape[1])]
        _project_colors(target, source, mode, settings, _counted(progress, index * rounds, image.shape[0] * rounds))
    return image


def _counted(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total) if progress else None


def _project_colors(
    target: Tensor, source: Tensor, mode: ConsistencyMode, settings: ConsistencySettings, report: Callable[[int], None]
) -> None:
    """Projects one image, ``(1, 1 or 3, H, W)``, in place."""
    colors = bleed_colors(source) if source.shape[1] == 4 else source
    if target.shape[1] == 1:
        colors = rgb_to_luma(colors)
    elif is_grey(colors):
        luma = rgb_to_luma(target)
        _project_colors(luma, colors[:, :1], mode, settings, report)
        target.copy_(luma.expand_as(target))
        return
    small = common_size(source, target)
    wanted = resize(colors.float(), small).clamp_(0, 1)
    large = (target.shape[2], target.shape[3])
    down = tuple(resize_weights(a, b) for a, b in zip(large, small, strict=True))
    up = tuple(resize_weights(b, a) for a, b in zip(large, small, strict=True))
    target.clamp_(0, 1)
    if mode == "color":
        drawn = apply_separable(target, *down, dtype=torch.float32)
        solvers = [_color_solver(drawn, settings, settings.tone_smoothness)]
        solvers += [_color_solver(drawn, settings)] * settings.rounds
        allowed = SourceRange(wanted, large)
    else:
        solvers, allowed = [_full_solver(down, up, settings)] * settings.rounds, None
    correction = torch.zeros_like(wanted)
    for done, solve in enumerate(solvers, 1):
        left = wanted - apply_separable(target, *down, dtype=torch.float32)
        update = solve(correction, left)
        for rows, values in iterate_separable(update, *up):
            band = target[:, :, rows]
            band.copy_(values.add_(band).clamp_(0, 1))
        correction += update
        if allowed:
            limit_overshoot_(target, allowed, settings.overshoot_share)
        report(done)


def limit_overshoot_(image: Tensor, allowed: SourceRange, share: float) -> None:
    """Pulls samples outside the source's local range back, in place, until at most `share` of all samples is outside.

    Args:
        image: ``(1, C, H, W)``, changed in place.
        allowed: The local range of the source.
        share: Share of samples that may stay outside, in [0, 1]; the strongest stay.
    """
    counts = torch.zeros(_EXCESS_BINS, device=image.device)
    for rows, lowest, highest in allowed.bands():
        excess = _excess(image[:, :, rows], lowest, highest)
        outside = (excess > OVERSHOOT_TOLERANCE).sum(dim=1).flatten().float()
        place = (excess.amax(dim=1).flatten() * _EXCESS_BINS).long().clamp(0, _EXCESS_BINS - 1)
        counts.index_add_(0, place, outside)
    above = counts.flip(0).cumsum(0).flip(0)
    threshold = int((above > share * image[0].numel()).sum()) / _EXCESS_BINS
    # Just over half an 8-bit step below the tolerance, so that rounding to a file does not cross it again.
    tolerance = OVERSHOOT_TOLERANCE - 0.6 / 255
    if threshold <= tolerance:
        return
    kept = _FIRM_SPAN * threshold
    for rows, lowest, highest in allowed.bands():
        band = image[:, :, rows].float()
        excess = _excess(band, lowest, highest)
        strongest = excess.amax(dim=1, keepdim=True)
        between = tolerance + (strongest - threshold) * (kept - tolerance) / (kept - threshold)
        limited = torch.where(strongest < threshold, strongest.clamp(max=tolerance), torch.minimum(between, strongest))
        # One share for all channels of a pixel: limiting only some of them would shift its color.
        cut = excess * (1 - limited / strongest.clamp(min=1e-6))
        image[:, :, rows] = torch.where(band > highest, band - cut, band + cut)


_EXCESS_BINS = 4096
_FIRM_SPAN = 1.8
"""Excesses of at least this many thresholds are kept; below, the limit blends in without a step."""


def _excess(band: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """How far each sample lies outside its range; 0 inside."""
    return torch.maximum(lowest - band, band - highest).clamp(min=0)


def _color_solver(drawn: Tensor, settings: ConsistencySettings, stiffness: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The weighted least squares of the module docstring; `drawn` is the raw output, reduced to the source's size."""
    luma, chroma = stiffness * settings.luma_smoothness, stiffness * settings.chroma_smoothness
    smoothness = drawn.new_tensor([luma, chroma, chroma][: drawn.shape[1]]).reshape(1, -1, 1, 1)
    floors = [settings.luma_floor, settings.chroma_floor, settings.chroma_floor]
    floor = drawn.new_tensor(floors[: drawn.shape[1]]).reshape(1, -1, 1, 1)
    weights = []
    for axis in (2, 3):
        step = drawn.diff(dim=axis).square().mean(dim=1, keepdim=True)
        weights.append(smoothness * (floor + (1 - floor) / (1 + step / settings.edge**2)))

    def normal_operator(correction: Tensor) -> Tensor:
        result = gaussian_blur(correction, COLOR_BAND_SIGMA_PX * math.sqrt(2))
        for axis, weight in zip((2, 3), weights, strict=True):
            flow = weight * correction.diff(dim=axis)
            length = correction.shape[axis] - 1
            result.narrow(axis, 1, length).add_(flow)
            result.narrow(axis, 0, length).sub_(flow)
        return result

    def solve(correction: Tensor, left: Tensor) -> Tensor:
        before, missing = _to_opponent(correction), _to_opponent(correction + left)
        start = before + gaussian_blur(missing - before, COLOR_BAND_SIGMA_PX)
        goal = gaussian_blur(missing, COLOR_BAND_SIGMA_PX * math.sqrt(2))
        return _from_opponent(_conjugate_gradients(normal_operator, goal, start, settings.solver_steps) - before)

    return solve


def _full_solver(
    down: tuple[AxisWeights, ...], up: tuple[AxisWeights, ...], settings: ConsistencySettings
) -> Callable[[Tensor, Tensor], Tensor]:
    """Back-projection at the source's size: D after U is itself a small operator there."""
    rows, columns = (compose_weights(outer, inner) for outer, inner in zip(down, up, strict=True))

    def solve(_correction: Tensor, left: Tensor) -> Tensor:
        update = torch.zeros_like(left)
        for _ in range(settings.full_steps):
            update += left - apply_separable(update, rows, columns)
        return update

    return solve


def _conjugate_gradients(operator: Callable[[Tensor], Tensor], goal: Tensor, start: Tensor, steps: int) -> Tensor:
    """Solves operator(x) = goal for each channel separately (Hestenes and Stiefel, 1952)."""
    solution = start.clone()
    residual = goal - operator(solution)
    direction = residual.clone()
    energy = residual.square().sum(dim=(2, 3), keepdim=True)
    for _ in range(steps):
        image = operator(direction)
        step = energy / (direction * image).sum(dim=(2, 3), keepdim=True).clamp(min=1e-20)
        solution += step * direction
        residual -= step * image
        reduced = residual.square().sum(dim=(2, 3), keepdim=True)
        direction = residual + reduced / energy.clamp(min=1e-20) * direction
        energy = reduced
    return solution


def _to_opponent(difference: Tensor) -> Tensor:
    """RGB differences to luma and color differences, without the offset that images carry."""
    if difference.shape[1] == 1:
        return difference
    return rgb_to_ycbcr(difference) - _neutral(difference)


def _from_opponent(difference: Tensor) -> Tensor:
    if difference.shape[1] == 1:
        return difference
    return ycbcr_to_rgb(difference + _neutral(difference))


def _neutral(like: Tensor) -> Tensor:
    return like.new_tensor([0, 0.5, 0.5]).reshape(1, 3, 1, 1)
