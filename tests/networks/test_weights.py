"""The shipped networks are what their records say, and better than bicubic."""

import json

import numpy as np
import pytest
import torch
from skimage import data

from fidelity.decide.model_choice import shipped_model, shipped_restorer
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.steps.upscale import upscale
from tools.training.data import reduce
from tools.training.validation import held_out

SHIPPED = sorted(path for path in SHIPPED_WEIGHTS.glob("*.safetensors") if not path.stem.endswith("x1"))


def test_both_kinds_are_shipped_for_both_scales_and_all_together_are_small():
    assert [path.stem for path in SHIPPED] == ["drawn-x2", "drawn-x4", "natural-x2", "natural-x4"]
    assert sum(path.stat().st_size for path in SHIPPED_WEIGHTS.glob("*.safetensors")) < 8 * 2**20


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_has_a_record_of_how_it_was_trained(path):
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["settings"]["scale"] == load_model(path).scale
    assert record["loss_curve"][-1][0] == record["settings"]["steps"]
    assert record["loss_curve"][-1][1] < record["loss_curve"][0][1]


@pytest.mark.parametrize("kind", ["natural", "drawn"])
def test_each_restorer_has_a_record_of_how_it_was_trained_and_on_what(kind):
    path = shipped_restorer(kind)
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    network = load_model(path)
    assert (network.scale, network.channels_in, network.channels_out) == (1, 3, 3)
    assert network.parameters < 1.2e6
    losses = [loss for step, loss in record["loss_curve"] if step > record["steps"] - record["annealed"]]
    assert len(losses) > 10
    assert losses[-1] < losses[0]
    assert len(record["banks"]) > 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_beats_bicubic_on_a_photo_by_a_decibel(path):
    model = load_model(path)
    truth = torch.from_numpy(data.astronaut()[:256, 128:384].copy()).permute(2, 0, 1)[None].float() / 255
    source = resize(truth, (256 // model.scale, 256 // model.scale)).clamp(0, 1)
    bicubic = psnr(truth, resize(source, (256, 256)).clamp(0, 1), luma=True, crop_px=model.scale)
    assert psnr(truth, upscale(source, model).image, luma=True, crop_px=model.scale) > bicubic + 1


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_beats_bicubic_on_every_image_of_set5(test_data, read_rgb, path):
    model = load_model(path)
    for truth_path in sorted((test_data / "images/set5/HR").glob("*.png")):
        source = read_rgb(test_data / f"images/set5/LRx{model.scale}" / truth_path.name)
        size = (source.shape[2] * model.scale, source.shape[3] * model.scale)
        truth = read_rgb(truth_path)[:, :, : size[0], : size[1]]
        bicubic = psnr(truth, resize(source, size).clamp(0, 1), luma=True, crop_px=model.scale)
        margin = 0.7 if path.stem.startswith("natural") else 0  # drawn is not made for photographs
        assert psnr(truth, upscale(source, model).image, luma=True, crop_px=model.scale) > bicubic + margin


@pytest.mark.parametrize("scale", [2, 4])
def test_drawn_beats_natural_on_drawings_that_neither_has_seen(scale):
    drawings = held_out("drawn", 8)
    figures = []
    for kind in ("drawn", "natural"):
        model = load_model(shipped_model(kind, scale))
        made = [upscale(reduce(truth, scale), model).image for truth in drawings]
        pairs = zip(drawings, made, strict=True)
        figures.append(np.mean([psnr(truth, image, luma=True, crop_px=scale) for truth, image in pairs]))
    assert figures[0] > figures[1] + 1.5


@pytest.mark.parametrize(("scale", "wanted"), [(2, 37.0), (4, 30.8)])
def test_natural_reaches_its_figure_on_set5(test_data, read_rgb, scale, wanted):
    model, figures = load_model(shipped_model("natural", scale)), []
    for truth_path in sorted((test_data / "images/set5/HR").glob("*.png")):
        source = read_rgb(test_data / f"images/set5/LRx{scale}" / truth_path.name)
        truth = read_rgb(truth_path)[:, :, : source.shape[2] * scale, : source.shape[3] * scale]
        rounded = (upscale(source, model).image * 255).round() / 255
        figures.append(psnr(truth, rounded, luma=True, crop_px=scale))
    assert np.mean(figures) >= wanted
