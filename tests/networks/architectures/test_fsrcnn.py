"""FSRCNN in both layouts; its scale is found by what a flat image becomes."""

import pytest
import torch
from torch.nn import functional

from fidelity.networks.architectures.fsrcnn import FSRCNN


def trained(scale):
    """A network that keeps flat images flat, as a trained one does: features repeat the image, the kernel is a tent."""
    torch.manual_seed(scale)
    network = FSRCNN(scale, 1, 12, 5, 2)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
                module.weight.mul_(0.05)
                module.bias.zero_()
        network.extract[0].weight[0].zero_()[0, 2, 2] = 1
        network.shrink[0].weight[0, 0] = network.expand[0].weight[0, 0] = 1
        for layer in (network.map[0], network.map[2]):
            layer.weight[0].zero_()[0, 1, 1] = 1
        tent = (1 - (torch.arange(9.0) - 4).abs() / scale).clamp(min=0)
        network.deconv.weight.mul_(0.001)[0, 0] += torch.outer(tent, tent)
    return network


def yjn_layout(network):
    """first_part, mid_part, last_part."""
    renamed = {}
    for name, weight in network.state_dict().items():
        group, _, rest = name.partition(".")
        index, _, kind = rest.partition(".")
        starts = {"shrink": 0, "map": 2, "expand": 2 + len(network.map)}
        if group in starts:
            renamed[f"mid_part.{int(index) + starts[group]}.{kind}"] = weight
        else:
            renamed[name.replace("extract.", "first_part.").replace("deconv.", "last_part.")] = weight
    return renamed


def torn_layout(network):
    return {name.replace("extract.", "feature_extraction."): weight for name, weight in network.state_dict().items()}


@pytest.mark.parametrize("layout", [yjn_layout, torn_layout])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_layout_and_scale_are_told(load_state, layout, scale):
    network = trained(scale)
    descriptor = load_state(layout(network))
    assert (descriptor.architecture.id, descriptor.scale, descriptor.input_channels) == ("FSRCNN", scale, 1)
    image = torch.rand(1, 1, 9, 12)
    assert torch.equal(descriptor.model(image), network(image))
    assert descriptor(image).shape == (1, 1, 9 * scale, 12 * scale)


def test_it_computes_what_the_paper_says():
    network = FSRCNN(3, 1, 6, 4, 1)
    image, state = torch.rand(1, 1, 8, 8), network.state_dict()
    features = image
    for name, padding in (("extract", 2), ("shrink", 0), ("map", 1), ("expand", 0)):
        features = functional.conv2d(features, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=padding)
        features = functional.prelu(features, state[f"{name}.1.weight"])
    wide = functional.conv_transpose2d(features, state["deconv.weight"], state["deconv.bias"], stride=3)
    assert torch.allclose(network(image), wide[..., 4 : 4 + 24, 4 : 4 + 24], atol=1e-6)
