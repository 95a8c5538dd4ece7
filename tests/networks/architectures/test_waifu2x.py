"""waifu2x's networks give images of exactly the right size, and what their published weights are known to give."""

import pytest
import torch
from torch.nn import functional

from fidelity.files.read import read_image
from fidelity.imaging.metrics import psnr
from fidelity.networks.architectures.waifu2x import VGG7, CUNet, UpConv7
from fidelity.networks.loader import load_model
from fidelity.steps.upscale import upscale


@pytest.mark.parametrize("size", [(1, 1), (9, 12), (31, 17)])
@pytest.mark.parametrize(
    ("make", "name", "scale"),
    [
        (lambda: UpConv7(3, (4, 4, 8, 8, 8, 8)), "waifu2x-upconv7", 2),
        (lambda: VGG7(3, (4, 4, 8, 8, 8, 8)), "waifu2x-vgg7", 1),
        (lambda: VGG7(1, (4, 4, 8, 8, 8, 8)), "waifu2x-vgg7", 1),
        (lambda: CUNet(3), "waifu2x-cunet", 1),
    ],
)
def test_each_is_told_and_exact_in_size(load_state, make, name, scale, size):
    network = make()
    descriptor = load_state(network.state_dict())
    assert (descriptor.architecture.id, descriptor.scale) == (name, scale)
    image = torch.rand(1, descriptor.input_channels, *size)
    result = descriptor.model(image)
    assert result.shape == (1, image.shape[1], size[0] * scale, size[1] * scale)
    assert torch.equal(result, network(image))


def test_upconv7_computes_what_its_definition_says(load_state):
    network = UpConv7(3, (4, 4, 8, 8, 8, 8))
    state, image = network.state_dict(), torch.rand(1, 3, 10, 12)
    features = functional.pad(image, (7, 7, 7, 7), mode="replicate")
    for index in range(0, 12, 2):
        features = functional.conv2d(features, state[f"net.{index}.weight"], state[f"net.{index}.bias"])
        features = functional.leaky_relu(features, 0.1)
    expected = functional.conv_transpose2d(features, state["net.12.weight"], state["net.12.bias"], stride=2, padding=3)
    assert torch.allclose(load_state(state).model(image), expected, atol=1e-6)


def test_cunet_crops_what_it_should_and_the_larger_one_is_real_cugan(load_state):
    """A network of zeros but for one path shows that nothing is shifted: the first U-net's last convolution copies."""
    network = CUNet(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.unet1.conv1.conv[0].weight[0, 0, 1, 1] = 1
        network.unet1.conv1.conv[2].weight[0, 0, 1, 1] = 1
        network.unet1.conv3.weight[0, 0, 1, 1] = 1
        network.unet1.conv_bottom.weight[0, 0, 1, 1] = 1
    image = torch.rand(1, 3, 14, 18)
    assert torch.equal(network(image)[:, 0], image[:, 0])
    with torch.no_grad():
        network.unet2.conv1.conv[0].weight[0, 0, 1, 1] = 1
        network.unet2.conv1.conv[2].weight[0, 0, 1, 1] = 1
        network.unet2.conv5.weight[0, 0, 1, 1] = 1
        network.unet2.conv_bottom.weight[0, 0, 1, 1] = 1
    assert torch.allclose(network(image)[:, 0], 2 * image[:, 0])
    larger = network.state_dict()
    for part in ("unet1", "unet2"):
        larger[f"{part}.conv_bottom.weight"] = torch.zeros(3, 64, 3, 3)
    larger["unet1.conv_bottom.weight"] = torch.zeros(64, 3, 4, 4)
    assert load_state(larger).architecture.id == "RealCUGAN"


@pytest.mark.parametrize(("name", "decibels"), [("photo", 37.1), ("anime", 36.6)])
def test_published_weights_reach_their_figures_on_set5(test_data, name, decibels):
    model = load_model(test_data / f"models/waifu2x-upconv7-{name}-x2.safetensors")
    values = []
    for path in sorted((test_data / "images/set5/HR").iterdir()):
        small = read_image(next((test_data / "images/set5/LRx2").glob(f"{path.stem}*"))).image
        result = upscale(small, model, None, "rgb").image
        truth = read_image(path).image[..., : result.shape[2], : result.shape[3]]
        values.append(psnr(result[..., 2:-2, 2:-2], truth[..., 2:-2, 2:-2], luma=True))
    assert sum(values) / len(values) >= decibels
