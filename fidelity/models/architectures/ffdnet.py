"""FFDNet: denoising on four half-size images, with the noise level as an input.

Source: Zhang, Zuo and Zhang, "FFDNet: toward a fast and flexible solution for CNN based image denoising", 2018.
"""

import torch
from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn
from torch.nn import functional

from .description import describe

DEFAULT_NOISE_SIGMA = 15.0
"""Standard deviation of noise, in steps of 8 bits, that is taken out where nobody said how much there is."""

_COLOURS = (1, 3)


class FFDNet(nn.Module):
    """The network; takes and gives images in [0, 1]."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(4 * channels + 1, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 4 * channels, 3, padding=1))
        self.noise_sigma = DEFAULT_NOISE_SIGMA
        """Standard deviation of the noise to take out, in steps of 8 bits; 0 to 75."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        padded = functional.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
        small = functional.pixel_unshuffle(padded, 2)
        level = torch.full_like(small[:, :1], self.noise_sigma / 255)
        result = functional.pixel_shuffle(self.model(torch.cat((small, level), dim=1)), 2)
        return result[..., :height, :width]


class FFDNetArch(Architecture[FFDNet]):
    """Reads the layout of KAIR, grey or colour; it differs from DnCNN's by the channels of its first convolution."""

    def __init__(self) -> None:
        named = KeyCondition.has_all("model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias")

        def detect(state_dict: StateDict) -> bool:
            if not named(state_dict) or state_dict["model.0.weight"].dim() != 4:
                return False
            last = max(int(name.split(".")[1]) for name in state_dict if name.startswith("model."))
            ends = state_dict["model.0.weight"].shape[1], state_dict[f"model.{last}.weight"].shape[0]
            return ends in [(4 * channels + 1, 4 * channels) for channels in _COLOURS]

        super().__init__(id="FFDNet", detect=detect)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[FFDNet]:
        """Builds the network for a state dict."""
        width, inputs = state_dict["model.0.weight"].shape[:2]
        depth = sum(weight.dim() == 4 for weight in state_dict.values())
        channels = inputs // 4
        network = FFDNet(channels, width, depth)
        return describe(self, network, state_dict, "Restoration", 1, channels, (f"{width}nf", f"{depth} layers"))
