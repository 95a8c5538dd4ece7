"""What a network is to the rest of the engine: a few facts and two calls, whatever library runs it."""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..choices import Precision

Sizes = Literal["any", "fixed", "bounded"]
"""Which image sizes a network accepts: any, exactly one (`minimum` squared), or none below its `minimum`."""


class NonFiniteOutputError(RuntimeError):
    """A network's output contains NaN or infinity."""


class RowStream(Protocol):
    """Runs a network on one image from top to bottom, keeping the rows of each layer that the next strip needs."""

    def strip_rows(self, width: int) -> int:
        """Input rows to feed at once for an image `width` pixels wide."""
        ...

    def feed(self, rows: Tensor, *, is_last: bool) -> Tensor | None:
        """Takes the next rows of the input, returns the output rows that are now complete.

        Args:
            rows: ``(1, channels_in, rows, W)``, on the network's device, in [0, 1].
            is_last: Whether the image ends with these rows.

        Returns:
            ``(1, channels_out, n, scale · W)``, not clamped; None while no row is complete.
        """
        ...


class Network(Protocol):
    """An image-to-image network, bound to one device and one precision.

    A network as it was loaded is bound to the CPU in float32. `to` returns it bound elsewhere and leaves this one as it is.
    """

    @property
    def name(self) -> str:
        """File name without its folder, for messages and reports."""
        ...

    @property
    def architecture(self) -> str:
        """Name of the architecture, or of the file format where that is unknown."""
        ...

    @property
    def scale(self) -> int:
        """Enlargement of one pass along each side; 1 for restoration."""
        ...

    @property
    def channels_in(self) -> int:
        """Channels it takes: 1 for luma, 3 for RGB."""
        ...

    @property
    def channels_out(self) -> int:
        """Channels it returns."""
        ...

    @property
    def multiple_of(self) -> int:
        """Grid it works on, in input pixels: tiles start on it. At least 1. `run` pads sides to it by itself."""
        ...

    @property
    def minimum(self) -> int:
        """Shortest side it accepts, in input pixels. At least 1. `run` pads to it by itself unless `sizes` is "fixed"."""
        ...

    @property
    def sizes(self) -> Sizes:
        """Which sizes it accepts."""
        ...

    @property
    def reach_px(self) -> int | None:
        """Radius of its receptive field in input pixels; None if that is unbounded, or differs from place to place."""
        ...

    @property
    def bytes_per_pixel(self) -> float:
        """Working memory in its precision for each input pixel of a tile."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Memory of its weights in its precision."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights; 0 where the backend does not tell."""
        ...

    @property
    def precisions(self) -> Sequence[Precision]:
        """Precisions it supports; "fp32" is always one of them."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def precision(self) -> Precision:
        """What it computes in."""
        ...

    def to(self, device: torch.device, precision: Precision) -> "Network":
        """The same network bound to a device and a precision. Bound copies are reused while something holds them."""
        ...

    def with_noise(self, sigma: float) -> "Network":
        """The same network told how much noise to remove; itself if it takes no such input.

        Args:
            sigma: Standard deviation of the noise, in steps of 8 bits.
        """
        ...

    def run(self, batch: Tensor) -> Tensor:
        """Runs the network.

        Args:
            batch: ``(B, channels_in, H, W)`` in [0, 1], on the network's device, in any float dtype.

        Returns:
            ``(B, channels_out, scale · H, scale · W)`` clamped to [0, 1], in the network's precision.

        Raises:
            NonFiniteOutputError: If the output contains NaN or infinity.
        """
        ...

    def stream(self) -> RowStream | None:
        """A stream over a new image, where rows can be run without tiles; None where they cannot."""
        ...
