"""What networks have in common that are read from a file with a whole graph, and run only on the CPU."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ...choices import Precision
from ...imaging.tensors import is_finite
from ..network import NonFiniteOutputError, Sizes

_VALUES_PER_PIXEL = 512
"""Values in memory at once per input pixel, which the libraries do not report: EDSR, the largest published graph, has 256
channels."""


_Own = TypeVar("_Own", bound="GraphNetwork")


class GraphNetwork(ABC):
    """The part of `Network` that does not depend on the library: always on the CPU, in float32, any size."""

    sizes: Sizes = "any"
    parameters = 0
    precisions: Sequence[Precision] = ("fp32",)
    adds_in_float32 = False
    precision: Precision = "fp32"
    device = torch.device("cpu")

    def __init__(self, name: str, content: bytes) -> None:
        """Keeps the name of a file and the size of its content."""
        self.name = name
        self.weight_bytes = len(content)

    @property
    def bytes_per_pixel(self) -> float:
        return 4.0 * _VALUES_PER_PIXEL

    @property
    def peak_bytes_per_pixel(self) -> float:
        return self.bytes_per_pixel

    def to(self: _Own, device: torch.device, precision: Precision) -> _Own:  # noqa: ARG002
        """Returns itself: it runs only on the CPU, and tiles are copied there and back."""
        return self

    def with_noise(self: _Own, sigma: float) -> _Own:  # noqa: ARG002
        return self

    def stream(self) -> None:
        return None

    def run(self, batch: Tensor) -> Tensor:
        result = self._run(batch)
        if not is_finite(result):
            raise NonFiniteOutputError(f"{self.name}: output is not finite in fp32")
        return result.clamp_(0, 1)

    @abstractmethod
    def _run(self, batch: Tensor) -> Tensor:
        """Runs the graph; the result is not clamped."""
