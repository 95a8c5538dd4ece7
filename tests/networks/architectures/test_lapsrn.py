"""LapSRN: each level doubles and adds its residual."""

import pytest
import torch
from torch.nn import functional

from fidelity.networks.architectures.lapsrn import LapSRN


def as_published(network, block="0."):
    """Under the names of pytorch-LapSRN, where a sequence of one lies around each block."""
    groups = {"features": "convt_F", "residuals": "convt_R", "images": "convt_I"}

    def rename(name):
        group, level, rest = [*name.split(".", 2), "", ""][:3]
        inner = block if group == "features" else ""
        return f"{groups[group]}{int(level) + 1}.{inner}{rest}" if group in groups else name

    return {rename(name): weight for name, weight in network.state_dict().items()}


@pytest.mark.parametrize("block", ["0.", ""])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_levels_tell_the_scale(load_state, levels, block):
    network = LapSRN(levels, 8, [3] * levels)
    descriptor = load_state(as_published(network, block))
    assert (descriptor.architecture.id, descriptor.scale, descriptor.input_channels) == ("LapSRN", 2**levels, 1)
    image = torch.rand(1, 1, 7, 9)
    assert torch.equal(descriptor.model(image), network(image))
    assert descriptor(image).shape == (1, 1, 7 * 2**levels, 9 * 2**levels)


def test_it_computes_what_the_paper_says(load_state):
    state = as_published(LapSRN(1, 6, [2]))
    image = torch.rand(1, 1, 8, 8)

    def leaky(features):
        return functional.leaky_relu(features, 0.2)

    deep = leaky(functional.conv2d(image, state["conv_input.weight"], padding=1))
    for index in (0, 2):
        deep = leaky(functional.conv2d(deep, state[f"convt_F1.0.cov_block.{index}.weight"], padding=1))
    deep = leaky(functional.conv_transpose2d(deep, state["convt_F1.0.cov_block.4.weight"], stride=2, padding=1))
    residual = functional.conv2d(deep, state["convt_R1.weight"], padding=1)
    expected = functional.conv_transpose2d(image, state["convt_I1.weight"], stride=2, padding=1) + residual
    assert torch.allclose(load_state(state).model(image), expected, atol=1e-6)
