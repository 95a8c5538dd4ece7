"""The machine-readable report of the command, one object per image."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..decide.choosing import ModelChoice
from ..decide.pipeline import Enlargement
from ..decide.recipes import Recipe
from ..imaging.drift import Drift
from ..models.loader import Model
from ..steps.gate import report_gate

NOT_CLASSIFIED = "not classified: no domain was named, so the safe recipe is used"


def build_report(
    source: Path,
    source_size: tuple[int, int],
    output: Path,
    enlargement: Enlargement,
    model: Model,
    choice: ModelChoice,
    recipe: Recipe,
    used: dict[str, Any],
    domain_given: bool,
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Everything there is to say of one image, in plain numbers and words.

    Args:
        source: File that was read.
        source_size: Its (height, width).
        output: File that was written.
        enlargement: What the pipeline returned.
        model: The network.
        choice: Why it was taken.
        recipe: The recipe as it was used, overrides included.
        used: Settings of this run that no recipe holds: target, tile, device, precision asked for.
        domain_given: Whether a person named the domain.
        notes: What happened when the file was read.
    """
    height, width = enlargement.image.shape[2:]
    networks = [step for step in enlargement.passes if step.kind == "network"]
    limits = recipe.gate_limits
    decision = enlargement.gate
    limit_figures = {"mean_limit": limits.mean, "max_limit": limits.max}
    return {
        "input": {"path": str(source), "width": source_size[1], "height": source_size[0], "notes": list(notes)},
        "output": {"path": str(output), "width": width, "height": height},
        "domain": {
            "label": recipe.domain,
            "confidence": 1.0 if domain_given else 0.0,
            "scores": {},
            "evidence": ["named by the user" if domain_given else NOT_CLASSIFIED],
        },
        "recipe": asdict(recipe) | used,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "scale": model.scale,
            "precision": networks[-1].precision if networks else None,
            "reason": choice.reason,
            "better": choice.better,
        },
        "passes": [asdict(step) for step in enlargement.passes],
        "drift": {"color": asdict(enlargement.color_drift), "full": asdict(enlargement.full_drift)},
        "sharpness_ratio": enlargement.sharpness_ratio,
        "overshoot_percent": enlargement.overshoot_percent,
        "gate": report_gate(decision, limits) if decision else {"action": "off", "passed": None} | limit_figures,
        "seconds": enlargement.seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def describe(report: dict[str, Any]) -> str:
    """The report in one line for a terminal."""
    given, made, color = report["input"], report["output"], report["drift"]["color"]
    notes = "".join(f"  ({note})" for note in given["notes"])
    return (
        f"{given['path']} {given['width']}x{given['height']} -> {made['path']} {made['width']}x{made['height']}  "
        f"{report['model']['name']}  color drift {color['mean']:.2f} mean {color['p99']:.2f} p99 {color['max']:.2f} max  "
        f"sharpness {report['sharpness_ratio']:.2f}  gate {report['gate']['action']}  {report['seconds']:.1f} s{notes}"
    )


def describe_drift(drift: Drift) -> str:
    """A drift in words: mean, 99th percentile and maximum."""
    return f"{drift.mean:.3f} mean, {drift.p99:.3f} p99, {drift.max:.3f} max"


def peak_memory_bytes() -> int:
    """The most memory this process has held at once since it began, plus the most on a CUDA device."""
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset + on_device
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) + on_device
