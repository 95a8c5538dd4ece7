"""The architecture of the shipped networks, without spandrel, whose import takes as long as PyTorch's."""

from collections.abc import Callable, Iterable, Mapping
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
        return functional.pixel_shuffle(self.body(image), self.upscale) + repeat_pixels(image, self.upscale)


class Change(nn.Module):
    """What a Compact network, of this module or of spandrel's, adds to its input with pixels repeated."""

    def __init__(self, network: nn.Module) -> None:
        """Binds to the layers of the network; the weights are shared, not copied."""
        super().__init__()
        layers: Iterable[nn.Module] = network.body  # pyright: ignore[reportAssignmentType]
        self.body, self.upscale = nn.Sequential(*layers), int(network.upscale)  # pyright: ignore[reportArgumentType]

    def forward(self, image: Tensor) -> Tensor:
        """The change of ``(B, 3, H, W)``, at the size of the result."""
        return functional.pixel_shuffle(self.body(image), self.upscale)


def repeat_pixels(image: Tensor, scale: int) -> Tensor:
    """Enlarges an image by repeating its pixels."""
    return functional.interpolate(image, scale_factor=scale, mode="nearest")


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
