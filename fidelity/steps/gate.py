"""The Delta-E gate: passes an enlargement, blends it back where its colors drifted from the source, or rejects it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.drift import Drift, drift_map, summarize_drift
from ..imaging.filters import gaussian_blur, local_range
from ..imaging.resample import resize
from ..imaging.rows import Resized, Rows, RowSource, TensorRows, band_rows, copy_rows, image_of
from ..imaging.tensors import check_pair
from .alpha import bleed_colors

GateAction = Literal["blend", "reject", "report"]
"""What to do with an image that fails: blend the failing regions toward the fallback, return the fallback
instead, or only report it."""

_ROUNDS = 8
_REACH_PX = 5


@dataclass(frozen=True)
class GateLimits:
    """The largest CIEDE2000 drift that passes, on the color band at the source's size."""

    mean: float = 1.0
    """Mean over the image; about 1 is just noticeable side by side."""
    max: float = 3.0
    """Maximum of any pixel."""


@dataclass(frozen=True)
class GateVerdict:
    """The gate's decision and the measurements behind it."""

    action: Literal["pass", "blend", "reject", "report"]
    """What it did; "pass" means that the image was within the limits and is returned unchanged."""
    passed: bool
    """Whether the input was within the limits."""
    before: Drift
    """Drift of the input."""
    after: Drift
    """Drift of the output."""
    blended_share: float
    """Share of the area that was blended back, in [0, 1]."""
    difference: Tensor
    """``(B, 1, h, w)`` CIEDE2000 map of the input, at the source's size."""


@dataclass(frozen=True)
class GateResult(GateVerdict):
    """The gate's decision with the resulting image."""

    image: Tensor
    """``(B, C, H, W)``: the image itself, the blend, or the fallback."""


def gate(
    image: Tensor,
    reference: Tensor,
    action: GateAction = "blend",
    limits: GateLimits | None = None,
    fallback: Tensor | None = None,
) -> GateResult:
    """Compares an enlargement with its source and acts where colors drifted.

    Args:
        image: The enlargement, ``(B, C, H, W)``.
        reference: The source, ``(B or 1, C, h, w)``.
        action: What to do when the limits are exceeded.
        limits: Mean and maximum CIEDE2000; the defaults if not given.
        fallback: A safe enlargement of the image's shape; a bicubic enlargement of the source if not given.

    Returns:
        The decision. With "blend", each image of a batch is blended only where needed and as little as needed to pass.

    Raises:
        RefusedError: If the shapes do not match, a limit is negative or the action is unknown.
    """
    check_pair(image, reference)
    limits = limits or GateLimits()
    if fallback is not None and fallback.shape != image.shape:
        raise RefusedError(f"fallback is {tuple(fallback.shape)}, image {tuple(image.shape)}; wanted equal shapes")
    reference = reference.to(image.device)
    difference = drift_map(reference, image)
    acts = action != "report" and not all(_within(one, limits) for one in difference)
    output = image.clone() if acts else image

    def find_safe(index: int) -> RowSource:
        source = reference[index % reference.shape[0]].unsqueeze(0)
        safe = safe_enlargement(source, output[index : index + 1]) if fallback is None else fallback[index : index + 1]
        return TensorRows(safe.to(image))

    def measure(index: int) -> Tensor:
        return drift_map(reference[index % reference.shape[0]].unsqueeze(0), output[index : index + 1])

    verdict = gate_rows(TensorRows(output), find_safe, measure, action, limits, difference)
    return GateResult(**vars(verdict), image=output)


def gate_rows(
    target: Rows,
    find_safe: Callable[[int], RowSource],
    measure: Callable[[int], Tensor],
    action: GateAction,
    limits: GateLimits,
    difference: Tensor,
) -> GateVerdict:
    """Acts, in place, on images that are read and written in bands; see `gate`.

    Args:
        target: The enlargement, ``(B, C, H, W)``.
        find_safe: Returns a safe enlargement of one image of the batch, ``(1, C, H, W)``.
        measure: Returns the CIEDE2000 map of one image of the target as it is, ``(1, 1, h, w)``.
        action: What to do when the limits are exceeded.
        limits: Mean and maximum CIEDE2000.
        difference: ``(B, 1, h, w)``: the maps before anything is changed.

    Raises:
        RefusedError: If a limit is negative or the action is unknown.
    """
    if action not in ("blend", "reject", "report"):
        raise RefusedError(f"action is {action!r}; wanted 'blend', 'reject' or 'report'")
    if min(limits.mean, limits.max) < 0:
        raise RefusedError(f"limits are {limits.mean} mean and {limits.max} max; wanted 0 or more")
    before, batch = summarize_drift(difference), target.shape[0]
    failing = [index for index in range(batch) if not _within(difference[index], limits)]
    if not failing or action == "report":
        return GateVerdict("report" if failing else "pass", not failing, before, before, 0.0, difference)
    share, after = 0.0, difference.clone()
    for index in failing:
        image, safe = image_of(target, index), find_safe(index)
        if action == "reject":
            copy_rows(safe, image)
            share += 1
        else:
            share += _blend_back(image, safe, partial(measure, index), difference[index : index + 1], limits)
        after[index : index + 1] = measure(index)
    return GateVerdict(action, False, before, summarize_drift(after), share / batch, difference)


def safe_enlargement(source: Tensor, like: Tensor) -> Tensor:
    """A bicubic enlargement of the source to the shape of `like`: soft, but with the right colors."""
    colors = bleed_colors(source) if source.shape[1] == 4 else source
    channels = like.shape[1]
    size = (like.shape[2], like.shape[3])
    enlarged = resize(colors.expand(-1, min(3, max(channels, colors.shape[1])), -1, -1).float(), size)
    if channels == 1 and enlarged.shape[1] == 3:
        enlarged = enlarged.mean(dim=1, keepdim=True)
    if channels == 4:
        alpha = resize(source[:, 3:4].float(), size) if source.shape[1] == 4 else torch.ones_like(enlarged[:, :1])
        enlarged = torch.cat((enlarged, alpha), dim=1)
    return enlarged.clamp_(0, 1).to(like.dtype)


def paint_heat_map(difference: Tensor, limit: float = GateLimits.max) -> Tensor:
    """Renders a CIEDE2000 map as a heat map: black for 0, then blue, green and yellow, red at the limit and above.

    Args:
        difference: ``(B, 1, h, w)``.
        limit: The difference shown as red.

    Returns:
        ``(B, 3, h, w)`` in [0, 1].
    """
    stops = difference.new_tensor([[0, 0, 0], [0, 0.2, 0.7], [0, 0.65, 0.35], [0.95, 0.85, 0.1], [0.9, 0.05, 0.05]])
    place = (difference[:, 0] / max(limit, 1e-6)).clamp(0, 1) * (len(stops) - 1)
    lower = place.floor().clamp(max=len(stops) - 2)
    share = (place - lower).unsqueeze(-1)
    index = lower.long()
    return (stops[index] * (1 - share) + stops[index + 1] * share).permute(0, 3, 1, 2)


def _within(difference: Tensor, limits: GateLimits) -> bool:
    return difference.mean().item() <= limits.mean and difference.max().item() <= limits.max


def _blend_back(target: Rows, safe: RowSource, measure: Callable[[], Tensor], difference: Tensor, limits: GateLimits) -> float:
    """Blends one image toward `safe`, in place, as far as the limits require; returns the share of the area changed."""
    weight = torch.zeros_like(difference)
    blended = weight
    for attempt in range(_ROUNDS):
        cap = _cap(difference, limits)
        # Blending lowers the difference about linearly, so this share of the fallback brings it down to the aim.
        aim = 0.9 * cap * (1 - attempt / _ROUNDS)
        needed = (1 - aim / difference.clamp(min=1e-6)).clamp(min=0) * (difference > cap)
        weight = weight + (1 - weight) * local_range(needed, _REACH_PX)[1]
        before, blended = blended, gaussian_blur(weight, 1.0).maximum(weight * (attempt == _ROUNDS - 1))
        _mix(target, safe, before, blended)
        difference = measure()
        if _within(difference, limits):
            return (weight > 0).float().mean().item()
    copy_rows(safe, target)
    return 1.0


def _cap(difference: Tensor, limits: GateLimits) -> float:
    """The cap on per-pixel differences that brings both maximum and mean within their limits."""
    cap = limits.max
    while cap > 1e-6 and difference.clamp(max=cap).mean().item() > 0.95 * limits.mean:
        cap *= 0.9
    return cap


def _mix(target: Rows, safe: RowSource, before: Tensor, wanted: Tensor) -> None:
    """Raises the share of `safe` in the target from one map, ``(1, 1, h, w)``, to another."""
    maps = [Resized(TensorRows(share), target.shape[2:]) for share in (before, wanted)]
    for rows in band_rows(target):
        old, new = (share.read(rows).clamp_(0, 1) for share in maps)
        step = ((new - old) / (1 - old).clamp(min=1e-6)).clamp_(0, 1)
        if step.any():
            target.write(rows, torch.lerp(target.read(rows), safe.read(rows), step))
