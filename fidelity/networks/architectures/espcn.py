"""ESPCN: three convolutions at low resolution and a pixel shuffle, on luma.

Source: Shi, Caballero, Huszar, Totz, Aitken, Bishop, Rueckert and Wang, "Real-time single image and video super-resolution
using an efficient sub-pixel convolutional neural network", 2016.
"""

import math

from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn

from .description import describe

_LAYOUTS = (
    ("first_part.0", "first_part.2", "last_part.0"),
    ("feature_maps.0", "feature_maps.2", "sub_pixel.0"),
)
"""Names of the three convolutions in the two common layouts."""


class ESPCN(nn.Module):
    """The network; takes and returns images in [0, 1]."""

    def __init__(self, scale: int, channels: int, widths: tuple[int, int], kernels: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, widths[0], kernels[0], padding=kernels[0] // 2),
            nn.Tanh(),
            nn.Conv2d(widths[0], widths[1], kernels[1], padding=kernels[1] // 2),
            nn.Tanh(),
            nn.Conv2d(widths[1], channels * scale * scale, kernels[2], padding=kernels[2] // 2),
            nn.PixelShuffle(scale),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class ESPCNArch(Architecture[ESPCN]):
    """Reads both layouts."""

    def __init__(self) -> None:
        super().__init__(
            id="ESPCN",
            detect=KeyCondition.has_any(*(KeyCondition.has_all(*(f"{name}.weight" for name in layout)) for layout in _LAYOUTS)),
        )

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[ESPCN]:
        """Builds the network for a state dict of either layout."""
        layout = next(names for names in _LAYOUTS if f"{names[0]}.weight" in state_dict)
        weights = {
            f"layers.{2 * index}.{part}": state_dict[f"{name}.{part}"]
            for index, name in enumerate(layout)
            for part in ("weight", "bias")
        }
        first, second, last = (weights[f"layers.{index}.weight"] for index in (0, 2, 4))
        channels = first.shape[1]
        scale = math.isqrt(last.shape[0] // channels)
        kernels = (first.shape[2], second.shape[2], last.shape[2])
        network = ESPCN(scale, channels, (first.shape[0], second.shape[0]), kernels)
        return describe(self, network, weights, "SR", scale, channels, (f"{first.shape[0]}-{second.shape[0]}",))
