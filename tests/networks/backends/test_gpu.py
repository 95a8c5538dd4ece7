"""What can be tested without a GPU of the backends that run on one: what is chosen, asked for, stored and refused."""

from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.errors import ModelRefusedError
from fidelity.networks import backend as backend_module
from fidelity.networks.backend import ENGINES, check_backend, list_backends, with_backend
from fidelity.networks.backends import onnxruntime as onnxruntime_module
from fidelity.networks.backends import tensorrt as tensorrt_module
from fidelity.networks.backends.onnxruntime import ONNX_RUNTIME
from fidelity.networks.backends.tensorrt import TENSORRT
from fidelity.networks.measurements import write_speeds
from fidelity.networks.runner import Runner
from fidelity.networks.speed import accelerate

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and everything installed, as far as choices ask."""
    for module in (onnxruntime_module, tensorrt_module):
        monkeypatch.setattr(module, "available_providers", lambda: PROVIDERS)
    monkeypatch.setattr("fidelity.networks.backends.converted.find_spec", lambda name: True)
    monkeypatch.setattr(tensorrt_module, "free_memory_bytes", lambda device: 8 * 2**30)
    properties = SimpleNamespace(name="A Card", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: properties.name)
    monkeypatch.setattr("fidelity.networks.device._has_bf16", lambda device: True)
    return properties


def test_each_device_has_its_backends(gpu):
    assert list_backends(GPU) == ["onnxruntime", "tensorrt"]
    assert "tensorrt" not in list_backends(CPU)
    assert list_backends(GPU, "int8") == []


def test_a_gpu_without_their_packages_has_none(monkeypatch):
    monkeypatch.setattr(onnxruntime_module, "available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(tensorrt_module, "available_providers", lambda: ["CPUExecutionProvider"])
    assert list_backends(GPU) == []
    with pytest.raises(
        ModelRefusedError, match=r"TensorRT is not installed; pip install onnx onnxruntime-gpu 'tensorrt-cu\d+<11'$"
    ):
        check_backend("tensorrt", GPU)


def test_tensorrt_without_a_gpu_is_refused(compact, tmp_path, photo):
    with pytest.raises(
        ModelRefusedError, match="backend tensorrt: runs on NVIDIA GPUs, not on cpu; wanted auto or another one"
    ):
        with_backend(compact(), "tensorrt", CPU, "auto")
    assert not (tmp_path / "cache").exists()


def test_auto_takes_the_fastest_measured_on_that_gpu(compact, gpu):
    network = compact()
    assert with_backend(network, "auto", GPU, "fp16") is network
    figures = {"torch": 3.0, "onnxruntime": 2.0, "tensorrt": 1.0}
    write_speeds({backend_module.backend_key(network, GPU, "fp16", name): seconds for name, seconds in figures.items()})
    chosen = with_backend(network, "auto", GPU, "fp16")
    assert (chosen.backend, chosen.device) == ("tensorrt", GPU)
    assert with_backend(network, "auto", CPU, "fp32") is network
    gpu.name = "Another Card"
    assert with_backend(network, "auto", GPU, "fp16") is network


def test_a_network_on_a_gpu_takes_what_its_library_computes_in(compact, gpu):
    network = with_backend(compact(), "onnxruntime", GPU, "auto")
    assert [network.to(GPU, one).precision for one in network.precisions] == ["fp32", "fp16"]
    assert network.to(GPU, "fp16").backend == "onnxruntime"
    assert network.to(CPU, "fp32").backend == "onnxruntime"
    assert with_backend(compact(), "tensorrt", GPU, "auto").to(CPU, "fp32").backend == "torch"


def test_providers_by_device(compact, gpu, tmp_path):
    network = compact()
    assert ONNX_RUNTIME.list_providers(network, tmp_path, "fp32", CPU) == [("CPUExecutionProvider", {})]
    (name, options), last = ONNX_RUNTIME.list_providers(network, tmp_path, "fp16", GPU)
    assert (name, last[0]) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")


def test_an_engine_takes_every_tile_that_is_asked_for(compact, gpu, tmp_path):
    network = compact()
    first, *others = TENSORRT.list_providers(network, tmp_path, "fp16", GPU)
    assert [name for name, _ in (first, *others)] == PROVIDERS
    options = first[1]
    assert options["trt_fp16_enable"] == "True"
    assert options["trt_max_workspace_size"] == str(4 * 2**30)
    assert options["trt_engine_cache_path"].startswith(str(tmp_path))
    assert [options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")] == [
        f"image:1x3x{side}x{side}" for side in (1, 512, 1024)
    ]
    assert TENSORRT.list_providers(network, tmp_path, "fp32", GPU)[0][1]["trt_fp16_enable"] == "False"


def test_tiles_on_a_gpu_stay_within_what_an_engine_takes(compact):
    runner = Runner(compact(), CPU, "fp32", backend="torch")
    runner._bound.tile_px = TENSORRT.gpu_tile_px
    runner.device = torch.device("meta")
    assert runner._window((5000, 5000), 3000, 8, 0) == (1024, 1024)
    assert runner._window((5000, 5000), 600, 8, 0) == (600, 600)


def test_an_engine_of_another_card_or_driver_is_not_used(gpu, monkeypatch):
    keys = {TENSORRT.variant("fp16", GPU), TENSORRT.variant("fp32", GPU)}
    gpu.name = "Another Card"
    keys.add(TENSORRT.variant("fp16", GPU))
    monkeypatch.setattr(torch.version, "cuda", "99.0")
    keys.add(TENSORRT.variant("fp16", GPU))
    assert len(keys) == 4
    assert ONNX_RUNTIME.variant("fp16", GPU) != ONNX_RUNTIME.variant("fp32", GPU) == ONNX_RUNTIME.variant("fp32", CPU)


def test_a_provider_that_does_not_start_is_told(compact, gpu, tmp_path, monkeypatch):
    class Session:
        def __init__(self, *given, **named):
            pass

        def get_providers(self):
            return ["CPUExecutionProvider"]

    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    with pytest.raises(RuntimeError, match="CUDAExecutionProvider did not start"):
        ONNX_RUNTIME.compile(compact(), tmp_path, "fp32", GPU)


def test_tiles_go_through_an_engine_one_by_one(compact, gpu, tmp_path, monkeypatch):
    seen = []

    def run(samples):
        seen.append(samples.shape[0])
        return samples * 2

    monkeypatch.setattr(onnxruntime_module.OnnxRuntime, "compile", lambda *given: run)
    monkeypatch.setattr(tensorrt_module, "import_module", lambda name: None)
    run_all = TENSORRT.compile(compact(), tmp_path, "fp16", GPU)
    batch = torch.rand(3, 3, 4, 5)
    assert torch.equal(run_all(batch), batch * 2)
    assert seen == [1, 1, 1]


def test_a_noted_failure_falls_back_to_pytorch_only_for_auto(compact, gpu, monkeypatch):
    """Without a real GPU, nothing converts: auto says so by running PyTorch, a named library by refusing."""
    monkeypatch.setattr(TENSORRT, "prepare", lambda *given: (_ for _ in ()).throw(ModelRefusedError("no GPU")))
    network = compact()
    chosen = TENSORRT.wrap(network, "fp32", may_fall_back=True, device=GPU)
    monkeypatch.setattr(network, "to", lambda *given: SimpleNamespace(run=lambda batch: batch, backend="torch"))
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(chosen.run(image), image)
    assert chosen.backend == "torch"
    with pytest.raises(ModelRefusedError, match="no GPU"):
        TENSORRT.wrap(network, "fp32", device=GPU).run(image)


def test_accelerating_tells_what_a_gpu_would_need(compact, monkeypatch):
    monkeypatch.setattr("fidelity.networks.backends.converted.find_spec", lambda name: None)
    for name in ENGINES:
        assert not ENGINES[name].is_installed()
    with pytest.raises(ModelRefusedError, match=r"is installed; pip install onnx onnxruntime-gpu 'tensorrt-cu\d+<11'$"):
        accelerate(compact(), GPU)
    with pytest.raises(ModelRefusedError, match="no library beside PyTorch runs in auto on mps"):
        accelerate(compact(), torch.device("mps"))


def test_the_command_refuses_a_device_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = CliRunner().invoke(app, ["accelerate", "natural-x2", "--device", "cuda"])
    assert result.exit_code == 2
    assert "device cuda is not available" in result.stderr
