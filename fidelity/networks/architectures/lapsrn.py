"""LapSRN: a pyramid that doubles at every level and adds a residual there, on luma.

Source: Lai, Huang, Ahuja and Yang, "Deep Laplacian pyramid networks for fast and accurate super-resolution", 2017.
"""

import re

from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn

from .description import describe

_GROUPS = {"F": "features", "R": "residuals", "I": "images"}


class FeatureBlock(nn.Module):
    """Convolutions and a deconvolution that doubles the size, each followed by a leaky ReLU."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.LeakyReLU(0.2)]
        layers += [nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2)]
        self.cov_block = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.cov_block(features)


class LapSRN(nn.Module):
    """The network; takes and returns luma in [0, 1]."""

    def __init__(self, levels: int, width: int, depths: list[int]) -> None:
        super().__init__()
        self.conv_input = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.relu = nn.LeakyReLU(0.2)
        self.features = nn.ModuleList(FeatureBlock(width, depth) for depth in depths)
        self.residuals = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1, bias=False) for _ in range(levels))
        self.images = nn.ModuleList(nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False) for _ in range(levels))

    def forward(self, image: Tensor) -> Tensor:
        features = self.relu(self.conv_input(image))
        for deepen, to_residual, enlarge in zip(self.features, self.residuals, self.images, strict=True):
            features = deepen(features)
            image = enlarge(image) + to_residual(features)
        return image


class LapSRNArch(Architecture[LapSRN]):
    """Reads the layout of pytorch-LapSRN: convt_I, convt_R and convt_F with the number of their level.

    There each block is alone in a sequence ("convt_F1.0.cov_block"); names without the sequence are read too.
    """

    def __init__(self) -> None:
        super().__init__(
            id="LapSRN",
            detect=KeyCondition.has_all(
                "conv_input.weight",
                "convt_I1.weight",
                "convt_R1.weight",
                KeyCondition.has_any("convt_F1.0.cov_block.0.weight", "convt_F1.cov_block.0.weight"),
            ),
        )

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[LapSRN]:
        """Builds the network for a state dict; its number of levels gives the scale: x2, x4 or x8."""
        levels = sum(name.startswith("convt_I") for name in state_dict)
        width = state_dict["conv_input.weight"].shape[0]
        weights: StateDict = {}
        for name, weight in state_dict.items():
            found = re.match(r"convt_([FRI])(\d+)\.(?:0\.(?=cov_block))?(.+)", name)
            weights[f"{_GROUPS[found[1]]}.{int(found[2]) - 1}.{found[3]}" if found else name] = weight
        depths = [sum(name.startswith(f"features.{level}.") for name in weights) - 1 for level in range(levels)]
        return describe(self, LapSRN(levels, width, depths), weights, "SR", 2**levels, 1, (f"{width}nf", f"{levels} levels"))
