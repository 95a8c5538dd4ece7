"""Generated drawings have what sets drawings apart: flat areas, hard edges, thin dark lines, few tones."""

import numpy as np
import pytest
from scipy import ndimage

from tools.training.generators.drawn import drawing
from tools.training.generators.natural import dead_leaves

COUNT = 16


@pytest.fixture(scope="module")
def drawings():
    return [drawing(128, np.random.default_rng((7, index))) for index in range(COUNT)]


@pytest.fixture(scope="module")
def leaves():
    return [dead_leaves(128, np.random.default_rng((7, index))) for index in range(COUNT)]


def flat_share(image):
    """Share of pixels whose 3x3 neighbourhood spans less than 2/255."""
    span = ndimage.maximum_filter(image[0], 3) - ndimage.minimum_filter(image[0], 3)
    return (span < 2 / 255).mean()


def line_share(image):
    """Share of pixels darker by half the range than what lies around them: what a 7x7 closing fills."""
    return (ndimage.grey_closing(image[0], (7, 7)) - image[0] > 0.5).mean()


def test_images_are_floats_within_range(drawings):
    for image in drawings:
        assert image.shape == (1, 128, 128)
        assert image.dtype == np.float32
        assert 0 <= image.min() < image.max() <= 1


def test_the_same_seed_gives_the_same_drawing(drawings):
    assert np.array_equal(drawing(128, np.random.default_rng((7, 0))), drawings[0])
    assert not np.array_equal(drawings[0], drawings[1])


def test_colours_differ_where_there_are_three_channels():
    image = drawing(96, np.random.default_rng(4), channels=3)
    assert image.shape == (3, 96, 96)
    assert np.abs(image[0] - image[2]).mean() > 0.01


def test_half_of_a_drawing_is_flat(drawings, leaves):
    assert np.median([flat_share(image) for image in drawings]) > 0.3
    assert np.mean([flat_share(image) for image in leaves]) < 0.2


def test_thin_dark_lines_are_more_than_in_natural_images(drawings, leaves):
    assert np.mean([line_share(image) for image in drawings]) > 2 * np.mean([line_share(image) for image in leaves])


def test_gradients_are_sparser_than_in_natural_images(drawings, leaves):
    def kurtosis(image):
        steps = np.diff(image[0], axis=1).ravel()
        return np.mean(steps**4) / np.mean(steps**2) ** 2

    assert np.median([kurtosis(image) for image in drawings]) > 1.5 * np.median([kurtosis(image) for image in leaves])


def test_few_tones_fill_most_of_a_drawing(drawings, leaves):
    def concentration(image):
        counts = np.sort(np.bincount((image * 63).astype(int).ravel(), minlength=64))
        return counts[-6:].sum() / counts.sum()

    assert (
        np.median([concentration(image) for image in drawings]) > np.median([concentration(image) for image in leaves]) + 0.15
    )


def test_drawings_differ_in_kind():
    """Paper with ink, and fields of tone: means spread over the range, as do shares of flat area."""
    images = [drawing(96, np.random.default_rng((9, index))) for index in range(20)]
    assert np.std([image.mean() for image in images]) > 0.15
    assert np.ptp([flat_share(image) for image in images]) > 0.3
