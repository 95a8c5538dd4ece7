"""One image through several networks, side by side: figures, and a sheet at equal zoom."""

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..imaging.drift import Drift, drift_map, flatten_alpha, overshoot_percent, sharpness, summarize_drift
from ..imaging.resample import resize
from ..models.device import Precision
from ..models.loader import ModelRefusedError, load_model
from ..models.runner import ModelOutputError, OutOfMemoryError
from ..progress import Progress
from ..steps.gate import paint_heat_map
from ..steps.upscale import Channels, upscale
from .measuring import measure_quality
from .memory import MemoryWatch
from .writing import quantise

_TITLE_PX, _GAP_PX, _FONT_PX = 40, 4, 14
_CELL_PX = 384


@dataclass(frozen=True)
class Column:
    """A figure as tables show it."""

    key: str
    """Its name in JSON."""
    title: str
    """Its name for people, with its unit."""
    digits: int
    """Behind the point."""


COLUMNS = (
    Column("drift_mean", "drift mean", 2),
    Column("drift_p99", "drift p99", 2),
    Column("drift_max", "drift max", 2),
    Column("sharpness", "sharpness", 4),
    Column("overshoot_percent", "overshoot %", 1),
    Column("psnr_y", "PSNR-Y dB", 2),
    Column("psnr", "PSNR dB", 2),
    Column("ssim", "SSIM", 4),
    Column("ms_ssim", "MS-SSIM", 4),
    Column("lpips_alex", "LPIPS", 3),
    Column("lpips_vgg", "LPIPS (VGG)", 3),
    Column("lpips_squeeze", "LPIPS (SqueezeNet)", 3),
    Column("dists", "DISTS", 3),
    Column("seconds", "seconds", 2),
    Column("peak_memory_mib", "peak MiB", 0),
)
"""All that a table shows, in order; those that no result has are left out."""


@dataclass(frozen=True)
class Compared:
    """What one network made of the image."""

    name: str
    """The network, or "bicubic"."""
    image: Tensor | None
    """``(1, C, H, W)``, of the size that all are compared at; None if it failed."""
    difference: Tensor | None = None
    """``(1, 1, h, w)``, where its colours drifted, at the source's size."""
    drift: Drift | None = None
    """CIEDE2000 of the colour band, of its own output, at the source's size."""
    sharpness: float | None = None
    """Standard deviation of a Laplacian; comparable among the results of one image."""
    overshoot_percent: float | None = None
    """Share of samples beyond the source's local range."""
    quality: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """Against the reference, if there is one: see `fidelity.outside.measuring.measure_quality`."""
    seconds: float | None = None
    """Wall time of the network, without loading it."""
    peak_memory_bytes: int | None = None
    """The most that it took beyond what was held before, its weights and the result included."""
    failed: str | None = None
    """Why there is no result."""


def compare_models(
    image: Tensor,
    models: Mapping[str, Path],
    size: tuple[int, int],
    reference: Tensor | None = None,
    channels: Channels = "rgb",
    device: torch.device | None = None,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> list[Compared]:
    """Sends an image through networks one after another; one that fails is told and does not stop the rest.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1].
        models: Files by name.
        size: (height, width) that all results get.
        reference: The true image of that size, if there is one.
        channels: See `fidelity.steps.upscale.upscale`.
        device: Where to run; the image's if not given.
        precision: Arithmetic of the networks.
        progress: Called with (networks done, networks in all).

    Returns:
        A bicubic enlargement first, then one entry for each network, in order.

    Raises:
        ValueError: If the reference is not of that size.
    """
    check_reference(reference, size)
    place = device or image.device
    made = [_judge(Compared("bicubic", resize(image, size).clamp(0, 1)), image, reference)]
    for index, (name, path) in enumerate(models.items()):
        try:
            made.append(_judge(_run(name, path, image, size, channels, place, precision), image, reference))
        except (ModelRefusedError, ModelOutputError, OutOfMemoryError, ValueError, OSError) as error:
            made.append(Compared(name, None, failed=str(error)))
        if progress:
            progress(index + 1, len(models))
    return made


def check_reference(reference: Tensor | None, size: tuple[int, int]) -> None:
    """Raises a ValueError unless a reference, if there is one, is of the size that results get."""
    if reference is not None and tuple(reference.shape[2:]) != tuple(size):
        seen = f"{reference.shape[3]}x{reference.shape[2]}"
        raise ValueError(f"reference is {seen} px; wanted {size[1]}x{size[0]}, the size of the results")


def _run(
    name: str, path: Path, image: Tensor, size: tuple[int, int], channels: Channels, device: torch.device, precision: Precision
) -> Compared:
    gc.collect()  # what the network before left behind would make this one's look small
    with MemoryWatch(device) as watch:
        model = load_model(path)
        started = time.perf_counter()
        result = upscale(image, model, size, channels, device, precision).image
        seconds = time.perf_counter() - started
    return Compared(name, result, seconds=seconds, peak_memory_bytes=watch.peak_bytes)


def _judge(one: Compared, source: Tensor, reference: Tensor | None) -> Compared:
    assert one.image is not None
    quality: Mapping[str, float | None] = {}
    if reference is not None:
        truth, shown = (flatten_alpha(picture) for picture in (reference, one.image))
        channels = max(truth.shape[1], shown.shape[1])
        quality = measure_quality(truth.expand(-1, channels, -1, -1), shown.expand(-1, channels, -1, -1))
    difference = drift_map(source, one.image)
    return replace(
        one,
        difference=difference,
        drift=summarize_drift(difference),
        sharpness=sharpness(one.image),
        overshoot_percent=overshoot_percent(source, one.image),
        quality=quality,
    )


def figures_of(one: Compared) -> dict[str, float | None]:
    """All figures of a result by name, without nesting, so that any program can sort by them."""
    if one.drift is None:
        return {}
    return {
        "drift_mean": one.drift.mean,
        "drift_p99": one.drift.p99,
        "drift_max": one.drift.max,
        "sharpness": one.sharpness,
        "overshoot_percent": one.overshoot_percent,
        **one.quality,
        "seconds": one.seconds,
        "peak_memory_mib": None if one.peak_memory_bytes is None else one.peak_memory_bytes / 2**20,
    }


def report_compared(results: Sequence[Compared]) -> list[dict[str, Any]]:
    """Results as JSON shows them."""
    return [{"name": one.name, "failed": one.failed, **figures_of(one)} for one in results]


def describe_compared(one: Compared) -> str:
    """One result as a line for a terminal or the title of a picture."""
    if one.failed or one.drift is None:
        return f"{one.name}: {one.failed}"
    words = [f"drift {one.drift.mean:.2f} mean {one.drift.max:.2f} max", f"sharpness {one.sharpness:.4f}"]
    words += [f"overshoot {one.overshoot_percent:.1f} %"] if one.overshoot_percent is not None else []
    decibels, alike = one.quality.get("psnr_y"), one.quality.get("ssim")
    words += [f"{decibels:.2f} dB"] if decibels is not None else []
    words += [f"SSIM {alike:.4f}"] if alike is not None else []
    words += [f"{one.seconds:.1f} s"] if one.seconds is not None else []
    words += [f"{one.peak_memory_bytes / 2**20:.0f} MiB"] if one.peak_memory_bytes else []
    return f"{one.name}: {', '.join(words)}"


def crop_middle(image: Tensor, longest_px: int) -> Tensor:
    """The middle of an image, at most so many pixels a side."""
    height, width = (min(side, longest_px) for side in image.shape[2:])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width]


def draw_heat(one: Compared) -> Tensor | None:
    """The heat map of a result's drift, as large as the result; None if there is none."""
    if one.image is None or one.difference is None:
        return None
    return resize(paint_heat_map(one.difference), (one.image.shape[2], one.image.shape[3])).clamp(0, 1)


def draw_sheet(results: list[Compared]) -> Tensor:
    """A labelled sheet: the middle of every result at its own pixels, and below it a heat map of where colours drifted.

    Args:
        results: From `compare_models`.

    Returns:
        ``(1, 3, H, W)`` in [0, 1].
    """
    shown = next(one.image for one in results if one.image is not None)
    size = (shown.shape[2], shown.shape[3])
    side = min(_CELL_PX, *size)
    width, height = side + _GAP_PX, 2 * side + 2 * _GAP_PX + _TITLE_PX
    sheet = Image.new("RGB", (width * len(results), height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for column, one in enumerate(results):
        left = column * width
        for row, line in enumerate(_wrap(describe_compared(one), font, side)[:2]):
            draw.text((left + 2, 2 + row * (_FONT_PX + 4)), line, fill="black", font=font)
        for row, picture in enumerate((one.image, draw_heat(one))):
            if picture is None:
                continue
            crop = crop_middle(picture[:, :3], side)[0].expand(3, -1, -1)
            sheet.paste(Image.fromarray(quantise(crop, 8)), (left, _TITLE_PX + row * (side + _GAP_PX)))
    return torch.from_numpy(np.asarray(sheet).copy()).movedim(-1, 0)[None].float() / 255


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines, line = list[str](), ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]
