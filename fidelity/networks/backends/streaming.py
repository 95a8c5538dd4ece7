"""Runs a plain chain of convolutions in strips of rows; each layer keeps the rows that the next strip needs.

Tiles need context, which costs time: with 18 layers of 3x3, a tile of 350 px computes a quarter more than it
keeps. A chain needs no context if each layer keeps the last two rows of its input until more rows arrive.
Nothing is computed twice, the strips stay in the CPU cache, and memory is that of one strip. Compact networks
run this way on a CPU; the result equals that of one pass over the whole image.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .compact import repeat_pixels

STRIP_BYTES = 3 * 2**20
"""Approximate size of one layer's output for one strip."""


@dataclass
class _Layer:
    convolution: nn.Conv2d
    activation: nn.Module | None
    held: Tensor | None = None
    """The last input rows so far, which the first rows of the next strip need above them."""


class ConvolutionStream:
    """A `RowStream` for a Compact network (Real-ESRGAN's SRVGGNet)."""

    def __init__(self, network: Any) -> None:
        """Binds to the layers of a network, spandrel's or that of `compact`; the weights are shared, not copied."""
        self._scale: int = network.upscale
        body: list[nn.Module] = list(network.body)
        activations: list[nn.Module | None] = [*body[1::2], None]
        self._layers = [
            _Layer(convolution, activation)
            for convolution, activation in zip(body[0::2], activations, strict=True)
            if isinstance(convolution, nn.Conv2d)
        ]
        self._dtype = self._layers[0].convolution.weight.dtype
        self._waiting: Tensor | None = None

    def strip_rows(self, width: int) -> int:
        widest = max(layer.convolution.out_channels for layer in self._layers)
        return max(4, STRIP_BYTES // (widest * width * self._dtype.itemsize))

    @torch.inference_mode()
    def feed(self, rows: Tensor, *, is_last: bool) -> Tensor | None:
        rows = rows.float().contiguous(memory_format=torch.channels_last)
        # The network adds its upscaled input to the last layer's output, so input rows wait until that output catches up. They
        # are added in float32: in bfloat16, gradients would have steps.
        self._waiting = rows if self._waiting is None else torch.cat((self._waiting, rows), dim=2)
        strip: Tensor | None = rows.to(self._dtype)
        for layer in self._layers:
            strip = _advance(layer, strip, is_last)
        if strip is None:
            return None
        count = strip.shape[2]
        base = repeat_pixels(self._waiting[:, :, :count], self._scale)
        self._waiting = self._waiting[:, :, count:]
        return base.add_(functional.pixel_shuffle(strip, self._scale))


def _advance(layer: _Layer, strip: Tensor | None, is_last: bool) -> Tensor | None:
    """Feeds one layer new input rows and returns the output rows that they complete, or None."""
    reach = layer.convolution.kernel_size[0] // 2
    parts = [] if strip is None else [strip]
    if layer.held is not None:
        parts.insert(0, layer.held)
    elif strip is not None:
        parts.insert(0, _zero_rows(strip, reach))
    if is_last and parts:
        parts.append(_zero_rows(parts[0], reach))
    if not parts:
        return None
    available = torch.cat(parts, dim=2)
    if available.shape[2] <= 2 * reach:
        layer.held = available
        return None
    layer.held = available[:, :, available.shape[2] - 2 * reach :].clone(memory_format=torch.channels_last)
    convolution = layer.convolution
    result = functional.conv2d(available, convolution.weight, convolution.bias, padding=(0, reach))
    return result if layer.activation is None else layer.activation(result)


def _zero_rows(like: Tensor, rows: int) -> Tensor:
    shape = (like.shape[0], like.shape[1], rows, like.shape[3])
    return torch.zeros(shape, dtype=like.dtype, device=like.device).contiguous(memory_format=torch.channels_last)
