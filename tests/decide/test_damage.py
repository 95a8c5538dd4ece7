"""Conditions are measured as they were made, and not where they were not."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.measure import blur_effect

from fidelity.decide.damage import measure_conditions
from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize


def to_image(samples):
    return torch.from_numpy(samples.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def scene():
    """A photograph made smaller, so that nothing is left of whatever was done to it before."""
    return resize(to_image(data.astronaut()), (300, 300)).clamp(0, 1)


@pytest.fixture(scope="module")
def discs():
    """Two flat colours with antialiased, curved borders."""
    y, x = torch.meshgrid(torch.arange(1200.0), torch.arange(1200.0), indexing="ij")
    inside = sum(((x - cx) ** 2 + (y - cy) ** 2 < r**2).float() for cx, cy, r in ((300, 320, 200), (820, 700, 310)))
    return resize((0.2 + 0.6 * inside).expand(1, 3, -1, -1), (300, 300)).clamp(0, 1)


def rounded(image):
    return (image.clamp(0, 1) * 255).round() / 255


def as_jpeg(image, quality, **options):
    buffer = io.BytesIO()
    samples = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(samples).save(buffer, "JPEG", quality=quality, **options)
    return to_image(np.asarray(Image.open(buffer)))


@pytest.mark.parametrize("quality", [25, 40, 60, 75, 88])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_quality_is_read_from_the_pixels_within_4(scene, quality, subsampling):
    assert measure_conditions(as_jpeg(scene, quality, subsampling=subsampling)).jpeg_quality == pytest.approx(quality, abs=4)


def test_jpeg_quality_is_found_after_cropping_off_the_grid(scene):
    cropped = as_jpeg(scene, 50)[:, :, 3:, 5:]
    assert measure_conditions(cropped).jpeg_quality == pytest.approx(50, abs=4)


def test_what_was_never_compressed_or_was_resized_since_has_no_quality(scene, discs):
    for image in (scene, discs, resize(as_jpeg(scene, 50), (240, 240)).clamp(0, 1)):
        assert measure_conditions(rounded(image)).jpeg_quality is None


def test_blocks_are_seen_where_they_are(scene):
    clean, blocky = measure_conditions(scene), measure_conditions(as_jpeg(scene, 15))
    assert clean.blockiness < 0.15
    assert blocky.blockiness > 0.6


@pytest.mark.parametrize("sigma", [1, 3, 8, 20])
def test_noise_is_measured_within_a_tenth(sigma):
    ramp = torch.linspace(0.3, 0.7, 400).expand(1, 3, 300, 400)
    noise = torch.randn(1, 1, 300, 400, generator=torch.Generator().manual_seed(sigma)) * sigma / 255
    measured = measure_conditions(rounded(ramp + noise))
    assert measured.noise_sigma == pytest.approx(sigma, rel=0.1, abs=0.1)
    assert measured.chroma_noise_sigma < 0.5


def test_noise_of_a_picture_adds_to_what_it_had(scene):
    noise = torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(1)) * 10 / 255
    assert measure_conditions(scene).noise_sigma < 2
    measured = measure_conditions(rounded(scene + noise))
    assert 4.5 < measured.noise_sigma < 8  # in luma; its weights leave 0.67 of what three equal channels have
    assert 4 < measured.chroma_noise_sigma < 8


def test_uneven_texture_all_over_is_not_taken_for_noise():
    assert measure_conditions(to_image(data.coffee())).noise_sigma == 0


@pytest.mark.parametrize("name", ["grass", "gravel"])
def test_texture_that_is_alike_all_over_is_not_taken_for_noise(name):
    assert measure_conditions(to_image(np.repeat(getattr(data, name)()[..., None], 3, axis=2))).noise_sigma == 0


def test_flat_drawings_have_no_noise(discs):
    assert measure_conditions(rounded(discs)).noise_sigma < 0.1


def test_stairs_of_a_ramp_are_banding_and_single_steps_are_not():
    ramp = torch.linspace(0.2, 0.5, 400).expand(1, 3, 300, 400)
    assert measure_conditions(rounded(ramp)).banding == 0
    assert measure_conditions((ramp * 85).round() / 85).banding > 0.3


def test_a_photograph_and_flat_colours_have_no_banding(scene, discs):
    assert measure_conditions(rounded(scene)).banding < 0.02
    assert measure_conditions(rounded(discs)).banding < 0.02


def test_ringing_is_what_wavers_beside_edges(discs):
    wide = gaussian_blur(discs, 1.5)
    rings = discs + 1.5 * (gaussian_blur(discs, 0.8) - wide) * (gaussian_blur(discs, 2.5) - discs).abs().sign()
    compressed = as_jpeg(discs, 20)
    assert measure_conditions(rounded(discs)).ringing < 0.3
    assert measure_conditions(rounded(rings)).ringing > 1
    assert measure_conditions(compressed).ringing > 1


def test_softness_is_the_blur_effect_of_scikit_image(scene):
    patch = scene[:, :, 40:168, 60:188]
    expected = blur_effect(rgb_to_luma(patch)[0, 0].double().numpy(), h_size=11)
    assert measure_conditions(patch).softness == pytest.approx(expected, abs=0.01)
    assert measure_conditions(gaussian_blur(scene, 2)).softness > measure_conditions(scene).softness + 0.2


def test_jumps_within_one_sample_are_jagged_and_antialiased_lines_are_not(discs):
    assert measure_conditions(discs).jaggedness < 0.4
    assert measure_conditions(0.2 + 0.6 * (discs > 0.5).float()).jaggedness > 0.9


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 3, 2, 700), (1, 4, 65, 64), (1, 1, 31, 33), (1, 3, 9, 9)])
def test_any_size_and_kind_can_be_measured(random_image, shape):
    image = random_image(*shape)
    before = image.clone()
    assert measure_conditions(image).softness >= 0
    assert torch.equal(image, before)


def test_blocks_without_a_quality_say_nothing_about_texture_or_grain(scene):
    """As in a video frame, whose blocks are not JPEG's."""
    means = torch.nn.functional.avg_pool2d(scene, 8, ceil_mode=True).repeat_interleave(8, 2).repeat_interleave(8, 3)
    conditions = measure_conditions(torch.lerp(scene, means[:, :, :300, :300], 0.5))
    assert conditions.jpeg_quality is None
    assert conditions.has_unknown_blocks
    assert conditions.evidence is None
    assert not measure_conditions(scene).has_unknown_blocks


def test_jpeg_limits_what_restoration_may_change(scene):
    evidence = measure_conditions(as_jpeg(scene, 70)).evidence
    assert evidence is not None
    assert evidence.grid == (0, 0)
    assert evidence.steps is not None
    assert evidence.steps[0, 1] == pytest.approx(11 * 0.6, rel=0.1)
    assert measure_conditions(scene).evidence is not None


def test_where_only_a_part_is_measured_nothing_is_known_of_the_grid(scene):
    alpha = torch.zeros(1, 1, 300, 300)
    alpha[:, :, 10:290, 13:290] = 1
    assert measure_conditions(torch.cat((scene, alpha), dim=1)).evidence is None
