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
Conjugate gradients solve for s in windows of the source that overlap; the large image only receives U(s).

Sharpening networks also exceed the source's local color range. Samples outside the range of the source's
5x5 neighborhood are pulled back by firm shrinkage (Gao and Bruce, "WaveShrink with firm shrinkage", 1997):
it removes small excesses such as halos and speckle, and keeps the strongest, the cores of fine lines that
the source could not resolve. The threshold is set so that about 2 % of the samples stay outside. Ground
truth itself has 3 to 7 % of them on Set5, a sharpening network up to 47 %. An area whose tone has drifted is
outside that range as a whole, and pulling it back sample by sample would imprint the steps of the range on
it. So a first, much smoother correction moves areas back before the range is applied.

The work is a few passes over the enlargement in bands of rows, and maps of the source's size. Each pass adds a correction,
limits overshoot and reduces the result for the next solution. So a large enlargement may be in a file.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.bands import iterate_bands_around
from ..imaging.color import opponent_to_rgb, rgb_to_luma, rgb_to_opponent
from ..imaging.drift import COLOR_BAND_SIGMA_PX, OVERSHOOT_TOLERANCE, SourceRange, Survey, SurveyCounts
from ..imaging.filters import gaussian_blur
from ..imaging.resample import AxisWeights, apply_separable, compose_weights, restrict_weights
from ..imaging.rows import (
    MappedRows,
    MappedSource,
    NewMap,
    PartSource,
    Resized,
    Rows,
    RowSource,
    TensorRows,
    band_rows,
    copy_rows,
    has_grey_rows,
    maps_in_memory,
    resize_rows,
)
from ..imaging.tensors import check_pair
from ..networks.threads import on_free_cores
from ..progress import Progress, part_of
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
    tone_steps: int = 8
    """Conjugate-gradient steps of the smooth first correction."""
    solver_steps: int = 10
    """Conjugate-gradient steps of the correction after it."""
    later_steps: int = 2
    """Conjugate-gradient steps of the others, which have little left to correct."""
    overshoot_share: float = 0.018
    """Share of samples that may stay outside the source's local range; 1 allows all of them."""
    thresholds: tuple[float | None, ...] = ()
    """Overshoot thresholds of the corrections, from `find_thresholds`, in place of those of the image itself, so that parts of
    one picture are corrected alike. None limits nothing."""
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


@on_free_cores()
def project_(
    image: Tensor,
    reference: Tensor,
    mode: ConsistencyMode = "color",
    settings: ConsistencySettings | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """`project`, in place: overwrites the enlargement, which saves a copy."""
    check_pair(image, reference)
    for index in range(image.shape[0]):
        source = reference[index % reference.shape[0]].unsqueeze(0).to(image.device)
        colors = bleed_colors(source) if source.shape[1] == 4 else source
        target = TensorRows(image[index : index + 1, : min(3, image.shape[1])])
        part = part_of(progress, index / image.shape[0], (index + 1) / image.shape[0])
        project_rows(target, TensorRows(colors), mode, settings, part)
    return image


def find_thresholds(target: Rows, source: RowSource, mode: ConsistencyMode = "color") -> tuple[float | None, ...]:
    """Projects one image in place and returns the overshoot threshold of each correction, for its like.

    Args:
        target: The enlargement, ``(1, 1 or 3, H, W)``; overwritten.
        source: ``(1, 1 or 3, h, w)``, colors only.
        mode: See `project`.
    """
    found: list[float | None] = []
    project_rows(target, source, mode, found=found)
    return tuple(found)


@on_free_cores()
def project_rows(
    target: Rows,
    source: RowSource,
    mode: ConsistencyMode = "color",
    settings: ConsistencySettings | None = None,
    progress: Progress | None = None,
    new_map: NewMap | None = None,
    surveys: bool = False,
    found: list[float | None] | None = None,
) -> Survey | None:
    """Projects one image in place, in bands.

    Args:
        target: The enlargement, ``(1, 1 or 3, H, W)``; overwritten.
        source: ``(1, 1 or 3, h, w)``, colors only.
        mode: See `project`.
        settings: Constants; the defaults if not given.
        progress: Called after each band.
        new_map: Creates the maps of the source's size; in memory if not given.
        surveys: Whether the result is surveyed on the way.
        found: Gets the overshoot threshold of each correction.

    Returns:
        What `fidelity.imaging.drift.survey_rows` would return for the result, if asked for; None also if nothing was corrected,
        or if grey or reduced images were projected instead.

    Raises:
        RefusedError: If the mode is unknown.
    """
    if mode not in ("color", "full"):
        raise RefusedError(f"mode is {mode!r}; wanted 'color' or 'full'")
    given = target, source
    if target.shape[1] == 1 and source.shape[1] == 3:
        source = MappedSource(source, rgb_to_luma, 1)
    elif target.shape[1] == 3 and has_grey_rows(source):
        target = MappedRows(target, rgb_to_luma, 1, lambda luma: luma.expand(-1, 3, -1, -1))
        source = PartSource(source, slice(0, 1))
    new_map = new_map or maps_in_memory(target.device)
    size = (min(source.shape[2], target.shape[2]), min(source.shape[3], target.shape[3]))
    if size != source.shape[2:]:
        smaller = new_map((1, source.shape[1], *size))
        resize_rows(source, smaller)
        source = smaller
    surveys = surveys and given == (target, source)
    projection = _Projection(target, source, mode, settings or ConsistencySettings(), progress, new_map, surveys)
    survey = projection.run()
    if found is not None:
        found += projection.thresholds()
    return survey


class _Projection:
    """The projection of one image onto a source that is no larger."""

    def __init__(
        self,
        target: Rows,
        source: RowSource,
        mode: ConsistencyMode,
        settings: ConsistencySettings,
        progress: Progress | None,
        new_map: NewMap,
        surveys: bool,
    ) -> None:
        self._surveys = surveys
        self._target, self._mode, self._settings = target, mode, settings
        self._progress, self._done, self._total = progress, 0, 0
        shape = (1, target.shape[1], *source.shape[2:])
        self._wanted = MappedSource(source, lambda band: band.clamp(0, 1), source.shape[1])
        self._seen, self._update, self._correction, self._raw = (new_map(shape) for _ in range(4))
        self._shrunk = Resized(target, source.shape[2:])
        self._grown = Resized(self._update, target.shape[2:])
        self._allowed = SourceRange(self._wanted, target.shape[2:])
        self._survey: Survey | None = None
        self._place, self._found = 0, dict[int, float | None]()

    def run(self) -> Survey | None:
        """Overwrites the target, and returns its survey, if asked for; None if nothing was corrected."""
        settings = self._settings
        solve = partial(_solve_colors, settings=settings)
        if self._mode == "color":
            solvers = [
                partial(solve, steps=settings.tone_steps, enough=_TONE_DRIFT, stiffness=settings.tone_smoothness),
                partial(solve, steps=settings.solver_steps, enough=_ANY_DRIFT),
            ]
            solvers += [partial(solve, steps=settings.later_steps, enough=_LATE_DRIFT)] * (settings.rounds - 1)
        else:
            pairs = zip(self._shrunk.weights, self._grown.weights, strict=True)
            axes = [compose_weights(outer, inner) for outer, inner in pairs]
            solvers = [partial(_solve_full, axes=axes, settings=settings)] * settings.rounds
        self._total = (1 + len(solvers)) * self._target.shape[2] + len(solvers) * self._seen.shape[2]
        self._sweep(corrects=False)
        copy_rows(self._seen, self._raw)
        for rows in band_rows(self._correction):
            self._correction.write(rows, torch.zeros_like(self._seen.read(rows)))
        satisfied = None
        for self._place, solver in enumerate(solvers):
            if solver is not satisfied and self._solve(solver):
                self._sweep(corrects=True)
            else:
                self._report(slice(0, self._target.shape[2] + (self._seen.shape[2] if solver is satisfied else 0)))
                satisfied = solver
        return self._survey

    def thresholds(self) -> list[float | None]:
        """The overshoot threshold of each correction; one that was not needed has that of its neighbor."""
        count = 1 + self._place
        near = [min(self._found, key=lambda one: abs(one - place), default=0) for place in range(count)]
        return [self._found.get(one) for one in near]

    def _solve(self, solve: "Callable[[_Window], Tensor | None]") -> bool:
        """Finds the next update and adds it to the correction; returns whether there is any."""
        is_needed = False
        height, width = self._seen.shape[2:]
        core, context = (_CPU_WINDOW, _CONTEXT_PX) if self._target.device.type == "cpu" else (_GPU_WINDOW, _CONTEXT_PX)
        for rows, wide_rows, inner_rows in iterate_bands_around(height, 1, context, core[0]):
            raw, correction, wanted, seen = (
                part.read(wide_rows) for part in (self._raw, self._correction, self._wanted, self._seen)
            )
            left = wanted - seen
            update = torch.empty_like(raw[:, :, inner_rows])
            for columns, wide_columns, inner_columns in iterate_bands_around(width, 1, context, core[1]):
                parts = raw[..., wide_columns], correction[..., wide_columns].contiguous(), left[..., wide_columns]
                found = solve(_Window(*parts, wide_rows, wide_columns))
                is_needed = is_needed or found is not None
                update[..., columns] = 0 if found is None else found[:, :, inner_rows, inner_columns]
            self._update.write(rows, update)
            self._report(rows)
        for rows in band_rows(self._correction):
            self._correction.write(rows, self._correction.read(rows) + self._update.read(rows))
        return is_needed

    def _sweep(self, corrects: bool) -> None:
        """Passes over the target: corrects it, limits its overshoot, reduces it to the source's size and surveys it."""
        threshold = None
        if corrects and self._mode == "color":
            given = self._settings.thresholds
            threshold = self._found[self._place] = given[self._place] if given else self._find_threshold()
        reducer, counts, is_surveyed = self._shrunk.reducer(), SurveyCounts(), corrects and self._surveys
        for rows in band_rows(self._target):
            band = self._target.read(rows)
            band = self._grown.read(rows).add_(band).clamp_(0, 1) if corrects else band.clamp(0, 1)
            if threshold is not None or is_surveyed:
                allowed = self._allowed.at(rows)
                if threshold is not None:
                    band = limit_overshoot(band, *allowed, threshold)
                if is_surveyed:
                    counts.add(band, band, *allowed)
            self._target.write(rows, band)
            finished = reducer.add(band)
            if finished:
                self._seen.write(*finished)
            self._report(rows)
        if is_surveyed:
            small = MappedSource(self._seen, lambda band: band.clamp(0, 1), self._seen.shape[1])
            self._survey = counts.survey(small, self._wanted, self._target)

    def _find_threshold(self) -> float | None:
        """The overshoot threshold after the update, from stripes that are spread over the target."""
        height, width = self._target.shape[2:]
        period = max(16, -(-height // _STRIPES))
        stripe = min(period, max(2, round(period * _STRIPE_PIXELS / (height * width))))
        counter = OvershootCounter(self._settings.overshoot_share, self._target.device)
        for top in range(0, height, period):
            rows = slice(top, min(top + stripe, height))
            band = self._grown.read(rows).add_(self._target.read(rows)).clamp_(0, 1)
            counter.add(band, *self._allowed.at(rows, ahead=0))
        return counter.threshold()

    def _report(self, rows: slice) -> None:
        self._done += rows.stop - rows.start
        if self._progress:
            self._progress(self._done, self._total)


_CPU_WINDOW = (512, 1024)
"""(height, width) in source pixels that are solved at once: a few maps of this size fit the cache of a CPU."""
_GPU_WINDOW = (2048, 4096)
_CONTEXT_PX = 32
"""Source pixels around a window that are solved with it, so that windows agree where they meet."""
_STRIPES = 48
_STRIPE_PIXELS = 2**18
"""Pixels of a large target that its overshoot is counted in."""


@dataclass(frozen=True)
class _Window:
    """A part of the maps, ``(1, C, h, w)`` each."""

    raw: Tensor
    """The raw output, reduced."""
    correction: Tensor
    """All corrections so far."""
    left: Tensor
    """Difference that is left between source and reduced target."""
    rows: slice
    """Position in the source."""
    columns: slice
    """Position in the source."""


class OvershootCounter:
    """Finds the threshold above which only a given share of all samples exceeds the source's local range."""

    def __init__(self, share: float, device: torch.device) -> None:
        """Starts counting.

        Args:
            share: Share of samples that may stay outside, in [0, 1]; the strongest stay.
            device: Device of the bands.
        """
        self._share = share
        self._counts = torch.zeros(_EXCESS_BINS, device=device)
        self._samples = 0

    def add(self, band: Tensor, lowest: Tensor, highest: Tensor) -> None:
        """Counts some samples and the range that each may have."""
        excess = torch.maximum(lowest - band, band - highest)
        outside = (excess > OVERSHOOT_TOLERANCE).sum(dim=1)
        place = (excess.amax(dim=1) * _EXCESS_BINS).long().clamp_(0, _EXCESS_BINS - 1)
        self._counts.index_add_(0, place.flatten(), outside.flatten().float())
        self._samples += band.numel()

    def threshold(self) -> float | None:
        """Returns the threshold; None if nothing needs to be limited."""
        above = self._counts.flip(0).cumsum(0).flip(0)
        threshold = int((above > self._share * self._samples).sum()) / _EXCESS_BINS
        return threshold if threshold > _TOLERANCE else None


def limit_overshoot(band: Tensor, lowest: Tensor, highest: Tensor, threshold: float) -> Tensor:
    """Pulls samples outside their range back; excesses well above the threshold stay.

    Args:
        band: ``(1, C, rows, W)``; overwritten.
        lowest: The lowest allowed value of each sample.
        highest: The highest allowed value of each sample.
        threshold: From `OvershootCounter`.

    Returns:
        The band.
    """
    excess = (band - highest).clamp_(min=0).sub_((lowest - band).clamp_(min=0))
    strongest = excess.abs().amax(dim=1, keepdim=True)
    kept = _FIRM_SPAN * threshold
    between = _TOLERANCE + (strongest - threshold) * (kept - _TOLERANCE) / (kept - threshold)
    limited = torch.where(strongest < threshold, strongest.clamp(max=_TOLERANCE), torch.minimum(between, strongest))
    # One share for all channels of a pixel: limiting only some of them would shift its color.
    return band.addcmul_(excess, 1 - limited / strongest.clamp(min=1e-6), value=-1)


_EXCESS_BINS = 4096
_FIRM_SPAN = 1.8
"""Excesses of at least this many thresholds are kept; below, the limit blends in without a step."""
_TOLERANCE = OVERSHOOT_TOLERANCE - 0.6 / 255
"""Just over half an 8-bit step below the tolerance, so that rounding to a file does not cross it again."""


@dataclass(frozen=True)
class _Enough:
    """A window with less drift than this is left as it is."""

    drift: float
    """Drift of a pixel that counts."""
    share: float
    """Share of the pixels that must have it."""


_TONE_DRIFT = _Enough(OVERSHOOT_TOLERANCE, 0.02)
"""Less moves no area out of its range, and later corrections do the rest."""
_ANY_DRIFT = _Enough(0.0, 0.0)
_LATE_DRIFT = _Enough(0.5 / 255, 0.001)


def _solve_colors(
    window: _Window, settings: ConsistencySettings, steps: int, enough: _Enough, stiffness: float = 1.0
) -> Tensor | None:
    """The weighted least squares of the module docstring; None if there is too little to correct."""
    raw = window.raw
    left = rgb_to_opponent(window.left)
    if enough.share > 0 and _share_beyond(left, enough.drift) < enough.share:
        return None
    before = rgb_to_opponent(window.correction)
    start = gaussian_blur(left, COLOR_BAND_SIGMA_PX) + before
    goal = gaussian_blur(before + left, COLOR_BAND_SIGMA_PX * math.sqrt(2))
    steepness = [raw.diff(dim=axis).square_().mean(dim=1, keepdim=True) for axis in (2, 3)]
    parts = [(slice(0, 1), settings.luma_smoothness, settings.luma_floor)]
    if raw.shape[1] == 3:
        parts.append((slice(1, 3), settings.chroma_smoothness, settings.chroma_floor))
    for channels, smoothness, floor in parts:
        stiff = stiffness * smoothness
        weights = [stiff * (floor + (1 - floor) / (1 + step / settings.edge**2)) for step in steepness]
        operator = partial(_normal_operator, weights=weights)
        _conjugate_gradients(operator, goal[:, channels], start[:, channels], steps)
    return opponent_to_rgb(start - before)


def _share_beyond(left: Tensor, drift: float) -> float:
    """The share of samples that drift by more than this in the color band, measured at half the size, which shows all of it."""
    halved = functional.avg_pool2d(left, 2, ceil_mode=True)
    return (gaussian_blur(halved, COLOR_BAND_SIGMA_PX / 2).abs() > drift).float().mean().item()


def _normal_operator(correction: Tensor, weights: list[Tensor]) -> Tensor:
    """The low-pass of the color band applied twice, plus the cost of variation along the height and the width."""
    result = gaussian_blur(correction, COLOR_BAND_SIGMA_PX * math.sqrt(2))
    for axis, weight in zip((2, 3), weights, strict=True):
        flow = correction.diff(dim=axis).mul_(weight)
        length = correction.shape[axis] - 1
        result.narrow(axis, 1, length).add_(flow)
        result.narrow(axis, 0, length).sub_(flow)
    return result


def _solve_full(window: _Window, axes: list[AxisWeights], settings: ConsistencySettings) -> Tensor:
    """Back-projection at the source's size: D after U is itself a small operator there."""
    rows, columns = (restrict_weights(axis, place) for axis, place in zip(axes, (window.rows, window.columns), strict=True))
    update = torch.zeros_like(window.left)
    for _ in range(settings.full_steps):
        update += window.left - apply_separable(update, rows, columns)
    return update


def _conjugate_gradients(operator: Callable[[Tensor], Tensor], goal: Tensor, solution: Tensor, steps: int) -> None:
    """Solves operator(x) = goal for each channel separately, starting at `solution`, which is overwritten.

    It takes at most `steps` steps, fewer if nothing is left that shows.

    Source: Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    residual = goal - operator(solution)
    direction = residual.clone()
    energy = _dot(residual, residual)
    enough = _INVISIBLE**2 * residual[0, 0].numel()
    for _ in range(steps):
        if energy.max() < enough:
            break
        image = operator(direction)
        step = energy / _dot(direction, image).clamp(min=1e-20)
        solution.addcmul_(step, direction)
        residual.addcmul_(step, image, value=-1)
        reduced = _dot(residual, residual)
        direction.mul_(reduced / energy.clamp(min=1e-20)).add_(residual)
        energy = reduced


_INVISIBLE = 0.002 / 255
"""Root mean square of a residual that is left as it is: less than the solver leaves where it has much to correct."""


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of each channel, ``(1, C, 1, 1)``."""
    pairs = zip(first[0].flatten(1), second[0].flatten(1), strict=True)
    return torch.stack([torch.dot(one, other) for one, other in pairs]).reshape(1, -1, 1, 1)
