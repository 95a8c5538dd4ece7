"""Several networks on one image: figures that agree with the metrics, failures told, a sheet of equal cells."""

import pytest
import torch

from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.models.loader import load_model
from fidelity.outside.comparing import compare_models, describe_compared, draw_sheet, report_compared
from fidelity.steps.upscale import upscale


@pytest.fixture
def models(compact_file, tmp_path):
    (tmp_path / "text.pth").write_text("no model")
    return {"two": compact_file(2), "text": tmp_path / "text.pth", "four": compact_file(4)}


@pytest.fixture
def small(photo):
    return resize(photo, (48, 56)).clamp(0, 1)


def test_each_gets_the_same_size_and_its_own_figures(models, small, photo):
    seen = []
    results = compare_models(small, models, (96, 112), photo, progress=lambda done, total: seen.append((done, total)))
    assert [one.name for one in results] == ["bicubic", "two", "text", "four"]
    two = results[1]
    expected = upscale(small, load_model(models["two"]), (96, 112), "rgb").image
    assert torch.equal(two.image, expected)
    assert two.drift == measure_drift(small, expected)
    assert two.quality["psnr_y"] == pytest.approx(psnr(photo, expected, luma=True))
    flat = report_compared(results)[1]
    assert (flat["name"], flat["failed"], flat["drift_p99"], flat["psnr_y"]) == (
        "two",
        None,
        two.drift.p99,
        two.quality["psnr_y"],
    )
    assert not any(isinstance(value, dict | list) for value in flat.values())
    assert results[3].image.shape == expected.shape
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_that_fails_is_told_and_does_not_stop_the_rest(models, small):
    results = compare_models(small, models, (96, 112))
    assert results[2].image is None
    assert "damaged or not a model file" in describe_compared(results[2])
    assert results[3].seconds > 0
    assert not results[0].quality and "dB" not in describe_compared(results[0])


def test_the_sheet_shows_the_middle_of_each_at_its_own_pixels(models, small):
    results = compare_models(small, models, (96, 112))
    sheet = draw_sheet(results)
    side = 96
    assert sheet.shape == (1, 3, 40 + 2 * (side + 4), 4 * (side + 4))
    for column, one in enumerate(results):
        cell = sheet[..., 40 : 40 + side, column * (side + 4) : column * (side + 4) + side]
        if one.image is None:
            assert cell.min() == 1
        else:
            assert (cell - one.image[..., 8 : 8 + side]).abs().max() <= 0.5001 / 255


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images_are_compared_too(models, random_image, channels):
    image = random_image(1, channels, 20, 24)
    assert draw_sheet(compare_models(image, models, (40, 48))).shape[1] == 3


def test_a_reference_of_another_size_is_refused(models, small, photo):
    with pytest.raises(ValueError, match="reference is 112x96 px; wanted 56x48"):
        compare_models(small, models, (48, 56), photo)
