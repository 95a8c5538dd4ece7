"""Networks that OpenVINO runs give what PyTorch gives, or are refused."""

import sys
import threading

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN

from fidelity.errors import ModelRefusedError
from fidelity.networks import backend as backend_module
from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.backend import with_backend
from fidelity.networks.backends import openvino as module
from fidelity.networks.backends.openvino import OpenVINONetwork, as_openvino, engine_folder
from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.compute import Compute
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.measurements import write_speeds
from fidelity.networks.runner import Runner
from fidelity.networks.speed import accelerate
from fidelity.steps.upscale import upscale

pytest.importorskip("openvino", reason="OpenVINO is not installed")

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Conversions and figures of other tests do not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def network(tmp_path):
    """A small network with dense blocks, whose tiles overlap."""
    return load_model(saved(tmp_path / "mine.safetensors"))


def saved(path):
    torch.manual_seed(0)
    model = ESRGAN(num_filters=16, num_blocks=2, scale=4)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED_WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_networks_agree(path, photo):
    network = load_model(path)
    exact, _ = Runner(network, CPU, "fp32", backend="torch").run(photo)
    converted, report = Runner(network, CPU, "fp32", backend="openvino").run(photo)
    assert (converted - exact).abs().max() < 1e-4
    assert report.precision == "fp32"


def test_tiles_and_any_size_give_the_same(network, photo):
    runner = Runner(network, CPU, "fp32", backend="openvino")
    exact, _ = Runner(network, CPU, "fp32", backend="torch").run(photo)
    for tile in (None, 48):
        assert (runner.run(photo, tile=tile)[0] - exact).abs().max() < 2e-3
    odd = photo[..., :37, :53]
    assert (runner.run(odd)[0] - Runner(network, CPU, "fp32", backend="torch").run(odd)[0]).abs().max() < 1e-3


def test_an_enlargement_says_which_library_ran(network, photo):
    made = upscale(photo, network, (192, 224), "rgb", Compute(backend="openvino"))
    assert [step.backend for step in made.passes if step.kind == "network"] == ["openvino"]
    plain = upscale(photo, network, (192, 224), "rgb", Compute(backend="torch"))
    assert [step.backend for step in plain.passes if step.kind == "network"] == ["torch"]


def test_threads_share_one_network(network, photo):
    runner = as_openvino(network)
    exact = runner.run(photo)
    results = {}

    def work(index):
        results[index] = [runner.run(photo) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(one, exact) for several in results.values() for one in several)


def test_a_conversion_is_stored_and_a_damaged_one_is_made_anew(network, photo, monkeypatch):
    exact = as_openvino(network).run(photo)
    stored = list(engine_folder().glob("*/network.xml"))
    assert len(stored) == 1
    assert [one.name for one in engine_folder().iterdir()] == [stored[0].parent.name]
    conversions = []
    convert = module._convert
    monkeypatch.setattr(module, "_convert", lambda network: conversions.append(1) or convert(network))
    assert torch.equal(OpenVINONetwork(network).run(photo), exact)
    assert not conversions
    for content in ("no model", stored[0].read_text().replace("<layers>", "<layers")):
        stored[0].write_text(content)
        assert (OpenVINONetwork(network).run(photo) - exact).abs().max() < 1e-6
    assert len(conversions) == 2


def test_the_conversion_of_other_weights_is_not_trusted(network, photo):
    as_openvino(network).run(photo)
    stored = next(engine_folder().glob("*/network.bin"))
    stored.write_bytes(bytes(len(stored.read_bytes())))
    exact = network.to(CPU, "fp32").run(photo)
    assert (OpenVINONetwork(network).run(photo) - exact).abs().max() < 2e-3


def test_an_output_that_is_off_is_refused_with_the_figure(network, photo, monkeypatch):
    monkeypatch.setattr(module, "_difference", lambda network, compiled: 0.25)
    with pytest.raises(ModelRefusedError, match=r"differs by 0\.2500, wanted at most 0\.002; wanted --backend torch"):
        OpenVINONetwork(network).run(photo)
    assert not engine_folder().exists()


def test_what_cannot_be_converted_is_refused(network, photo, monkeypatch):
    def fail(network):
        raise RuntimeError("unknown\noperation")

    monkeypatch.setattr(module, "_convert", fail)
    with pytest.raises(ModelRefusedError, match=r"OpenVINO cannot run it \(unknown operation\); wanted --backend torch"):
        OpenVINONetwork(network).run(photo)


def test_a_missing_library_is_told_with_the_command_that_installs_it(network, monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda: False)
    with pytest.raises(ModelRefusedError, match=r"pip install 'fidelity-upscale\[openvino\]'"):
        with_backend(network, "openvino", CPU, "auto")
    monkeypatch.setattr(backend_module, "is_installed", lambda: False)
    assert with_backend(network, "auto", CPU, "auto") is network


def test_auto_follows_the_measurement(network):
    assert with_backend(network, "auto", CPU, "fp32") is network
    for faster, figures in (("torch", (1.0, 2.0)), ("openvino", (2.0, 1.0))):
        names = [backend_module.backend_key(network, CPU, "fp32", name) for name in ("torch", "openvino")]
        write_speeds(dict(zip(names, figures, strict=True)))
        assert with_backend(network, "auto", CPU, "fp32").backend == faster
    assert with_backend(network, "torch", CPU, "fp32") is network
    assert with_backend(network, "openvino", torch.device("meta"), "fp32") is network


def test_accelerating_measures_both(network):
    made = accelerate(network, "fp32")
    assert made.torch_seconds > 0 and made.openvino_seconds > 0
    assert with_backend(network, "auto", CPU, "fp32").backend == made.chosen


def test_the_command_accelerates_and_refuses_others(tmp_path):
    from typer.testing import CliRunner

    from fidelity.cli import app

    saved(tmp_path / "mine.safetensors")
    result = CliRunner().invoke(app, ["accelerate", "mine", "nothing", "--models-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "mine.safetensors: torch (fp32)" in result.stdout
    assert "nothing" in result.stderr


def test_other_devices_are_pytorchs(network):
    assert isinstance(as_openvino(network).to(torch.device("meta"), "fp32"), TorchNetwork)


def test_a_noise_level_is_kept_whatever_ran_before(tmp_path, photo):
    torch.manual_seed(0)
    state = FFDNet(3, 16, 12).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "ffdnet.safetensors")
    plain = load_model(tmp_path / "ffdnet.safetensors")
    strong = plain.with_noise(50)
    exact = strong.to(CPU, "fp32").run(photo)
    assert torch.equal(Runner(strong, CPU, "fp32", backend="openvino").run(photo)[0], exact)
    assert not torch.equal(plain.to(CPU, "fp32").run(photo), exact)
    assert not torch.equal(plain.with_noise(5).to(CPU, "fp32").run(photo), exact)


def test_auto_falls_back_to_pytorch_where_openvino_fails(network, photo, monkeypatch):
    names = [backend_module.backend_key(network, CPU, "fp32", name) for name in ("torch", "openvino")]
    write_speeds(dict(zip(names, (2.0, 1.0), strict=True)))
    monkeypatch.setattr(module, "_difference", lambda network, compiled: 0.25)
    made = upscale(photo, network, (192, 224), "rgb", Compute(precision="fp32"))
    exact = upscale(photo, network, (192, 224), "rgb", Compute(precision="fp32", backend="torch"))
    assert [step.backend for step in made.passes if step.kind == "network"] == ["torch"]
    assert (made.image - exact.image).abs().max() < 2e-3


def test_a_broken_installation_is_told(network, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelRefusedError, match=r"OpenVINO cannot be used \(.*\); wanted --backend torch"):
        OpenVINONetwork(network).run(photo)
