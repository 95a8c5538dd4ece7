"""Features measure what they are named for, on images made to have it."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.decide.features import measure_features, take_opaque
from fidelity.imaging.filters import gaussian_blur


def grey(value, height=300, width=400):
    return torch.full((1, 3, height, width), value)


def noisy(sigma, chroma=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    luma = torch.randn(1, 1, 300, 400, generator=generator) * sigma
    colour = torch.randn(1, 3, 300, 400, generator=generator) * chroma
    return (0.5 + luma + colour).clamp(0, 1)


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray((image[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 2, 700), (1, 4, 65, 64), (1, 1, 31, 33), (1, 3, 129, 4000)])
def test_any_size_and_kind_gives_the_same_names_and_finite_figures(random_image, shape):
    expected = list(measure_features(grey(0.5)))
    features = measure_features(random_image(*shape))
    assert list(features) == expected
    assert all(math.isfinite(value) for value in features.values())


def test_the_image_is_not_changed_and_the_answer_repeats(random_image):
    image = random_image(1, 4, 200, 300)
    before = image.clone()
    assert measure_features(image) == measure_features(image)
    assert torch.equal(image, before)


def test_a_flat_image_is_flat_and_of_one_colour():
    features = measure_features(grey(0.5))
    assert features["full range below 1.5"] == features["whole wide range below 4.5"] == 1
    assert features["full edge share"] == 0
    assert features["top color"] == 1
    assert features["color entropy"] == pytest.approx(0, abs=1e-6)
    assert features["grey share"] == 1


def test_noise_is_measured_in_steps_and_told_from_chroma_noise():
    quiet, loud = (measure_features(noisy(sigma)) for sigma in (0.5 / 255, 4 / 255))
    key = "noise of flattest third"
    assert math.exp(loud[key]) / math.exp(quiet[key]) == pytest.approx(7.5, rel=0.25)  # the floor is a tenth of a step
    assert math.exp(loud[key]) == pytest.approx(4 * math.sqrt(8 / 9), rel=0.2)  # less what a 3x3 mean takes along
    assert loud["chroma noise of flattest third"] < quiet["chroma noise of flattest third"] + 0.1
    assert measure_features(noisy(0, chroma=4 / 255))["chroma noise of flattest third"] > 0


def test_dark_lines_are_told_from_light_ones():
    page = torch.full((1, 1, 256, 256), 0.9)
    page[..., 20::40, :] = 0.1
    drawn, negative = measure_features(page), measure_features(1 - page)
    assert drawn["full strong dark lines 1"] == pytest.approx(1 / 40, rel=0.3)
    assert drawn["full strong light lines 1"] == 0
    assert drawn["full line tone 1"] == pytest.approx(0.1, abs=0.02)
    assert negative["full strong light lines 1"] == pytest.approx(1 / 40, rel=0.3)


def test_a_soft_edge_is_less_steep_than_a_hard_one():
    step = torch.zeros(1, 1, 256, 256)
    step[..., 100:] = 1
    hard, soft = measure_features(step), measure_features(gaussian_blur(step, 3))
    assert hard["full edge steepness"] == pytest.approx(1 / 4, abs=0.01)  # a step fills 2 of the 8 columns near it
    assert soft["full edge steepness"] < 1 / 8


def test_jpegs_grid_is_seen_and_grows_with_damage(photo):
    photo = photo.repeat(1, 1, 4, 4)[..., :320, :320]
    clean, good, bad = (measure_features(image)["grid steps"] for image in (photo, as_jpeg(photo, 90), as_jpeg(photo, 20)))
    assert bad > good + 0.1
    assert bad > clean + 0.2


def test_colour_shows_in_saturation_and_palette():
    red = torch.zeros(1, 3, 128, 128)
    red[:, 0] = 0.9
    features = measure_features(red)
    assert features["saturation mean"] == 1
    assert features["vivid share"] == 1
    many = measure_features(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)))
    assert many["top 16 colors"] < 0.05
    assert many["color entropy"] > 7


def test_the_empty_background_of_a_cut_out_subject_does_not_count():
    subject = noisy(0.1)
    cut_out = torch.cat((torch.zeros(1, 3, 700, 900), torch.zeros(1, 1, 700, 900)), dim=1)
    cut_out[:, :3, 200:500, 300:700], cut_out[:, 3:, 200:500, 300:700] = subject, 1.0
    seen = take_opaque(cut_out)
    assert seen.shape[1] == 3
    assert min(seen.shape[2:]) > 200
    expected, found = measure_features(subject), measure_features(cut_out)
    names = [name for name in expected if name.startswith("full")]
    assert np.allclose([expected[name] for name in names], [found[name] for name in names], rtol=0.35, atol=0.05)


def test_lines_on_a_transparent_background_are_seen_whole(random_image):
    lines = torch.cat((torch.zeros(1, 3, 300, 300), torch.zeros(1, 1, 300, 300)), dim=1)
    lines[:, 3, ::20] = 1
    opaque = torch.cat((random_image(1, 3, 40, 30), torch.ones(1, 1, 40, 30)), dim=1)
    for image in (lines, opaque, opaque[:, :3], opaque[:, :1]):
        assert take_opaque(image) is image


def test_transparency_is_laid_over_white():
    image = torch.zeros(1, 4, 64, 64)
    assert measure_features(image)["white share"] == 1


def test_a_crop_measures_nearly_what_the_whole_does(photo):
    """Figures of texture do not depend on the size of the image it is part of."""
    tiled = photo.repeat(1, 1, 8, 8)
    small, large = measure_features(tiled[..., :384, :448]), measure_features(tiled)
    for name in ("full band 0 energy", "full edge share", "full pattern 4"):
        assert small[name] == pytest.approx(large[name], abs=0.15)
