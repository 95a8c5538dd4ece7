"""The architecture of the shipped networks, without spandrel, whose import takes as long as PyTorch's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

COMPACT = "RealESRGAN Compact"
"""Spandrel's name of the architecture."""

SPANDREL = "_fidelity_spandrel"
"""Attribute of a descriptor that holds spandrel's own of the same network, once something asked for that."""


class Compact(nn.Module):
    """A chain of 3x3 convolutions with PReLU that adds to the enlarged input (Real-ESRGAN's SRVGGNet, Wang et al., 2021)."""

    def __init__(self, features: int, convolutions: int, upscale: int) -> None:
        """Creates the layers; see `Compact.load`.

        Args:
            features: Channels between two convolutions.
            convolutions: Number of convolutions between the first and the last.
            upscale: Enlargement factor.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, nn.Conv2d(features, 3 * upscale**2, 3, 1, 1))
        self.upscale = upscale

    @classmethod
    def load(cls, weights: Mapping[str, Tensor]) -> "Compact":
        """Builds the network that weights belong to, in float32."""
        depth = 1 + max(int(name.split(".")[1]) for name in weights)
        upscale = round((weights[f"body.{depth - 1}.bias"].numel() / 3) ** 0.5)
        with torch.device("meta"):
            network = cls(weights["body.0.bias"].numel(), (depth - 3) // 2, upscale)
        network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
        return network.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarges ``(B, 3, H, W)``."""
        enlarged = functional.interpolate(image, scale_factor=self.upscale, mode="nearest")
        return functional.pixel_shuffle(self.body(image), self.upscale) + enlarged


@dataclass(frozen=True)
class _Architecture:
    name: str = COMPACT


@dataclass(frozen=True)
class _Sizes:
    minimum: int = 0
    multiple_of: int = 1


@dataclass
class CompactDescriptor:
    """What `TorchNetwork` needs to know of a network, by the names of spandrel's `ImageModelDescriptor`."""

    _model: nn.Module
    scale: int
    input_channels: int = 3
    output_channels: int = 3
    supports_half: bool = True
    supports_bfloat16: bool = True
    architecture: _Architecture = _Architecture()
    size_requirements: _Sizes = _Sizes()
    _call_fn: Callable[[nn.Module, Tensor], Tensor] = lambda network, image: network(image)

    @property
    def model(self) -> nn.Module:
        """The module."""
        return self._model

    def __call__(self, image: Tensor) -> Tensor:
        """Enlarges ``(B, 3, H, W)``; the result is in [0, 1]."""
        return self._call_fn(self._model, image).clamp_(0, 1)
