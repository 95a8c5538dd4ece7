"""EDSR in both layouts gives what the paper's formula gives."""

import re
from functools import reduce

import pytest
import torch
from torch.nn import functional

from fidelity.networks.architectures.edsr import EDSR


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_is_told_by_its_names_and_shapes(load_state, scale):
    network = EDSR(scale, 16, 3, 1.0)
    descriptor = load_state(pytorch_layout(network))
    assert (descriptor.architecture.id, descriptor.scale) == ("EDSR", scale)
    assert (descriptor.input_channels, descriptor.output_channels) == (3, 3)
    image = torch.rand(1, 3, 11, 13)
    assert descriptor(image).shape == (1, 3, 11 * scale, 13 * scale)
    assert torch.allclose(descriptor.model(image), network(image), atol=1e-5)


def pytorch_layout(network, value_range=255.0):
    """With the mean as two frozen convolutions, as EDSR-PyTorch writes it."""
    mean = torch.tensor((0.4488, 0.4371, 0.4040)) * value_range
    shifts = {}
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        shifts |= {f"{name}.weight": torch.eye(3)[..., None, None], f"{name}.bias": sign * mean}
    return network.state_dict() | shifts


def basicsr_layout(network):
    changes = (
        (r"^body\.(\d)\.body\.0", r"body.\1.conv1"),
        (r"^body\.(\d)\.body\.2", r"body.\1.conv2"),
        (r"^body\.3\.", "conv_after_body."),
        (r"^head\.0", "conv_first"),
        (r"^tail\.0\.", "upsample."),
        (r"^tail\.1", "conv_last"),
    )
    return {reduce(lambda name, change: re.sub(*change, name), changes, name): w for name, w in network.state_dict().items()}


def test_both_layouts_give_one_network(load_state):
    network = EDSR(4, 16, 3, 1.0)
    image = torch.rand(1, 3, 9, 9)
    first, second = (load_state(layout(network)).model(image) for layout in (pytorch_layout, basicsr_layout))
    assert torch.equal(first, second)


def test_it_computes_what_the_paper_says(load_state):
    network = EDSR(2, 8, 1, 1.0)
    state, image = network.state_dict(), torch.rand(1, 3, 8, 8)
    mean = torch.tensor((0.4488, 0.4371, 0.4040)).reshape(1, 3, 1, 1)

    def convolve(features, name):
        return functional.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    head = convolve((image - mean) * 255, "head.0")
    body = head + convolve(functional.relu(convolve(head, "body.0.body.0")), "body.0.body.2")
    up = functional.pixel_shuffle(convolve(head + convolve(body, "body.1"), "tail.0.0"), 2)
    expected = convolve(up, "tail.1") / 255 + mean
    assert torch.allclose(load_state(pytorch_layout(network)).model(image), expected, atol=1e-5)


def test_wide_networks_scale_their_residuals_and_small_ranges_are_seen(load_state):
    assert load_state(pytorch_layout(EDSR(2, 256, 1, 0.1))).model.body[0].scale == 0.1
    assert load_state(pytorch_layout(EDSR(2, 8, 1, 1.0), value_range=1.0)).model.value_range == 1.0
