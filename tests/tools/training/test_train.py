"""Training learns, resumes to the same end, and records how it was done."""

import dataclasses
import json
import shlex

import pytest
import torch

from fidelity.networks.loader import load_model
from tools.training.network import Network
from tools.training.train import Settings, learning_rate_at, make_network, parse_settings, train

SMALL = Settings(scale=2, features=8, convolutions=1, steps=40, batch=4, patch_px=16, learning_rate=5e-3, bank=4, seed=3)


def test_training_learns_writes_weights_and_resumes_to_the_same_end(tmp_path):
    cpu = torch.device("cpu")
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(SMALL, whole, cpu)
    model = load_model(whole)
    assert (model.scale, model.descriptor.input_channels) == (2, 3)
    assert not whole.with_suffix(".state").exists()

    class Stopped(Exception):
        pass

    def stop(step):
        if step == 20:
            raise Stopped

    with pytest.raises(Stopped):
        train(dataclasses.replace(SMALL), halves, cpu, every=20, on_save=stop)
    train(SMALL, halves, cpu, every=20)
    first, second = (load_model(path).descriptor.model.state_dict() for path in (whole, halves))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    output = tmp_path / "x.safetensors"

    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, output, torch.device("cpu"), every=10, on_save=stop)
    with pytest.raises(SystemExit, match="was written with other settings"):
        train(dataclasses.replace(SMALL, seed=9), output, torch.device("cpu"))


def test_the_record_holds_the_command_that_gives_the_same_settings(tmp_path):
    settings = dataclasses.replace(SMALL, steps=2, generator="drawn", loss="l1", average=0.0)
    train(settings, tmp_path / "drawn-x2.safetensors", torch.device("cpu"))
    record = json.loads((tmp_path / "drawn-x2.json").read_text(encoding="utf-8"))
    assert Settings(**record["settings"]) == settings
    command = shlex.split(record["command"])
    assert command[:3] == ["python", "-m", "tools.training.train"]
    again, output = parse_settings(command[3:])
    assert (again, output.name) == (settings, "drawn-x2.safetensors")


def test_low_precision_touches_the_correction_alone():
    network: Network = make_network(SMALL)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    image = torch.rand(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        result = network(image)
    assert torch.equal(result[..., ::2, ::2], image)  # nothing added to the enlarged pixels, not even rounding


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    settings = dataclasses.replace(SMALL, steps=1000)
    rates = [learning_rate_at(step, settings) for step in range(1000)]
    assert max(rates) == pytest.approx(5e-3)
    assert rates.index(max(rates)) in (19, 20)
    assert rates[-1] == pytest.approx(5e-5, rel=0.05)
