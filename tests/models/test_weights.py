"""The shipped networks are what their records say, and better than bicubic."""

import json

import pytest
import torch
from skimage import data

from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.models.loader import SHIPPED_WEIGHTS, load_model
from fidelity.steps.upscale import upscale

SHIPPED = sorted(SHIPPED_WEIGHTS.glob("*.safetensors"))


def test_both_kinds_are_shipped_for_both_scales_and_all_together_are_small():
    assert [path.stem for path in SHIPPED] == ["drawn-x2", "drawn-x4", "natural-x2", "natural-x4"]
    assert sum(path.stat().st_size for path in SHIPPED) < 8 * 2**20


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_has_a_record_of_how_it_was_trained(path):
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["settings"]["scale"] == load_model(path).scale
    assert record["loss_curve"][-1][0] == record["settings"]["steps"]
    assert record["loss_curve"][-1][1] < record["loss_curve"][0][1]


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
        assert psnr(truth, upscale(source, model).image, luma=True, crop_px=model.scale) > bicubic + 0.8
