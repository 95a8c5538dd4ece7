"""The whole way from a source to its enlargement: network, consistency, gate, and the figures that prove it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ..imaging.drift import Drift, measure_drift, overshoot_percent, sharpness
from ..models.device import Precision, run_where_room
from ..models.loader import Model
from ..progress import Progress
from ..steps.consistency import project
from ..steps.gate import GateResult, gate
from ..steps.upscale import Pass, Upscaled, upscale
from .planning import Target, resolve_target
from .recipes import Recipe

StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total); raising in it cancels the work."""


@dataclass(frozen=True)
class Enlargement:
    """A finished image and what there is to say of it."""

    image: Tensor
    """``(B, C, H, W)`` in [0, 1]."""
    passes: tuple[Pass, ...]
    """How it was enlarged."""
    color_drift: Drift
    """CIEDE2000 against the source on the color band."""
    full_drift: Drift
    """The same with every frequency."""
    sharpness_ratio: float
    """Sharpness against the network's raw output."""
    overshoot_percent: float
    """Share of samples outside the source's local range."""
    gate: GateResult | None
    """The gate's decision; None if it was off."""
    seconds: float
    """Wall time of all steps."""


def enlarge(
    image: Tensor,
    model: Model | Sequence[Model],
    recipe: Recipe,
    target: Target | None = None,
    device: torch.device | None = None,
    precision: Precision = "auto",
    tile: int | None = None,
    progress: StageProgress | None = None,
) -> Enlargement:
    """Enlarges an image as a recipe says.

    Args:
        image: ``(B, C, H, W)``, the source.
        model: The network, or several for one pass each, in order.
        recipe: Every other setting.
        target: Size wanted; what the networks give if not given.
        device: Where to compute; the image's if not given.
        precision: See `fidelity.models.device.choose_dtype`.
        tile: Side of a tile in pixels; by memory if not given.
        progress: Told about every part of the work.

    Returns:
        The enlargement on the image's device, with its figures.
    """
    started = time.perf_counter()
    device = device or image.device
    scale = model.scale if isinstance(model, Model) else prod(one.scale for one in model)
    size = resolve_target((image.shape[2], image.shape[3]), target or Target(), scale)
    upscaled = upscale(image, model, size, recipe.channels, device, precision, tile, _stage(progress, "upscale"))
    raw_sharpness = sharpness(upscaled.image)
    result, home = upscaled.image, image.device
    if recipe.consistency != "off":
        mode, report = recipe.consistency, _stage(progress, "consistency")
        result = run_where_room(lambda near: project(near, image, mode, progress=report), result, image, device).to(home)
    decision = None
    if recipe.gate != "off":
        decision = gate(result, image, recipe.gate, recipe.gate_limits)
        result = decision.image
    return _measured(result, image, upscaled, raw_sharpness, decision, time.perf_counter() - started)


def _measured(
    result: Tensor, source: Tensor, upscaled: Upscaled, raw_sharpness: float, decision: GateResult | None, seconds: float
) -> Enlargement:
    return Enlargement(
        image=result,
        passes=upscaled.passes,
        color_drift=decision.after if decision else measure_drift(source, result),
        full_drift=measure_drift(source, result, "full"),
        sharpness_ratio=sharpness(result) / raw_sharpness if raw_sharpness > 0 else 1.0,
        overshoot_percent=overshoot_percent(source, result),
        gate=decision,
        seconds=seconds,
    )


def _stage(progress: StageProgress | None, name: str) -> Progress | None:
    return (lambda done, total: progress(name, done, total)) if progress else None
