"""The interface between a network and the rest of the engine: a few properties and methods, whatever backend runs it."""

import re
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..choices import Precision
from ..errors import RefusedError

Sizes = Literal["any", "fixed", "bounded"]
"""Image sizes that a network accepts: "any", "fixed" (exactly `minimum` squared) or "bounded" (none below `minimum`)."""


class NonFiniteOutputError(RuntimeError):
    """A network's output contains NaN or infinity."""


def describe_failure(name: str, error: Exception) -> str:
    """One line for a network that loads and then fails, as one with a damaged table of indices does."""
    reason = " ".join(str(error).split())
    hint = "" if _OF_DEVICE.search(reason) else "; the file may be damaged"
    return f"{name}: fails when it runs ({type(error).__name__}: {reason}){hint}"


_OF_DEVICE = re.compile("cuda|cudnn|hip|mps", re.IGNORECASE)


class GraphError(RefusedError):
    """No network that enlarges or restores images can be read from a file that holds a graph."""


class RowStream(Protocol):
    """Runs a network on one image from top to bottom, keeping the rows of each layer that the next strip needs."""

    def strip_rows(self, width: int) -> int:
        """Returns how many input rows to feed at once for an image `width` pixels wide."""
        ...

    def feed(self, rows: Tensor, *, is_last: bool) -> Tensor | None:
        """Takes the next rows of the input and returns the output rows that are now complete.

        Args:
            rows: ``(1, channels_in, rows, W)``, on the network's device, in [0, 1].
            is_last: Whether the image ends with these rows.

        Returns:
            ``(1, channels_out, n, scale · W)``, not clamped; None while no row is complete.
        """
        ...


class Network(Protocol):
    """An image-to-image network, bound to one device and one precision.

    A newly loaded network is bound to the CPU in float32. `to` returns it bound elsewhere and leaves this one unchanged.
    """

    @property
    def name(self) -> str:
        """File name without its folder, for messages and reports."""
        ...

    @property
    def backend(self) -> str:
        """Name of the library that runs it."""
        ...

    @property
    def architecture(self) -> str:
        """Name of the architecture, or of the file format if the architecture is unknown."""
        ...

    @property
    def scale(self) -> int:
        """Scale factor of one pass along each side; 1 for restoration."""
        ...

    @property
    def channels_in(self) -> int:
        """Input channels: 1 for luma, 3 for RGB."""
        ...

    @property
    def channels_out(self) -> int:
        """Output channels."""
        ...

    @property
    def multiple_of(self) -> int:
        """Grid it works on, in input pixels, at least 1. Tiles start on it; `run` pads sides to it."""
        ...

    @property
    def minimum(self) -> int:
        """Shortest side it accepts, in input pixels, at least 1. `run` pads to it unless `sizes` is "fixed"."""
        ...

    @property
    def sizes(self) -> Sizes:
        """Image sizes it accepts."""
        ...

    @property
    def reach_px(self) -> int | None:
        """Radius of its receptive field in input pixels; None if it is unbounded or varies across the image."""
        ...

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory per input pixel of a tile, in its precision, with room to spare: what tiles are chosen by."""
        ...

    @property
    def peak_bytes_per_pixel(self) -> float:
        """The same as it was measured: what plans say."""
        ...

    @property
    def tile_px(self) -> int | None:
        """Side of the tiles that suit it, in input pixels, and on a GPU the longest that it takes.

        None: memory decides, and on a CPU also what the C library reuses.
        """
        ...

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights, in its precision."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights; 0 if the backend does not report it."""
        ...

    @property
    def precisions(self) -> Sequence[Precision]:
        """Precisions it supports; "fp32" is always one of them."""
        ...

    @property
    def adds_in_float32(self) -> bool:
        """Whether its last step adds to the source in float32, whatever its precision, so that bfloat16 leaves no steps."""
        ...

    @property
    def device(self) -> torch.device:
        """Device it runs on."""
        ...

    @property
    def precision(self) -> Precision:
        """Precision it computes in."""
        ...

    def to(self, device: torch.device, precision: Precision) -> "Network":
        """Returns the same network bound to a device and a precision. Bound copies are reused while they are referenced."""
        ...

    def with_noise(self, sigma: float) -> "Network":
        """Returns the same network set to remove a given amount of noise; itself if it takes no noise level.

        Args:
            sigma: Standard deviation of the noise, on the 0-255 scale.
        """
        ...

    def run(self, batch: Tensor) -> Tensor:
        """Runs the network.

        Args:
            batch: ``(B, channels_in, H, W)`` in [0, 1], on the network's device, in any float dtype.

        Returns:
            ``(B, channels_out, scale · H, scale · W)`` clamped to [0, 1], in the network's precision or float32.

        Raises:
            NonFiniteOutputError: If the output contains NaN or infinity.
        """
        ...

    def stream(self) -> RowStream | None:
        """Returns a stream for a new image; None if the network cannot run row by row."""
        ...
