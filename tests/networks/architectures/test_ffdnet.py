"""FFDNet is told from DnCNN, takes the noise level as an input, and gives an image of the same size."""

import pytest
import torch
from spandrel.architectures.DnCNN import DnCNN
from torch.nn import functional

from fidelity.networks.architectures.ffdnet import DEFAULT_NOISE_SIGMA, FFDNet


@pytest.mark.parametrize(("channels", "depth"), [(1, 15), (3, 12)])
def test_it_is_told_by_its_names_and_shapes(load_state, channels, depth):
    network = FFDNet(channels, 16, depth)
    descriptor = load_state(network.state_dict())
    assert (descriptor.architecture.id, descriptor.scale, descriptor.input_channels) == ("FFDNet", 1, channels)
    image = torch.rand(1, channels, 9, 13)
    assert descriptor(image).shape == image.shape
    assert torch.equal(descriptor.model(image), network(image))


@pytest.mark.parametrize(("channels", "depth"), [(1, 15), (3, 12)])
def test_the_layout_that_tells_noise_is_read_too(load_state, channels, depth):
    """Level first, once for each channel; no biases; batch normalisation; what comes out is subtracted."""
    torch.manual_seed(0)
    network = FFDNet(channels, 16, depth, tells_noise=True)
    prefix = "intermediate_dncnn.itermediate_dncnn."
    state = {name.replace("model.", prefix): value for name, value in network.state_dict().items()}
    descriptor = load_state(state)
    assert (descriptor.architecture.id, descriptor.input_channels) == ("FFDNet", channels)
    assert state[f"{prefix}0.weight"].shape[1] == 5 * channels
    image = torch.rand(1, channels, 8, 10)
    quarters = torch.stack([image[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)], dim=2).flatten(1, 2)
    level = torch.full((1, channels, 4, 5), DEFAULT_NOISE_SIGMA / 255)
    told = network.eval().model(torch.cat((level, quarters), dim=1))
    expected = image - functional.pixel_shuffle(told, 2)
    assert torch.allclose(descriptor.model(image), expected, atol=1e-6)


def test_dncnn_is_still_dncnn(load_state):
    assert load_state(DnCNN(in_nc=1, out_nc=1, nc=8, nb=17, act_mode="R").state_dict()).architecture.id == "DnCNN"


def test_it_computes_what_the_paper_says_with_the_level_that_is_set():
    network, image = FFDNet(1, 8, 3), torch.rand(1, 1, 8, 6)
    state = network.state_dict()
    quarters = torch.stack([image[:, 0, y::2, x::2] for y in (0, 1) for x in (0, 1)], dim=1)
    features = torch.cat((quarters, torch.full((1, 1, 4, 3), 40 / 255)), dim=1)
    for index in (0, 2, 4):
        features = functional.conv2d(features, state[f"model.{index}.weight"], state[f"model.{index}.bias"], padding=1)
        features = features if index == 4 else functional.relu(features)
    expected = torch.zeros(1, 1, 8, 6)
    for index, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected[:, 0, y::2, x::2] = features[:, index]
    assert torch.allclose(network(image, 40.0), expected, atol=1e-6)
    assert not torch.allclose(network(image), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_measured_noise_reaches_it_and_stays_out_of_the_shared_model(load_state, photo, channels):
    from fidelity.networks.backends.torch import TorchNetwork
    from fidelity.networks.descriptors import accept_rgb
    from fidelity.steps.consistency import project
    from fidelity.steps.restore import restore
    from fidelity.steps.upscale import upscale

    # As ComfyUI's loader node gives it: a grey network behind an adapter that takes RGB.
    model = TorchNetwork("ffdnet", accept_rgb(TorchNetwork("ffdnet", load_state(FFDNet(channels, 8, 12).state_dict()))))
    before = restore(photo, model, DEFAULT_NOISE_SIGMA)
    told = restore(photo, model, 60.0)
    assert not torch.equal(told, before)
    assert torch.equal(told, project(upscale(photo, model.with_noise(60.0), channels="rgb").image, photo))
    assert torch.equal(restore(photo, model, DEFAULT_NOISE_SIGMA), before)
    assert torch.equal(upscale(photo, model).image, upscale(photo, model.with_noise(DEFAULT_NOISE_SIGMA)).image)
