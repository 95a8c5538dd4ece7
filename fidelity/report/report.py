"""Reports: what was decided, done and measured, in plain numbers and words."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..decide.domain import Verdict
from ..decide.model_choice import ModelPlan
from ..decide.recipes import Recipe
from ..imaging.drift import Drift
from ..pipeline import Decision, Enlargement
from ..steps.gate import report_gate


def report_decision(decision: Decision) -> dict[str, Any]:
    """What was decided and why, before any of it is done."""
    return {
        "domain": describe_verdict(decision.verdict),
        "conditions": asdict(decision.conditions),
        "recipe": describe_recipe(decision.recipe),
        "switched": list(decision.reasons),
        "plan": report_plan(decision.planned),
    }


def report_enlargement(decision: Decision, enlargement: Enlargement, used: dict[str, Any]) -> dict[str, Any]:
    """Everything there is to say of one enlargement, in plain numbers and words.

    Args:
        decision: What was decided, and why.
        enlargement: What came of it.
        used: Settings of this run that no recipe holds: target, tile, device, precision asked for.
    """
    planned, recipe = decision.planned, decision.recipe
    networks = [step for step in enlargement.passes if step.kind == "network"]
    model = planned.models[-1] if planned.models else None
    limits = {"mean_limit": recipe.gate_limits.mean, "max_limit": recipe.gate_limits.max}
    judged = enlargement.gate
    mended = any(step.kind in ("restore", "deband") for step in enlargement.passes)
    return {
        "domain": describe_verdict(decision.verdict),
        "conditions": asdict(decision.conditions),
        "recipe": describe_recipe(recipe) | used,
        "switched": [*decision.reasons, *enlargement.notes],
        "model": {
            "name": model.name if model else None,
            "architecture": model.architecture if model else None,
            "scale": model.scale if model else None,
            "precision": networks[-1].precision if networks else None,
            "reason": planned.choice.reason,
            "better": planned.choice.better,
        },
        "passes": [asdict(step) for step in enlargement.passes],
        "drift": {"color": asdict(enlargement.color_drift), "full": asdict(enlargement.full_drift)},
        "sharpness_ratio": enlargement.sharpness_ratio,
        "overshoot_percent": enlargement.overshoot_percent,
        "gate": {
            **(report_gate(judged, recipe.gate_limits) if judged else {"action": "off", "passed": None} | limits),
            "reference": "the mended source" if mended else "the source",
        },
        "seconds": enlargement.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def report_file(
    source: Path, output: Path, decision: Decision, enlargement: Enlargement, used: dict[str, Any], notes: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The same with the files that were read and written.

    Args:
        source: File that was read.
        output: File that was written.
        decision: What was decided, and why.
        enlargement: What came of it.
        used: See `report_enlargement`.
        notes: What happened when the file was read.
    """
    height, width = enlargement.image.shape[2:]
    files = {
        "input": {"path": str(source), **_size(decision.planned.plan.source), "notes": list(notes)},
        "output": {"path": str(output), "width": width, "height": height},
    }
    return files | report_enlargement(decision, enlargement, used)


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe, without what would switch them: in a report those are settled."""
    settings = asdict(recipe)
    settings.pop("switches")
    return settings


def describe_verdict(verdict: Verdict) -> dict[str, Any]:
    """A verdict in plain numbers and words."""
    return {
        "label": verdict.label,
        "confidence": round(verdict.confidence, 4),
        "sure": verdict.is_sure,
        "scores": {domain: round(score, 4) for domain, score in verdict.scores.items()},
        "evidence": list(verdict.evidence),
    }


def report_plan(planned: ModelPlan, seconds: Sequence[float] = ()) -> dict[str, Any]:
    """A plan in plain numbers.

    Args:
        planned: The plan.
        seconds: Of each network pass, if they were estimated.
    """
    times = iter(seconds)
    return {
        "source": _size(planned.plan.source),
        "target": _size(planned.plan.target),
        "passes": [
            {
                "kind": step.kind,
                "network": step.network,
                "from": _size(step.source),
                "to": _size(step.result),
                "peak_memory_bytes": step.peak_bytes,
                "seconds": next(times, None) if step.network else None,
            }
            for step in planned.plan.passes
        ],
        "peak_memory_bytes": planned.plan.peak_bytes,
        "network_seconds": sum(seconds) if seconds else None,
        "reason": planned.choice.reason,
        "better": planned.choice.better,
        "notes": list(planned.notes),
    }


def describe_plan(planned: ModelPlan, seconds: list[float]) -> str:
    """A plan as lines for a terminal."""
    report = report_plan(planned, seconds)
    lines = [f"{_cross(report['source'])} -> {_cross(report['target'])}"]
    for number, step in enumerate(report["passes"], 1):
        took = f", about {step['seconds']:.1f} s" if step["seconds"] is not None else ""
        memory = f"{step['peak_memory_bytes'] / 2**30:.2f} GiB"
        lines.append(f"{number}. {step['network'] or step['kind']}: to {_cross(step['to'])}, {memory}{took}")
    lines.append(f"at most {report['peak_memory_bytes'] / 2**30:.2f} GiB, holding the colours included")
    lines.append(f"network: {report['reason']}" + (f"; better: {report['better']}" if report["better"] else ""))
    return "\n".join(lines + report["notes"])


def _size(size: tuple[int, int]) -> dict[str, int]:
    return {"width": size[1], "height": size[0]}


def _cross(size: dict[str, int]) -> str:
    return f"{size['width']}x{size['height']}"


def describe(report: dict[str, Any]) -> str:
    """The report in one line for a terminal."""
    given, made, color, verdict = report["input"], report["output"], report["drift"]["color"], report["domain"]
    unsure = "" if verdict["sure"] else f" (unsure: {verdict['label']} {verdict['confidence']:.2f})"
    notes = "".join(f"  ({note})" for note in (*given["notes"], *report["switched"]))
    return (
        f"{given['path']} {given['width']}x{given['height']} -> {made['path']} {made['width']}x{made['height']}  "
        f"{report['recipe']['domain']}{unsure}  {report['model']['name'] or 'resize alone'}  "
        f"color drift {color['mean']:.2f} mean {color['p99']:.2f} p99 {color['max']:.2f} max  "
        f"sharpness {report['sharpness_ratio']:.2f}  gate {report['gate']['action']} against {report['gate']['reference']}  "
        f"{report['seconds']:.1f} s{notes}"
    )


def describe_drift(drift: Drift, digits: int = 3) -> str:
    """A drift in words: mean, 99th percentile and maximum."""
    return f"{drift.mean:.{digits}f} mean, {drift.p99:.{digits}f} p99, {drift.max:.{digits}f} max"


def peak_memory_bytes() -> int:
    """The most memory this process has held at once since it began, plus the most on a CUDA device."""
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset + on_device
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) + on_device
