"""Short summaries for the face of a node: a headline with a mark, then the details.

The marks: ✓ good, ≈ corrected or unsure, ✗ outside the limits, · neutral.
"""

from pathlib import Path
from typing import Any

from ..decide.decision import Decision
from ..decide.domain import Verdict
from ..decide.model_choice import ModelChoice
from ..imaging.drift import Drift
from ..session import Enlargement
from ..steps.gate import GateLimits, GateVerdict

_MARKS = {"pass": "✓", "blend": "≈", "report": "✗", "reject": "✗"}
_DONE = {
    "pass": "colors preserved",
    "blend": "colors drifted too far: bicubic is blended in over {share:.1f} % of the area",
    "report": "colors drifted beyond the limits, and stay so",
    "reject": "colors drifted too far: the bicubic enlargement is returned",
}


def summarize_verdict(verdict: Verdict) -> str:
    """The domain, its confidence, the other likely domains and the first reason."""
    others = sorted(verdict.scores.items(), key=lambda pair: -pair[1])[1:3]
    lines = [f"{'✓' if verdict.is_sure else '≈'} {verdict.label} {_percent(verdict.confidence)}"]
    if verdict.recipe_domain != verdict.label:
        lines.append(f"unsure: using the {verdict.recipe_domain} recipe")
    elif not verdict.is_sure:
        lines.append("unsure")
    likely = [f"{kind} {_percent(score)}" for kind, score in others if score >= 0.005]
    return "\n".join([*lines, *([", ".join(likely)] if likely else []), *verdict.evidence[:1]])


def summarize_choice(name: str, choice: ModelChoice) -> str:
    """The chosen network, why it was chosen, and a better one if there is one."""
    better = [f"better: {choice.better}"] if choice.better else []
    return "\n".join([f"{'≈' if better else '✓'} {name}", choice.reason, *better])


def summarize_gate(result: GateVerdict, limits: GateLimits) -> str:
    """What the gate did, with the drift before and after."""
    done = _DONE[result.action].format(share=100 * result.blended_share)
    lines = [f"{_MARKS[result.action]} {done}", _tell(result.before)]
    if result.action in ("blend", "reject"):
        lines.append(f"now {_tell(result.after)}")
    return "\n".join([*lines, f"limits {limits.mean:g} on average, {limits.max:g} at most"])


def summarize_plan(decision: Decision) -> str:
    """The domain, the passes, and what the measurements switched on."""
    plan = decision.planned.plan
    height, width = decision.target
    memory = f"peak memory at most {plan.peak_bytes / 2**30:.2f} GiB"
    return "\n".join([f"· {decision.recipe.domain}, {width}x{height}", _name_steps(decision), memory, *decision.reasons])


def summarize_enlargement(made: Enlargement) -> str:
    """How far the colors are from what they were checked against, the domain, and the passes; detail is not judged."""
    decision, judged = made.decision, made.gate
    verdict, better = decision.verdict, decision.planned.choice.better
    if judged and made.held_drift:
        done = _DONE[judged.action].format(share=100 * judged.blended_share)
        lines = [f"{_MARKS[judged.action]} {done}: {_tell(made.held_drift)}"]
    else:
        lines = [f"· colors not checked: {_tell(made.color_drift)}"]
    kind = f"{verdict.label}, {_percent(verdict.confidence)} sure"
    if verdict.label != decision.recipe.domain:
        kind = f"{decision.recipe.domain} to be safe (perhaps {kind})"
    lines += [
        f"type: {kind}" + ("" if verdict.is_sure else "; if that is wrong, set domain"),
        f"models: {_name_steps(decision)}",
    ]
    told = [_say(reason) for reason in (*decision.reasons, *made.notes) if not reason.startswith("channels ")]
    return "\n".join([*lines, *told, *([f"stronger on badly damaged pictures: {better}"] if better else [])])


def summarize_metrics(metrics: dict[str, Any]) -> str:
    """The drift and, for images of one size, the quality metrics.

    Args:
        metrics: From `fidelity.report.measure.measure_images`.
    """
    lines = [f"· color {_tell(Drift(**metrics['color']))}"]
    if metrics.get("identical"):
        lines.append("identical")
    quality = {"psnr_y": "PSNR-Y {:.2f} dB", "ssim": "SSIM {:.4f}", "ms_ssim": "MS-SSIM {:.4f}"}
    alone = {"brisque": "BRISQUE {:.1f}", "niqe": "NIQE {:.2f}"}
    parts = [form.format(metrics[name]) for name, form in quality.items() if metrics.get(name) is not None]
    natural = [form.format(metrics[name]) for name, form in alone.items() if metrics.get(name) is not None]
    lines.append(", ".join(parts) or f"compared at {metrics['compared at']}")
    return "\n".join([*lines, *([f"{', '.join(natural)} (lower is better)"] if natural else [])])


_PLAIN = {
    "restore deblock": "JPEG damage found and repaired",
    "restore denoise": "noise found and removed",
    "deband on": "banding found and smoothed",
}
"""What a setting that measurements switched means to people."""


def _say(reason: str) -> str:
    """A reason as "setting value: measurement", in plain words where there are some."""
    setting, colon, measured = reason.partition(": ")
    return f"{_PLAIN[setting]} ({measured})" if colon and setting in _PLAIN else reason


def _name_steps(decision: Decision) -> str:
    return " → ".join(Path(step.network).stem if step.network else step.kind for step in decision.planned.plan.passes)


def _tell(drift: Drift) -> str:
    """A drift for people who have not read of it."""
    return f"drift {drift.mean:.2f} on average, {drift.max:.2f} at most (1 is just visible)"


def summarize_pair(before: tuple[int, int], after: tuple[int, int]) -> str:
    """What the slider between two images of (height, width) shows."""
    (height, width), (new_height, new_width) = before, after
    enlarged = " enlarged bicubically," if before != after else ""
    return f"· {width}x{height}{enlarged} on the left, {new_width}x{new_height} on the right"


def summarize_judgement(scores: dict[str, float], model: str) -> str:
    """CLIP's scores, in percent, and which CLIP."""
    others = ", ".join(f"{name} {_percent(score)}" for name, score in scores.items() if name != "quality")
    return "\n".join([f"· quality {_percent(scores['quality'])}", others, f"{model}; compare only with the same"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
