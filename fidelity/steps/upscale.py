"""Super-resolution of an image of any kind and size: luma or RGB, grey, alpha, exact target size."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.bands import check_finite, check_image, empty_image
from ..imaging.color import is_grey, rgb_to_luma
from ..imaging.filters import local_range
from ..imaging.resample import iterate_separable, resize, resize_weights
from ..models.device import Precision
from ..models.loader import Model
from ..models.runner import Runner, RunReport
from ..progress import Progress
from .alpha import bleed_colors
from .consistency import project

Channels = Literal["luma", "rgb"]

MAX_SIDE_PX = 65_500
"""Longest side of a result: the limit of JPEG, and near that of most viewers."""

RESIZE_SHARE = 1.5
"""What is left to an ordinary resize after the last network pass; beyond it another pass is made."""


@dataclass(frozen=True)
class Pass:
    """One enlargement on the way to the target."""

    kind: Literal["network", "resize"]
    """What did it."""
    scale: float
    """The larger of the two sides' factors."""
    tile: tuple[int, int] | None
    """(height, width) of the network's tiles in pixels of its input; None for a resize."""
    seconds: float
    """Wall time."""
    model: str | None = None
    """The network; None for a resize."""
    precision: str | None = None
    """fp32, bf16 or fp16; None for a resize."""
    seamless: bool = True
    """Whether tiling changed nothing, because the tiles' context covered the receptive field."""


@dataclass(frozen=True)
class Upscaled:
    """An enlargement and how it came about."""

    image: Tensor
    """``(B, C, H, W)`` in [0, 1], with the channels, dtype and device of the source."""
    passes: tuple[Pass, ...]
    """In the order they were made."""


def count_passes(size: tuple[int, int], target: tuple[int, int], scale: int) -> int:
    """How many passes of a network bring an image to its target, the last `RESIZE_SHARE` left to a resize.

    Args:
        size: (height, width) of the source.
        target: (height, width) wanted.
        scale: Enlargement factor of the network.
    """
    ratio = max(wanted / given for wanted, given in zip(target, size, strict=True))
    if ratio <= 1 or scale == 1:
        return 1 if scale == 1 else 0
    return max(1, math.ceil(math.log(ratio / RESIZE_SHARE) / math.log(scale) - 1e-9))


def upscale(
    image: Tensor,
    model: Model | Sequence[Model],
    target: tuple[int, int] | None = None,
    channels: Channels = "luma",
    device: torch.device | None = None,
    precision: Precision = "auto",
    tile: int | None = None,
    progress: Progress | None = None,
) -> Upscaled:
    """Enlarges an image with networks to exactly the target size.

    Args:
        image: ``(B, 1, 3 or 4, H, W)``, from 1x1 pixel up. Grey stays grey, to the bit. Alpha is enlarged by the
            network too, held within what the source has nearby, and the colours under it are filled in first.
        model: The network, used as often as the target needs; or several, each used once, in that order.
        target: (height, width) in pixels; what one pass of each gives, if not given.
        channels: "luma" sends luma through the network and resamples the colour differences, which keeps
            hue and saturation; "rgb" sends all three, which also mends damaged colour.
        device: Where to run the network; the image's if not given.
        precision: See `fidelity.models.device.choose_dtype`.
        tile: Side of a tile in pixels of the network's input, context included; by memory if not given.
        progress: Called with (tiles done, tiles in all) over all passes.

    Returns:
        The enlargement, on the image's device, and its passes.

    Raises:
        ValueError: If the image is not finite, or the target is not positive or too large.
    """
    check_image(image)
    image = _within_range(image)
    size = (image.shape[2], image.shape[3])
    if target is None:
        scale = model.scale if isinstance(model, Model) else math.prod(one.scale for one in model)
        target = (size[0] * scale, size[1] * scale)
    check_target(target)
    chain = [model] * count_passes(size, target, model.scale) if isinstance(model, Model) else list(model)
    device = device or image.device
    if image.shape[0] > 1 and len({(is_grey(one), _is_flat(one)) for one in image.split(1)}) > 1:
        return _upscale_each(image, chain, target, channels, device, precision, tile, progress)
    alpha = image[:, 3:4] if image.shape[1] == 4 else None
    flat_alpha = _is_flat(image)
    colors = bleed_colors(image) if alpha is not None else image
    runs = 1 if alpha is None or flat_alpha else 2
    meter = _Meter(progress, runs * len(chain))
    job = _Job(chain, device, precision, target, tile, meter)
    if is_grey(colors):
        enlarged, passes = job.run(colors[:, :1], "luma")
        result = enlarged.clamp_(0, 1).repeat(1, colors.shape[1], 1, 1)
    elif channels == "luma" or any(one.descriptor.output_channels == 1 for one in chain):
        output = empty_image(colors, 3, *target)
        enlarged, passes = job.run(rgb_to_luma(colors), "luma", output[:, :1])
        result = merge_chroma(enlarged, colors, output)
    else:
        result, passes = job.run(colors, "image")
        result.clamp_(0, 1)
    if alpha is not None:
        if flat_alpha:
            coverage = alpha[:, :, :1, :1].expand(-1, -1, *target)
        else:
            coverage, more = job.run(alpha, "luma")
            coverage = _hold_alpha(coverage, alpha)
            passes += more
        result = torch.cat((result, coverage.to(result.dtype)), dim=1)
    return Upscaled(result, tuple(passes))


def _upscale_each(
    image: Tensor,
    model: Sequence[Model],
    target: tuple[int, int],
    channels: Channels,
    device: torch.device,
    precision: Precision,
    tile: int | None,
    progress: Progress | None,
) -> Upscaled:
    """A batch of which some images are grey, or some have no transparency, one by one."""
    made: list[Upscaled] = []
    for index, one in enumerate(image.split(1)):
        share = _share_of(progress, index, image.shape[0])
        made.append(upscale(one, model, target, channels, device, precision, tile, share))
    passes = tuple(step for part in made for step in part.passes)
    return Upscaled(torch.cat([part.image for part in made]), passes)


def _share_of(progress: Progress | None, index: int, count: int) -> Progress | None:
    return (lambda done, total: progress(index * total + done, count * total)) if progress else None


def _is_flat(image: Tensor) -> bool:
    """Whether transparency is the same all over each image, or there is none."""
    alpha = image[:, 3:]
    return bool((alpha == alpha[:, :, :1, :1]).all())


def check_target(target: tuple[int, int]) -> None:
    """Raises a ValueError unless a (height, width) can be made."""
    height, width = target
    if min(height, width) < 1:
        raise ValueError(f"target size is {width}x{height} px; wanted at least 1x1")
    if max(height, width) > MAX_SIDE_PX:
        raise ValueError(f"target size is {width}x{height} px; wanted at most {MAX_SIDE_PX} a side")


def merge_chroma(luma: Tensor, colors: Tensor, output: Tensor | None = None) -> Tensor:
    """Joins an enlarged luma with the resampled colour differences of a source.

    Args:
        luma: ``(B, 1, H, W)`` in [0, 1].
        colors: ``(B, 3, h, w)``, the source in RGB.
        output: ``(B, 3, H, W)`` to write to, which may hold the luma itself in its first channel.

    Returns:
        ``(B, 3, H, W)`` RGB in [0, 1].
    """
    if output is None:
        output = empty_image(luma, 3, luma.shape[2], luma.shape[3], dtype=colors.dtype)
    # Colour differences are linear, so R-Y, G-Y and B-Y can be resampled as they are and Y added back.
    differences = colors.float() - rgb_to_luma(colors.float())
    rows = resize_weights(colors.shape[2], luma.shape[2])
    columns = resize_weights(colors.shape[3], luma.shape[3])
    for band, values in iterate_separable(differences, rows, columns):
        output[:, :, band] = values.add_(luma[:, :, band]).clamp_(0, 1)
    return output


class _Meter:
    """Turns the progress of several passes into one count; a pass not yet planned counts as the current one."""

    def __init__(self, progress: Progress | None, passes: int) -> None:
        self._progress = progress
        self._passes_left = max(1, passes)
        self._done_before = 0
        self._total = 1

    def tiles(self, done: int, total: int) -> None:
        """Reports tiles of the current pass."""
        self._total = total
        if self._progress:
            self._progress(self._done_before + done, self._done_before + total * self._passes_left)

    def next_pass(self) -> None:
        """Closes the current pass."""
        self._done_before += self._total
        self._passes_left = max(1, self._passes_left - 1)


@dataclass(frozen=True)
class _Job:
    """What all channels of one image have in common."""

    chain: list[Model]
    device: torch.device
    precision: Precision
    target: tuple[int, int]
    tile: int | None
    meter: _Meter

    def run(self, image: Tensor, kind: Literal["image", "luma"], output: Tensor | None = None) -> tuple[Tensor, list[Pass]]:
        """Enlarges channels to the target, into `output` if given."""
        passes: list[Pass] = []
        runner: Runner | None = None
        for model in self.chain:
            if runner is None or runner.model is not model:
                runner = Runner(model, self.device, self.precision, kind)
            started = time.perf_counter()
            reached = (image.shape[2] * runner.scale, image.shape[3] * runner.scale) == self.target
            image, report = runner.run(image, output if reached else None, self.tile, self.meter.tiles)
            self.meter.next_pass()
            passes.append(_network_pass(model, report, time.perf_counter() - started))
        if (image.shape[2], image.shape[3]) != self.target:
            started = time.perf_counter()
            scale = max(self.target[0] / image.shape[2], self.target[1] / image.shape[3])
            image = resize(image, self.target).clamp_(0, 1)
            passes.append(Pass("resize", scale, None, time.perf_counter() - started))
        return (image if passes else image.clone()), passes


def _network_pass(model: Model, report: RunReport, seconds: float) -> Pass:
    return Pass("network", model.scale, report.tile_px, seconds, model.name, report.precision, report.seamless)


def _hold_alpha(coverage: Tensor, alpha: Tensor) -> Tensor:
    """Keeps opaque opaque and clear clear, and coverage what it was on average, whatever the network made of it."""
    coverage = project(coverage, alpha, "full")
    lowest, highest = local_range(alpha.to(coverage.dtype), 3)
    size = (coverage.shape[2], coverage.shape[3])
    return torch.minimum(torch.maximum(coverage, _spread(lowest, size)), _spread(highest, size))


def _spread(image: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(image.float(), size, mode="bilinear", align_corners=False).to(image.dtype)


def _within_range(image: Tensor) -> Tensor:
    """The image clipped to [0, 1]; itself if nothing is outside, since a copy costs as much as the source."""
    check_finite(image)
    lowest, highest = torch.aminmax(image)
    return image if lowest >= 0 and highest <= 1 else image.clamp(0, 1)
