"""`fidelity measure`."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .terminal import refusing, say, show_progress


def measure_command(
    reference: Annotated[Path, typer.Argument(help="The source or the ground truth.")],
    candidate: Annotated[Path, typer.Argument(help="The image to measure.")],
    clip: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="MODEL FILE", help="Also judge the candidate with CLIP (CLIP-IQA): open_clip's name of it, and its weights."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare two images: PSNR, SSIM, CIEDE2000, BRISQUE and more; if their sizes differ, the drift at the smaller size."""
    from ..files.read import read_image
    from ..imaging.drift import Drift
    from ..report.measure import measure_images
    from ..report.text import describe_drift

    with refusing() as refused, show_progress() as progress:
        first, second = (read_image(path, "srgb").image for path in (reference, candidate))
        metrics = measure_images(first, second)
        if clip:
            from ..report.open_clip import judge_with_clip  # whose import takes as long as PyTorch's

            scores = judge_with_clip(second, *clip, partial(progress, "CLIP") if progress else None)
            metrics |= {f"clip_{name}": score for name, score in scores.items()}
    if refused:
        raise typer.Exit(1)
    if as_json:
        say(json.dumps(metrics, indent=2))
        return
    for name, value in metrics.items():
        if isinstance(value, dict):
            say(f"{_BANDS[name]:<17} {describe_drift(Drift(**value))} CIEDE2000")
        else:
            shown = f"{value:.4f}" if isinstance(value, float) else "–" if value is None else str(value)
            unit = _CLIP_UNIT if name.startswith("clip_") else _UNITS.get(name, "")
            say(f"{name:<17} {shown}{unit if value is not None else ''}")


_BANDS = {"color": "drift, color", "full": "drift, full", "ciede2000": "drift, full"}
"""How the bands of drift are told: blurred by 1.5 source pixels, so that sharpness does not count, and not blurred."""

_UNITS = {
    "psnr": " dB",
    "psnr_y": " dB of luma",
    "ssim": " (1: identical)",
    "ms_ssim": " (1: identical)",
    "overshoot_percent": " % of samples",
    "sharpness_ratio": " (1: as sharp as the reference)",
    "brisque": " (candidate alone; 0 best, 100 worst)",
    "niqe": " (candidate alone; lower is better)",
}
"""What is said after a figure."""
_CLIP_UNIT = " (candidate alone; 1 best; compare only with the same CLIP)"
