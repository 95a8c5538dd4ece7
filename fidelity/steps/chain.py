"""Chains networks to an exact target size without storing a whole intermediate image.

Two x4 passes and a resize would create an image of 16 times the source's sides only to shrink it again. Instead the
target is computed block by block. The source region of each block, with context for the combined receptive field of all
networks, goes through all passes. So memory beyond source and target is that of one block, whatever the target size.
Where the context covers the receptive fields, the result equals that of whole images.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..imaging.bands import iterate_bands
from ..imaging.resample import AxisWeights, apply_separable, iterate_separable, resize_weights
from ..imaging.rows import Rows, RowSource, resize_rows
from ..imaging.tensors import empty_image
from ..imaging.tiling import Span, fade_weights, plan_spans
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..networks.runner import BLEND_CONTEXT_PX, BLEND_FADE_PX, Runner, RunReport
from ..progress import Progress, part_of
from .cleanup import DEFAULT_SETTINGS, CleanupMethod, clean

BLOCK_BYTES = 256 * 2**20
"""Largest float32 output of the networks for one block."""

_SHORTEST_BLOCK_PX = 64


@dataclass(frozen=True)
class Between:
    """Cleanup between two networks."""

    method: CleanupMethod
    """See `fidelity.steps.cleanup.clean`."""
    noise_sigma: float = 0.0
    """Standard deviation of the source's luma noise, in 8-bit steps."""


@dataclass(frozen=True)
class Pass:
    """One completed step."""

    kind: Literal["network", "restore", "deband", "clean", "resize", "consistency", "gate", "grain", "measure"]
    """Type of step; "restore" (by a network or a filter) and "deband" work on the source at x1."""
    scale: float
    """Enlargement factor of the side that grew most."""
    tile: tuple[int, int] | None
    """(height, width) of the network's tiles in input pixels; None for other steps."""
    seconds: float
    """Wall time."""
    model: str | None = None
    """The network; None for other steps."""
    precision: str | None = None
    """fp32, bf16 or fp16; None for other steps."""
    seamless: bool = True
    """Whether tiling changed nothing, because the tile context covered the receptive field."""
    backend: str | None = None
    """The library that ran the network; None for other steps."""


@dataclass(frozen=True)
class Stretch:
    """One block along one axis."""

    window: tuple[int, int]
    """(start, stop) of the source region that is the input of the networks."""
    drawn: tuple[int, int]
    """(start, stop) of the networks' output that the block uses, counted from the start of the output of the window."""
    target: Span
    """Position of the block in the target, and how it fades into its neighbors."""
    weights: AxisWeights | None
    """Weights of the final resize; None if there is none."""


def plan_stretches(
    length: int, target: int, scale: int, block_px: int, context_px: int, fade_px: int = 0, multiple: int = 1
) -> list[Stretch]:
    """Covers one axis of the target with blocks.

    Args:
        length: Length of the source.
        target: Length of the target.
        scale: Combined scale of all networks; a resize covers the rest.
        block_px: Longest block, in target pixels.
        context_px: Context that the networks need on each side, in source pixels.
        fade_px: Target pixels over which neighboring blocks blend.
        multiple: Windows start on multiples of this, in source pixels.
    """
    resized = resize_weights(length * scale, target) if target != length * scale else None
    stretches: list[Stretch] = []
    for span in plan_spans(target, max(block_px, 2 * fade_px + 1), 0, fade_px):
        start, stop = span.core
        weights = None
        if resized:
            first = resized.first[start:stop]
            low, high = int(first.min()), int(first.max()) + resized.weights.shape[1]
            weights = AxisWeights(high - low, first - low, resized.weights[start:stop])
            start, stop = low, high
        first_px = max(0, start // scale - context_px) // multiple * multiple
        window = (first_px, min(length, -(-stop // scale) + context_px))
        drawn = (start - window[0] * scale, stop - window[0] * scale)
        stretches.append(Stretch(window, drawn, span, weights))
    return stretches


class Chain:
    """A chain of networks with optional cleanup between them and a target size, bound to a device and a precision."""

    def __init__(
        self,
        models: Sequence[Network],
        target: tuple[int, int],
        kind: Literal["image", "luma"],
        device: torch.device,
        compute: Compute = AUTO_COMPUTE,
        between: Between | None = None,
    ) -> None:
        """Moves each network to the device once.

        Args:
            models: The networks in the order of their passes; may be empty.
            target: (height, width) of the result.
            kind: "image" for RGB input and output; "luma" for one channel.
            device: Device that the networks run on.
            compute: Precision, tile size and backend.
            between: Cleanup after each network but the last; none if not given.
        """
        known: dict[int, Runner] = {}
        for model in models:
            if id(model) not in known:
                known[id(model)] = Runner(model, device, compute.precision, kind, compute.backend)
        self._runners = [known[id(model)] for model in models]
        self._target = target
        self._between = between
        self._tile = compute.tile_px
        self._scale = math.prod(runner.scale for runner in self._runners)

    def run(self, image: Tensor, output: Tensor | None = None, progress: Progress | None = None) -> tuple[Tensor, list[Pass]]:
        """Enlarges an image to the target.

        Args:
            image: ``(B, C, H, W)`` in [0, 1]; C is 1 for a chain of kind "luma", else 3.
            output: ``(B, C, *target)`` to write to; allocated like `image` if not given.
            progress: Called as the work proceeds.

        Returns:
            The result, on the device of `image`, and the passes.
        """
        size = (image.shape[2], image.shape[3])
        if output is None:
            output = empty_image(image, image.shape[1], *self._target)
        if not self._runners:
            return output, self._resize(image, output)
        if len(self._runners) == 1 and (size[0] * self._scale, size[1] * self._scale) == self._target:
            started = time.perf_counter()
            report = self._runners[0].run(image, output, self._tile, progress)[1]
            return output, [_network_pass(self._runners[0], report, time.perf_counter() - started)]
        return output, self._run_blocks(image, output, progress)

    def run_rows(self, source: RowSource, sink: Rows, progress: Progress | None = None) -> list[Pass]:
        """Enlarges an image in strips of rows, so that neither source nor target need be in memory.

        Args:
            source: ``(B, C, H, W)`` in [0, 1].
            sink: ``(B, C, *target)``; written from top to bottom.
            progress: Called as the work proceeds.
        """
        size = source.shape[2:]
        if not self._runners:
            started = time.perf_counter()
            resize_rows(source, sink)
            seconds = time.perf_counter() - started
            return [] if size == self._target else [Pass("resize", _factor(size, self._target), None, seconds)]
        context, multiple, bounded = self._reach()
        pixels = BLOCK_BYTES // (4 * source.shape[0] * source.shape[1])
        drawn_rows = max(_SHORTEST_BLOCK_PX, pixels // (size[1] * self._scale))
        drawn_columns = max(_SHORTEST_BLOCK_PX, pixels // drawn_rows)
        ratios = [wanted / length for wanted, length in zip(self._target, size, strict=True)]
        rows_at_once = max(_SHORTEST_BLOCK_PX, int(drawn_rows * ratios[0] / self._scale))
        columns_at_once = max(_SHORTEST_BLOCK_PX, int(drawn_columns * ratios[1] / self._scale))
        fades = [0 if bounded else max(1, round(BLEND_FADE_PX * ratio)) for ratio in ratios]
        strips = plan_stretches(size[0], self._target[0], self._scale, rows_at_once, context, fades[0], multiple)
        columns = plan_stretches(size[1], self._target[1], self._scale, columns_at_once, context, fades[1], multiple)
        log, carried = _Log(self._runners, size, self._target), None
        for index, strip in enumerate(strips):
            first, last = strip.target.core
            band = source.read(slice(*strip.window))
            drawn = torch.zeros((*source.shape[:2], last - first, self._target[1]), device=source.device)
            placed = replace(strip, target=replace(strip.target, core=(0, last - first)))
            for number, stretch in enumerate(columns):
                done, count = index * len(columns) + number, len(strips) * len(columns)
                part = part_of(progress, done / count, (done + 1) / count)
                self._run_block(band[..., slice(*stretch.window)], placed, stretch, drawn, part, log)
            if carried is not None:
                drawn[:, :, : carried.shape[2]] += carried
            kept = last - first - strip.target.fade_out
            for part in iterate_bands(kept, drawn[:, :, :1].nbytes):  # what a sink does with rows takes several copies of them
                sink.write(slice(first + part.start, first + part.stop), drawn[:, :, part])
            carried = drawn[:, :, kept:] if strip.target.fade_out else None
        return log.passes(seamless=bounded or len(strips) * len(columns) == 1)

    def _resize(self, image: Tensor, output: Tensor) -> list[Pass]:
        size = (image.shape[2], image.shape[3])
        if size == self._target:
            output.copy_(image)
            return []
        started = time.perf_counter()
        rows, columns = (resize_weights(given, wanted) for given, wanted in zip(size, self._target, strict=True))
        for band, values in iterate_separable(image, rows, columns):
            output[:, :, band] = values.clamp_(0, 1)
        return [Pass("resize", _factor(size, self._target), None, time.perf_counter() - started)]

    def _run_blocks(self, image: Tensor, output: Tensor, progress: Progress | None) -> list[Pass]:
        size = (image.shape[2], image.shape[3])
        context, multiple, bounded = self._reach()
        pixels = BLOCK_BYTES // (4 * image.shape[0] * image.shape[1])
        fits = size[0] * size[1] * self._scale**2 <= pixels
        blocks = [
            plan_stretches(
                length,
                wanted,
                self._scale,
                wanted if fits else max(_SHORTEST_BLOCK_PX, int(math.sqrt(pixels) * wanted / (length * self._scale))),
                context,
                0 if bounded else max(1, round(BLEND_FADE_PX * wanted / length)),
                multiple,
            )
            for length, wanted in zip(size, self._target, strict=True)
        ]
        log = _Log(self._runners, size, self._target)
        if not bounded:
            output.zero_()
        count = len(blocks[0]) * len(blocks[1])
        for index, (rows, columns) in enumerate((rows, columns) for rows in blocks[0] for columns in blocks[1]):
            piece = image[:, :, slice(*rows.window), slice(*columns.window)]
            self._run_block(piece, rows, columns, output, part_of(progress, index / count, (index + 1) / count), log)
        return log.passes(seamless=bounded or count == 1)

    def _run_block(
        self, piece: Tensor, rows: Stretch, columns: Stretch, output: Tensor, progress: Progress | None, log: "_Log"
    ) -> None:
        """Runs the networks on the source region of one block, resizes the result and places it."""
        drawn = self._run_networks(piece, progress, log)
        started = time.perf_counter()
        drawn = drawn[:, :, slice(*rows.drawn), slice(*columns.drawn)]
        if rows.weights or columns.weights:
            height, width = drawn.shape[2:]
            down, across = rows.weights or _same(height), columns.weights or _same(width)
            drawn = apply_separable(drawn, down, across).clamp_(0, 1)
        _place(output, drawn, rows.target, columns.target)
        log.resized(time.perf_counter() - started)
        if progress:
            progress(1, 1)

    def _run_networks(self, piece: Tensor, progress: Progress | None, log: "_Log") -> Tensor:
        works = [math.prod(runner.scale for runner in self._runners[:place]) ** 2 for place in range(len(self._runners))]
        done = 0
        for place, (runner, work) in enumerate(zip(self._runners, works, strict=True)):
            started = time.perf_counter()
            part = part_of(progress, done / sum(works), (done + work) / sum(works))
            piece, report = runner.run(piece, None, self._tile, part)
            log.ran(place, report, time.perf_counter() - started)
            done += work
            between = self._between
            if between is not None and place < len(self._runners) - 1:
                started = time.perf_counter()
                piece = clean(piece, between.method, noise_sigma=between.noise_sigma)
                log.cleaned(place, time.perf_counter() - started)
        return piece

    def _reach(self) -> tuple[int, int, bool]:
        """Context and grid that all passes need, in source pixels, and whether the context covers the receptive fields."""
        context, scale, bounded = 0.0, 1, True
        for runner in self._runners:
            reach = runner.reach_px
            bounded = bounded and reach is not None
            context += (BLEND_CONTEXT_PX if reach is None else reach) / scale
            scale *= runner.scale
            context += DEFAULT_SETTINGS.reach_px(self._between.method) / scale if self._between else 0
        grid = math.lcm(*(runner.multiple for runner in self._runners))
        return math.ceil(context) + grid, grid, bounded


class _Log:
    """Sums the times of all blocks into passes."""

    def __init__(self, runners: list[Runner], size: tuple[int, int], target: tuple[int, int]) -> None:
        self._runners = runners
        self._seconds = [0.0] * len(runners)
        self._cleaning = [0.0] * len(runners)
        self._reports: list[RunReport | None] = [None] * len(runners)
        scale = math.prod(runner.scale for runner in runners)
        self._left = _factor((size[0] * scale, size[1] * scale), target)
        self._resized = (size[0] * scale, size[1] * scale) != target
        self._resizing = 0.0

    def ran(self, place: int, report: RunReport, seconds: float) -> None:
        """A network ran on one block."""
        self._seconds[place] += seconds
        before = self._reports[place]
        if before is None or math.prod(report.tile_px) < math.prod(before.tile_px):
            self._reports[place] = report

    def cleaned(self, place: int, seconds: float) -> None:
        """One block was cleaned after a network."""
        self._cleaning[place] += seconds

    def resized(self, seconds: float) -> None:
        """One block was resized and written to the target."""
        self._resizing += seconds

    def passes(self, seamless: bool) -> list[Pass]:
        """All passes so far."""
        passes: list[Pass] = []
        for place, (runner, report) in enumerate(zip(self._runners, self._reports, strict=True)):
            if report is None:
                continue
            passes.append(_network_pass(runner, report, self._seconds[place], seamless))
            if self._cleaning[place]:
                passes.append(Pass("clean", 1.0, None, self._cleaning[place]))
        if self._resized:
            passes.append(Pass("resize", self._left, None, self._resizing))
        return passes


def _network_pass(runner: Runner, report: RunReport, seconds: float, seamless: bool = True) -> Pass:
    name, scale = runner.network.name, runner.network.scale
    is_seamless = report.seamless and seamless
    return Pass("network", scale, report.tile_px, seconds, name, report.precision, is_seamless, runner.network.backend)


def _place(output: Tensor, values: Tensor, rows: Span, columns: Span) -> None:
    area = output[:, :, slice(*rows.core), slice(*columns.core)]
    weights = (fade_weights(rows, 1), fade_weights(columns, 1))
    if weights[0] is None and weights[1] is None:
        area.copy_(values)
        return
    for weight, shape in zip(weights, ((-1, 1), (1, -1)), strict=True):
        if weight is not None:
            values = values * weight.to(values).reshape(shape)
    area.add_(values)


def _same(length: int) -> AxisWeights:
    """The identity operator along an axis."""
    return AxisWeights(length, torch.arange(length), torch.ones(length, 1, dtype=torch.float64))


def _factor(size: tuple[int, int], target: tuple[int, int]) -> float:
    return max(target[0] / size[0], target[1] / size[1])
