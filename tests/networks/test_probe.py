"""What a strip of pixels tells of a network."""

import pytest
import torch
from torch import nn

from fidelity.networks.backends.torch import probe_module


def test_the_receptive_field_of_a_chain_is_one_pixel_a_layer(compact):
    for convolutions in (1, 4):
        assert compact(convolutions=convolutions).reach_px == convolutions + 2


def test_a_network_that_pools_globally_has_none(faulty):
    assert faulty(lambda image, result: result + image.mean()).reach_px is None


def test_windows_of_attention_lie_on_a_grid_and_have_none_however_short_their_reach(tmp_path):
    from safetensors.torch import save_file
    from spandrel.architectures.SwinIR import SwinIR

    from fidelity.networks.loader import load_model

    torch.manual_seed(0)
    network = SwinIR(
        img_size=16, embed_dim=12, depths=[1], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
    )
    save_file({name: value.clone() for name, value in network.state_dict().items()}, tmp_path / "swin.safetensors")
    assert load_model(tmp_path / "swin.safetensors").reach_px is None


def test_the_widest_layer_is_counted_in_and_out(compact):
    # 8 features in and 8 out of the middle convolution, and 12 + 12 around the pixel shuffle of x2 RGB
    assert probe_module(compact(features=8).descriptor).values_per_pixel == 24
    assert probe_module(compact(features=16).descriptor).values_per_pixel == 32


def test_memory_counts_what_skip_connections_hold(compact):
    """Each of two layers of 8 features, in and out, and the input, which the result is added to."""
    assert probe_module(compact(features=8).descriptor).alive_per_pixel == pytest.approx(12 + 12 + 3, abs=1)


def test_the_answer_is_kept_and_leaves_no_hooks(faulty):
    network = faulty()
    first = network.probe
    assert len(network.descriptor.model.calls) == 1
    assert network.probe is first
    assert network.to(torch.device("cpu"), "bf16").probe is first
    assert len(network.descriptor.model.calls) == 1
    assert not any(module._forward_hooks for module in network.descriptor.model.modules())


def test_real_networks_have_the_reach_their_layers_add_up_to(test_data):
    from fidelity.networks.loader import load_model

    reach = {"realesr-animevideov3-x4": 18, "upscayl-lite-4x": 34, "realcugan-up2x-conservative": None}
    for name, expected in reach.items():
        assert load_model(test_data / f"models/{name}.safetensors").reach_px == expected


def test_a_probe_changes_nothing(compact, random_image):
    network, image = compact(), random_image(1, 3, 9, 9)
    with torch.no_grad():
        before = network.descriptor(image)
        assert probe_module(network.descriptor).receptive_field_px
        assert torch.equal(network.descriptor(image), before)
    assert isinstance(network.descriptor.model, nn.Module)
