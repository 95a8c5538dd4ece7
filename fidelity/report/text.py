"""Reports as lines for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from ..decide.catalogue import find_download
from ..imaging.drift import Drift
from .report import PlanReport, Report


def summarize_report(report: Report) -> str:
    """An enlargement in one short line: what it became, as what, how far colors drifted, and what was out of the ordinary."""
    assert report.input and report.output
    made, domain = report.output, report.domain
    network = Path(report.model.name).stem if report.model.name else "resized only"
    restored = any(step.kind == "restore" for step in report.passes)
    parts = [f"{report.recipe['domain']}{'' if domain.sure else '?'}", network, *(["restored"] if restored else [])]
    parts.append(f"drift {report.held_drift.mean:.2f}{' from the restored source' if restored else ''}")
    if report.gate.action in _GATED:
        share = f" {100 * report.gate.blended_share:.0f} %" if report.gate.blended_share else ""
        parts.append(f"{_GATED[report.gate.action]}{share}")
    notes = "".join(f"; {note}" for note in notes_of(report))
    return f"{report.input.path} -> {made.path}  {made.width}x{made.height}  {', '.join(parts)}  {report.seconds:.1f} s{notes}"


def notes_of(report: Report) -> tuple[str, ...]:
    """What was out of the ordinary about the files: conversions made on reading, and changed proportions."""
    assert report.input and report.output
    given, made = report.input, report.output
    stretch = made.width * given.height / (made.height * given.width)
    stretched = [f"stretched by {100 * (max(stretch, 1 / stretch) - 1):.0f} %"] if max(stretch, 1 / stretch) > _STRETCH else []
    return (*stretched, *given.notes)


_GATED = {"blend": "blended back", "reject": "rejected for bicubic", "report": "beyond the limit"}
"""What the gate did, where that is worth a word."""


_STRETCH = 1.02
"""How much of a change in proportions is worth a word; less is rounding."""


def summarize_reports(reports: Sequence[Report], failures: int, seconds: float) -> str:
    """What became of several images, in one line."""
    refused = f", {failures} refused" if failures else ""
    if not reports:
        return f"none enlarged{refused}"
    mean, worst = sum(one.held_drift.mean for one in reports) / len(reports), max(reports, key=lambda one: one.held_drift.mean)
    assert worst.input and worst.input.path
    return (
        f"{len(reports)} enlarged{refused} in {seconds:.1f} s; color drift {mean:.2f} CIEDE2000 on average, "
        f"most in {Path(worst.input.path).name} ({worst.held_drift.mean:.2f})"
    )


def describe_report(report: Report) -> list[str]:
    """An enlargement with why, in lines."""
    assert report.input and report.output
    given, made, domain, gate = report.input, report.output, report.domain, report.gate
    unsure = "" if domain.sure else f", unsure: treated as {report.recipe['domain']}"
    model = f"{report.model.name}: {report.model.reason}" if report.model.name else "none, resized only"
    against = f", compared with {gate.reference}" if gate.action != "off" else ""
    lines = [
        ("type", f"{domain.label} {100 * domain.confidence:.0f} %{unsure}"),
        ("because of", "; ".join(domain.evidence)),
        ("model", model),
        *(("decided", reason) for reason in report.switched),
        ("color drift", f"{describe_drift(report.held_drift, 2)} CIEDE2000 (1 is just visible)"),
        ("gate", f"{gate.action}{against}"),
        ("sharpness", f"{report.sharpness_ratio:.2f} of the model's raw output"),
        *(("note", note) for note in notes_of(report)),
    ]
    head = f"{given.path} {given.width}x{given.height} -> {made.path} {made.width}x{made.height}  {report.seconds:.1f} s"
    return [head, *(f"  {name:<12}{text}" for name, text in lines if text)]


def describe_plan(plan: PlanReport) -> str:
    """A plan, a line for each pass."""
    lines = [f"{plan.source} -> {plan.target}"]
    for number, step in enumerate(plan.passes, 1):
        took = f", about {step.seconds:.1f} s" if step.seconds is not None else ""
        lines.append(f"{number}. {step.network or step.kind}: to {step.result}, {_gibibytes(step.peak_memory_bytes)}{took}")
    if plan.seconds is not None and plan.network_seconds is not None:
        lines.append(f"about {plan.seconds:.1f} s in all, of which models {plan.network_seconds:.1f} s")
    own = plan.process_memory_bytes
    of_process = f", of which the program itself {_gibibytes(own)}" if own is not None else ""
    lines.append(f"peak memory about {_gibibytes(plan.peak_memory_bytes)}{of_process}")
    if plan.scratch_bytes:
        lines.append(f"works in temporary files of up to {_gibibytes(plan.scratch_bytes)}, because memory is short")
    lines.append(f"model: {plan.reason}" + (f"; better: {_tell_better(plan.better)}" if plan.better else ""))
    return "\n".join((*lines, *plan.notes))


def _tell_better(better: str) -> str:
    """A better model: the command that gets it, or its page."""
    name, _, page = better.partition(", ")
    return f"fidelity models get {name}" if find_download(name) else f"{name}, {page}"


def describe_drift(drift: Drift, digits: int = 3) -> str:
    """A drift as text: mean, 99th percentile and maximum."""
    return f"{drift.mean:.{digits}f} mean, {drift.p99:.{digits}f} p99, {drift.max:.{digits}f} max"


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
