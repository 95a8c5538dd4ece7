"""FSRCNN: shrinking, mapping and expanding at low resolution, then one deconvolution, on luma.

Source: Dong, Loy and Tang, "Accelerating the super-resolution convolutional neural network", 2016.
"""

import torch
from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn

from .description import describe

_SCALES = (2, 3, 4)


class FSRCNN(nn.Module):
    """The network; takes and returns images in [0, 1]."""

    def __init__(self, scale: int, channels: int, width: int, inner: int, mappings: int) -> None:
        super().__init__()
        self.extract = nn.Sequential(nn.Conv2d(channels, width, 5, padding=2), nn.PReLU(width))
        self.shrink = nn.Sequential(nn.Conv2d(width, inner, 1), nn.PReLU(inner))
        layers: list[nn.Module] = []
        for _ in range(mappings):
            layers += [nn.Conv2d(inner, inner, 3, padding=1), nn.PReLU(inner)]
        self.map = nn.Sequential(*layers)
        self.expand = nn.Sequential(nn.Conv2d(inner, width, 1), nn.PReLU(width))
        self.deconv = nn.ConvTranspose2d(width, channels, 9, stride=scale, padding=4, output_padding=scale - 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.deconv(self.expand(self.map(self.shrink(self.extract(image)))))


class FSRCNNArch(Architecture[FSRCNN]):
    """Reads two layouts: first_part, mid_part, last_part; and feature_extraction, shrink, map, expand, deconv.

    No shape reveals the scale, which is the stride of the deconvolution. But a flat image must stay flat, and it does only
    if the parts of the kernel that produce neighboring samples have equal sums. The stride that comes closest is used.
    """

    def __init__(self) -> None:
        super().__init__(
            id="FSRCNN",
            detect=KeyCondition.has_any(
                KeyCondition.has_all("first_part.0.weight", "first_part.1.weight", "mid_part.0.weight", "last_part.weight"),
                KeyCondition.has_all(
                    "feature_extraction.0.weight", "shrink.0.weight", "map.0.weight", "expand.0.weight", "deconv.weight"
                ),
            ),
        )

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[FSRCNN]:
        """Builds the network for a state dict of either layout."""
        weights = _rename(state_dict)
        width, channels = weights["extract.0.weight"].shape[:2]
        inner = weights["shrink.0.weight"].shape[0]
        mappings = sum(name.startswith("map.") and weight.dim() == 4 for name, weight in weights.items())
        scale = min(_SCALES, key=lambda stride: _unevenness(weights, stride, width, inner, mappings))
        network = FSRCNN(scale, channels, width, inner, mappings)
        return describe(self, network, weights, "SR", scale, channels, (f"{width}-{inner}-{mappings}",))


def _rename(state_dict: StateDict) -> StateDict:
    if "first_part.0.weight" not in state_dict:
        return {name.replace("feature_extraction.", "extract."): weight for name, weight in state_dict.items()}
    last = max(int(name.split(".")[1]) for name in state_dict if name.startswith("mid_part."))
    renamed: StateDict = {}
    for name, weight in state_dict.items():
        part, _, rest = name.partition(".")
        if part == "first_part":
            renamed[f"extract.{rest}"] = weight
        elif part == "last_part":
            renamed[f"deconv.{rest}"] = weight
        else:
            index, kind = rest.split(".")
            place = int(index)
            group = "shrink" if place < 2 else "expand" if place > last - 2 else "map"
            start = {"shrink": 0, "map": 2, "expand": last - 1}[group]
            renamed[f"{group}.{place - start}.{kind}"] = weight
    return renamed


@torch.inference_mode()
def _unevenness(weights: StateDict, stride: int, width: int, inner: int, mappings: int) -> float:
    """Returns how uneven a flat grey image becomes at that stride, relative to its brightness, plus its brightness error."""
    channels = weights["extract.0.weight"].shape[1]
    network = FSRCNN(stride, channels, width, inner, mappings)
    network.load_state_dict({name: weight.float() for name, weight in weights.items()})
    flat = network(torch.full((1, channels, 24, 24), 0.5))[..., 8 * stride : -8 * stride, 8 * stride : -8 * stride]
    return float(flat.std() / flat.mean().abs().clamp(min=1e-6) + (flat.mean() - 0.5).abs())
