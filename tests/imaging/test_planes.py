"""Splitting and merging planes."""

import pytest
import torch

from fidelity.imaging.planes import merge_planes, split_planes


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_splitting_and_merging_gives_the_image_back(random_image, matrix):
    image = random_image(2, 3, 9, 14)
    assert (merge_planes(*split_planes(image, matrix), matrix) - image).abs().max() <= 1e-6


def test_grey_has_neutral_differences_and_alpha_is_dropped(random_image):
    luma, blue, red = split_planes(random_image(1, 1, 5, 6))
    assert luma.shape == blue.shape == red.shape == (1, 1, 5, 6)
    assert (blue - 0.5).abs().max() < 1e-6
    assert split_planes(random_image(1, 4, 5, 6))[0].shape == (1, 1, 5, 6)


def test_differences_are_resized_to_an_enlarged_luma(photo):
    luma, blue, red = split_planes(photo)
    large = torch.nn.functional.interpolate(luma, scale_factor=3, mode="nearest")
    merged = merge_planes(large.repeat(1, 3, 1, 1), blue, red)
    assert merged.shape == (1, 3, 288, 336)
    assert (split_planes(merged)[1].mean() - blue.mean()).abs() < 0.01


def test_batches_that_differ_are_refused(random_image):
    planes = [random_image(count, 1, 4, 4) for count in (2, 1, 2)]
    with pytest.raises(ValueError, match="batches of 2, 1 and 2 images"):
        merge_planes(*planes)
