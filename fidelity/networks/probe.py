"""Finding out what tiling needs to know of a network by running it once on a small strip."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_CONTEXT_PX = 64
"""A receptive field beyond this is not paid for in every tile: such tiles overlap less and are blended."""

_STRIP_ROWS = 16
_OFF_GRID_PX = 4  # half of the smallest windows, and a whole step of networks that work on 2 x 2 or 4 x 4 pixels at once


@dataclass(frozen=True)
class NetworkProbe:
    """What a strip of pixels tells of a network."""

    receptive_field_px: int | None
    """How far an input pixel spreads, in input pixels; None if beyond `MAX_CONTEXT_PX`, or not the same everywhere."""
    values_per_pixel: float
    """Numbers alive at once in the widest layer, for each input pixel."""


@dataclass(frozen=True)
class Reach:
    """How far one pixel spreads."""

    reach_px: int | None
    """See `NetworkProbe.receptive_field_px`."""
    pixels: int
    """Size of the strip it was measured on."""


def find_reach(run: Callable[[Tensor], Tensor], channels: int, scale: int, minimum: int, attends: bool = False) -> Reach:
    """Measures the receptive field of a network.

    One input pixel is set to NaN. NaN spreads through every operation it takes part in, so the outputs that are NaN
    afterwards are those that the pixel can influence: the exact receptive field of a convolutional network, and everything
    for one that pools or attends globally.

    Args:
        run: The network, ``(1, channels, H, W)`` to ``(1, any, scale · H, scale · W)``.
        channels: That it takes.
        scale: Enlargement along each side.
        minimum: Shortest side that it accepts.
        attends: Whether it may look at windows on a grid; measured at a second place then, and unbounded if they differ.
    """
    rows, columns = max(_STRIP_ROWS, minimum), 2 * MAX_CONTEXT_PX + 33
    middle = columns // 2

    def spread(place: int) -> tuple[int, int]:
        """How far to the left and to the right the pixel at `place` reaches."""
        strip = torch.full((1, channels, rows, columns), 0.5)
        strip[..., rows // 2, place] = torch.nan
        touched = run(strip).isnan().any(dim=1).any(dim=1)[0].nonzero().flatten() // scale
        return (place - int(touched.min()), int(touched.max()) - place) if len(touched) else (columns, columns)

    left, right = spread(middle)
    reach: int | None = max(left, right)
    if reach > MAX_CONTEXT_PX or (attends and spread(middle + _OFF_GRID_PX) != (left, right)):
        reach = None
    return Reach(reach, rows * columns)
