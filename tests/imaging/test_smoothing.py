"""Local filters against scikit-image, SciPy and plain loops, and what each is for."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.filters import unsharp_mask as unsharp_mask_of_skimage
from skimage.restoration import denoise_bilateral

from fidelity.imaging.smoothing import bilateral_filter, guided_filter, median_filter, smooth_along_edges, unsharp_mask


def test_the_median_is_that_of_scipy(random_image):
    plane = random_image(1, 1, 37, 41)
    expected = ndimage.median_filter(plane[0, 0].numpy(), 3, mode="mirror")
    assert torch.equal(median_filter(plane)[0, 0], torch.from_numpy(expected))


def test_the_bilateral_filter_is_that_of_scikit_image(random_image):
    plane = random_image(1, 1, 30, 26) * 0.2 + 0.4
    expected = denoise_bilateral(
        plane[0, 0].numpy(), win_size=5, sigma_color=0.05, sigma_spatial=1e6, bins=100_000, mode="reflect"
    )  # distance counts for nothing here: that library's table of it is shifted by a sample where the window is odd
    result = bilateral_filter(plane, 2, 1e6, 0.05)[0, 0].numpy()
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(result - expected)[inner].max() < 1e-3


def test_neighbours_count_less_the_farther_they_are():
    spike = torch.zeros(1, 1, 9, 9)
    spike[..., 4, 4] = 1
    result = bilateral_filter(spike, 2, 1.2, 1e6)[0, 0]
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.2**2))
    expected = np.outer(kernel, kernel) / kernel.sum() ** 2
    assert result[2:7, 2:7].numpy() == pytest.approx(expected, abs=1e-6)


def test_unsharp_steepens_an_edge_and_draws_no_halo():
    edge = (0.5 + 0.2 * torch.tanh(torch.linspace(-16, 16, 41))).expand(1, 1, 12, -1)
    result = unsharp_mask(edge, 1.0, 0.5, 2 / 255)
    assert result.diff(dim=3).max() > 1.05 * edge.diff(dim=3).max()
    assert result.min() >= edge.min()
    assert result.max() <= edge.max()


def test_the_bilateral_filter_evens_out_small_waves_and_keeps_a_step():
    waves = 0.3 + 0.005 * torch.sin(torch.arange(40.0) * 2)
    plane = torch.cat((waves, waves + 0.4)).expand(1, 1, 16, -1)
    result = bilateral_filter(plane, 2, 1.2, 6 / 255)
    assert result[..., 5:35].std() < 0.5 * plane[..., 5:35].std()
    assert (result.diff(dim=3)[..., 39] - plane.diff(dim=3)[..., 39]).abs().max() < 0.01


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_medians_of_any_size_are_those_of_scipy(random_image, radius):
    plane = random_image(1, 1, 20, 23)
    expected = ndimage.median_filter(plane[0, 0].numpy(), 2 * radius + 1, mode="mirror")
    assert torch.equal(median_filter(plane, radius)[0, 0], torch.from_numpy(expected))


def test_the_guided_filter_fits_a_line_in_every_window(random_image):
    plane, guide, radius, epsilon = random_image(1, 1, 12, 13), random_image(1, 1, 12, 13, seed=1), 2, 0.01
    slopes, offsets = np.zeros((12, 13)), np.zeros((12, 13))
    wide = [np.pad(image[0, 0].double().numpy(), radius, mode="edge") for image in (plane, guide)]
    for y in range(12):
        for x in range(13):
            target, source = (image[y : y + 5, x : x + 5] for image in wide)
            slopes[y, x] = ((source * target).mean() - source.mean() * target.mean()) / (source.var() + epsilon)
            offsets[y, x] = target.mean() - slopes[y, x] * source.mean()
    mean = [ndimage.uniform_filter(field, 5, mode="nearest") for field in (slopes, offsets)]
    expected = mean[0] * guide[0, 0].numpy() + mean[1]
    assert np.abs(guided_filter(plane, radius, epsilon, guide)[0, 0].numpy() - expected).max() < 1e-4


def test_colours_are_weighed_together(random_image):
    image = random_image(1, 3, 9, 9)
    result = bilateral_filter(image, 1, 1.0, 0.2)
    centre, total, weights = image[0, :, 4, 4], torch.zeros(3), 0.0
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            other = image[0, :, 4 + y, 4 + x]
            weight = torch.exp(-(y * y + x * x) / torch.tensor(2.0) - (other - centre).square().mean() / (2 * 0.2**2))
            total, weights = total + weight * other, weights + weight
    assert torch.allclose(result[0, :, 4, 4], total / weights, atol=1e-6)


def slanted(side=64, slope=0.3, factor=1):
    """An edge at an angle: hard stairs for a factor of 1, smooth for more."""
    y, x = torch.meshgrid(torch.arange(side * factor) + 0.5, torch.arange(side * factor) + 0.5, indexing="ij")
    hard = (x / factor > side / 2 + slope * (y / factor - side / 2)).float()[None, None]
    return torch.nn.functional.avg_pool2d(hard, factor)


def test_stairs_become_slopes_and_the_edge_stays_steep():
    stairs, smooth = slanted(), slanted(factor=8)
    result = smooth_along_edges(stairs, 1.5)
    inner = (..., slice(8, -8), slice(8, -8))
    assert (result - smooth)[inner].square().mean() < 0.5 * (stairs - smooth)[inner].square().mean()
    width = ((result[inner] > 0.05) & (result[inner] < 0.95)).float().sum(dim=3).mean()
    assert width < 2.5


def test_straight_lines_and_flats_are_left_alone_by_it(random_image):
    bars = torch.zeros(1, 1, 40, 40)
    bars[..., 10:12], bars[..., 20:30, :] = 1, 1
    result = smooth_along_edges(bars, 1.5)
    far = (slice(None), slice(None), slice(37, 40), slice(None))
    assert torch.allclose(result[far], bars[far], atol=1e-3)
    flat = torch.full((1, 1, 20, 20), 0.3)
    assert torch.allclose(smooth_along_edges(flat, 1.5), flat, atol=1e-6)


def test_texture_without_a_direction_is_left_to_itself(random_image):
    noise = random_image(1, 1, 60, 60) * 0.2 + 0.4
    changed = (smooth_along_edges(noise, 1.5) - noise).std() / noise.std()
    assert changed < 0.6


def test_a_halo_is_as_high_as_allowed():
    edge = (0.5 + 0.2 * torch.tanh(torch.linspace(-16, 16, 41))).expand(1, 1, 12, -1)
    assert unsharp_mask(edge, 2.0, 4.0, 0.0, halo=0.02).max() == pytest.approx(0.72, abs=1e-3)


def test_without_its_limits_the_unsharp_mask_is_that_of_scikit_image(random_image):
    plane = random_image(1, 1, 40, 40) * 0.4 + 0.3
    expected = unsharp_mask_of_skimage(plane[0, 0].double().numpy(), radius=1.5, amount=0.7)
    result = unsharp_mask(plane, 1.5, 0.7, 0.0, halo=9.0)
    assert np.abs(result[0, 0].numpy() - expected)[6:-6, 6:-6].max() < 1e-4


def test_a_joint_bilateral_filter_weighs_by_the_guide(random_image):
    plane, guide = random_image(1, 1, 9, 9), random_image(1, 1, 9, 9, seed=1)
    total, weights = 0.0, 0.0
    for y in range(-2, 3):
        for x in range(-2, 3):
            step = (guide[0, 0, 4 + y, 4 + x] - guide[0, 0, 4, 4]) ** 2 / (2 * 0.3**2)
            weight = torch.exp(-step - (y * y + x * x) / (2 * 1.5**2))
            total, weights = total + weight * plane[0, 0, 4 + y, 4 + x], weights + weight
    assert bilateral_filter(plane, 2, 1.5, 0.3, guide)[0, 0, 4, 4] == pytest.approx((total / weights).item(), abs=1e-5)
