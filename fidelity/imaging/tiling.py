"""Splits an image into equal tiles. This is integer planning; only the fade weights are tensors.

A plan in two dimensions combines two plans in one. Along an axis, all windows have the same length
and overlap by the context that both neighbors need. Each sample is kept from one window or faded
between two, so that the weights of all tiles sum to one everywhere.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import RefusedError


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in source pixels; every pair is (start, stop)."""

    window: tuple[int, int]
    """The part that the network gets as input."""
    core: tuple[int, int]
    """The part of its output that is kept, fades included; lies inside the window."""
    fade_in: int
    """Length at the start of the core over which its weight rises from 0 to 1; 0 for a hard cut."""
    fade_out: int
    """Length at the end of the core over which its weight falls from 1 to 0."""

    @property
    def length(self) -> int:
        """Length of the window."""
        return self.window[1] - self.window[0]


@dataclass(frozen=True)
class Tile:
    """One rectangle of the image to process."""

    rows: Span
    columns: Span

    @property
    def window_size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.rows.length, self.columns.length


def plan_spans(length: int, window: int, context: int, fade: int = 0, multiple: int = 1) -> list[Span]:
    """Covers an axis with equal windows.

    Args:
        length: Samples along the axis.
        window: The longest window allowed; the windows used may be shorter.
        context: Samples that the network needs around the kept part, on each side that is not a border.
        fade: Samples over which two neighbors are blended; 0 for a hard cut.
        multiple: Grid that a network works on (window attention, pixel unshuffle): windows start on it.

    Returns:
        At least one span, from the start of the axis to its end; all windows have the same length.

    Raises:
        RefusedError: If the window is too short to keep anything between its contexts.
    """
    if window >= length:
        return [Span((0, length), (0, length), 0, 0)]
    shared = 2 * context + fade + multiple - 1
    if window <= shared + fade + multiple - 1:
        raise RefusedError(
            f"a window of {window} px keeps nothing between contexts of {context} px and a fade of {fade} px; "
            "wanted a larger window"
        )
    longest = window - (multiple - 1)
    count = 1 + math.ceil((length - longest) / (longest - shared))
    window = math.ceil((length + (count - 1) * shared) / count)
    window = length - _round_down(length - window, multiple)
    starts = [_round_down(round(index * (length - window) / (count - 1)), multiple) for index in range(count)]
    cuts = [(first + window + second) // 2 - fade // 2 for first, second in pairwise(starts)]
    spans: list[Span] = []
    for index, start in enumerate(starts):
        first, last = index == 0, index == count - 1
        core = (0 if first else cuts[index - 1], length if last else cuts[index] + fade)
        spans.append(Span((start, start + window), core, 0 if first else fade, 0 if last else fade))
    return spans


def choose_window(
    size: tuple[int, int], max_pixels: int, context_px: int, fade_px: int = 0, multiple: int = 1
) -> tuple[int, int]:
    """Chooses the window (height, width) that covers an image with the least computation.

    Args:
        size: (height, width) of the image.
        max_pixels: The largest window allowed, in pixels; exceeded if even the smallest sensible one is larger.
        context_px: As in `plan_spans`.
        fade_px: As in `plan_spans`.
        multiple: As in `plan_spans`.

    Returns:
        The window whose tiles add up to the fewest pixels, contexts included; the squarest one if several tie.
    """
    shared = 2 * context_px + fade_px + multiple - 1
    shortest = shared + fade_px + multiple - 1 + SHORTEST_CORE_PX
    best: tuple[int, int, tuple[int, int]] | None = None
    for rows, height in _divisions(size[0], shared, shortest):
        # The fewest columns within the budget compute the least: every further one adds context.
        longest = max_pixels // height
        columns = 1 if longest >= size[1] else math.ceil((size[1] - shared) / max(1, longest - shared))
        width = math.ceil((size[1] + (columns - 1) * shared) / columns)
        if height * width > max_pixels or (columns > 1 and width < shortest):
            continue
        candidate = (rows * height * columns * width, abs(height - width), (height, width))
        best = candidate if best is None else min(best, candidate)
    if best is None:
        return min(size[0], shortest), min(size[1], shortest)
    height, width = best[2]
    return min(size[0], height + multiple - 1), min(size[1], width + multiple - 1)


def fade_at_ends(length: int, reach: int, start: bool = True, stop: bool = True) -> Tensor:
    """Returns weights of 1 that fall smoothly to nearly 0 over `reach` samples at the requested ends of an axis.

    Returns:
        ``(length,)`` in float32, all above 0.
    """
    steps = (torch.arange(length) + 0.5) / reach
    ramp = torch.ones(length)
    if start:
        ramp = ramp * steps.clamp(max=1)
    if stop:
        ramp = ramp * steps.flip(0).clamp(max=1)
    return ramp * ramp * (3 - 2 * ramp)


def plan_tiles(
    size: tuple[int, int], window: tuple[int, int], context_px: int, fade_px: int = 0, multiple: int = 1
) -> list[Tile]:
    """Covers an image of (height, width) with equal tiles of at most `window`, row by row; see `plan_spans`."""
    rows, columns = (
        plan_spans(length, longest, context_px, fade_px, multiple) for length, longest in zip(size, window, strict=True)
    )
    return [Tile(row, column) for row in rows for column in columns]


def split_tile(tile: Tile, size: tuple[int, int], context_px: int, fade_px: int = 0, multiple: int = 1) -> list[Tile]:
    """Splits one tile in half along each axis; together the parts keep and fade exactly what it did.

    Args:
        tile: The tile to split.
        size: (height, width) of the image.
        context_px: As in `plan_spans`.
        fade_px: Blending between the new halves.
        multiple: As in `plan_spans`.

    Returns:
        Four tiles of the same window size, two if one axis cannot be split into smaller windows, or none
        if neither can.
    """
    rows = _split_span(tile.rows, size[0], context_px, fade_px, multiple)
    columns = _split_span(tile.columns, size[1], context_px, fade_px, multiple)
    if len(rows) == len(columns) == 1:
        return []
    return [Tile(row, column) for row in rows for column in columns]


def fade_weights(span: Span, scale: int) -> Tensor | None:
    """Returns the weight of each output sample of a span's core, ``(core length · scale,)`` float32; None if all are 1."""
    if not span.fade_in and not span.fade_out:
        return None
    weights = torch.ones((span.core[1] - span.core[0]) * scale)
    if span.fade_in:
        weights[: span.fade_in * scale] *= _ramp(span.fade_in * scale)
    if span.fade_out:
        weights[-span.fade_out * scale :] *= 1 - _ramp(span.fade_out * scale)
    return weights


SHORTEST_CORE_PX = 8
"""Tiles are not split below this: their context would cost far more than they do."""


def _divisions(length: int, shared: int, shortest: int) -> list[tuple[int, int]]:
    """Lists (count, window length) for every way to cover an axis with equal windows not shorter than `shortest`."""
    divisions = [(1, length)]
    for count in range(2, length + 1):
        window = math.ceil((length + (count - 1) * shared) / count)
        if window < shortest:
            break
        divisions.append((count, window))
    return divisions


def _split_span(span: Span, length: int, context: int, fade: int, multiple: int) -> list[Span]:
    start, stop = span.core
    shortest = max(SHORTEST_CORE_PX, span.fade_in + fade, span.fade_out + fade)
    if stop - start < 2 * shortest:
        return [span]
    cut = (start + stop) // 2 - fade // 2
    cores = [(start, cut + fade), (cut, stop)]
    window = min(length, max(high - low for low, high in cores) + 2 * context + 2 * (multiple - 1))
    window = length - _round_down(length - window, multiple)
    if window >= span.length:  # the halves need so much context that nothing would be saved
        return [span]
    spans: list[Span] = []
    for (low, high), fade_in, fade_out in zip(cores, (span.fade_in, fade), (fade, span.fade_out), strict=True):
        first = min(max(0, (low + high - window) // 2), length - window)
        first = _round_down(max(0, min(first, low - context, length - window)), multiple)
        spans.append(Span((first, first + window), (low, high), fade_in, fade_out))
    return spans


def _round_down(value: int, multiple: int) -> int:
    return value // multiple * multiple


def _ramp(length: int) -> Tensor:
    return (torch.arange(length, dtype=torch.float32) + 0.5) / length
