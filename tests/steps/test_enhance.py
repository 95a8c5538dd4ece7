"""Edges get crisper by a strength that suits the image, or nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.filters import sobel

from fidelity.imaging.color import rgb_to_ycbcr
from fidelity.imaging.drift import measure_drift, sharpness
from fidelity.steps.enhance import DEFAULT_ENHANCEMENT, adapt_strength, enhance, sobel_magnitude
from fidelity.steps.gate import GateLimits


def test_the_gradient_is_that_of_scikit_image(random_image):
    plane = random_image(1, 1, 20, 24)
    expected = sobel(plane[0, 0].numpy())
    assert np.abs(sobel_magnitude(plane)[0, 0].numpy() - expected)[1:-1, 1:-1].max() < 1e-6


@pytest.mark.parametrize(
    ("variance", "density", "strength"),
    [
        (0, 0.05, 0.15),
        (0, 0.2, 0.15),
        (0, 0, 0.075),
        (400, 0.05, 0.15 * 0.65),
        (800, 0.05, 0.05),
        (5000, 0.01, 0.05),
    ],
)
def test_strength_falls_with_colour_and_rises_with_edges(variance, density, strength):
    assert adapt_strength(variance, density) == pytest.approx(strength)


def test_soft_edges_get_crisper_and_colours_and_flats_stay(photo):
    image = photo * 0.8 + 0.1
    result = enhance(image)
    assert result.applied, result.reason
    assert sharpness(result.image) > 1.01 * sharpness(image)
    assert result.drift.max < DEFAULT_ENHANCEMENT.limits.max
    assert torch.allclose(rgb_to_ycbcr(result.image)[:, 1:], rgb_to_ycbcr(image)[:, 1:], atol=1e-3)
    assert result.drift == measure_drift(image, result.image, "full")
    quiet = sobel_magnitude(rgb_to_ycbcr(image)[:, :1]) < DEFAULT_ENHANCEMENT.edge_threshold
    assert torch.equal(result.image[quiet.expand(-1, 3, -1, -1)], image[quiet.expand(-1, 3, -1, -1)])


def test_what_would_move_visibly_is_returned_as_it_was(photo):
    result = enhance(photo, replace(DEFAULT_ENHANCEMENT, limits=GateLimits(1e-6, 3.0)))
    assert not result.applied
    assert result.image is photo
    assert "colors would shift by" in result.reason


def test_a_colourful_and_smooth_image_is_left_alone():
    ramp = torch.linspace(0, 1, 64).expand(64, 64)
    image = torch.stack((ramp, ramp.T, 1 - ramp))[None]
    result = enhance(image)
    assert result.image is image
    assert "chroma variance" in result.reason
    assert result.drift is None


def test_grey_has_no_chroma_and_alpha_stays(random_image):
    assert enhance(random_image(1, 1, 20, 20)).chroma_variance == 0
    image = random_image(1, 4, 30, 30) * 0.1 + 0.4
    assert torch.equal(enhance(image).image[:, 3], image[:, 3])


@pytest.mark.parametrize(
    "options",
    [{"min_edge_density": 0}, {"max_chroma_variance": 0}, {"min_strength": 1.0}, {"sigma_px": 0}, {"min_edge_factor": 2}],
)
def test_constants_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="wanted"):
        replace(DEFAULT_ENHANCEMENT, **options)


def test_bands_leave_no_trace(photo, monkeypatch):
    whole = enhance(photo)
    monkeypatch.setattr(
        "fidelity.imaging.bands.iterate_bands", lambda height, *_: (slice(y, min(y + 7, height)) for y in range(0, height, 7))
    )
    banded = enhance(photo)
    assert torch.allclose(banded.image, whole.image, atol=1e-6)
    assert banded.edge_density == whole.edge_density
    assert banded.chroma_variance == pytest.approx(whole.chroma_variance, rel=1e-6)
