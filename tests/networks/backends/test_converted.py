"""Networks that OpenVINO and ONNX Runtime run give what PyTorch gives, or are refused."""

import sys
import threading

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN

from fidelity.errors import ModelRefusedError
from fidelity.networks import backend as backend_module
from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.backend import ENGINES, with_backend
from fidelity.networks.backends import converted
from fidelity.networks.backends.converted import ConvertedNetwork
from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.compute import Compute
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.measurements import write_speeds
from fidelity.networks.runner import Runner
from fidelity.networks.speed import accelerate
from fidelity.steps.upscale import upscale

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Conversions and figures of other tests do not count."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine(request):
    found = ENGINES[request.param]
    if not found.is_installed():
        pytest.skip(f"{found.title} is not installed")
    return found


@pytest.fixture
def network(tmp_path):
    """A small network with dense blocks, whose tiles overlap."""
    return load_model(saved(tmp_path / "mine.safetensors"))


def saved(path):
    torch.manual_seed(0)
    model = ESRGAN(num_filters=16, num_blocks=2, scale=4)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


def is_there(name):
    return ENGINES[name].is_installed()


ON_CPU = ("openvino", "onnxruntime")
needs_all = pytest.mark.skipif(not all(map(is_there, ON_CPU)), reason="OpenVINO or ONNX Runtime is not installed")


@pytest.mark.parametrize("path", sorted(SHIPPED_WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_networks_agree(path, photo, engine):
    network = load_model(path)
    exact, _ = Runner(network, CPU, "fp32", backend="torch").run(photo)
    made, report = Runner(network, CPU, "fp32", backend=engine.name).run(photo)
    assert (made - exact).abs().max() < 1e-4
    assert report.precision == "fp32"


@pytest.mark.skipif(not is_there("openvino"), reason="OpenVINO is not installed")
def test_half_precision_leaves_no_steps_in_gradients(monkeypatch):
    """The picture itself is added in float32: bfloat16 has no more than 256 levels between a half and one."""
    network = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
    gradient = torch.linspace(0.5, 1, 600).expand(1, 3, 32, -1).contiguous()
    exact, _ = Runner(network, CPU, "fp32", backend="torch").run(gradient)
    made, report = Runner(network, CPU, "bf16", backend="openvino").run(gradient)
    assert report.precision == "bf16"
    assert (made - exact).abs().mean() < 4e-4  # rounding all of it would give 1e-3
    monkeypatch.setattr("fidelity.networks.device.gains_from_bf16", lambda: True)
    assert Runner(network, CPU, "auto", backend="openvino").precision == "bf16"


def test_tiles_and_any_size_give_the_same(network, photo, engine):
    runner = Runner(network, CPU, "fp32", backend=engine.name)
    exact, _ = Runner(network, CPU, "fp32", backend="torch").run(photo)
    for tile in (None, 48):
        assert (runner.run(photo, tile=tile)[0] - exact).abs().max() < 2e-3
    odd = photo[..., :37, :53]
    assert (runner.run(odd)[0] - Runner(network, CPU, "fp32", backend="torch").run(odd)[0]).abs().max() < 1e-3


def test_an_enlargement_says_which_library_ran(network, photo, engine):
    made = upscale(photo, network, (192, 224), "rgb", Compute(backend=engine.name))
    assert [step.backend for step in made.passes if step.kind == "network"] == [engine.name]
    plain = upscale(photo, network, (192, 224), "rgb", Compute(backend="torch"))
    assert [step.backend for step in plain.passes if step.kind == "network"] == ["torch"]


def test_threads_share_one_network(network, photo, engine):
    runner = engine.wrap(network)
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


def test_a_conversion_is_stored_and_a_damaged_one_is_made_anew(network, photo, engine, monkeypatch):
    exact = engine.wrap(network).run(photo)
    stored = [path for path in engine.folder.glob("*/network.*") if path.suffix != ".bin"]
    assert len(stored) == 1
    assert [one.name for one in engine.folder.iterdir()] == [stored[0].parent.name]
    conversions = []
    convert = engine.convert
    monkeypatch.setattr(engine, "convert", lambda *given: conversions.append(1) or convert(*given))
    assert torch.equal(ConvertedNetwork(engine, network).run(photo), exact)
    assert not conversions
    whole = stored[0].read_bytes()
    for content in (b"no model", whole[: len(whole) // 2]):
        stored[0].write_bytes(content)
        assert (ConvertedNetwork(engine, network).run(photo) - exact).abs().max() < 1e-6
    assert len(conversions) == 2


def test_the_conversion_of_other_weights_is_not_trusted(network, photo, engine, tmp_path):
    engine.wrap(network).run(photo)
    own = next(engine.folder.iterdir())
    torch.manual_seed(5)
    state = ESRGAN(num_filters=16, num_blocks=2, scale=4).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "other.safetensors")
    engine.wrap(load_model(tmp_path / "other.safetensors")).run(photo)
    other = next(folder for folder in engine.folder.iterdir() if folder != own)
    for path in other.iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    exact = network.to(CPU, "fp32").run(photo)
    assert (ConvertedNetwork(engine, network).run(photo) - exact).abs().max() < 2e-3


def test_a_folder_that_cannot_be_written_is_done_without(network, photo, engine, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    exact = network.to(CPU, "fp32").run(photo)
    assert (engine.wrap(network).run(photo) - exact).abs().max() < 2e-3


@pytest.mark.parametrize(("off", "said"), [(0.25, r"0\.2500"), (float("nan"), "nan")])
def test_an_output_that_is_off_is_refused_with_the_difference(network, photo, engine, monkeypatch, off, said):
    monkeypatch.setattr(converted, "difference", lambda *given: off)
    with pytest.raises(ModelRefusedError, match=rf"differs by {said}, wanted at most 0\.002; wanted --backend torch"):
        ConvertedNetwork(engine, network).run(photo)
    assert not list(engine.folder.iterdir())


def test_what_cannot_be_converted_is_refused(network, photo, engine, monkeypatch):
    def fail(*given):
        raise RuntimeError("unknown\noperation")

    monkeypatch.setattr(engine, "convert", fail)
    with pytest.raises(ModelRefusedError, match=rf"{engine.title} cannot run it \(unknown operation\); wanted --backend torch"):
        ConvertedNetwork(engine, network).run(photo)


def test_a_missing_library_is_told_with_the_command_that_installs_it(network, engine, monkeypatch):
    monkeypatch.setattr(converted, "find_spec", lambda name: None)
    with pytest.raises(ModelRefusedError, match=rf"{engine.title} is not installed; {engine.installation}$"):
        with_backend(network, engine.name, CPU, "auto")
    assert with_backend(network, "auto", CPU, "auto") is network
    with pytest.raises(ModelRefusedError, match="PyTorch is installed; pip install openvino or pip install onnx onnxruntime"):
        accelerate(network, CPU)


def test_auto_follows_the_measurement(network, engine):
    assert with_backend(network, "auto", CPU, "fp32") is network
    for faster, figures in (("torch", (1.0, 2.0)), (engine.name, (2.0, 1.0))):
        names = [backend_module.backend_key(network, CPU, "fp32", name) for name in ("torch", engine.name)]
        write_speeds(dict(zip(names, figures, strict=True)))
        assert with_backend(network, "auto", CPU, "fp32").backend == faster
    assert with_backend(network, "torch", CPU, "fp32") is network
    assert with_backend(network, engine.name, torch.device("meta"), "fp32") is network


@needs_all
def test_the_fastest_of_all_is_taken(network):
    names = ("torch", *ON_CPU)
    keys = [backend_module.backend_key(network, CPU, "fp32", name) for name in names]
    write_speeds(dict(zip(keys, (3.0, 2.0, 1.0), strict=True)))
    assert with_backend(network, "auto", CPU, "fp32").backend == "onnxruntime"


@needs_all
def test_accelerating_measures_all(network):
    made = accelerate(network, CPU, "fp32")
    assert [one.backend for one in made.speeds] == ["torch", *ON_CPU]
    assert all(one.seconds > 0 and one.precision == "fp32" for one in made.speeds)
    assert not made.refusals
    assert with_backend(network, "auto", CPU, "fp32").backend == made.chosen


@needs_all
def test_accelerating_goes_on_without_a_library_that_refuses(network, engine, monkeypatch):
    def fail(*given):
        raise RuntimeError("unknown operation")

    monkeypatch.setattr(engine, "convert", fail)
    write_speeds({backend_module.backend_key(network, CPU, "fp32", engine.name): 1e-12})  # from when it did not refuse
    made = accelerate(network, CPU, "fp32")
    assert with_backend(network, "auto", CPU, "fp32").backend == made.chosen
    assert engine.name not in [one.backend for one in made.speeds]
    assert made.refusals == (f"mine.safetensors: {engine.title} cannot run it (unknown operation); wanted --backend torch",)


@needs_all
def test_the_command_accelerates_and_refuses_others(tmp_path):
    from typer.testing import CliRunner

    from fidelity.cli import app

    saved(tmp_path / "mine.safetensors")
    result = CliRunner().invoke(app, ["accelerate", "mine", "nothing", "--models-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "mine.safetensors: torch (fp32)" in result.stdout
    assert "nothing" in result.stderr


def test_other_devices_are_pytorchs(network, engine):
    assert isinstance(engine.wrap(network).to(torch.device("meta"), "fp32"), TorchNetwork)


def test_a_noise_level_is_kept_whatever_ran_before(tmp_path, photo, engine):
    torch.manual_seed(0)
    state = FFDNet(3, 16, 12).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "ffdnet.safetensors")
    plain = load_model(tmp_path / "ffdnet.safetensors")
    strong = plain.with_noise(50)
    exact = strong.to(CPU, "fp32").run(photo)
    assert torch.equal(Runner(strong, CPU, "fp32", backend=engine.name).run(photo)[0], exact)
    assert not torch.equal(plain.to(CPU, "fp32").run(photo), exact)
    assert not torch.equal(plain.with_noise(5).to(CPU, "fp32").run(photo), exact)


def test_auto_falls_back_to_pytorch_where_a_library_fails(network, photo, engine, monkeypatch):
    names = [backend_module.backend_key(network, CPU, "fp32", name) for name in ("torch", engine.name)]
    write_speeds(dict(zip(names, (2.0, 1.0), strict=True)))
    monkeypatch.setattr(converted, "difference", lambda *given: 0.25)
    made = upscale(photo, network, (192, 224), "rgb", Compute(precision="fp32"))
    exact = upscale(photo, network, (192, 224), "rgb", Compute(precision="fp32", backend="torch"))
    assert [step.backend for step in made.passes if step.kind == "network"] == ["torch"]
    assert (made.image - exact.image).abs().max() < 2e-3


def test_auto_falls_back_where_a_library_fails_later(network, photo, engine, monkeypatch):
    runner = engine.wrap(network, may_fall_back=True)
    exact = network.to(CPU, "fp32").run(photo)
    runner.run(photo)

    def fail(samples):
        raise RuntimeError("broke")

    monkeypatch.setattr(runner, "_run", fail)
    assert torch.equal(runner.run(photo), exact)
    assert runner.backend == "torch"
    strict = engine.wrap(network)
    strict.run(photo)
    monkeypatch.setattr(strict, "_run", fail)
    with pytest.raises(ModelRefusedError, match=r"cannot run it on \d+x\d+ px; wanted --backend auto or torch"):
        strict.run(photo)


def test_a_broken_installation_is_told(network, photo, engine, monkeypatch):
    monkeypatch.setitem(sys.modules, engine.name, None)
    with pytest.raises(ModelRefusedError, match=rf"{engine.title} cannot run it \(import of {engine.name} .*\); wanted"):
        ConvertedNetwork(engine, network).run(photo)
