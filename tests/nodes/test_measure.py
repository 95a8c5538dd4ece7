"""Figures and sheets in a real ComfyUI are those of the engine."""

import json

import pytest
import torch

from fidelity.imaging.metrics import psnr, ssim
from fidelity.report.measure import measure_images


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def measuring(first, second):
    graph = {
        "1": node("LoadImage", image=first),
        "2": node("LoadImage", image=second),
        "3": node("FidelityMeasure", image=["1", 0], reference=["2", 0]),
        "9": node("SaveImage", images=["3", 4], filename_prefix="heat"),
    }
    return graph | {str(10 + place): node("PreviewAny", source=["3", place]) for place in (0, 1, 2, 3, 5)}


def test_figures_are_the_engines(host, photo):
    stored = (photo * 255).round() / 255
    blurred = (torch.nn.functional.avg_pool2d(stored, 3, 1, 1, count_include_pad=False) * 255).round() / 255
    outputs = host.run(measuring(host.upload(blurred), host.upload(stored)))
    numbers = [float(outputs[str(10 + place)]["text"][0]) for place in range(4)]
    expected = measure_images(stored, blurred)
    assert numbers[:2] == pytest.approx([expected["color"]["mean"], expected["color"]["max"]], abs=1e-3)
    assert numbers[2:] == pytest.approx([psnr(stored, blurred, luma=True), ssim(stored, blurred)], abs=1e-3)
    assert json.loads(outputs["15"]["text"][0])["compared at"] == "full size"
    assert host.fetch(outputs, "9").shape == (1, 3, 96, 112)


def test_equal_images_and_images_of_two_sizes_have_figures_too(host, photo):
    same = host.run(measuring(host.upload(photo), host.upload(photo)))
    assert [float(same[str(10 + place)]["text"][0]) for place in (0, 2, 3)] == [0, 999, pytest.approx(1)]
    other = host.run(measuring(host.upload(photo), host.upload(photo[..., ::2, ::2])))
    assert [float(other[str(10 + place)]["text"][0]) for place in (2, 3)] == [0, 0]
    assert json.loads(other["15"]["text"][0])["compared at"] == "the smaller size"


def test_networks_stand_side_by_side_and_one_that_fails_is_told(host, photo):
    models = {"model_1": "natural-x2.safetensors", "model_2": "text.pth", "model_3": "upconv.safetensors", "model_4": "none"}
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "3": node("FidelityCompareModels", image=["1", 0], target="scale by", **{"target.scale": 2.0}, **models),
        "9": node("SaveImage", images=["3", 0], filename_prefix="sheet"),
        "5": node("PreviewAny", source=["3", 1]),
        "6": node("PreviewAny", source=["3", 2]),
    }
    outputs = host.run(graph)
    height, width = host.fetch(outputs, "9").shape[2:]
    assert height > 2 * (192 + 4) and width == 4 * (192 + 4)
    lines = outputs["5"]["text"][0].splitlines()
    assert [line.split(":")[0] for line in lines] == ["bicubic", "natural-x2.safetensors", "text.pth", "upconv.safetensors"]
    assert "damaged or not a model file" in lines[2]
    assert json.loads(outputs["6"]["text"][0])[1]["drift_mean"] < 0.5


def test_before_and_after_are_shown_at_one_size(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo[..., ::2, ::2])),
        "2": node("LoadImage", image=host.upload(photo)),
        "3": node("FidelityBeforeAfter", before=["1", 0], after=["2", 0]),
    }
    shown = host.run(graph)["3"]
    assert shown["fidelity"] == ["· 56x48 enlarged bicubically, on the left, 112x96 on the right"]
    assert len(shown["fidelity_pair"]) == 2 and all(one["type"] == "temp" for one in shown["fidelity_pair"])
