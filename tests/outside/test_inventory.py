"""What is installed is told by measurement, and what the machine can do with it."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from fidelity.models.architectures.ffdnet import FFDNet
from fidelity.models.loader import list_models
from fidelity.models.runner import Runner
from fidelity.outside.inventory import describe_machine, describe_model, describe_models, examine_machine


@pytest.fixture
def folder(tmp_path, compact_file):
    """A known name, an unknown one, one that mends, and one that is no network."""
    shutil.copy(compact_file(2), tmp_path / "waifu2x_art.safetensors")
    shutil.copy(compact_file(4, 1), tmp_path / "something.safetensors")
    save_file(FFDNet(3, 8, 12).state_dict(), tmp_path / "ffdnet_color.safetensors")
    (tmp_path / "text.pth").write_text("no model")
    return tmp_path


def test_each_model_is_told_with_what_it_is_good_for(folder):
    found = {model.name: model for model in describe_models(list_models([folder]))}
    natural = found["natural-x4.safetensors"]
    assert (natural.scale, natural.channels, natural.licence, natural.domains) == (4, 3, "MIT", ("photo", "painting"))
    assert natural.receptive_field_px == 8
    known = found["waifu2x_art.safetensors"]
    assert (known.domains, known.licence, known.scale) == (("anime_flux", "anime_sd", "line_art"), "MIT", 2)
    other = found["something.safetensors"]
    assert (other.domains, other.mends, other.licence, other.channels) == ((), (), None, 1)
    mending = found["ffdnet_color.safetensors"]
    assert (mending.architecture, mending.scale, mending.mends) == ("FFDNet", 1, ("denoise",))
    assert found["text.pth"].architecture is None
    assert "damaged or not a model file" in found["text.pth"].refused


def test_a_model_is_one_line(folder):
    lines = {model.name: describe_model(model) for model in describe_models(list_models([folder]))}
    assert lines["something.safetensors"].endswith("; by name only")
    assert lines["ffdnet_color.safetensors"].endswith("; denoise")
    assert lines["text.pth"].startswith("text.pth: refused (")
    assert not any("\n" in line for line in lines.values())


def test_the_machine_is_told_with_what_is_used_of_it_and_why():
    report = examine_machine()
    cpu = report["devices"][-1]
    assert (cpu["device"], cpu["precision"], cpu["tile"]) == ("cpu", "fp32", None)
    assert report["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert report["chosen"] in [device["device"] for device in report["devices"]]
    assert f"* {report['chosen']}: " in describe_machine(report)


def test_on_a_gpu_tiles_and_how_many_at_once_go_by_free_memory(compact, monkeypatch):
    runner = Runner(compact(4), torch.device("cpu"))
    assert runner.recommend((1080, 1920)) == (None, 1)
    monkeypatch.setattr("fidelity.models.runner.ConvolutionStream.of", lambda _: None)
    sizes = []
    for gibibytes in (1, 4):
        monkeypatch.setattr("fidelity.models.runner.free_memory_bytes", lambda _, free=gibibytes * 2**30: free)
        window, batch = runner.recommend((1080, 1920))
        sizes.append(window[0] * window[1] * batch)
    assert sizes[1] > 2 * sizes[0]
