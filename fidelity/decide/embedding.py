"""A small convolutional network that describes the style of an image and some of its content.

Hand-made features measure grain, flatness and outlines, but not strokes, shading or subjects. `tools/training/embedding.py`
distilled this network from the middle layers of a network trained on photographs of a thousand classes.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

MAPS = {8: 40, 16: 112}
"""Channels of its feature maps, by stride in pixels."""

MAP_PREFIX = "map "
"""Prefix of its feature names."""

_WEIGHTS = Path(__file__).parent / "embedding.safetensors"
_STEM = (32, 48)
_WIDTHS, _BLOCKS = (96, 128), (2, 4)

Convolve = Callable[[int, int, int], nn.Module]


def convolve(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Returns a 3 x 3 convolution that keeps the size if its stride is 1."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


class EmbeddingNetwork(nn.Module):
    """Strided convolutions with residual blocks, and a feature map at each of the last two sizes.

    Source of the blocks: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016.

    Args:
        make: Makes a convolution from its input channels, output channels and stride; in training it also normalizes.
    """

    def __init__(self, make: Convolve = convolve) -> None:
        super().__init__()
        first, width = _STEM
        self.stem = nn.Sequential(make(3, first, 2), nn.ReLU(), make(first, width, 2), nn.ReLU(), _Residual(make, width))
        self.stages, self.maps = nn.ModuleList(), nn.ModuleList()
        for wider, blocks, channels in zip(_WIDTHS, _BLOCKS, MAPS.values(), strict=True):
            parts = (make(width, wider, 2), nn.ReLU(), *(_Residual(make, wider) for _ in range(blocks)))
            self.stages.append(nn.Sequential(*parts))
            self.maps.append(nn.Conv2d(wider, channels, 1))
            width = wider

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps ``(B, 3, H, W)`` in [0, 1] to ``(B, 40, H/8, W/8)`` and ``(B, 112, H/16, W/16)``, rounded up."""
        state = self.stem(image * 4 - 2)
        found: list[Tensor] = []
        for stage, head in zip(self.stages, self.maps, strict=True):
            state = stage(state)
            found.append(head(state))
        return found


class _Residual(nn.Module):
    def __init__(self, make: Convolve, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(make(width, width, 1), nn.ReLU(), make(width, width, 1))

    def forward(self, state: Tensor) -> Tensor:
        return functional.relu(state + self.body(state))


@cache
def _load_network() -> EmbeddingNetwork:
    network = EmbeddingNetwork().eval().requires_grad_(False)
    network.load_state_dict({name: weight.float() for name, weight in load_file(_WEIGHTS).items()})
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def embed(view: Tensor) -> dict[str, float]:
    """Returns the mean and the standard deviation of every channel of its feature maps.

    Args:
        view: ``(1, 3, H, W)`` in [0, 1], on the CPU; best with a long edge of 512 px, as in training.

    Returns:
        Features by name; always the same names in the same order.
    """
    maps = _load_network()(view.contiguous(memory_format=torch.channels_last))
    features: dict[str, float] = {}
    for stride, found in zip(MAPS, maps, strict=True):
        deviation, mean = torch.std_mean(found[0], dim=(1, 2), correction=0)
        for name, values in (("mean", mean), ("deviation", deviation)):
            features |= {f"{MAP_PREFIX}{stride} {name} {channel}": value for channel, value in enumerate(values.tolist())}
    return features
