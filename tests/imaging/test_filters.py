"""Filters against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fidelity.imaging.filters import box_mean, gaussian_blur, local_range


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("size", [(31, 44), (5, 3), (1, 9)])
def test_gaussian_agrees_with_scipy_mirrored_at_the_border(random_image, sigma, size):
    image = random_image(1, 1, *size)
    radius = max(1, int(np.ceil(4 * sigma)))
    expected = ndimage.gaussian_filter(image[0, 0].double().numpy(), sigma, mode="reflect", radius=radius)
    assert np.abs(gaussian_blur(image, sigma)[0, 0].numpy() - expected).max() < 1e-6


def test_no_sigma_is_no_change(random_image):
    image = random_image(1, 3, 8, 8)
    assert torch.equal(gaussian_blur(image, 0), image)


def test_a_negative_sigma_is_refused(random_image):
    with pytest.raises(ValueError, match="sigma is -1 px; wanted 0 or more"):
        gaussian_blur(random_image(1, 3, 8, 8), -1)


def test_box_mean_agrees_with_scipy(random_image):
    image = random_image(1, 1, 20, 17)
    expected = ndimage.uniform_filter(image[0, 0].double().numpy(), 9, mode="nearest")
    assert np.abs(box_mean(image, 9)[0, 0].numpy() - expected).max() < 1e-6


def test_local_range_agrees_with_scipy(random_image):
    image = random_image(1, 1, 12, 15)
    lowest, highest = local_range(image, 5)
    assert np.array_equal(lowest[0, 0].numpy(), ndimage.minimum_filter(image[0, 0].numpy(), 5, mode="nearest"))
    assert np.array_equal(highest[0, 0].numpy(), ndimage.maximum_filter(image[0, 0].numpy(), 5, mode="nearest"))
