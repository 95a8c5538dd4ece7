"""The shipped networks run without spandrel, exactly as with it."""

import subprocess
import sys

import pytest
import torch
from spandrel import ImageModelDescriptor

from fidelity.networks.descriptors import accept_rgb, load_descriptor
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model

SHIPPED = sorted(SHIPPED_WEIGHTS.glob("*.safetensors"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_network_equals_what_spandrel_loads(path, random_image):
    own, spandrels, image = load_model(path), load_descriptor(path), random_image(1, 3, 20, 17)
    assert torch.equal(own.descriptor(image), spandrels(image))
    for fact in ("scale", "input_channels", "output_channels", "supports_half", "supports_bfloat16"):
        assert getattr(own.descriptor, fact) == getattr(spandrels, fact)
    assert own.architecture == spandrels.architecture.name
    assert own.stream() is not None


def test_the_host_gets_spandrels_description_of_it_and_always_the_same():
    network = load_model(SHIPPED[0])
    given = accept_rgb(network)
    assert isinstance(given, ImageModelDescriptor)
    assert given.model is network.descriptor.model
    assert accept_rgb(network) is given
    assert accept_rgb(network.to(torch.device("cpu"), "fp32")).model is not given.model


def test_enlarging_with_them_does_not_import_spandrel():
    code = (
        "import sys, torch, fidelity\n"
        "result = fidelity.upscale(torch.rand(1, 3, 24, 24), scale=2)\n"
        "assert result.image.shape[-1] == 48 and 'spandrel' not in sys.modules and 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
