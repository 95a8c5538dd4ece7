"""All figures of a pair are those of the functions that compute them."""

import json

import pytest
import torch

from fidelity.imaging.drift import measure_drift, overshoot_percent
from fidelity.imaging.metrics import ms_ssim, mse, psnr, ssim, worst_seam
from fidelity.imaging.resample import resize
from fidelity.report.measure import measure_images


@pytest.fixture
def pair(photo, random_image):
    reference = resize(photo, (192, 224)).clamp(0, 1)
    return reference, (reference + 0.1 * (random_image(1, 3, 192, 224) - 0.5)).clamp(0, 1)


def test_of_one_size_every_figure_is_told(pair):
    figures = measure_images(*pair)
    assert figures["psnr_y"] == psnr(*pair, luma=True)
    assert (figures["ssim"], figures["ms_ssim"], figures["mse"]) == (ssim(*pair), ms_ssim(*pair), mse(*pair))
    assert figures["seam_energy"] == worst_seam(pair[1] - pair[0])
    assert figures["sharpness_ratio"] > 1
    assert figures["ciede2000"]["mean"] == measure_drift(*pair, "full").mean
    json.dumps(figures, allow_nan=False)


def test_a_seam_in_the_candidate_shows_however_lively_the_picture(pair):
    reference = pair[0]
    spoiled = reference.clone()
    spoiled[..., 100:] += 0.01
    noisy = spoiled + 0.002 * torch.rand(spoiled.shape, generator=torch.Generator().manual_seed(0))
    assert measure_images(reference, noisy)["seam_energy"] > 20
    assert measure_images(*pair)["seam_energy"] < 2


def test_an_enlargement_is_told_its_drift_and_overshoot_at_the_smaller_size(photo):
    large = resize(photo, (192, 224))
    figures = measure_images(photo, large)
    assert set(figures) == {"compared at", "overshoot_percent", "brisque", "niqe", "color", "full"}
    assert figures["overshoot_percent"] == overshoot_percent(photo, large)
    assert "overshoot_percent" not in measure_images(large, photo)


@pytest.mark.parametrize("side", [1, 2, 10, 100])
def test_small_images_have_the_figures_that_they_can(photo, side):
    figures = measure_images(photo[..., :side, :side], 1 - photo[..., :side, :side])
    assert (figures["ssim"] is None) == (side < 11)
    assert figures["ms_ssim"] is None
    assert figures["psnr"] > 0
