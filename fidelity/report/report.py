"""The report of an enlargement: frozen dataclasses throughout, JSON only at the edge."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from ..decide.damage import Conditions
from ..decide.decision import Decision
from ..decide.domain import Verdict
from ..decide.recipes import Recipe
from ..decide.settings import Settings
from ..errors import RefusedError
from ..imaging.drift import Drift
from ..networks.compute import Compute
from ..session import Enlargement
from ..steps.chain import Pass
from ..steps.gate import GateLimits, GateVerdict
from .memory import peak_memory_bytes


@dataclass(frozen=True)
class DomainReport:
    """The domain of an image and how it was determined."""

    label: str
    """The most likely domain."""
    confidence: float
    """Its probability, in [0, 1]."""
    sure: bool
    """Whether that is enough to use its recipe."""
    scores: dict[str, float]
    """Probability of each domain."""
    evidence: tuple[str, ...]
    """Reasons, as text."""

    @staticmethod
    def of(verdict: Verdict) -> "DomainReport":
        """The report of a verdict, rounded for readers."""
        scores = {domain: round(score, 4) for domain, score in verdict.scores.items()}
        return DomainReport(verdict.label, round(verdict.confidence, 4), verdict.is_sure, scores, verdict.evidence)


@dataclass(frozen=True)
class InputReport:
    """The source."""

    path: str | None
    """None if it was given by its content, or from memory."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    notes: tuple[str, ...] = ()
    """Conversions made on reading."""


@dataclass(frozen=True)
class OutputReport:
    """The file that was written."""

    path: str
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    bits: int
    """Bits per channel."""


@dataclass(frozen=True)
class ModelReport:
    """The network of the last pass; its fields are None if the image was only resized."""

    name: str | None
    architecture: str | None
    scale: int | None
    """Enlargement of one pass."""
    precision: str | None
    """fp32, bf16 or fp16."""
    reason: str
    """Why it was chosen."""
    better: str | None
    """A better network to install, with its page."""


@dataclass(frozen=True)
class DriftReport:
    """CIEDE2000 between the source and the result, at the source's size."""

    color: Drift
    """Drift in the color band, where sharpening does not count."""
    full: Drift
    """Drift over all frequencies."""
    held: Drift
    """Drift in the color band from the color reference: the restored source, if the source was restored; else `color`."""


@dataclass(frozen=True)
class GateReport:
    """What the Delta-E gate decided."""

    action: Literal["pass", "blend", "reject", "report", "off"]
    """What it did."""
    passed: bool | None
    """Whether the input was within the limits; None if the gate was off."""
    mean_limit: float
    """Largest mean CIEDE2000 that passes."""
    max_limit: float
    """Largest single-pixel CIEDE2000 that passes."""
    before: Drift | None = None
    """Drift of the input."""
    after: Drift | None = None
    """Drift of the output."""
    blended_share: float | None = None
    """Share of the area that was blended back, in [0, 1]."""
    reference: str | None = None
    """What the image was compared with, as text."""

    @staticmethod
    def of(result: GateVerdict | None, limits: GateLimits, reference: str | None = None) -> "GateReport":
        """The report of a gate's result; None means the gate was off."""
        if result is None:
            return GateReport("off", None, limits.mean, limits.max, reference=reference)
        drifts = (result.before, result.after)
        return GateReport(result.action, result.passed, limits.mean, limits.max, *drifts, result.blended_share, reference)


@dataclass(frozen=True)
class Report:
    """The full report of one enlargement."""

    domain: DomainReport
    conditions: Conditions
    """Measurements of the source."""
    recipe: dict[str, Any]
    """Every setting that was used."""
    switched: tuple[str, ...]
    """Which measurement switched which setting, and what was skipped, as text."""
    model: ModelReport
    passes: tuple[Pass, ...]
    """All steps with their times."""
    drift: DriftReport
    sharpness_ratio: float
    """Sharpness relative to the network's raw output; 1 means equally sharp."""
    overshoot_percent: float
    """Share of samples outside the source's local range."""
    gate: GateReport
    seconds: float
    """Wall time, without reading and writing files."""
    peak_memory_bytes: int
    """Peak memory of this process so far, device memory included."""
    input: InputReport | None = None
    """None if the engine was given a tensor."""
    output: OutputReport | None = None
    """None if the result was not written to a file."""
    kind: Literal["enlargement"] = field(default="enlargement", init=False)
    """Distinguishes this report from others in JSON."""

    @property
    def held_drift(self) -> Drift:
        """The drift that counts: from the color reference."""
        return self.drift.held

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, as `--report` writes it."""
        return to_json(self)

    @staticmethod
    def of(enlargement: Enlargement, settings: Settings, compute: Compute) -> "Report":
        """The report of an enlargement.

        Args:
            enlargement: The result.
            settings: What was requested.
            compute: Where and how it ran.
        """
        decision, judged = enlargement.decision, enlargement.gate
        planned, recipe = decision.planned, decision.recipe
        networks = [step for step in enlargement.passes if step.kind == "network"]
        model = planned.models[-1] if planned.models else None
        restored = any(step.kind in ("restore", "deband") for step in enlargement.passes)
        used = {
            "target": asdict(settings.target),
            "tileable": settings.tileable,
            "difference": "BT.2124" if decision.signal else "CIEDE2000",
            "tile": compute.tile_px,
            "precision": compute.precision,
            "backend": compute.backend,
            "device": str(compute.device or enlargement.rows.device),
        }
        reference = "the restored source" if restored else "the source"
        if planned.takes_damage:
            reference = "an estimate between the restored source's colors and the network's"
        return Report(
            domain=DomainReport.of(decision.verdict),
            conditions=decision.conditions,
            recipe=settings_of(recipe) | used,
            switched=(*decision.reasons, *enlargement.notes),
            model=ModelReport(
                model.name if model else None,
                model.architecture if model else None,
                model.scale if model else None,
                networks[-1].precision if networks else None,
                planned.choice.reason,
                planned.choice.better,
            ),
            passes=enlargement.passes,
            drift=DriftReport(
                enlargement.color_drift, enlargement.full_drift, enlargement.held_drift or enlargement.color_drift
            ),
            sharpness_ratio=enlargement.sharpness_ratio,
            overshoot_percent=enlargement.overshoot_percent,
            gate=GateReport.of(judged, recipe.gate_limits, reference),
            seconds=enlargement.seconds,
            peak_memory_bytes=peak_memory_bytes(),
        )


@dataclass(frozen=True)
class DecisionReport:
    """What was decided, before any work is done."""

    domain: DomainReport
    conditions: Conditions
    recipe: dict[str, Any]
    switched: tuple[str, ...]
    plan: "PlanReport"

    @staticmethod
    def of(decision: Decision) -> "DecisionReport":
        """Builds the report of a decision."""
        recipe, plan = settings_of(decision.recipe), PlanReport.of(decision)
        return DecisionReport(DomainReport.of(decision.verdict), decision.conditions, recipe, decision.reasons, plan)


@dataclass(frozen=True)
class SizeReport:
    """A size in pixels."""

    width: int
    height: int

    @staticmethod
    def of(size: tuple[int, int]) -> "SizeReport":
        """From (height, width)."""
        return SizeReport(size[1], size[0])

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class PassReport:
    """One planned step."""

    kind: str
    """What the step does."""
    network: str | None
    """The network that runs; None if the step needs none."""
    source: SizeReport
    """Input size."""
    result: SizeReport
    """Output size."""
    peak_memory_bytes: int
    seconds: float | None
    """Estimated time; None if no network runs or no time was estimated."""


@dataclass(frozen=True)
class Forecast:
    """What the steps of a plan are expected to take on this machine; see `fidelity.forecast`."""

    network_seconds: tuple[float, ...]
    """Of each pass of a network."""
    step_seconds: float
    """Of all other steps together, and of reading and writing the files."""
    start_seconds: float
    """From the start of the process until the work begins."""
    process_bytes: int
    """Memory of the process before the work begins."""

    @property
    def seconds(self) -> float:
        """Of everything."""
        return sum(self.network_seconds) + self.step_seconds + self.start_seconds


@dataclass(frozen=True)
class PlanReport:
    """The passes that lead to a target size."""

    source: SizeReport
    target: SizeReport
    passes: tuple[PassReport, ...]
    peak_memory_bytes: int
    """Peak memory of the process, as far as `process_memory_bytes` is known, else of the work alone."""
    process_memory_bytes: int | None
    """The part that the process has before the work begins; None if nothing was measured."""
    scratch_bytes: int
    """Size of the temporary files of a result that does not fit in memory; 0 if it does."""
    network_seconds: float | None
    """Estimated time of all network passes; None, as in the next two, if nothing was measured."""
    step_seconds: float | None
    """Estimated time of all other steps, and of reading and writing the files."""
    seconds: float | None
    """Estimated time of the whole, from the start of the command."""
    reason: str
    """Why the network was chosen."""
    better: str | None
    """A better network to install, with its page."""
    notes: tuple[str, ...]
    """Requests that could not be planned."""

    @staticmethod
    def of(decision: Decision, expected: Forecast | None = None) -> "PlanReport":
        """Builds the report of a plan.

        Args:
            decision: What was decided.
            expected: What it is expected to take, if that was measured.
        """
        planned, times = decision.planned, iter(expected.network_seconds if expected else ())
        steps = tuple(
            PassReport(
                step.kind,
                step.network,
                SizeReport.of(step.source),
                SizeReport.of(step.result),
                step.peak_bytes,
                next(times, None) if step.network else None,
            )
            for step in planned.plan.passes
        )
        source, target = SizeReport.of(decision.source), SizeReport.of(decision.target)
        plan, choice = planned.plan, planned.choice
        return PlanReport(
            source,
            target,
            steps,
            peak_memory_bytes=plan.peak_bytes + (expected.process_bytes if expected else 0),
            process_memory_bytes=expected.process_bytes if expected else None,
            scratch_bytes=plan.scratch_bytes,
            network_seconds=sum(expected.network_seconds) if expected else None,
            step_seconds=expected.step_seconds if expected else None,
            seconds=expected.seconds if expected else None,
            reason=choice.reason,
            better=choice.better,
            notes=planned.notes,
        )


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe but its switches, which have already been applied."""
    return {one.name: _plain(getattr(recipe, one.name)) for one in fields(recipe) if one.name != "switches"}


def to_json(report: object) -> Any:
    """A report as JSON values; an input or output that is not a file is left out."""
    plain = _plain(report)
    if isinstance(report, Report):
        return {name: value for name, value in plain.items() if value is not None or name not in ("input", "output")}
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


Facts = dict[str, str | float]
"""Facts that a result file carries in its metadata."""


def facts_of(report: Report) -> Facts:
    """The facts that a result file carries from its report."""
    recipe = str(report.recipe["domain"])
    return {"model": report.model.name or "none", "recipe": recipe} | _drift_facts(report.drift.color, report.gate.action)


def read_facts(report: Any) -> Facts:
    """The same facts from JSON: a report of an enlargement, the gate or a diffusion pass.

    Args:
        report: From `to_json`; its "kind" says which report it is.

    Raises:
        RefusedError: If it is not such a report.
    """
    kind = report.get("kind") if isinstance(report, dict) else None
    try:
        if kind == "enlargement":
            facts = {"model": report["model"]["name"] or "none", "recipe": report["recipe"]["domain"]}
            return facts | _drift_facts(Drift(**report["drift"]["color"]), report["gate"]["action"])
        if kind in ("gate", "diffusion"):
            judged = report if kind == "gate" else report["gate"]
            return _drift_facts(Drift(**judged["after"]), judged["action"])
    except (KeyError, TypeError) as error:
        raise RefusedError(f"report of kind {kind} is incomplete ({error}); wanted an unchanged report") from error
    raise RefusedError("not a report; wanted one of an enlargement, a gate or a diffusion pass")


def _drift_facts(color: Drift, action: str) -> Facts:
    return {"driftMean": color.mean, "driftP99": color.p99, "driftMax": color.max, "gate": action}


def report_input(path: Path | None, size: tuple[int, int], notes: tuple[str, ...]) -> InputReport:
    """The report of a source; `size` is (height, width)."""
    return InputReport(str(path) if path else None, size[1], size[0], notes)


def report_output(path: Path, size: tuple[int, int], bits: int) -> OutputReport:
    """The report of a result file; `size` is (height, width)."""
    return OutputReport(str(path), size[1], size[0], bits)
