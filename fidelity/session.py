"""A session: settings, networks and compute, bound once and reused for many images."""

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from .decide.decision import Decision, decide
from .decide.grain import judge_grain, rules_out_grain
from .decide.model_choice import ModelChooser, Restorer
from .decide.provenance import Provenance
from .decide.recipes import Recipe
from .decide.settings import Settings
from .decide.target import Target
from .errors import RefusedError, check_type
from .imaging.color import delta_e
from .imaging.drift import (
    Difference,
    Drift,
    DriftBand,
    Survey,
    compare_rows,
    flatten_rows,
    sharpness,
    summarize_drift,
    survey_rows,
)
from .imaging.rows import (
    FileRows,
    MappedSource,
    NewMap,
    PartRows,
    PartSource,
    Resized,
    Rows,
    RowSource,
    TensorRows,
    check_room,
    image_of,
    maps_in_memory,
    read_all,
    resize_rows,
)
from .imaging.tensors import check_image, check_range
from .networks.compute import AUTO_COMPUTE, Compute
from .networks.loader import list_models
from .networks.memory import free_host_bytes, run_where_room
from .networks.threads import adapt_threads, on_free_cores
from .progress import Progress, part_of
from .steps.alpha import bleed_colors
from .steps.chain import Between, Pass
from .steps.cleanup import CleanupMethod, clean, clean_rows
from .steps.consistency import ConsistencySettings, project_, project_rows
from .steps.deband import deband, deband_rows
from .steps.gate import GateVerdict, gate_rows
from .steps.grain import fit_grain, lay_grain
from .steps.reference import estimate_reference
from .steps.restore import restore, restore_rows
from .steps.upscale import upscale, upscale_rows
from .steps.wrap import unwrap_rows, wrap

StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total), where total covers all stages; an exception raised in it cancels the work."""

_STAGES = {
    "restore": (0.0, 0.08),
    "deband": (0.08, 0.1),
    "upscale": (0.1, 0.5),
    "consistency": (0.5, 0.9),
    "gate": (0.9, 0.96),
    "cleanup": (0.96, 0.98),
    "grain": (0.98, 1.0),
}
"""Start and end of each stage as shares of the whole, roughly as long as each takes on a CPU."""


@dataclass(frozen=True)
class RawOutput:
    """What the networks produced, before colors are made consistent."""

    rows: Rows
    """``(B, C, H, W)`` in [0, 1], as rows."""
    reference_rows: RowSource
    """What the image is made consistent with, as rows: the source after any restoration, or, for networks that restore on their
    own, the estimate of `fidelity.steps.reference`."""
    passes: tuple[Pass, ...]
    """Every step so far, restoration first."""

    @property
    def image(self) -> Tensor:
        """``(B, C, H, W)`` in [0, 1]."""
        return read_all(self.rows)

    @property
    def reference(self) -> Tensor:
        """``(B, C, h, w)`` in [0, 1]: what the image is made consistent with; the source itself if nothing was restored."""
        return read_all(self.reference_rows)


@dataclass(frozen=True)
class Enlargement:
    """A finished image and what was decided, done and measured."""

    rows: Rows
    """``(B, C, H, W)`` in [0, 1], as rows: in memory, on the source's device, or in a temporary file."""
    decision: Decision
    """What was decided, and why."""
    passes: tuple[Pass, ...]
    """Every step with its time."""
    color_drift: Drift
    """CIEDE2000 against the source, on the color band."""
    full_drift: Drift
    """The same at all frequencies."""
    sharpness_ratio: float
    """Sharpness relative to the network's raw output."""
    overshoot_percent: float
    """Percentage of samples outside the source's local range."""
    gate: GateVerdict | None
    """The gate's decision; None if it was off."""
    held_drift: Drift | None
    """CIEDE2000 of the finished image against what the gate compared with; None if it was off."""
    notes: tuple[str, ...]
    """What was decided while it was made: steps that were undone, or grain that was added back, as readable text."""
    seconds: float
    """Wall time of all steps."""

    @property
    def image(self) -> Tensor:
        """``(B, C, H, W)`` in [0, 1]; all of it in memory."""
        return read_all(self.rows)


class Session:
    """Enlarges images, one after another, with the same settings.

    Networks are loaded once per process and shared. Several threads may use a session, each with its own images.
    """

    def __init__(
        self, settings: Settings | None = None, compute: Compute = AUTO_COMPUTE, models: Mapping[str, Path] | None = None
    ) -> None:
        """Binds settings and looks up the networks.

        Args:
            settings: The user's settings; everything is automatic if not given.
            compute: Where and how networks run.
            models: Model files by name, from `fidelity.networks.loader.list_models`; the shipped ones if not given.

        Raises:
            ModelNotFoundError: If the settings name a model that does not exist.
            ModelRefusedError: If that model is not usable.
        """
        self.settings = settings or Settings()
        self.compute = compute
        check_type(self.settings, Settings, "settings")
        check_type(compute, Compute, "compute")
        compute.check_present()
        self.chooser = ModelChooser(self.settings.model, list_models([]) if models is None else models)

    def within(self, memory_bytes: int) -> "Session":
        """Returns the same session with another memory limit."""
        other = copy(self)
        other.compute = replace(self.compute, memory_bytes=memory_bytes)
        return other

    def aimed_at(self, size: tuple[int, int]) -> "Session":
        """Returns the same session for results of exactly this (height, width)."""
        other = copy(self)
        other.settings = replace(self.settings, target=Target(size=size))
        return other

    @on_free_cores()
    def decide(
        self,
        image: Tensor,
        provenance: Provenance | None = None,
        writer_bytes_per_pixel: float | None = None,
        view: Tensor | None = None,
        is_whole: bool = True,
    ) -> Decision:
        """Decides how an image would be enlarged; see `fidelity.decide.decision.decide`."""
        memory = self.compute.memory_bytes or free_host_bytes()
        more = (provenance, writer_bytes_per_pixel, view, is_whole)
        return decide(image, self.chooser, self.settings, memory, self.compute, *more)

    def run(self, image: Tensor, provenance: Provenance | None = None, progress: StageProgress | None = None) -> Enlargement:
        """Decides how to enlarge an image, then does so.

        Args:
            image: ``(B, C, H, W)``, the source, in [0, 1].
            provenance: What its file says about its origin.
            progress: Called after every part of the work.

        Raises:
            RefusedError: If the image, the target or a network is refused.
        """
        if not isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
            seen = type(image).__name__
            raise RefusedError(f"an image of type {seen}; wanted a tensor (B, C, H, W): fidelity.upscale takes the others")
        image = image.detach()
        check_image(image)
        check_range(image)
        return self.carry_out(image, self.decide(image, provenance), progress)

    def carry_out(
        self, image: Tensor, decision: Decision, progress: StageProgress | None = None, scratch: Path | None = None
    ) -> Enlargement:
        """Carries out a decision for an image, or for another one of its size; see `run` and `carry_out`."""
        return carry_out(image, decision, self.compute, progress, scratch)


@on_free_cores()
def run_passes(
    image: Tensor,
    decision: Decision,
    compute: Compute = AUTO_COMPUTE,
    progress: StageProgress | None = None,
    scratch: Path | None = None,
) -> RawOutput:
    """Runs the planned passes: restores the source if the recipe says so, then runs the networks on it in blocks.

    Besides the source, its restored copy and the target, it needs memory for only one block, whatever the target size. With
    a folder for temporary files, the restored copy and the target are in files.

    Args:
        image: ``(B, C, H, W)``, of the size that the plan is for.
        decision: From `fidelity.decide.decision.decide`.
        compute: Where and how the networks run.
        progress: Called after every part of the work.
        scratch: Folder for the result and the restored source of a single image; they are kept in memory if not given.

    Raises:
        RefusedError: If the image does not have the size that the plan is for, the recipe is not settled, or the folder has too
            little room.
    """
    size, planned, recipe = (image.shape[2], image.shape[3]), decision.planned, decision.recipe
    if size != planned.plan.source:
        seen, wanted = (f"{width}x{height} px" for height, width in (size, planned.plan.source))
        raise RefusedError(f"the image is {seen}, the plan is for {wanted}; wanted equal sizes")
    if recipe.channels == "auto":
        raise RefusedError("the recipe has channels on auto; wanted a settled recipe")
    if scratch:
        check_room(scratch, planned.plan.scratch_bytes)
    source, watch, passes = TensorRows(image), _Watch(), list[Pass]()
    reference: RowSource = source
    if planned.restorer:
        reference = restore_source(reference, planned.restorer, decision, compute, _stage(progress, "restore"), scratch)
        passes.append(Pass("restore", 1.0, None, watch.lap(), planned.restorer.network.name))
    if recipe.deband == "on":
        reference = _deband(reference, _stage(progress, "deband"), scratch)
        passes.append(Pass("deband", 1.0, None, watch.lap()))
    between = None
    if recipe.passes == "stepwise":
        between = Between(recipe.between, 0.0 if planned.restorer else decision.conditions.noise_sigma)
    part = _stage(progress, "upscale")
    given = source if planned.takes_damage else reference
    if scratch is None:
        raw = upscale(read_all(given), planned.models, planned.plan.target, recipe.channels, compute, part, between)
        rows: Rows = TensorRows(raw.image)
        passes += raw.passes
    else:
        rows = FileRows((1, image.shape[1], *planned.plan.target), folder=scratch)
        passes += upscale_rows(given, planned.models, rows, recipe.channels, compute, part, between)
    if planned.takes_damage:
        reference = estimate_reference(rows, source, reference, _maps_in(scratch, image.device))
    return RawOutput(rows, reference, tuple(passes))


def restore_source(
    source: RowSource,
    restorer: Restorer,
    decision: Decision,
    compute: Compute,
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> RowSource:
    """Restores a source as it was decided.

    Args:
        source: ``(B, C, H, W)`` in [0, 1].
        restorer: That of the plan.
        decision: How strongly, and what is known of the damage.
        compute: Where and how the network runs.
        progress: Called after every part of the work.
        scratch: Folder for the result of a single image, which is then not kept in memory.
    """
    network, keeps_colors = restorer.network, not restorer.is_shipped or decision.conditions.is_dithered
    damage, strength = decision.conditions.damage_sigma, decision.restore_strength
    evidence = decision.conditions.evidence if restorer.is_held else None
    settings = (network, damage, keeps_colors, compute, progress, strength, evidence, restorer.half)
    if scratch is None:
        return TensorRows(restore(read_all(source), *settings))
    output = FileRows(source.shape, folder=scratch)
    restore_rows(source, output, *settings, _maps_in(scratch, source.device))
    return output


def _deband(source: RowSource, progress: Progress | None, scratch: Path | None) -> RowSource:
    if scratch is None:
        return TensorRows(deband(read_all(source), progress=progress))
    output = FileRows(source.shape, folder=scratch)
    deband_rows(source, output, progress=progress)
    return output


@on_free_cores()
def carry_out(
    image: Tensor,
    decision: Decision,
    compute: Compute = AUTO_COMPUTE,
    progress: StageProgress | None = None,
    scratch: Path | None = None,
) -> Enlargement:
    """Carries out a decision.

    Args:
        image: ``(B, C, H, W)``, the source.
        decision: From `fidelity.decide.decision.decide`, for this image or another one of its size.
        compute: Where and how to compute.
        progress: Called after every part of the work.
        scratch: Folder for a single image's result and intermediate maps, which are then not kept in memory.

    Returns:
        The enlargement on the image's device, with its metrics.
    """
    if decision.margin:
        shifted = replace(decision, conditions=decision.conditions.shifted(decision.margin.source))
        made = _carry_out(wrap(image, decision.margin.source), shifted, compute, progress, scratch)
        return replace(made, rows=unwrap_rows(made.rows, decision.margin.target), decision=decision)
    return _carry_out(image, decision, compute, progress, scratch)


def _carry_out(
    image: Tensor, decision: Decision, compute: Compute, progress: StageProgress | None, scratch: Path | None
) -> Enlargement:
    """Carries out a decision on an image that already has its margin; the result keeps it."""
    watch = _Watch()
    difference = decision.signal.difference if decision.signal else delta_e
    recipe, source, compare = decision.recipe, TensorRows(image), partial(_compare, difference=difference)
    raw = run_passes(image, decision, compute, progress, scratch)
    result, reference, passes = raw.rows, raw.reference_rows, list(raw.passes)
    is_restored = any(step.kind in ("restore", "deband") for step in passes)
    del raw  # so that the raw output goes as soon as a step replaces it
    watch.lap()
    raw_sharpness = sharpness(result)
    passes.append(Pass("measure", 1.0, None, watch.lap()))
    new_map, survey = _maps_in(scratch, image.device), None
    if recipe.consistency != "off":
        part = _stage(progress, "consistency")
        where = compute.device_for(image)
        result, survey = _make_consistent(result, reference, decision, where, part, scratch, not is_restored)
        passes.append(Pass("consistency", 1.0, None, watch.lap()))
    if survey is None:
        survey = survey_rows(source, result, new_map)
    judged, drift = None, None
    if recipe.gate != "off":
        judged = _judge(result, reference, recipe, survey.small, new_map, compare)
        drift = judged.after
        if judged.action in ("blend", "reject"):
            survey = survey_rows(source, result, new_map)
        passes.append(Pass("gate", 1.0, None, watch.lap()))
    _report(progress, "gate")
    notes: list[str] = []
    if recipe.cleanup not in ("auto", "off"):
        cleaned = _clean(result, recipe.cleanup, recipe.cleanup_strength, _stage(progress, "cleanup"), scratch)
        seen = survey_rows(source, cleaned, new_map)
        after = summarize_drift(compare(reference, seen.small))
        limits = recipe.gate_limits
        if drift and (after.mean > max(limits.mean, drift.mean) or after.max > max(limits.max, drift.max)):
            notes.append(f"cleanup {recipe.cleanup} was undone: it shifted colors by up to {after.max:.2f} CIEDE2000")
        else:
            result, drift, survey = cleaned, after, seen
            passes.append(Pass("clean", 1.0, None, watch.lap()))
    _report(progress, "cleanup")
    if is_restored or not decision.planned.choice.is_shipped:
        is_laid, why = _lay_grain(result, source, survey.small, decision, new_map, _stage(progress, "grain"))
        notes += [why] if why else []
        if is_laid:
            survey = survey_rows(source, result, new_map)
            drift = summarize_drift(compare(reference, survey.small)) if drift else None
            passes.append(Pass("grain", 1.0, None, watch.lap()))
    _report(progress, "grain")
    color = drift if drift and not is_restored else summarize_drift(compare(source, survey.small))
    ratio = survey.sharpness / raw_sharpness if raw_sharpness > 0 else 1.0
    passes.append(Pass("measure", 1.0, None, watch.lap()))
    return Enlargement(
        rows=result,
        decision=decision,
        passes=tuple(passes),
        color_drift=color,
        full_drift=summarize_drift(compare(source, survey.small, "full")),
        sharpness_ratio=ratio,
        overshoot_percent=survey.overshoot_percent,
        gate=judged,
        held_drift=drift if judged else None,
        notes=tuple(notes),
        seconds=watch.seconds,
    )


def _make_consistent(
    result: Rows,
    reference: RowSource,
    decision: Decision,
    device: torch.device,
    progress: Progress | None,
    scratch: Path | None,
    surveys: bool,
) -> tuple[Rows, Survey | None]:
    """Projects the result, and returns it with its survey if asked for and made on the way."""
    mode, settings = decision.recipe.consistency, ConsistencySettings(thresholds=decision.thresholds)
    assert mode not in ("auto", "off")  # the recipe is settled, and the caller checked
    if isinstance(result, TensorRows) and (result.shape[0] > 1 or result.shape[1] == 4 or result.device != device):
        image, held = result.image, read_all(reference)
        near = run_where_room(lambda near: project_(near, held, mode, settings, progress), image, held, device)
        return TensorRows(near.to(image.device)), None
    target, colors = result, reference
    if reference.shape[1] == 4:
        target, colors = PartRows(result, slice(0, 3)), TensorRows(bleed_colors(read_all(reference)))
    new_map, surveys = _maps_in(scratch, target.device), surveys and result.shape[1] != 4
    return result, project_rows(target, colors, mode, settings, progress, new_map, surveys)


def _judge(
    result: Rows,
    reference: RowSource,
    recipe: Recipe,
    small: RowSource,
    new_map: NewMap,
    compare: Callable[[RowSource, RowSource], Tensor],
) -> GateVerdict:
    def find_safe(index: int) -> RowSource:
        colors = image_of(reference, index)
        if colors.shape[1] == 4:
            whole = read_all(colors)
            colors = TensorRows(torch.cat((bleed_colors(whole), whole[:, 3:]), dim=1))
        safe = Resized(colors, result.shape[2:])
        return MappedSource(safe, _clamp, result.shape[1])

    def measure(index: int) -> Tensor:
        shape = (1, *small.shape[1:])
        reduced = new_map(shape)
        resize_rows(flatten_rows(image_of(result, index)), reduced)
        return compare(image_of(reference, index), reduced)

    assert recipe.gate not in ("auto", "off")  # the recipe is settled, and the caller checked
    return gate_rows(result, find_safe, measure, recipe.gate, recipe.gate_limits, compare(reference, small))


def _compare(source: RowSource, small: RowSource, band: DriftBand = "color", difference: Difference = delta_e) -> Tensor:
    """The color difference between a source and an enlargement that was reduced to its size."""
    rows = flatten_rows(source)
    smaller = rows if rows.shape[2:] == small.shape[2:] else MappedSource(Resized(rows, small.shape[2:]), _clamp, rows.shape[1])
    return compare_rows(smaller, small, band, difference)


def _lay_grain(
    result: Rows, source: RowSource, small: RowSource, decision: Decision, new_map: NewMap, progress: Progress | None
) -> tuple[bool, str]:
    """Adds the grain back that the result has lost, where it belongs to the picture; returns whether, and why, as text."""
    is_laid, said = False, ""
    if rules_out_grain(decision.recipe, decision.conditions) or small.shape[2:] != source.shape[2:]:
        return is_laid, said
    for index in range(result.shape[0]):
        given = image_of(source, index)
        pair = flatten_rows(given), image_of(small, index)
        grain = fit_grain(*pair, PartSource(given, slice(3, 4)) if given.shape[1] == 4 else None)
        wanted, why = judge_grain(grain, decision.recipe, decision.conditions)
        if wanted and grain:
            part = part_of(progress, index / result.shape[0], (index + 1) / result.shape[0])
            lay_grain(image_of(result, index), *pair, grain, new_map, part)
        said = why if (wanted and not is_laid) or not said else said
        is_laid = is_laid or wanted
    return is_laid, said


def _clamp(band: Tensor) -> Tensor:
    return band.clamp(0, 1)


def _clean(result: Rows, method: CleanupMethod, strength: float, progress: Progress | None, scratch: Path | None) -> Rows:
    if isinstance(result, TensorRows):
        return TensorRows(clean(result.image, method, strength, progress=progress))
    output = FileRows(result.shape, folder=scratch)
    clean_rows(result, output, method, strength, progress=progress)
    return output


def _maps_in(scratch: Path | None, device: torch.device) -> NewMap:
    """Creates maps of intermediate values: in files if there is a folder for them, else in memory."""
    if scratch:
        return lambda shape: FileRows(shape, -1.0, 2.0, scratch)
    return maps_in_memory(device)


class _Watch:
    """A stopwatch with laps."""

    def __init__(self) -> None:
        self._started = self._lap = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap; before the next one, threads are adapted to the free cores."""
        adapt_threads()
        now = time.perf_counter()
        since, self._lap = now - self._lap, now
        return since

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started


def _stage(progress: StageProgress | None, name: str) -> Progress | None:
    """Returns the progress callback of one stage, scaled to its share of all stages."""
    return part_of(lambda done, total: progress(name, done, total), *_STAGES[name]) if progress else None


def _report(progress: StageProgress | None, name: str) -> None:
    """Reports that a stage is done."""
    part = _stage(progress, name)
    if part:
        part(1, 1)
