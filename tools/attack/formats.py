"""Writes small networks in formats that this project only reads: TensorFlow's graphs and ncnn's pairs of files."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

FLOAT, INT = 1, 3
"""TensorFlow's numbers of its types."""
HALF = 0x01306B47.to_bytes(4, "little")
"""How ncnn marks weights in half precision."""


def varint(number: int) -> bytes:
    """A number as protocol buffers store it."""
    low, number = number & 127, number >> 7
    return bytes([low | 128]) + varint(number) if number else bytes([low])


def field(number: int, content: int | str | bytes) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def node(name: str, operation: str, inputs: tuple[str, ...] = (), **attributes: bytes) -> bytes:
    """A node of a graph."""
    content = field(1, name) + field(2, operation) + b"".join(field(3, one) for one in inputs)
    return field(1, content + b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items()))


def constant(name: str, array: NDArray[np.float32] | NDArray[np.int32]) -> bytes:
    """A node that holds numbers."""
    kind = FLOAT if array.dtype == np.float32 else INT
    shape = b"".join(field(2, field(1, size)) for size in array.shape)
    tensor = field(8, field(1, kind) + field(2, shape) + field(4, array.tobytes()))
    return node(name, "Const", dtype=field(6, kind), value=tensor)


def write_graph(path: Path) -> Path:
    """Writes a graph of three channels that halves every difference from the mean and doubles the size."""
    kernel = np.zeros((1, 1, 3, 12), np.float32)
    for channel in range(3):
        kernel[0, 0, channel, channel::3] = 0.5
    kind, layout = field(6, FLOAT), field(2, "NHWC")
    strides, padding = field(1, field(3, b"\1\1\1\1")), field(2, "SAME")
    path.write_bytes(
        node("IteratorGetNext", "Placeholder", dtype=kind)
        + constant("kernel", kernel)
        + node("conv", "Conv2D", ("IteratorGetNext", "kernel"), T=kind, strides=strides, padding=padding, data_format=layout)
        + node("up", "DepthToSpace", ("conv",), T=kind, block_size=field(3, 2), data_format=layout)
        + constant("order", np.array([0, 3, 1, 2], np.int32))
        + node("NCHW_output", "Transpose", ("up", "order"), T=kind, Tperm=field(6, INT))
    )
    return path


def as_ncnn(network: nn.Module, half: bool = True) -> tuple[str, bytes]:
    """A network's convolutions and PReLUs as ncnn's converter writes them: the text of layers, and the weights."""
    lines: list[str] = []
    content = b""
    for name, module in network.named_modules():
        if isinstance(module, nn.PReLU):
            lines.append(f"PReLU {name} 1 1 a b 0={module.num_parameters}")
            content += _bytes_of(module.weight)
        elif isinstance(module, nn.Conv2d):
            weight = module.weight
            shape = f"0={weight.shape[0]} 1=3 4=1 5=1 6={weight.numel()} 9=2 -23310=1,2.000000e-01"
            lines.append(f"Convolution {name} 1 1 a b {shape}")
            content += HALF + _bytes_of(weight.half()) if half else bytes(4) + _bytes_of(weight)
            assert module.bias is not None
            content += bytes(-len(content) % 4) + _bytes_of(module.bias)
    return "\n".join(["7767517", f"{len(lines) + 1} 9", "Input data 0 1 data", *lines, ""]), content


def _bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()
