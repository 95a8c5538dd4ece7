"""Windows of both sizes show the same place; generated images are of their own seed."""

import numpy as np
import torch

from fidelity.imaging.resample import resize
from tools.training.data import draw_batch, make_bank
from tools.training.validation import held_out, luma_psnr, photographs


def test_windows_of_both_sizes_show_the_same_place():
    for channels in (1, 3):
        low, high = draw_batch(make_bank("natural", 2, channels, 4, 3), 2, 4, 16, np.random.default_rng(0))
        assert low.shape == (4, channels, 16, 16)
        assert high.shape == (4, channels, 32, 32)
        inner = (..., slice(4, -4), slice(4, -4))  # at the border the reduction sees what the window does not
        assert (resize(high, (16, 16)) - low)[inner].abs().mean() < 0.003


def test_low_resolution_images_are_of_eight_bits():
    low, _ = make_bank("natural", 4, 1, 1, 3)[0]
    assert torch.equal((low * 255).round() / 255, low)


def test_held_out_drawings_are_in_no_bank():
    bank = [high for _, high in make_bank("drawn", 2, 1, 2, 1)]
    for image in held_out("drawn", 2):
        assert not any(torch.equal(image[:, :1], known) for known in bank)


def test_bicubic_scores_alike_on_grey_and_on_colour():
    images = photographs()
    assert all(image.shape == (1, 3, 240, 240) for image in images)
    grey, colour = (luma_psnr(None, images, 2, channels) for channels in (1, 3))
    assert abs(grey - colour) < 0.1
    assert 25 < grey < 40
