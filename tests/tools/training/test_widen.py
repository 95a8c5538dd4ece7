"""A widened network computes luma as before, and colour as bilinear enlargement."""

import pytest
import torch
from torch.nn import functional

from fidelity.imaging.color import rgb_to_luma, rgb_to_ycbcr
from fidelity.networks.loader import load_model
from tools.training.train import Settings, make_network, save_weights
from tools.training.widen import as_rgb


@pytest.fixture(params=[2, 4])
def luma(request):
    network = make_network(Settings(scale=request.param, features=6, convolutions=2, seed=5)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.05, 0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return network


def test_luma_is_what_the_luma_network_makes_of_it(luma, random_image):
    image = random_image(2, 3, 9, 13)
    with torch.inference_mode():
        wide, narrow = as_rgb(luma)(image), luma(rgb_to_luma(image))
    assert wide.shape == (2, 3, 9 * luma.upscale, 13 * luma.upscale)
    assert (rgb_to_luma(wide) - narrow).abs().max() < 1e-5


def test_colour_differences_are_enlarged_bilinearly(luma, random_image):
    image = random_image(1, 3, 10, 12)
    with torch.inference_mode():
        seen = rgb_to_ycbcr(as_rgb(luma)(image))[:, 1:]
    expected = functional.interpolate(rgb_to_ycbcr(image)[:, 1:], scale_factor=luma.upscale, mode="bilinear")
    inner = (..., slice(luma.upscale, -luma.upscale), slice(luma.upscale, -luma.upscale))  # the border sees zeros
    assert (seen - expected)[inner].abs().max() < 1e-5


def test_grey_stays_grey(luma, random_image):
    image = random_image(1, 1, 8, 8).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        result = as_rgb(luma)(image)
    assert (result - result[:, :1]).abs().max() < 1e-5


def test_the_written_file_is_that_network(luma, random_image, tmp_path):
    save_weights(luma, tmp_path / "x.safetensors")
    image = random_image(1, 3, 9, 11)
    with torch.inference_mode():
        expected = as_rgb(luma)(image)
        seen = load_model(tmp_path / "x.safetensors").descriptor.model(image)
    assert (seen - expected).abs().max() < 5e-3  # the file holds float16
