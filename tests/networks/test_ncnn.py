"""ncnn's files become the state dicts that PyTorch networks load."""

from importlib import import_module

import pytest
import torch
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact

from fidelity.networks.ncnn import NcnnRefusedError, read_ncnn
from tools.attack.formats import as_ncnn

RRDBNet = import_module("spandrel.architectures.ESRGAN.__arch.RRDB").RRDBNet
HALF = (0x01306B47).to_bytes(4, "little")


@pytest.fixture
def compact_network():
    return Compact(num_feat=6, num_conv=2, upscale=2)


@pytest.fixture
def rrdb_network():
    return RRDBNet(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)


@pytest.mark.parametrize("half", [True, False])
def test_a_compact_network_is_the_same(compact_network, half):
    state = read_ncnn(*as_ncnn(compact_network, half))
    assert set(state) == set(compact_network.state_dict())
    for name, value in compact_network.state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-3 if half else 0)


def test_an_rrdb_network_gets_names_that_load(rrdb_network):
    order = [module for module in rrdb_network.modules() if isinstance(module, torch.nn.Conv2d)]
    state = read_ncnn(*as_ncnn(rrdb_network, half=False))
    assert [len(value) for name, value in state.items() if name.endswith("bias")] == [len(one.bias) for one in order]
    loaded = ModelLoader().load_from_state_dict(state)
    assert (loaded.architecture.id, loaded.scale) == ("ESRGAN", 4)
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(loaded(image), rrdb_network(image).clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text, data: ("hello\n", data), "starts with 'hello'; wanted 7767517"),
        (lambda text, data: (text, data[:-3]), "end early"),
        (lambda text, data: (text, data + b"1234"), "4 bytes longer"),
        (lambda text, data: (text, b"\x07" + data[1:]), "stored with tag"),
        (lambda text, data: (text.replace("PReLU", "ReLU"), data), "has .* weights|tag|neither"),
        (lambda text, data: (text.replace("0=6 1=3", "0=x"), data), "a line that does not describe a layer: 'Convolution"),
        (lambda text, data: (text.replace("0=6 1=3", "0=6 1=nan"), data), "a line that does not describe a layer"),
        (lambda text, data: (text.replace("0=6", "0=-6"), data), "weights for -6 outputs|end early"),
        (lambda text, data: (text.replace("0=6 1=3", "0=5 1=3"), data), "weights for 5 outputs"),
    ],
)
def test_what_is_damaged_or_something_else_is_refused(compact_network, spoil, message):
    with pytest.raises(NcnnRefusedError, match=message):
        read_ncnn(*spoil(*as_ncnn(compact_network)))
