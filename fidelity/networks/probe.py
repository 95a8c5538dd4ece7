"""Measures what tiling needs to know about a network, by running it on a small strip."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_CONTEXT_PX = 64
"""Largest receptive field that tiles cover with context; beyond it, tiles overlap less and are blended."""

_STRIP_ROWS = 16
_OFF_GRID_PX = 4  # half the smallest window, and a whole step for networks that work on 2 x 2 or 4 x 4 pixels


@dataclass(frozen=True)
class NetworkProbe:
    """Measurements of a network, from running it on a strip."""

    receptive_field_px: int | None
    """Radius of the receptive field in input pixels; None if beyond `MAX_CONTEXT_PX` or not the same everywhere."""
    values_per_pixel: float
    """Values that go into and come out of the widest layer, per input pixel."""
    alive_per_pixel: float
    """Values between layers that are in memory at once, skip connections included, per input pixel."""
    replaces_tensors: bool = False
    """Whether running it replaces tensors that it holds, as SPAN does, so that threads have to take turns."""


@dataclass(frozen=True)
class Reach:
    """A measured receptive field."""

    reach_px: int | None
    """See `NetworkProbe.receptive_field_px`."""
    pixels: int
    """Number of pixels in the strip it was measured on."""


def find_reach(run: Callable[[Tensor], Tensor], channels: int, scale: int, minimum: int, attends: bool = False) -> Reach:
    """Measures the receptive field of a network.

    One input pixel is set to NaN, which spreads through every operation that uses it. The outputs that end up NaN are those
    that the pixel can influence: the exact receptive field of a convolutional network, and the whole output of one that
    pools or attends globally.

    Args:
        run: The network, ``(1, channels, H, W)`` to ``(1, any, scale · H, scale · W)``.
        channels: Input channels.
        scale: Scale factor along each side.
        minimum: Shortest side that it accepts.
        attends: Whether the network may attend to windows on a grid. It is then measured at a second position too,
            and counts as unbounded if the two differ.
    """
    rows, columns = max(_STRIP_ROWS, minimum), 2 * MAX_CONTEXT_PX + 33
    middle = columns // 2

    def spread(place: int) -> tuple[int, int]:
        """Returns how far the pixel at `place` spreads to the left and to the right."""
        strip = torch.full((1, channels, rows, columns), 0.5)
        strip[..., rows // 2, place] = torch.nan
        touched = run(strip).isnan().any(dim=1).any(dim=1)[0].nonzero().flatten() // scale
        return (place - int(touched.min()), int(touched.max()) - place) if len(touched) else (columns, columns)

    left, right = spread(middle)
    reach: int | None = max(left, right)
    if reach > MAX_CONTEXT_PX or (attends and spread(middle + _OFF_GRID_PX) != (left, right)):
        reach = None
    return Reach(reach, rows * columns)
