"""Devices, precisions and out-of-memory errors."""

from contextlib import contextmanager

import pytest
import torch

from fidelity.networks import device
from fidelity.networks.device import choose_device, choose_precision, list_precisions
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.memory import is_out_of_memory, run_where_room, work_memory_bytes
from fidelity.networks.runner import Runner

CPU, GPU = torch.device("cpu"), torch.device("mps")


@pytest.mark.parametrize(("present", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")])
def test_auto_takes_the_best_device_there_is_and_a_cpu_is_always_there(monkeypatch, present, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in present)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in present)
    assert choose_device("auto").type == best
    assert choose_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_a_device_that_is_absent_is_refused():
    with pytest.raises(ValueError, match=r"device cuda is not available; wanted .*cpu"):
        choose_device("cuda")


def test_auto_is_full_precision_on_a_cpu_and_half_on_a_gpu_that_can(compact, faulty):
    assert choose_precision(compact(), CPU) == "fp32"
    assert choose_precision(compact(), GPU) == "fp16"
    assert choose_precision(faulty(half=False), GPU) == "fp32"


@pytest.mark.parametrize("gains", [True, False])
def test_auto_is_bfloat16_on_a_cpu_that_gains_from_it_where_it_leaves_no_steps(compact, faulty, monkeypatch, gains):
    monkeypatch.setattr(device, "gains_from_bf16", lambda: gains)
    assert choose_precision(compact(), CPU) == ("bf16" if gains else "fp32")
    assert choose_precision(compact(), CPU, "fp32") == "fp32"
    assert choose_precision(faulty(), CPU) == "fp32"
    assert choose_precision(compact(), GPU) == "fp16"


def test_bfloat16_leaves_no_steps_in_a_gradient(monkeypatch):
    """The source is added in float32; in bfloat16 a light gradient would have steps of 1/256."""
    network = load_model(SHIPPED_WEIGHTS / "natural-x2.safetensors")
    ramp = torch.linspace(0.6, 0.62, 300).expand(1, 3, 40, 300)
    results = {name: Runner(network, CPU, name) for name in ("fp32", "bf16")}
    exact, half = (runner.run(ramp)[0] for runner in results.values())
    assert results["bf16"].precision == "bf16"
    assert (half - exact).abs().max() < 1.5 / 255
    assert len(half[0, 0, 20, 20:-20].unique()) > 300
    tiled = results["bf16"].run(ramp, tile=96)[0]
    assert (tiled - half).abs().max() < 1 / 255


def test_a_half_precision_the_network_cannot_do_is_not_used(compact, faulty):
    assert choose_precision(compact(), CPU, "bf16") == "bf16"
    assert choose_precision(faulty(half=False), CPU, "fp16") == "fp32"


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine whose current GPU has bfloat16 and whose second one only emulates it."""
    current = [0]

    @contextmanager
    def switch(place):
        before, current[0] = current[0], place.index
        yield
        current[0] = before

    def is_supported(including_emulation=True):
        return including_emulation or current[0] == 0

    monkeypatch.setattr(torch.cuda, "device", switch)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    return torch.device("cuda", 0), torch.device("cuda", 1)


def test_bfloat16_counts_where_the_very_device_has_it_by_itself(two_gpus, compact):
    new, old = two_gpus
    assert list_precisions(new) == list_precisions(CPU) == ("fp32", "fp16", "bf16")
    assert list_precisions(old) == ("fp32", "fp16")
    assert choose_precision(compact(), new, "bf16") == "bf16"
    assert choose_precision(compact(), old, "bf16") == "fp32"


def test_an_older_pytorch_is_asked_as_it_can_be(two_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert list_precisions(two_gpus[1]) == ("fp32", "fp16", "bf16")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("expected 3 channels"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_step_runs_where_the_image_is_if_no_memory_is_known(random_image):
    image = random_image(1, 3, 4, 4)
    assert run_where_room(lambda near: near, image, image, CPU) is image


def test_a_step_that_runs_out_of_memory_runs_again_where_the_image_is(random_image, monkeypatch):
    image, places = random_image(1, 3, 4, 4), []

    def step(near):
        places.append(near.dtype)
        if len(places) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return near

    monkeypatch.setattr("fidelity.networks.memory.free_memory_bytes", lambda place: 10**9)
    assert run_where_room(step, image, image, CPU) is image
    assert len(places) == 2


def test_memory_grows_with_the_result_and_with_the_source():
    assert work_memory_bytes((1, 3, 400, 400), (1, 3, 100, 100)) > 3 * 400 * 400 * 4
    assert work_memory_bytes((1, 3, 400, 400), (1, 3, 400, 400)) > work_memory_bytes((1, 3, 400, 400), (1, 3, 100, 100))
