"""Dead leaves have the statistics of natural images."""

import numpy as np
import pytest

from tools.training.generators.natural import dead_leaves


@pytest.fixture(scope="module")
def images():
    return [dead_leaves(128, np.random.default_rng((7, index))) for index in range(12)]


def test_images_are_floats_within_range(images):
    for image in [*images, dead_leaves(64, np.random.default_rng(0), channels=3)]:
        assert image.shape[1] == image.shape[2]
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1
    assert images[0].shape == (1, 128, 128)
    assert dead_leaves(64, np.random.default_rng(0), channels=3).shape == (3, 64, 64)


def test_the_same_seed_gives_the_same_image(images):
    assert np.array_equal(dead_leaves(128, np.random.default_rng((7, 0))), images[0])
    assert not np.array_equal(images[0], images[1])


def test_the_power_spectrum_falls_as_in_natural_images(images):
    slopes = []
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    band = (frequency > 0.03) & (frequency < 0.3)
    window = np.outer(np.hanning(128), np.hanning(128))
    for image in images:
        power = np.abs(np.fft.fft2((image[0] - image.mean()) * window)) ** 2
        slopes.append(np.polyfit(np.log(frequency[band]), np.log(power[band] + 1e-12), 1)[0])
    assert -3.5 < np.mean(slopes) < -1.2  # natural images: about -2


def test_gradients_are_sparse_as_in_natural_images(images):
    kurtosis = []
    for image in images:
        steps = np.diff(image[0], axis=1).ravel()
        kurtosis.append(np.mean(steps**4) / np.mean(steps**2) ** 2)
    assert np.median(kurtosis) > 5  # a Gaussian has 3


def test_colours_are_there_and_muted():
    image = dead_leaves(128, np.random.default_rng(3), channels=3)
    spread = (image.max(axis=0) - image.min(axis=0)).mean()
    assert 0.02 < spread < 0.4
