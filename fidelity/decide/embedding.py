"""A small convolutional network that sees how an image is drawn: strokes, shading, texture, and some of what it shows.

It was trained by `training/embedding.py`.
"""

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

STRIDES_PX = (8, 16)
"""Distance between neighbouring places of its two maps."""

_WEIGHTS = Path(__file__).parent / "embedding.safetensors"
_STEM = (32, 48)
_WIDTHS = (96, 128)
_BLOCKS = (2, 4)
_MAPS = (40, 112)


class EmbeddingNetwork(nn.Module):
    """Strided 3 x 3 convolutions with residual blocks, and a map of features at each of the last two sizes.

    Args:
        normalise: Whether each convolution is followed by batch normalisation, as in training; `folded` takes it in.
    """

    def __init__(self, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.stem = nn.Sequential(
            self._convolution(3, _STEM[0], 2), nn.ReLU(), self._convolution(_STEM[0], _STEM[1], 2), nn.ReLU(), self._block(_STEM[1])
        )
        self.stages, self.maps = nn.ModuleList(), nn.ModuleList()
        width = _STEM[1]
        for wider, blocks, channels in zip(_WIDTHS, _BLOCKS, _MAPS, strict=True):
            parts = [self._convolution(width, wider, 2), nn.ReLU(), *(self._block(wider) for _ in range(blocks))]
            self.stages.append(nn.Sequential(*parts))
            self.maps.append(nn.Conv2d(wider, channels, 1))
            width = wider

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` in [0, 1] to ``(B, 40, H/8, W/8)`` and ``(B, 112, H/16, W/16)``, rounded up."""
        state = self.stem(image * 4 - 2)
        found: list[Tensor] = []
        for stage, head in zip(self.stages, self.maps, strict=True):
            state = stage(state)
            found.append(head(state))
        return found

    def _convolution(self, inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not self.normalise)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs)) if self.normalise else convolution

    def _block(self, width: int) -> nn.Module:
        return _Residual(nn.Sequential(self._convolution(width, width), nn.ReLU(), self._convolution(width, width)))


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, state: Tensor) -> Tensor:
        return functional.relu(state + self.body(state))
