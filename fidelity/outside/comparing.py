"""One image through several networks, side by side: figures, and a sheet at equal zoom."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..imaging.drift import Drift, drift_map, overshoot_percent, sharpness, summarize_drift
from ..imaging.metrics import psnr, ssim
from ..imaging.resample import resize
from ..models.device import Precision
from ..models.loader import ModelRefusedError, load_model
from ..models.runner import ModelOutputError, OutOfMemoryError
from ..progress import Progress
from ..steps.gate import paint_heat_map
from ..steps.upscale import Channels, upscale
from .writing import quantise

_SMALLEST_FOR_SSIM_PX = 11
_TITLE_PX, _GAP_PX, _FONT_PX = 40, 4, 14
_CELL_PX = 384


@dataclass(frozen=True)
class Compared:
    """What one network made of the image."""

    name: str
    """The network, or "bicubic"."""
    image: Tensor | None
    """``(1, C, H, W)``, of the size that all are compared at; None if it failed."""
    drift: Drift | None = None
    """CIEDE2000 of the colour band, of its own output, at the source's size."""
    sharpness: float | None = None
    """Standard deviation of a Laplacian; comparable among the results of one image."""
    overshoot_percent: float | None = None
    """Share of samples beyond the source's local range."""
    psnr_y: float | None = None
    """Against the reference, in dB; None if there is none, or it is the same."""
    ssim: float | None = None
    """Against the reference."""
    seconds: float | None = None
    """Wall time of the network."""
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
    if reference is not None and tuple(reference.shape[2:]) != tuple(size):
        seen = f"{reference.shape[3]}x{reference.shape[2]}"
        raise ValueError(f"reference is {seen} px; wanted {size[1]}x{size[0]}, the size of the results")
    made = [_judge("bicubic", resize(image, size).clamp(0, 1), image, reference, None)]
    for index, (name, path) in enumerate(models.items()):
        try:
            model = load_model(path)
            started = time.perf_counter()
            result = upscale(image, model, size, channels, device, precision).image
            made.append(_judge(name, result, image, reference, time.perf_counter() - started))
        except (ModelRefusedError, ModelOutputError, OutOfMemoryError, ValueError, OSError) as error:
            made.append(Compared(name, None, failed=str(error)))
        if progress:
            progress(index + 1, len(models))
    return made


def _judge(name: str, result: Tensor, source: Tensor, reference: Tensor | None, seconds: float | None) -> Compared:
    quality: tuple[float | None, float | None] = (None, None)
    if reference is not None:
        channels = max(result.shape[1], reference.shape[1])
        truth, shown = (picture[:, :3].expand(-1, min(channels, 3), -1, -1) for picture in (reference, result))
        decibels = psnr(truth, shown, luma=True)
        alike = ssim(truth, shown) if min(result.shape[2:]) >= _SMALLEST_FOR_SSIM_PX else None
        quality = (decibels if decibels != float("inf") else None, alike)
    drift = summarize_drift(drift_map(source, result))
    return Compared(name, result, drift, sharpness(result), overshoot_percent(source, result), *quality, seconds)


def describe_compared(one: Compared) -> str:
    """One result as a line for a terminal or the title of a picture."""
    if one.failed or one.drift is None:
        return f"{one.name}: {one.failed}"
    words = [f"drift {one.drift.mean:.2f} mean {one.drift.max:.2f} max", f"sharpness {one.sharpness:.4f}"]
    words += [f"overshoot {one.overshoot_percent:.1f} %"] if one.overshoot_percent is not None else []
    words += [f"{one.psnr_y:.2f} dB"] if one.psnr_y is not None else []
    words += [f"SSIM {one.ssim:.4f}"] if one.ssim is not None else []
    words += [f"{one.seconds:.1f} s"] if one.seconds is not None else []
    return f"{one.name}: {', '.join(words)}"


def draw_sheet(results: list[Compared], source: Tensor) -> Tensor:
    """A labelled sheet: the middle of every result at its own pixels, and below it a heat map of where colours drifted.

    Args:
        results: From `compare_models`.
        source: The image that they were made from.

    Returns:
        ``(1, 3, H, W)`` in [0, 1].
    """
    shown = next(one.image for one in results if one.image is not None)
    side = min(_CELL_PX, *shown.shape[2:])
    width, height = side + _GAP_PX, 2 * side + 2 * _GAP_PX + _TITLE_PX
    sheet = Image.new("RGB", (width * len(results), height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    for column, one in enumerate(results):
        left = column * width
        for row, line in enumerate(_wrap(describe_compared(one), font, side)[:2]):
            draw.text((left + 2, 2 + row * (_FONT_PX + 4)), line, fill="black", font=font)
        if one.image is None:
            continue
        top = (one.image.shape[2] - side) // 2, (one.image.shape[3] - side) // 2
        heat = resize(paint_heat_map(drift_map(source, one.image)), (one.image.shape[2], one.image.shape[3])).clamp(0, 1)
        for row, picture in enumerate((one.image, heat)):
            crop = picture[0, :3, top[0] : top[0] + side, top[1] : top[1] + side].expand(3, -1, -1)
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
