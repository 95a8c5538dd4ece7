"""What an enlargement did to its source: each figure on images where it is known."""

import pytest
import torch

from fidelity.imaging.drift import (
    SourceRange,
    flat_texture,
    measure_drift,
    overshoot_percent,
    sharpness,
    sharpness_ratio,
    summarize_drift,
)
from fidelity.imaging.filters import gaussian_blur, local_range
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import TensorRows


def test_a_bicubic_enlargement_hardly_drifts(photo):
    drift = measure_drift(photo, resize(photo, (384, 448)).clamp(0, 1))
    assert drift.mean < 0.05
    assert drift.max < 1


def test_a_tint_is_seen_in_both_bands(photo):
    tinted = resize(photo, (192, 224)).clamp(0, 1)
    tinted[:, 2] *= 0.9
    for band in ("color", "full"):
        assert measure_drift(photo, tinted, band).mean > 1


def test_sharpening_counts_in_the_full_band_far_more_than_in_the_color_band(photo):
    sharp = (2 * photo - gaussian_blur(photo, 0.8)).clamp(0, 1)
    assert measure_drift(photo, sharp, "full").mean > 3 * measure_drift(photo, sharp, "color").mean


def test_a_smaller_candidate_is_compared_at_its_own_size(photo):
    assert measure_drift(photo, resize(photo, (48, 56)).clamp(0, 1)).mean < 1e-4


def test_hidden_colours_under_alpha_do_not_count(photo, random_image):
    alpha = torch.ones_like(photo[:, :1])
    alpha[..., :50] = 0
    first = torch.cat((photo, alpha), dim=1)
    second = torch.cat((torch.where(alpha > 0, photo, random_image(*photo.shape)), alpha), dim=1)
    assert measure_drift(first, second).max == 0


def test_the_summary_is_mean_percentile_and_maximum():
    drift = summarize_drift(torch.arange(1, 101).reshape(1, 1, 10, 10).float())
    assert (drift.mean, drift.p99, drift.max) == (50.5, 99, 100)


def test_sharpness_of_a_known_laplacian():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1
    values = torch.tensor([-4.0, 1, 1, 1, 1] + [0] * 20)
    assert sharpness(image) == pytest.approx(values.std(correction=0).item())


def test_blur_lowers_sharpness_and_a_copy_does_not(photo):
    assert sharpness_ratio(photo, photo) == 1
    assert sharpness_ratio(photo, gaussian_blur(photo, 1)) < 0.6


def test_nothing_lies_outside_its_own_range(photo):
    assert overshoot_percent(photo, photo) == 0


def test_overshoot_counts_samples_beyond_three_steps():
    source = torch.full((1, 3, 8, 8), 0.5)
    result = torch.full((1, 3, 16, 16), 0.5 + 2.9 / 255)
    assert overshoot_percent(source, result) == 0
    result[:, 0, :4] = 0.5 - 3.1 / 255
    assert overshoot_percent(source, result) == pytest.approx(100 / 3 / 4)


def test_hidden_colours_do_not_count_as_overshoot(photo):
    alpha = torch.ones_like(photo[:, :1])
    alpha[..., :50] = 0
    source = torch.cat((photo * alpha, alpha), dim=1)  # black where clear
    assert overshoot_percent(source, torch.cat((photo, alpha), dim=1)) == 0


def test_the_source_range_lies_over_the_pixels_it_comes_from(random_image):
    source = random_image(1, 3, 9, 11)
    lowest, highest = local_range(source, 5)
    allowed = SourceRange(TensorRows(source), (27, 33))
    for rows in (slice(0, 27), slice(0, 5), slice(11, 12), slice(20, 27)):
        low, high = allowed.at(rows)
        for row in range(rows.start, rows.stop):
            assert torch.equal(low[:, :, row - rows.start], lowest[:, :, row // 3].repeat_interleave(3, dim=2))
            assert torch.equal(high[:, :, row - rows.start], highest[:, :, row // 3].repeat_interleave(3, dim=2))


def test_the_source_range_of_a_tall_picture_is_right_in_any_order(random_image):
    source = random_image(1, 3, 200, 11)
    bounds = local_range(source, 5)
    allowed = SourceRange(TensorRows(source), (400, 25))
    columns = (torch.arange(25) * 2 + 1) * 11 // 50
    forward = [slice(top, min(400, top + 38)) for top in range(0, 400, 38)]
    for rows in [*forward, *reversed(forward), slice(399, 400), slice(0, 400), slice(3, 5)]:
        for ahead in (0, 48):
            for found, bound in zip(allowed.at(rows, ahead), bounds, strict=True):
                expected = bound.repeat_interleave(2, dim=2)[:, :, rows].index_select(3, columns)
                assert torch.equal(found, expected)


def test_texture_added_to_a_flat_area_is_found(random_image):
    flat = torch.full((1, 3, 40, 40), 0.5)
    noise = (random_image(1, 1, 40, 40) - 0.5) * (6 / 255)
    before, after = flat_texture(flat, flat + noise)
    assert before == 0
    assert after == pytest.approx(255 * noise.std().item(), rel=0.1)
