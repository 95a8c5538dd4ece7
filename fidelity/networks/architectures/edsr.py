"""EDSR: a deep residual network without batch normalization.

Source: Lim, Son, Kim, Nah and Lee, "Enhanced deep residual networks for single image super-resolution", 2017.
"""

import math
import re

import torch
from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition, get_seq_len
from torch import Tensor, nn

from .description import describe

_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean color of DIV2K, from the paper's authors."""

_WIDE = 256
"""Width from which the paper scales residuals."""


class ResidualBlock(nn.Module):
    """Two convolutions whose scaled output is added to the input."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        return features + self.scale * self.body(features)


def pixel_shuffles(width: int, scale: int) -> nn.Sequential:
    """Builds convolutions and pixel shuffles for a scale of 3 or a power of 2."""
    factors = [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]
    layers: list[nn.Module] = []
    for factor in factors:
        layers += [nn.Conv2d(width, width * factor * factor, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


class EDSR(nn.Module):
    """The network; takes and returns RGB in [0, 1]."""

    mean: Tensor

    def __init__(self, scale: int, width: int, blocks: int, residual_scale: float, value_range: float = 255.0) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1))
        body = [ResidualBlock(width, residual_scale) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(width, width, 3, padding=1))
        self.tail = nn.Sequential(pixel_shuffles(width, scale), nn.Conv2d(width, 3, 3, padding=1))
        self.value_range = value_range
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        features = self.head((image - self.mean) * self.value_range)
        return self.tail(features + self.body(features)) / self.value_range + self.mean


class EDSRArch(Architecture[EDSR]):
    """Reads the layouts of EDSR-PyTorch (head, body, tail) and BasicSR (conv_first, conv_after_body, upsample)."""

    def __init__(self) -> None:
        super().__init__(
            id="EDSR",
            detect=KeyCondition.has_any(
                KeyCondition.has_all("head.0.weight", "body.0.body.0.weight", "body.0.body.2.weight", "tail.1.weight"),
                KeyCondition.has_all(
                    "conv_first.weight",
                    "body.0.conv1.weight",
                    "conv_after_body.weight",
                    "upsample.0.weight",
                    "conv_last.weight",
                ),
            ),
        )

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[EDSR]:
        """Builds the network for a state dict of either layout."""
        mean_shift = state_dict.get("sub_mean.bias")
        value_range = 1.0 if mean_shift is not None and float(mean_shift.abs().max()) <= 1 else 255.0
        weights = _from_basicsr(state_dict) if "conv_first.weight" in state_dict else dict(state_dict)
        for name in ("sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"):
            weights.pop(name, None)
        width, blocks = weights["head.0.weight"].shape[0], get_seq_len(weights, "body") - 1
        scale = 1
        for name, weight in weights.items():
            if name.startswith("tail.0.") and name.endswith("weight"):
                scale *= math.isqrt(weight.shape[0] // width)
        network = EDSR(scale, width, blocks, 0.1 if width >= _WIDE else 1.0, value_range)
        # Values are in the hundreds, and half precision cannot represent their sums exactly.
        return describe(self, network, weights, "SR", scale, 3, (f"{width}nf", f"{blocks}nb"), supports_half=False)


def _from_basicsr(state_dict: StateDict) -> StateDict:
    blocks = get_seq_len(state_dict, "body")
    changes = {
        r"^(body\.\d+)\.conv1\.": r"\1.body.0.",
        r"^(body\.\d+)\.conv2\.": r"\1.body.2.",
        r"^conv_first\.": "head.0.",
        r"^conv_after_body\.": f"body.{blocks}.",
        r"^upsample\.": "tail.0.",
        r"^conv_last\.": "tail.1.",
    }
    return {_change(name, changes): weight for name, weight in state_dict.items()}


def _change(name: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        name = re.sub(old, new, name)
    return name
