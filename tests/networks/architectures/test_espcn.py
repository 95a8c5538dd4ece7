"""ESPCN in both layouts gives what the paper's formula gives."""

import pytest
import torch
from torch.nn import functional

from fidelity.networks.architectures.espcn import ESPCN

LAYOUTS = [("first_part.0", "first_part.2", "last_part.0"), ("feature_maps.0", "feature_maps.2", "sub_pixel.0")]


def as_layout(network, names):
    places = dict(zip(("layers.0", "layers.2", "layers.4"), names, strict=True))
    return {
        f"{places[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": weight for name, weight in network.state_dict().items()
    }


@pytest.mark.parametrize("names", LAYOUTS)
@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (3, 1), (4, 3)])
def test_it_is_told_by_its_names_and_shapes(load_state, names, scale, channels):
    network = ESPCN(scale, channels, (16, 8), (5, 3, 3))
    state = as_layout(network, names)
    descriptor = load_state(state)
    assert (descriptor.architecture.id, descriptor.scale, descriptor.input_channels) == ("ESPCN", scale, channels)
    image = torch.rand(1, channels, 9, 12)

    def convolve(features, name, padding):
        return functional.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    deep = torch.tanh(convolve(torch.tanh(convolve(image, names[0], 2)), names[1], 1))
    expected = functional.pixel_shuffle(convolve(deep, names[2], 1), scale)
    assert torch.allclose(descriptor.model(image), expected, atol=1e-6)
