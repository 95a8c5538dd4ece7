"""What is installed is told by measurement, and what the machine can do with it."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.loader import list_models
from fidelity.networks.probe import NetworkProbe
from fidelity.networks.runner import Runner
from fidelity.report import inventory
from fidelity.report.inventory import describe_machine, describe_model, examine_machine, inspect_models


@pytest.fixture
def folder(tmp_path, compact_file):
    """A known name, an unknown one, one that restores, and one that is no network."""
    shutil.copy(compact_file(2), tmp_path / "waifu2x_art.safetensors")
    shutil.copy(compact_file(4, 1), tmp_path / "something.safetensors")
    save_file(FFDNet(3, 8, 12).state_dict(), tmp_path / "ffdnet_color.safetensors")
    (tmp_path / "text.pth").write_text("no model")
    return tmp_path


def test_each_model_is_told_with_what_it_is_good_for(folder):
    found = {model.name: model for model in inspect_models(list_models([folder]))}
    natural = found["natural-x4.safetensors"]
    assert (natural.scale, natural.channels, natural.licence, natural.domains) == (4, 3, "MIT", ("photo", "painting"))
    assert natural.receptive_field_px == 8
    known = found["waifu2x_art.safetensors"]
    assert (known.domains, known.licence, known.scale) == (("anime_flux", "anime_sd", "line_art"), "MIT", 2)
    other = found["something.safetensors"]
    assert (other.domains, other.restores, other.licence, other.channels) == ((), (), None, 1)
    restoring = found["ffdnet_color.safetensors"]
    assert (restoring.architecture, restoring.scale, restoring.restores) == ("FFDNet", 1, ("denoise",))
    assert found["text.pth"].architecture is None
    assert "damaged or not a model file" in found["text.pth"].refused


def test_a_file_that_fails_in_any_way_is_told_and_the_rest_too(folder, monkeypatch):
    torch.save({1: torch.ones(1)}, folder / "numbered.pth")

    def fail(descriptor):
        if descriptor.input_channels == 1:
            raise AttributeError("no such layer\nand more")
        return NetworkProbe(1, 1.0, 1.0)

    monkeypatch.setattr("fidelity.networks.backends.torch.probe_module", fail)
    found = {model.name: model for model in inspect_models(list_models([folder]))}
    assert found["something.safetensors"].refused.startswith("something.safetensors: fails when it runs (AttributeErr")
    assert found["numbered.pth"].refused
    assert found["waifu2x_art.safetensors"].refused is None


def test_a_model_is_one_line(folder):
    lines = {model.name: describe_model(model) for model in inspect_models(list_models([folder]))}
    assert lines["something.safetensors"].endswith("; by name only")
    assert lines["ffdnet_color.safetensors"].endswith("; denoise")
    assert lines["text.pth"].startswith("text.pth: cannot be used (")
    assert not any("\n" in line for line in lines.values())


def test_the_machine_is_told_with_what_is_used_of_it_and_why():
    report = examine_machine()
    cpu = report["devices"][-1]
    assert (cpu["device"], cpu["precision"], cpu["tile"]) == ("cpu", "fp32", None)
    assert report["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert report["chosen"] in [device["device"] for device in report["devices"]]
    assert f"* {report['chosen']}: " in describe_machine(report)
    assert cpu["precisions"] == ["fp32", "fp16", "bf16"]


@pytest.mark.parametrize(
    ("is_fast", "words"), [(True, "bf16 is fast here, too"), (False, "bf16 is not known to be faster here")]
)
def test_a_cpu_is_told_with_whether_bf16_is_fast_on_it(monkeypatch, is_fast, words):
    monkeypatch.setattr(inventory, "_has_fast_bf16", lambda: is_fast)
    assert words in describe_machine(examine_machine()).splitlines()[-1]


def test_of_two_gpus_each_has_its_number_its_abilities_and_its_reason_and_one_is_chosen(monkeypatch):
    properties = [SimpleNamespace(name=f"GPU {major}", total_memory=24 * 2**30, major=major, minor=5) for major in (7, 8)]
    fakes = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: 1,
        "get_device_properties": lambda device: properties[device.index],
        "mem_get_info": lambda device: ((10 + device.index) * 2**30, 24 * 2**30),
        "memory_reserved": lambda device: 0,
        "memory_allocated": lambda device: 0,
        "device": lambda device: nullcontext(),
        "is_bf16_supported": lambda including_emulation: False,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    cpu_runner = Runner
    runner = SimpleNamespace(recommend=lambda size: ((512, 768), 3), precision="fp16")
    monkeypatch.setattr(
        inventory, "Runner", lambda model, device: runner if device.type == "cuda" else cpu_runner(model, device)
    )
    report = examine_machine()
    old, new = report["devices"][:2]
    assert [device["device"] for device in report["devices"]] == ["cuda:0", "cuda:1", "cpu"]
    assert (old["precisions"], old["precision"], old["compute_capability"]) == (["fp32", "fp16"], "fp16", "7.5")
    assert new["why"] == "half precision on compute capability 8.5, 11.0 GiB free: tiles of 768x512 px, 3 at once"
    lines = describe_machine(report).splitlines()[3:]
    assert [line[0] for line in lines] == [" ", "*", " "]
    assert lines[1].startswith(
        "* cuda:1: GPU 8, compute capability 8.5, 11.0 of 24.0 GiB free, supports fp32/fp16; uses fp16: half"
    )


def test_on_a_gpu_tiles_and_how_many_at_once_go_by_free_memory(compact, monkeypatch):
    runner = Runner(compact(4), torch.device("cpu"))
    assert runner.recommend((1080, 1920)) == (None, 1)
    monkeypatch.setattr("fidelity.networks.backends.torch.TorchNetwork.stream", lambda _: None)
    sizes = []
    for gibibytes in (1, 4):
        monkeypatch.setattr("fidelity.networks.runner.free_memory_bytes", lambda _, free=gibibytes * 2**30: free)
        window, batch = runner.recommend((1080, 1920))
        sizes.append(window[0] * window[1] * batch)
    assert sizes[1] > 2 * sizes[0]
