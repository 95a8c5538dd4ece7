"""Compares several networks on one image: metrics, and a sheet of crops at equal zoom."""

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

from ..errors import RefusedError
from ..files.paths import one_line
from ..files.write import quantise
from ..imaging.drift import Drift, drift_map, flatten_alpha, measure_drift, overshoot_percent, sharpness, summarize_drift
from ..imaging.resample import resize, size_within
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.loader import load_model
from ..progress import Progress
from ..steps.gate import paint_heat_map
from ..steps.upscale import Channels, upscale
from .measure import measure_naturalness, measure_quality
from .memory import MemoryWatch

_GAP_PX, _FONT_PX, _LINE_PX = 4, 14, 18
_CELL_PX = 384
_DIFFERENCE_GAIN = 4
_REFERENCE_TITLE = f"reference; third row: absolute difference from it, channel mean, x{_DIFFERENCE_GAIN}"


@dataclass(frozen=True)
class Column:
    """A metric as tables show it."""

    key: str
    """Its name in JSON."""
    title: str
    """Its display name, with its unit."""
    digits: int
    """Decimal places."""


COLUMNS = (
    Column("drift_mean", "drift mean", 2),
    Column("drift_p99", "drift p99", 2),
    Column("drift_max", "drift max", 2),
    Column("sharpness", "sharpness", 4),
    Column("overshoot_percent", "overshoot %", 1),
    Column("ciede2000_mean", "CIEDE2000 mean", 2),
    Column("ciede2000_p99", "CIEDE2000 p99", 2),
    Column("ciede2000_max", "CIEDE2000 max", 2),
    Column("psnr_y", "PSNR-Y dB", 2),
    Column("psnr", "PSNR dB", 2),
    Column("ssim", "SSIM", 4),
    Column("ms_ssim", "MS-SSIM", 4),
    Column("lpips_alex", "LPIPS", 3),
    Column("lpips_vgg", "LPIPS (VGG)", 3),
    Column("lpips_squeeze", "LPIPS (SqueezeNet)", 3),
    Column("dists", "DISTS", 3),
    Column("brisque", "BRISQUE", 1),
    Column("niqe", "NIQE", 2),
    Column("seconds", "seconds", 2),
    Column("peak_memory_mib", "peak MiB", 0),
)
"""Columns of a table, in order; those without a value in any result are left out."""


@dataclass(frozen=True)
class Compared:
    """The result of one network."""

    name: str
    """The network, or "bicubic"."""
    image: Tensor | None
    """``(1, C, H, W)``, at the size all results share; None if the network failed."""
    difference: Tensor | None = None
    """``(1, 1, h, w)`` CIEDE2000 map of the color drift, at the source's size."""
    drift: Drift | None = None
    """CIEDE2000 of the color band of the raw output, at the source's size."""
    sharpness: float | None = None
    """Standard deviation of a Laplacian; comparable among the results for one image."""
    overshoot_percent: float | None = None
    """Share of samples outside the source's local range."""
    quality: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    """BRISQUE and NIQE, and metrics against the reference, if there is one: those of `fidelity.report.measure.measure_quality`
    and full-band CIEDE2000."""
    seconds: float | None = None
    """Wall time of the network, without loading."""
    peak_memory_bytes: int | None = None
    """Peak memory added by the network, its weights and the result included."""
    failed: str | None = None
    """Why there is no result; None if it succeeded."""


def compare_models(
    image: Tensor,
    models: Mapping[str, Path],
    size: tuple[int, int],
    reference: Tensor | None = None,
    channels: Channels = "rgb",
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
) -> list[Compared]:
    """Runs an image through several networks; one that fails is reported and does not stop the rest.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1].
        models: Files by name.
        size: (height, width) of all results.
        reference: The ground truth at that size, if there is one.
        channels: See `fidelity.steps.upscale.upscale`.
        compute: Where and how to run the networks.
        progress: Called with (networks done, networks in all).

    Returns:
        A bicubic enlargement first, then one entry for each network, in order.

    Raises:
        RefusedError: If the reference has another size.
    """
    check_reference(reference, size)
    made = [_judge(Compared("bicubic", resize(image, size).clamp(0, 1)), image, reference)]
    for index, (name, path) in enumerate(models.items()):
        try:
            made.append(_judge(_run(name, path, image, size, channels, compute), image, reference))
        except Exception as error:  # a network may fail in any way, and the other results are still useful
            made.append(Compared(name, None, failed=one_line(error)))
        if progress:  # outside the try: an exception from it cancels the work
            progress(index + 1, len(models))
    return made


_SCREEN_PX = 2048


def match_for_screen(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Two images at one size, that of the one after or the largest of its shape that a screen has room for.

    Args:
        before: ``(1, 1, 3 or 4, h, w)`` in [0, 1]; resized bicubically, whatever its size.
        after: ``(1, 1, 3 or 4, H, W)`` in [0, 1].

    Returns:
        Both, ``(1, 3, H, W)``, transparency over grey.
    """
    size = size_within((after.shape[2], after.shape[3]), _SCREEN_PX)
    shown = [resize(flatten_alpha(image), size).clamp(0, 1).expand(-1, 3, -1, -1) for image in (before, after)]
    return shown[0], shown[1]


def check_reference(reference: Tensor | None, size: tuple[int, int]) -> None:
    """Raises a RefusedError if there is a reference and its size is not that of the results."""
    if reference is not None and tuple(reference.shape[2:]) != tuple(size):
        seen = f"{reference.shape[3]}x{reference.shape[2]}"
        raise RefusedError(f"reference is {seen} px; wanted {size[1]}x{size[0]}, the size of the results")


def _run(name: str, path: Path, image: Tensor, size: tuple[int, int], channels: Channels, compute: Compute) -> Compared:
    device = compute.device_for(image)
    gc.collect()  # memory freed by the previous network would make this one's peak look small
    _warm_up(device)
    with MemoryWatch(device) as watch:
        model = load_model(path)
        started = time.perf_counter()
        result = upscale(image, model, size, channels, compute).image
        _synchronize(device)
        seconds = time.perf_counter() - started
    return Compared(name, result, seconds=seconds, peak_memory_bytes=watch.peak_bytes)


def _warm_up(device: torch.device) -> None:
    """Runs a small convolution, so that device setup does not count toward a network's time or memory."""
    ones = torch.ones(1, 1, 8, 8, device=device)
    torch.conv2d(ones, ones[..., :3, :3])
    _synchronize(device)


def _synchronize(device: torch.device) -> None:
    """Waits for the GPU to finish its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _judge(one: Compared, source: Tensor, reference: Tensor | None) -> Compared:
    assert one.image is not None
    quality: Mapping[str, float | None] = measure_naturalness(flatten_alpha(one.image))
    if reference is not None:
        truth, shown = (flatten_alpha(picture) for picture in (reference, one.image))
        channels = max(truth.shape[1], shown.shape[1])
        truth, shown = (picture.expand(-1, channels, -1, -1) for picture in (truth, shown))
        error = measure_drift(truth, shown, "full")
        quality = {
            "ciede2000_mean": error.mean,
            "ciede2000_p99": error.p99,
            "ciede2000_max": error.max,
            **measure_quality(truth, shown),
            **quality,
        }
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
    """All metrics of a result by name, without nesting, so that any program can sort by them."""
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
    """Results as JSON values: all have the same keys, None where a metric is missing."""
    figures = [figures_of(one) for one in results]
    keys = dict.fromkeys(key for row in figures for key in row)
    return [
        {"name": one.name, "failed": one.failed, **{key: row.get(key) for key in keys}}
        for one, row in zip(results, figures, strict=True)
    ]


def describe_compared(one: Compared) -> str:
    """One result as a line for a terminal or a picture title."""
    if one.failed or one.drift is None:
        return f"{one.name}: {one.failed}"
    words = [f"drift {one.drift.mean:.2f} mean {one.drift.max:.2f} max", f"sharpness {one.sharpness:.4f}"]
    words += [f"overshoot {one.overshoot_percent:.1f} %"] if one.overshoot_percent is not None else []
    error, decibels, alike = (one.quality.get(key) for key in ("ciede2000_mean", "psnr_y", "ssim"))
    words += [f"CIEDE2000 {error:.2f} mean"] if error is not None else []
    words += [f"{decibels:.2f} dB"] if decibels is not None else []
    words += [f"SSIM {alike:.4f}"] if alike is not None else []
    words += [f"{one.seconds:.1f} s"] if one.seconds is not None else []
    words += [f"{one.peak_memory_bytes / 2**20:.0f} MiB"] if one.peak_memory_bytes else []
    return f"{one.name}: {', '.join(words)}"


def crop_middle(image: Tensor, longest_px: int) -> Tensor:
    """The center of an image, at most `longest_px` per side."""
    height, width = (min(side, longest_px) for side in image.shape[2:])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width]


def draw_heat(one: Compared) -> Tensor | None:
    """The drift heat map of a result, at the result's size; None if there is none."""
    if one.image is None or one.difference is None:
        return None
    return resize(paint_heat_map(one.difference), (one.image.shape[2], one.image.shape[3])).clamp(0, 1)


def draw_difference(image: Tensor, reference: Tensor) -> Tensor:
    """The absolute difference of two images of equal size, averaged over channels and amplified by `_DIFFERENCE_GAIN`.

    Args:
        image: ``(1, C, H, W)`` in [0, 1]; an image with alpha is composited over mid-grey.
        reference: The same; C may differ.

    Returns:
        ``(1, 1, H, W)`` in [0, 1].
    """
    difference = flatten_alpha(image.float()) - flatten_alpha(reference.to(image.device).float())
    return difference.abs().mean(dim=1, keepdim=True).mul(_DIFFERENCE_GAIN).clamp(0, 1)


def draw_sheet(results: list[Compared], reference: Tensor | None = None) -> Tensor:
    """A labeled sheet: the center crop of every result at 1:1, and below it the drift heat map.

    Args:
        results: From `compare_models`.
        reference: The ground truth at the same size, if there is one: it comes first, and a third row shows each result's
            difference from it (`draw_difference`).

    Returns:
        ``(1, 3, H, W)`` in [0, 1].

    Raises:
        RefusedError: If the reference has another size than the results.
    """
    shown = next(one.image for one in results if one.image is not None)
    size = (shown.shape[2], shown.shape[3])
    check_reference(reference, size)
    side = min(_CELL_PX, *size)
    cells: list[tuple[str, list[Tensor | None]]] = []
    if reference is not None:
        cells.append((_REFERENCE_TITLE, [crop_middle(reference, side)]))
    for one in results:
        pictures = [picture if picture is None else crop_middle(picture, side) for picture in (one.image, draw_heat(one))]
        if reference is not None and pictures[0] is not None:
            pictures.append(draw_difference(pictures[0], crop_middle(reference, side)))
        cells.append((describe_compared(one), pictures))
    return _paste_cells(cells, side)


def _paste_cells(cells: list[tuple[str, list[Tensor | None]]], side: int) -> Tensor:
    """Columns of a title above square pictures, on white; the title row fits the longest title."""
    font = ImageFont.load_default(_FONT_PX)
    titles = [_wrap(title, font, side) for title, _ in cells]
    top = max(map(len, titles)) * _LINE_PX + _GAP_PX
    pitch = side + _GAP_PX
    sheet = Image.new("RGB", (pitch * len(cells), top + pitch * max(len(pictures) for _, pictures in cells)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (lines, (_, pictures)) in enumerate(zip(titles, cells, strict=True)):
        for row, line in enumerate(lines):
            draw.text((column * pitch + 2, 2 + row * _LINE_PX), line, fill="black", font=font)
        for row, picture in enumerate(pictures):
            if picture is None:
                continue
            samples = quantise(picture[:, :3].expand(-1, 3, -1, -1), 8)
            sheet.paste(Image.fromarray(samples), (column * pitch, top + row * pitch))
    return torch.from_numpy(np.asarray(sheet).copy()).movedim(-1, 0)[None].float() / 255


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Wraps a text at spaces, and within words that are wider than a line."""
    lines, line = list[str](), ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        while len(longer) > 1 and font.getlength(longer) > width:
            fitting = max(1, sum(font.getlength(longer[:count]) <= width for count in range(1, len(longer))))
            lines.append(longer[:fitting])
            longer = longer[fitting:]
        line = longer
    return [*lines, line]
