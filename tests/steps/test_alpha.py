"""Colours under transparency."""

import torch

from fidelity.steps.alpha import bleed_colors


def half_clear(color, hidden=0.0):
    image = torch.zeros(1, 4, 16, 24)
    image[:, :3] = hidden
    image[:, :3, :, :12] = torch.tensor(color).reshape(1, 3, 1, 1)
    image[:, 3, :, :12] = 1
    return image


def test_visible_colours_are_kept_to_the_bit(random_image):
    image = random_image(1, 4, 20, 20)
    image[:, 3] = (image[:, 3] > 0.5).float()
    result = bleed_colors(image)
    visible = image[:, 3:4].expand(-1, 3, -1, -1) > 0
    assert torch.equal(result[visible], image[:, :3][visible])


def test_hidden_black_becomes_the_colour_beside_it():
    result = bleed_colors(half_clear((0.8, 0.4, 0.2)))
    assert (result - torch.tensor([0.8, 0.4, 0.2]).reshape(1, 3, 1, 1)).abs().max() < 1e-3


def test_an_image_that_is_all_clear_becomes_grey(random_image):
    image = random_image(1, 4, 9, 9)
    image[:, 3] = 0
    assert torch.allclose(bleed_colors(image), torch.full((1, 3, 9, 9), 0.5))


def test_one_pixel_and_half_precision_work():
    image = torch.tensor([0.2, 0.4, 0.6, 0.0]).reshape(1, 4, 1, 1).half()
    assert bleed_colors(image).dtype == torch.float16
