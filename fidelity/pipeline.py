"""The whole way from a source to its enlargement: what is decided, what is done, and the figures that prove it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from .decide.damage import Conditions, measure_conditions
from .decide.domain import Verdict, classify, named_verdict
from .decide.model_choice import AUTO_SCALE, ModelChooser, ModelPlan
from .decide.provenance import Provenance
from .decide.recipes import RECIPES, Domain, Recipe, settle
from .decide.target import Target, resolve_target
from .imaging.drift import Drift, measure_drift, overshoot_percent, sharpness
from .networks.device import Precision
from .networks.memory import run_where_room
from .progress import Progress, part_of
from .steps.chain import Between, Pass
from .steps.cleanup import clean
from .steps.consistency import project
from .steps.deband import deband
from .steps.gate import GateResult, gate
from .steps.restore import restore
from .steps.upscale import upscale

StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total), counted over all stages; raising in it cancels the work."""

_STAGES = {
    "restore": (0.0, 0.08),
    "deband": (0.08, 0.1),
    "upscale": (0.1, 0.8),
    "consistency": (0.8, 0.92),
    "gate": (0.92, 0.97),
    "cleanup": (0.97, 1.0),
}
"""Where each stage begins and ends in one count of all, about as long as they take on a CPU."""


@dataclass(frozen=True)
class Order:
    """What a user asks for; everything else is decided from the image."""

    target: Target = field(default_factory=Target)
    """How large the result is to be."""
    domain: Domain | Literal["auto"] = "auto"
    """What kind of image it is; "auto" lets file and pixels decide."""
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Settings of the recipe that the user chose, by name; those on "auto" or None are left to the recipe."""


@dataclass(frozen=True)
class Decision:
    """What will be done to an image, and why."""

    verdict: Verdict
    """What kind of image it is."""
    conditions: Conditions
    """What was measured of it."""
    recipe: Recipe
    """Every setting, none of them "auto"."""
    reasons: tuple[str, ...]
    """Which measurement switched which setting, and what was asked for and could not be had, in words."""
    planned: ModelPlan
    """The passes and their networks."""


@dataclass(frozen=True)
class Drawn:
    """An image as the networks made it."""

    image: Tensor
    """``(B, C, H, W)`` in [0, 1]."""
    reference: Tensor
    """The source as it was sent to them, mended where the recipe says so: what the image is to be held to."""
    passes: tuple[Pass, ...]
    """How it was made, mending first."""


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
    notes: tuple[str, ...]
    """What was planned and not done, in words."""
    seconds: float
    """Wall time of all steps."""


def decide(
    image: Tensor, chooser: ModelChooser, order: Order, memory_bytes: int, provenance: Provenance | None = None
) -> Decision:
    """Decides everything about an enlargement before any of it is done.

    Args:
        image: ``(B, C, H, W)``; of a batch, the first image decides.
        chooser: The networks that there are.
        order: What is wanted.
        memory_bytes: What may be held at once.
        provenance: What the image's file says of it.

    Raises:
        ModelRefusedError: If no network is usable.
        ValueError: If the target cannot be made in that memory, or is too large to be written.
    """
    size, first = (image.shape[2], image.shape[3]), image[:1]
    target = resolve_target(size, order.target, chooser.fixed.scale if chooser.fixed else AUTO_SCALE)
    verdict = classify(first, provenance) if order.domain == "auto" else named_verdict(order.domain)
    conditions = measure_conditions(first)
    chosen = {name: value for name, value in order.changes.items() if value not in ("auto", None)}
    recipe, reasons = settle(replace(RECIPES[verdict.recipe_domain], **chosen), conditions)
    planned = chooser.plan(recipe, size, target, memory_bytes, image.shape[1])
    if planned.restorer and recipe.passes == "stepwise" and "passes" not in chosen:
        recipe = replace(recipe, passes="direct")
        reasons += ("passes direct after all: a network restores the source first",)
        planned = chooser.plan(recipe, size, target, memory_bytes, image.shape[1])
    if recipe.channels == "rgb" and _draws_luma_alone(planned):
        recipe = replace(recipe, channels="luma")
        reasons += ("channels luma after all: the network redraws luma alone",)
    return Decision(verdict, conditions, recipe, reasons + planned.notes, planned)


def run_passes(
    image: Tensor,
    decision: Decision,
    device: torch.device | None = None,
    precision: Precision = "auto",
    tile: int | None = None,
    progress: StageProgress | None = None,
) -> Drawn:
    """Runs the planned passes: mends the source if the recipe says so, then takes it through the networks, block by block.

    Memory beyond the source, the target and a mended copy of the source is that of one block, whatever the target.

    Args:
        image: ``(B, C, H, W)``, of the size that was decided on.
        decision: From `decide`.
        device: Where the networks run; the image's if not given.
        precision: See `fidelity.networks.device.choose_dtype`.
        tile: Side of a network's tile in pixels; by memory if not given.
        progress: Told about every part of the work.

    Raises:
        ValueError: If the image is not of the size that was decided on, or the recipe is not settled.
    """
    size, planned, recipe = (image.shape[2], image.shape[3]), decision.planned, decision.recipe
    if size != planned.plan.source:
        seen, wanted = (f"{width}x{height} px" for height, width in (size, planned.plan.source))
        raise ValueError(f"the image is {seen}, the plan is for {wanted}; wanted one size")
    if recipe.channels == "auto":
        raise ValueError("the recipe has channels on auto; wanted a recipe that was settled")
    passes: tuple[Pass, ...] = ()
    reference = image
    if recipe.restore not in ("auto", "off"):
        started, part = time.perf_counter(), _stage(progress, "restore")
        damage = decision.conditions.damage_sigma
        reference = restore(image, planned.restorer, damage, recipe.restore_spread, device, precision, tile, part)
        name = planned.restorer.name if planned.restorer else None
        passes = (Pass("restore", 1.0, None, time.perf_counter() - started, name),)
    if recipe.deband == "on":
        started = time.perf_counter()
        reference = deband(reference, progress=_stage(progress, "deband"))
        passes += (Pass("deband", 1.0, None, time.perf_counter() - started),)
    between = None
    if recipe.passes == "stepwise":
        between = Between(recipe.between, 0.0 if planned.restorer else decision.conditions.noise_sigma)
    part = _stage(progress, "upscale")
    drawn = upscale(reference, planned.models, planned.plan.target, recipe.channels, device, precision, tile, part, between)
    return Drawn(drawn.image, reference, passes + drawn.passes)


def enlarge(
    image: Tensor,
    decision: Decision,
    device: torch.device | None = None,
    precision: Precision = "auto",
    tile: int | None = None,
    progress: StageProgress | None = None,
) -> Enlargement:
    """Does what was decided.

    Args:
        image: ``(B, C, H, W)``, the source.
        decision: From `decide`, for this image or one of its size.
        device: Where to compute; the image's if not given.
        precision: See `fidelity.networks.device.choose_dtype`.
        tile: Side of a network's tile in pixels; by memory if not given.
        progress: Told about every part of the work.

    Returns:
        The enlargement on the image's device, with its figures.
    """
    started = time.perf_counter()
    recipe, device = decision.recipe, device or image.device
    drawn = run_passes(image, decision, device, precision, tile, progress)
    result, reference = drawn.image, drawn.reference
    raw_sharpness = sharpness(result)
    if recipe.consistency != "off":
        mode, part = recipe.consistency, _stage(progress, "consistency")
        result = run_where_room(lambda near: project(near, reference, mode, progress=part), result, reference, device)
        result = result.to(image.device)
    judged, held = None, None
    if recipe.gate != "off":
        judged = gate(result, reference, recipe.gate, recipe.gate_limits)
        result, held = judged.image, judged.after
    _report(progress, "gate")
    passes, notes = drawn.passes, list[str]()
    if recipe.cleanup not in ("auto", "off"):
        before = time.perf_counter()
        cleaned = clean(result, recipe.cleanup, recipe.cleanup_strength, progress=_stage(progress, "cleanup"))
        drift = measure_drift(reference, cleaned)
        limits = recipe.gate_limits
        if held and (drift.mean > max(limits.mean, held.mean) or drift.max > max(limits.max, held.max)):
            notes.append(f"cleanup {recipe.cleanup} was undone: it moved colours by {drift.max:.2f}")
        else:
            result, held = cleaned, drift
            passes += (Pass("clean", 1.0, None, time.perf_counter() - before),)
    _report(progress, "cleanup")
    return Enlargement(
        image=result,
        passes=passes,
        color_drift=held if held and reference is image else measure_drift(image, result),
        full_drift=measure_drift(image, result, "full"),
        sharpness_ratio=sharpness(result) / raw_sharpness if raw_sharpness > 0 else 1.0,
        overshoot_percent=overshoot_percent(image, result),
        gate=judged,
        notes=tuple(notes),
        seconds=time.perf_counter() - started,
    )


def _draws_luma_alone(planned: ModelPlan) -> bool:
    return planned.choice.is_luma or any(model.descriptor.output_channels == 1 for model in planned.models)


def _stage(progress: StageProgress | None, name: str) -> Progress | None:
    """The progress of one stage, as its part of one count over all stages."""
    return part_of(lambda done, total: progress(name, done, total), *_STAGES[name]) if progress else None


def _report(progress: StageProgress | None, name: str) -> None:
    """Says that a stage is done."""
    part = _stage(progress, name)
    if part:
        part(1, 1)
