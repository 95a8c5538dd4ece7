"""A network's speed is measured and remembered for what it was measured for; a figure from a busy moment does not last."""

import json

import pytest
import torch

from fidelity.networks import speed
from fidelity.networks.measurements import cache_file
from fidelity.networks.speed import measure_seconds_per_pixel

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def remember(factor):
    known = json.loads(cache_file().read_text(encoding="utf-8"))
    cache_file().write_text(json.dumps({key: factor * value for key, value in known.items()}))


def test_a_slow_network_is_measured_once(compact, monkeypatch):
    model = compact()
    first = measure_seconds_per_pixel(model, CPU)
    assert 0 < first < 1
    monkeypatch.setattr(speed, "_BRIEF_SECONDS", 0.0)
    remember(factor=1000)
    assert measure_seconds_per_pixel(model, CPU) == 1000 * first


def test_a_fast_network_is_measured_again_and_its_best_figure_counts(compact):
    model = compact()
    first = measure_seconds_per_pixel(model, CPU)
    remember(factor=1e-3)
    assert measure_seconds_per_pixel(model, CPU) == 1e-3 * first
    remember(factor=1e5)
    assert measure_seconds_per_pixel(model, CPU) < 99 * first


def test_another_precision_is_another_measurement(compact):
    for precision in ("fp32", "bf16"):
        measure_seconds_per_pixel(compact(), CPU, precision)
    assert len(json.loads(cache_file().read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}', "{"])
def test_a_damaged_cache_is_measured_over(compact, content):
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(content)
    assert measure_seconds_per_pixel(compact(), CPU) > 0
    assert all(isinstance(value, float) for value in json.loads(cache_file().read_text(encoding="utf-8")).values())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(compact, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert measure_seconds_per_pixel(compact(), CPU) > 0
