"""Turns a luma network into an RGB network that any super-resolution program can run."""

import torch
from torch import Tensor

from fidelity.imaging.color import rgb_to_luma
from tools.training.network import Network

_LUMA = rgb_to_luma(torch.eye(3).reshape(3, 3, 1, 1)).flatten()
"""Weights of red, green and blue in luma."""


def as_rgb(luma: Network) -> Network:
    """The equivalent RGB network: luma as before, color differences enlarged bilinearly in two extra channels.

    The two channels carry red minus luma and blue minus luma unchanged through every layer, since a PReLU of slope 1 is the
    identity. The last convolution enlarges them; green follows from the definition of luma. At the border of an image, zero
    padding makes the outermost pixels lose some color.

    Args:
        luma: A network with one input and one output channel.
    """
    features, last = luma.num_feat, len(luma.body) - 1
    narrow = {name: value.detach().cpu() for name, value in luma.state_dict().items()}
    rgb = Network(num_in_ch=3, num_out_ch=3, num_feat=features + 2, num_conv=luma.num_conv, upscale=luma.upscale)
    wide = {name: torch.zeros_like(value) for name, value in rgb.state_dict().items()}
    wide["body.0.weight"][:features] = narrow["body.0.weight"] * _LUMA.reshape(1, 3, 1, 1)
    wide["body.0.weight"][features:, :, 1, 1] = torch.eye(3)[[0, 2]] - _LUMA
    for index in range(2, last, 2):
        wide[f"body.{index}.weight"][:features, :features] = narrow[f"body.{index}.weight"]
        wide[f"body.{index}.weight"][features:, features:, 1, 1] = torch.eye(2)
    for index in range(1, last, 2):
        wide[f"body.{index}.weight"] = torch.cat((narrow[f"body.{index}.weight"], torch.ones(2)))
        wide[f"body.{index - 1}.bias"][:features] = narrow[f"body.{index - 1}.bias"]
    wide[f"body.{last}.weight"][:, :features] = narrow[f"body.{last}.weight"].repeat(3, 1, 1, 1)
    wide[f"body.{last}.weight"][:, features:] = _chroma_kernels(luma.upscale)
    wide[f"body.{last}.bias"] = narrow[f"body.{last}.bias"].repeat(3)
    rgb.load_state_dict(wide)
    return rgb


def _chroma_kernels(scale: int) -> Tensor:
    """``(3 * scale**2, 2, 3, 3)``: what bilinear enlargement of the two differences adds to repeating their pixels."""
    kernels: list[Tensor] = []
    for phase in range(scale):
        offset = (phase + 0.5) / scale - 0.5
        kernels.append(torch.tensor([max(0.0, -offset), 1 - abs(offset), max(0.0, offset)]))
    repeated = torch.zeros(3, 3)
    repeated[1, 1] = 1
    planes = torch.stack([torch.outer(rows, columns) - repeated for rows in kernels for columns in kernels])
    red, green, blue = _LUMA.tolist()
    mix = torch.tensor([[1.0, 0.0], [-red / green, -blue / green], [0.0, 1.0]])
    return (mix[:, None, :, None, None] * planes[None, :, None]).flatten(0, 1)
