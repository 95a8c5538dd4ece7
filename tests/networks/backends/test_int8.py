"""Networks in INT8: nearly as good, told as such, and only where asked for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from fidelity.errors import ModelRefusedError
from fidelity.imaging.metrics import psnr
from fidelity.networks.backend import with_backend
from fidelity.networks.backends import openvino as openvino_module
from fidelity.networks.backends.converted import ConvertedNetwork
from fidelity.networks.backends.openvino import OPENVINO
from fidelity.networks.calibration import calibration_images
from fidelity.networks.compute import Compute
from fidelity.networks.device import choose_precision
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.runner import Runner
from fidelity.networks.speed import accelerate
from fidelity.steps.upscale import upscale

CPU = torch.device("cpu")
ENLARGERS = sorted(path for path in SHIPPED_WEIGHTS.glob("*.safetensors") if not path.stem.endswith("x1"))

quantizes = pytest.mark.skipif(not (find_spec("openvino") and find_spec("nncf")), reason="OpenVINO or NNCF is not installed")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def mean_psnr(model, test_data, read_rgb, precision):
    figures = []
    for path in sorted((test_data / "images/set5/HR").glob("*.png")):
        source = read_rgb(test_data / f"images/set5/LRx{model.scale}" / path.name)
        made = upscale(source, model, compute=Compute(precision=precision))
        assert {step.precision for step in made.passes if step.kind == "network"} == {precision}
        height, width = made.image.shape[2:]
        rounded = (made.image * 255).round() / 255
        figures.append(psnr(read_rgb(path)[..., :height, :width], rounded, luma=True, crop_px=model.scale))
    return sum(figures) / len(figures)


@quantizes
@pytest.mark.parametrize("path", ENLARGERS, ids=lambda path: path.stem)
def test_shipped_networks_lose_less_than_a_tenth_of_a_decibel(path, test_data, read_rgb):
    model = load_model(path)
    exact, quantized = (mean_psnr(model, test_data, read_rgb, precision) for precision in ("fp32", "int8"))
    assert exact - 0.1 < quantized
    assert quantized != exact


@quantizes
def test_a_gradient_keeps_its_steps():
    """The source is added in float, not in its 256 levels."""
    network = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
    ramp = torch.linspace(0.5, 0.6, 300).expand(1, 3, 40, 300)
    made = Runner(network, CPU, "int8").run(ramp)[0]
    assert (made - Runner(network, CPU, "fp32").run(ramp)[0]).abs().max() < 3 / 255
    assert len(made[0, 0, 20].unique()) > 500


@quantizes
def test_a_quantized_network_is_stored_beside_the_exact_one(photo, monkeypatch):
    network = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
    exact, quantized = (OPENVINO.wrap(network, precision).run(photo) for precision in ("fp32", "int8"))
    assert 0 < (quantized - exact).abs().max() < 0.1
    assert len(list(OPENVINO.folder.iterdir())) == 2
    monkeypatch.setattr(openvino_module, "_quantize", lambda *given: pytest.fail("quantized again"))
    assert torch.equal(ConvertedNetwork(OPENVINO, network, "int8").run(photo), quantized)


@quantizes
def test_nothing_is_printed_or_sent():
    """Without a network, on a machine that has not been asked whether it may send anything."""
    code = """
import socket, sys
connections = []
def refuse(*given):
    connections.append(given)
    raise OSError("no network")
socket.socket.connect = refuse
import logging
loggers = logging.getLoggerClass()
import torch
from fidelity.networks.backends.openvino import OPENVINO
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
network = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
OPENVINO.wrap(network, "int8").run(torch.rand(1, 3, 32, 32))
assert not connections
assert logging.getLoggerClass() is loggers
assert "nncf" in sys.modules and "openvino_telemetry" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.skipif(not find_spec("openvino"), reason="OpenVINO is not installed")
def test_what_is_missing_is_told_with_the_command_that_installs_it(compact, random_image, monkeypatch):
    monkeypatch.setattr(openvino_module, "find_spec", lambda name: None)
    with pytest.raises(ModelRefusedError, match=r"NNCF, which quantizes networks, is not installed; pip install nncf$"):
        Runner(compact(), CPU, "int8").run(random_image(1, 3, 40, 40))
    with pytest.raises(ModelRefusedError, match=r"pip install nncf$"):
        accelerate(compact(), CPU, "int8")


@quantizes
def test_a_result_that_is_off_is_refused(compact, random_image, monkeypatch):
    monkeypatch.setattr("fidelity.networks.backends.converted.difference", lambda *given: 0.2)
    with pytest.raises(ModelRefusedError, match=r"differs by 0\.2000, wanted at most 0\.05"):
        Runner(compact(), CPU, "int8").run(random_image(1, 3, 40, 40))
    assert not list(OPENVINO.folder.iterdir())


def test_only_who_asks_for_it_gets_it(compact):
    model = compact()
    assert choose_precision(model, CPU) == choose_precision(model, CPU, "int8") != "int8"  # PyTorch has none
    assert with_backend(model, "auto", CPU, "auto") is model
    assert Runner(model, CPU, "int8", backend="torch").precision == choose_precision(model, CPU)


@quantizes
def test_accelerating_in_it_leaves_the_choice_between_exact_ones_alone(compact):
    model = compact()
    made = accelerate(model, CPU, "int8")
    speeds = [(one.backend, one.precision) for one in made.speeds]
    assert speeds == [("torch", choose_precision(model, CPU)), ("openvino", "int8")]
    assert made.chosen == with_backend(model, "auto", CPU, "int8").backend == "openvino"
    assert with_backend(model, "auto", CPU, "auto") is model


def test_calibration_images_are_pictures_and_always_the_same():
    colored, grey = calibration_images(3), calibration_images(1)
    assert all(torch.equal(one, other) for one, other in zip(colored, calibration_images(3), strict=True))
    assert {image.shape for image in colored} == {(1, 3, 96, 96)}
    assert {image.shape for image in grey} == {(1, 1, 96, 96)}
    values = torch.cat(colored)
    assert values.min() == 0
    assert values.max() == 1
    assert 0.2 < values.mean() < 0.6
    assert all(image.std() > 0.1 for image in colored)
