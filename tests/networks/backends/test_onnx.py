"""ONNX files load like any other network, or are refused in words."""

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN
from torch import nn

from fidelity.errors import ModelRefusedError
from fidelity.networks.backends.onnxruntime import run_session
from fidelity.networks.compute import Compute
from fidelity.networks.loader import detect_architecture, list_models, load_model
from fidelity.networks.runner import Runner
from fidelity.steps.upscale import upscale

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("onnx", reason="onnx, which exports, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the older exporter needs no further packages

CPU = torch.device("cpu")


class Halving(nn.Module):
    """Works on 2 x 2 pixels, and so on even sides only."""

    def __init__(self, channels=3):
        super().__init__()
        self.inner = nn.Conv2d(4 * channels, 4 * channels, 3, 1, 1)

    def forward(self, image):
        return nn.functional.pixel_shuffle(self.inner(nn.functional.pixel_unshuffle(image, 2)), 2)


class Mean(nn.Module):
    """Returns a single number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image):
        return (image * self.weight).mean()


def exported(module, path, shape=(1, 3, 32, 32), dynamic=True):
    sides = {2: "height", 3: "width"}
    axes = {"image": sides, "result": sides} if dynamic else None
    names = {"input_names": ["image"], "output_names": ["result"]}
    sample = torch.rand(shape).to(next(module.parameters()).dtype)
    torch.onnx.export(module.eval(), (sample,), path, dynamic_axes=axes, dynamo=False, opset_version=17, **names)
    return path


def seeded(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.05)
    return module


@pytest.fixture
def esrgan():
    torch.manual_seed(0)
    return ESRGAN(num_filters=16, num_blocks=2, scale=4).eval()


def test_a_file_gives_what_its_network_gives(esrgan, photo, tmp_path):
    network = load_model(exported(esrgan, tmp_path / "mine.onnx"))
    save_file({key: value.contiguous() for key, value in esrgan.state_dict().items()}, tmp_path / "same.safetensors")
    exact, _ = Runner(load_model(tmp_path / "same.safetensors"), CPU, "fp32", backend="torch").run(photo)
    assert (network.scale, network.channels_in, network.channels_out, network.sizes) == (4, 3, 3, "any")
    assert network.backend == "onnxruntime"
    for tile in (None, 48):
        result, _ = Runner(network, CPU).run(photo, tile=tile)
        assert (result - exact).abs().max() < 1e-3
    made = upscale(photo, network, (100, 90), "rgb", Compute())
    assert made.image.shape[2:] == (100, 90)
    assert detect_architecture(tmp_path / "mine.onnx") == "ONNX graph"
    assert "mine.onnx" in list_models([tmp_path])


def test_a_network_on_a_grid_gets_padded_images_and_aligned_tiles(photo, tmp_path):
    module = seeded(Halving())
    network = load_model(exported(module, tmp_path / "x1.onnx"))
    assert (network.scale, network.multiple_of) == (1, 2)
    exact = module(photo).clamp(0, 1)
    for tile in (None, 34):
        assert (Runner(network, CPU).run(photo, tile=tile)[0] - exact).abs().max() < 1e-4
    assert Runner(network, CPU).run(photo[..., :35, :51])[0].shape[2:] == (35, 51)


def test_luma_and_half_precision(photo, tmp_path):
    grey = load_model(exported(seeded(Halving(1)), tmp_path / "grey.onnx", (1, 1, 32, 32)))
    assert (grey.channels_in, grey.channels_out) == (1, 1)
    half = load_model(exported(seeded(Halving()).half(), tmp_path / "half.onnx"))
    assert half.run(photo).dtype == torch.float32


def test_what_is_not_finite_is_told(photo, tmp_path):
    module = seeded(Halving())
    nn.init.constant_(module.inner.bias, float("nan"))
    network = load_model(exported(module, tmp_path / "nan.onnx"))
    with pytest.raises(RuntimeError, match="not finite"):
        network.run(photo)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged or not an ONNX model"),
        (b"no model", "damaged or not an ONNX model"),
        (b"\x3a\x02\x0a\x00", "not an ONNX model"),
    ],
)
def test_what_is_no_model_is_refused(content, reason, tmp_path):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelRefusedError, match=rf"^a\.onnx: .*{reason}"):
        load_model(tmp_path / "a.onnx")


def test_every_truncated_file_is_refused(tmp_path):
    whole = exported(seeded(Halving()), tmp_path / "whole.onnx").read_bytes()
    for length in range(0, len(whole) - 1, 61):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        with pytest.raises(ModelRefusedError, match=r"^cut\.onnx: "):
            load_model(tmp_path / "cut.onnx")


def field(number, content):
    assert len(content) < 128
    key = number << 3 | 2
    return bytes([key] if key < 128 else [key & 127 | 128, key >> 7]) + bytes([len(content)]) + content


OUTSIDE = field(8, b"w") + field(13, field(1, b"location"))
"""A tensor whose values are in another file."""


def hidden(number, content):
    """A field whose number some readers see only in its lower 32 bits."""
    key = number << 3 | 2
    return bytes([key | 128, 128, 128, 128, 16]) + bytes([len(content)]) + content


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (field(1, field(4, b"Own") + field(7, b"com.own")), "uses Own of com.own"),
        (field(1, field(4, b"Loop") + field(5, field(6, field(1, b"")))), "uses Loop, which contains a graph of its own"),
        (field(1, field(4, b"Any") + field(5, field(11, field(1, b"")))), "uses Any, which contains a graph of its own"),
        (field(5, OUTSIDE), "keeps its weights in another file"),
        (field(15, field(1, OUTSIDE)), "keeps its weights in another file"),
        (field(1, field(4, b"Constant") + field(5, field(5, OUTSIDE))), "keeps its weights in another file"),
        (field(1, field(4, b"Constant") + field(5, field(22, field(2, OUTSIDE)))), "keeps its weights in another file"),
        (hidden(5, OUTSIDE), "damaged or not an ONNX model"),
        (field(1, field(4, b"Any") + field(5, b"no message")), "damaged or not an ONNX model"),
    ],
)
def test_what_could_do_more_than_compute_is_refused(graph, reason, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(field(7, graph))
    with pytest.raises(ModelRefusedError, match=rf"^bad\.onnx: {reason}"):
        load_model(tmp_path / "bad.onnx")


def test_functions_of_its_own_are_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(field(7, field(2, b"g")) + field(25, field(1, b"f")))
    with pytest.raises(ModelRefusedError, match="brings functions of its own"):
        load_model(tmp_path / "bad.onnx")


def test_other_inputs_are_refused(tmp_path):
    path = exported(nn.Conv2d(4, 4, 3, 1, 1), tmp_path / "four.onnx", (1, 4, 16, 16))
    with pytest.raises(ModelRefusedError, match="wanted one image of 1 or 3 channels"):
        load_model(path)
    path = exported(nn.Conv2d(3, 2, 3, 1, 1), tmp_path / "two.onnx", (1, 3, 16, 16))
    with pytest.raises(ModelRefusedError, match="does not enlarge or restore luma or RGB by a whole factor"):
        load_model(path)
    path = exported(Mean(), tmp_path / "mean.onnx", (1, 3, 16, 16))
    with pytest.raises(ModelRefusedError, match="does not enlarge or restore luma or RGB by a whole factor"):
        load_model(path)
    path = exported(seeded(Halving()), tmp_path / "fixed.onnx", dynamic=False)
    with pytest.raises(ModelRefusedError, match=r"takes \[1, 3, 32, 32\]; wanted one image of 1 or 3 channels and any size"):
        load_model(path)


@pytest.mark.parametrize(("said", "kind"), [("Failed to allocate memory for x", MemoryError), ("other", RuntimeError)])
def test_what_fails_while_it_runs_is_known_to_the_runner(said, kind):
    class Failing:
        def run(self, *_):
            raise Exception(said)

    with pytest.raises(kind, match=said):
        run_session("mine", Failing(), {})


def test_without_the_library_the_command_that_installs_it_is_told(tmp_path, monkeypatch):
    path = exported(seeded(Halving()), tmp_path / "mine.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ModelRefusedError, match="an ONNX model needs ONNX Runtime: pip install onnxruntime"):
        load_model(path)
