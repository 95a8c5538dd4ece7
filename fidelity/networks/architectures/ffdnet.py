"""FFDNet: denoising on four half-size images, with the noise level as an input.

Source: Zhang, Zuo and Zhang, "FFDNet: toward a fast and flexible solution for CNN based image denoising", 2018.
"""

import re

import torch
from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn
from torch.nn import functional

from .description import describe

DEFAULT_NOISE_SIGMA = 15.0
"""Standard deviation of the noise to remove if no level is given, on the 0-255 scale."""

_COLOURS = (1, 3)
_TASSANO = "intermediate_dncnn.itermediate_dncnn."  # misspelled in the weights


class FFDNet(nn.Module):
    """The network; takes and returns images in [0, 1].

    Args:
        channels: 1 for grey, 3 for color.
        width: Channels between two convolutions.
        depth: Number of convolutions.
        tells_noise: Whether it is the type that was trained with batch normalization and returns the noise, not the image.
            That type takes the noise level first, once per channel.
    """

    takes_noise = True
    """Whether the network takes the noise level beside the image."""

    def __init__(self, channels: int, width: int, depth: int, tells_noise: bool = False) -> None:
        super().__init__()
        self.channels, self.tells_noise = channels, tells_noise
        bias = not tells_noise
        inputs = 4 * channels + (channels if tells_noise else 1)
        layers: list[nn.Module] = [nn.Conv2d(inputs, width, 3, padding=1, bias=bias), nn.ReLU()]
        for _ in range(depth - 2):
            norm = [nn.BatchNorm2d(width)] if tells_noise else []
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=bias), *norm, nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Conv2d(width, 4 * channels, 3, padding=1, bias=bias))

    def forward(self, image: Tensor, noise_sigma: float | None = None) -> Tensor:
        """Removes noise with a standard deviation of `noise_sigma`, 0 to 75 on the 0-255 scale."""
        height, width = image.shape[2:]
        padded = functional.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
        small = functional.pixel_unshuffle(padded, 2)
        sigma = DEFAULT_NOISE_SIGMA if noise_sigma is None else noise_sigma
        level = torch.full_like(small[:, : self.channels if self.tells_noise else 1], sigma / 255)
        parts = (level, small) if self.tells_noise else (small, level)
        result = functional.pixel_shuffle(self.model(torch.cat(parts, dim=1)), 2)
        return (padded - result if self.tells_noise else result)[..., :height, :width]


class FFDNetArch(Architecture[FFDNet]):
    """Reads the layouts of KAIR and of Tassano, Delon and Veit ("An analysis and implementation of FFDNet", 2019).

    Both come in grey and color; KAIR's differs from DnCNN's in the channels of its first convolution.
    """

    def __init__(self) -> None:
        named = KeyCondition.has_all("model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias")

        def detect(state_dict: StateDict) -> bool:
            first = state_dict.get(f"{_TASSANO}0.weight")
            if first is not None:
                return first.dim() == 4 and first.shape[1] in [5 * channels for channels in _COLOURS]
            if not named(state_dict) or state_dict["model.0.weight"].dim() != 4:
                return False
            numbers = [found[1] for name in state_dict if (found := re.match(r"model\.(\d+)\.weight$", name))]
            ends = state_dict["model.0.weight"].shape[1], state_dict[f"model.{max(map(int, numbers))}.weight"].shape[0]
            return ends in [(4 * channels + 1, 4 * channels) for channels in _COLOURS]

        super().__init__(id="FFDNet", detect=detect)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[FFDNet]:
        """Builds the network for a state dict."""
        tells_noise = f"{_TASSANO}0.weight" in state_dict
        state_dict = {name.replace(_TASSANO, "model."): weight for name, weight in state_dict.items()}
        width, inputs = state_dict["model.0.weight"].shape[:2]
        depth = sum(weight.dim() == 4 for weight in state_dict.values())
        channels = inputs // (5 if tells_noise else 4)
        network = FFDNet(channels, width, depth, tells_noise)
        tags = (f"{width}nf", f"{depth} layers")
        return describe(self, network, state_dict, "Restoration", 1, channels, tags, multiple_of=2)
