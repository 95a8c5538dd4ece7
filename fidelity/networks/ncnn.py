"""Reads networks in ncnn's format: a text file of layers and a file of weights.

Format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure. Only what RRDBNet and Compact consist of is read:
convolutions and PReLUs, stored in the order in which they run. So the layers can be named without following the graph.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import RefusedError

_MAGIC = "7767517"
_HALF_PRECISION = 0x01306B47
_FLOAT = 0
_RRDB_CONVOLUTIONS = 15
"""Convolutions in one RRDB: three dense blocks of five."""
_RRDB_OTHERS = 6


class NcnnRefusedError(RefusedError):
    """A file that is not a network in ncnn's format, or one of another architecture."""


@dataclass(frozen=True)
class _Layer:
    kind: str
    name: str
    numbers: dict[int, int]


def read_ncnn(layers: str, weights: bytes) -> dict[str, Tensor]:
    """Reads an RRDBNet (ESRGAN, Real-ESRGAN) or a Compact network as a state dict.

    Args:
        layers: Content of the .param file.
        weights: Content of the .bin file.

    Returns:
        Weights by the names that the original implementations use, in float32.

    Raises:
        NcnnRefusedError: If the files are damaged or describe another architecture.
    """
    found = [layer for layer in _parse(layers) if layer.kind in ("Convolution", "PReLU")]
    tensors: list[tuple[str, dict[str, Tensor]]] = []
    reader = _Reader(weights)
    for layer in found:
        if layer.kind == "PReLU":
            tensors.append(("PReLU", {"weight": reader.read_floats(layer.numbers.get(0, 0))}))
            continue
        outputs, side, count = (layer.numbers.get(key, 0) for key in (0, 1, 6))
        if outputs < 1 or side < 1 or count % (outputs * side * side):
            raise NcnnRefusedError(f"layer {layer.name} has {count} weights for {outputs} outputs of {side}x{side}")
        kernel = reader.read_weights(count).reshape(outputs, -1, side, side)
        bias = reader.read_floats(outputs) if layer.numbers.get(5) else torch.zeros(outputs)
        tensors.append(("Convolution", {"weight": kernel, "bias": bias}))
    if reader.left:
        raise NcnnRefusedError(f"the weights are {reader.left} bytes longer than the layers say")
    names = _names_of([kind for kind, _ in tensors])
    return {f"{name}.{part}": value for name, (_, parts) in zip(names, tensors, strict=True) for part, value in parts.items()}


def _parse(text: str) -> list[_Layer]:
    lines = text.split("\n")
    if lines[0].strip() != _MAGIC:
        raise NcnnRefusedError(f"starts with {lines[0].strip()[:20]!r}; wanted {_MAGIC}, as ncnn's .param files do")
    layers: list[_Layer] = []
    for line in lines[2:]:
        words = line.split()
        if len(words) < 4:
            continue
        try:
            pairs = [word.split("=") for word in words[4 + int(words[2]) + int(words[3]) :]]
            # Keys below -23300 are arrays: activation parameters, which say nothing about weights.
            numbers = {int(key): int(float(value)) for key, value in pairs if not key.startswith("-")}
        except (ValueError, OverflowError) as error:
            raise NcnnRefusedError(f"has a line that does not describe a layer: {line.strip()[:60]!r}") from error
        layers.append(_Layer(words[0], words[1], numbers))
    return layers


def _names_of(kinds: list[str]) -> list[str]:
    """Names of the layers, in the order in which they run."""
    if "PReLU" in kinds:
        wanted = ["Convolution", "PReLU"] * (len(kinds) // 2) + ["Convolution"]
        if kinds != wanted:
            raise NcnnRefusedError("is no Compact network: its convolutions and PReLUs do not alternate")
        return [f"body.{place}" for place in range(len(kinds))]
    blocks, rest = divmod(len(kinds) - _RRDB_OTHERS, _RRDB_CONVOLUTIONS)
    if blocks < 1 or rest:
        raise NcnnRefusedError(f"is neither RRDBNet nor Compact: it has {len(kinds)} convolutions")
    inner = [
        f"body.{block}.rdb{dense}.conv{place}" for block in range(blocks) for dense in range(1, 4) for place in range(1, 6)
    ]
    return ["conv_first", *inner, "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]


class _Reader:
    """Reads arrays one after another."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._content) - self._place

    def read_floats(self, count: int) -> Tensor:
        """Reads plain float32 values."""
        return self._read(count, np.float32)

    def read_weights(self, count: int) -> Tensor:
        """Reads weights that a tag precedes: float32 or half precision, padded to 4 bytes."""
        tag = int.from_bytes(self._take(4), "little")
        if tag not in (_FLOAT, _HALF_PRECISION):
            raise NcnnRefusedError(f"weights are stored with tag {tag:#x}; wanted float32 or half precision")
        values = self._read(count, np.float32 if tag == _FLOAT else np.float16)
        if tag == _HALF_PRECISION and count % 2:
            self._take(2)
        return values

    def _read(self, count: int, kind: type[np.floating]) -> Tensor:
        content = self._take(count * np.dtype(kind).itemsize)
        return torch.from_numpy(np.frombuffer(content, kind).astype(np.float32))

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise NcnnRefusedError("the weights end early; the file is incomplete")
        self._place += count
        return self._content[self._place - count : self._place]
