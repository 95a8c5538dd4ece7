"""Tiles of latents cover everything evenly, guidance follows its formula, passes grow by at most two."""

from itertools import pairwise

import pytest
import torch

from fidelity.errors import RefusedError
from fidelity.steps.diffusion import (
    choose_diffusion_tile,
    guidance_weight,
    linear_schedule,
    pass_denoise,
    plan_pass_sizes,
    posterior_step,
    pull_to_source,
    spread_tiles,
    tile_weights,
    truncated_times,
)


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"),
    [
        (128, 128, 16, [(0, 128)]),
        (100, 128, 16, [(0, 100)]),
        (256, 128, 16, [(0, 128), (64, 192), (128, 256)]),
        (240, 128, 16, [(0, 128), (112, 240)]),
        (512, 128, 16, [(0, 128), (96, 224), (192, 320), (288, 416), (384, 512)]),
        (130, 128, 16, [(0, 128), (2, 130)]),
        (129, 64, 8, [(0, 64), (32, 96), (65, 129)]),
    ],
)
def test_tiles_are_where_they_should_be(length, tile, overlap, expected):
    assert spread_tiles(length, tile, overlap) == expected


@pytest.mark.parametrize("overlap", [0, 1, 8, 31])
def test_tiles_are_equal_cover_everything_and_share_what_was_asked(overlap):
    for length in range(33, 300):
        spans = spread_tiles(length, 32, overlap)
        assert {stop - start for start, stop in spans} == {32}
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(before[1] - after[0] >= overlap for before, after in pairwise(spans)), length
        assert overlap > 24 or all(start % 8 == 0 for start, _ in spans[:-1])


def test_an_overlap_as_large_as_the_tile_is_refused():
    with pytest.raises(ValueError, match="overlap is 32 with a tile of 32"):
        spread_tiles(100, 32, 32)


def test_weights_are_a_bell_of_variance_one_hundredth_or_all_one():
    bell = tile_weights(5, 9, "gaussian")
    assert bell[2, 4] == 1
    assert torch.allclose(bell, bell.flip(0).flip(1))
    assert bell[2, 8].item() == pytest.approx(torch.exp(torch.tensor(-((4 / 9) ** 2) / 0.02)).item())
    assert tile_weights(128, 128, "gaussian").min() > 0
    assert torch.equal(tile_weights(3, 4, "mean"), torch.ones(3, 4))


@pytest.mark.parametrize(
    ("gibibytes", "expected"), [(6, 512), (7.6, 512), (8, 512), (10, 768), (12, 768), (16, 1024), (24, 1024), (80, 1024)]
)
def test_tiles_follow_memory(gibibytes, expected):
    tile = choose_diffusion_tile(int(gibibytes * 2**30))
    assert tile.side_px == expected
    assert tile.overlap_px * 8 == expected


def test_half_fidelity_is_supirs_exponent_and_more_is_more_pull():
    assert guidance_weight(7.3073, 14.6146, 0.5) == pytest.approx(0.5**4)
    assert guidance_weight(5.0, 14.6146, 0.0) == 0
    assert guidance_weight(0.01, 14.6146, 1.0) == 1
    weights = [guidance_weight(3.0, 14.6146, fidelity / 20) for fidelity in range(21)]
    assert weights == sorted(weights)
    with pytest.raises(ValueError, match=r"fidelity is 1\.5; wanted 0 to 1"):
        guidance_weight(1, 2, 1.5)


def test_the_pull_is_the_weighted_difference(random_image):
    denoised, source = random_image(2, 4, 9, 7), random_image(1, 4, 9, 7, seed=1)
    expected = denoised - 0.3 * (denoised - source)
    assert torch.allclose(pull_to_source(denoised, source, 0.3), expected)
    assert pull_to_source(denoised, source, 0.0) is denoised
    video = pull_to_source(denoised[:, :, None], source[:, :, None], 0.3)
    assert torch.allclose(video[:, :, 0], expected)


@pytest.mark.parametrize("band", ["gaussian", "wavelet"])
def test_a_low_band_moves_the_mean_and_leaves_texture(band, random_image):
    texture = random_image(1, 4, 64, 64) - 0.5
    result = pull_to_source(texture, torch.full((1, 4, 64, 64), 0.25), 1.0, band, radius=4.0)
    assert result.mean().item() == pytest.approx(0.25, abs=1e-3)
    assert (result - result.mean()).std() / texture.std() == pytest.approx(1, abs=0.05)
    constant = pull_to_source(torch.zeros(1, 4, 8, 8), torch.ones(1, 4, 8, 8), 0.5, band)
    assert torch.allclose(constant, torch.full_like(constant, 0.5))


def test_schedules_are_linear_in_sigma():
    assert [linear_schedule(sigma, 10, 7.5, 4.0) for sigma in (10, 5, 0, 20)] == [7.5, 5.75, 4.0, 7.5]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((512, 768), (1024, 1536), [(1024, 1536)]),
        ((512, 768), (2048, 3072), [(1024, 1536), (2048, 3072)]),
        ((500, 333), (1000, 666), [(1000, 672)]),
        ((512, 512), (512, 512), [(512, 512)]),
        ((256, 256), (1536, 1536), [(472, 472), (848, 848), (1536, 1536)]),
    ],
)
def test_passes_grow_by_two_at_most_and_fit_latents(source, target, expected):
    assert plan_pass_sizes(source, target) == expected


def test_denoise_falls_from_pass_to_pass():
    assert [round(pass_denoise(index), 3) for index in range(4)] == [0.4, 0.3, 0.25, 0.25]
    assert pass_denoise(1, 0.2) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("steps", "start", "end", "times"),
    [
        (1, 0.6, 0.3, [1.0]),
        (4, 0.6, 0.3, [1.0, 0.6, 0.45, 0.3]),
        (2, 0.6, 0.3, [1.0, 0.6]),
        (4, 0.6, 0.0, [1.0, 0.6, 0.4, 0.2]),
        (4, 1.0, 0.0, [1.0, 0.75, 0.5, 0.25]),
        (3, 1.0, 0.5, [1.0, 0.75, 0.5]),
    ],
)
def test_truncated_times_are_evenly_spaced_after_the_first_estimate(steps, start, end, times):
    assert truncated_times(steps, start, end) == pytest.approx(times)


def test_truncated_times_out_of_order_are_refused():
    with pytest.raises(RefusedError, match=r"t_max is 0\.3 and t_min 0\.6; wanted 0 <= t_min < t_max <= 1"):
        truncated_times(4, 0.3, 0.6)
    with pytest.raises(RefusedError, match="steps is 0; wanted 1 or more"):
        truncated_times(0, 0.6, 0.3)


@pytest.mark.parametrize("levels", [((0.4, 0.6), (0.8, 0.2)), ((1.0, 9.0), (1.0, 2.0)), ((0.0, 1.0), (0.7, 0.3))])
def test_a_posterior_step_leads_to_the_lower_noise_levels_own_distribution(levels):
    """With the true clean latent as the estimate, signal and noise are those of the lower level."""
    now, then = levels
    generator = torch.Generator().manual_seed(0)
    clean, noise, new = (torch.randn(200_000, generator=generator, dtype=torch.float64) for _ in range(3))
    made = posterior_step(now[0] * clean + now[1] * noise, clean, new, now, then)
    left = made - then[0] * clean
    assert left.std().item() == pytest.approx(then[1], rel=0.01)
    assert (left * clean).mean().item() == pytest.approx(0, abs=0.01 * max(1, now[1]))
