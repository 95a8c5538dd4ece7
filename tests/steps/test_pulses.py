"""What video upscalers do to colors in blocks of frames and in tiles is undone by the projection."""

import pytest
import torch
from torch.nn import functional

from fidelity.imaging.color import delta_e
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from fidelity.steps.consistency import project

FRAMES, BLOCK = 34, 17


def frames(count=FRAMES, size=(48, 64)):
    """A soft picture that moves, at twice the size, (B, 3, 2h, 2w)."""
    draw = torch.Generator().manual_seed(4)
    coarse = torch.rand(1, 3, 10, 16, generator=draw) * 0.6 + 0.2
    wide = functional.interpolate(coarse, (2 * size[0], 2 * size[1] + 2 * count), mode="bicubic").clamp(0, 1)
    return torch.cat([wide[..., 2 * index : 2 * index + 2 * size[1]] for index in range(count)])


def step_of(results, truth):
    """The largest step of a frame's mean from one frame to the next, beyond the source's own, in levels of 255."""
    error = 255 * (results - truth).mean(dim=(1, 2, 3))
    return float(error.diff().abs().max())


def test_a_pulse_every_17_frames_is_removed():
    truth = frames()
    source = resize(truth, (48, 64)).clamp(0, 1)
    pulse = torch.where(torch.arange(FRAMES) < BLOCK, 0.0, 3 / 255).reshape(-1, 1, 1, 1)
    result = (truth + pulse).clamp(0, 1)
    assert step_of(result, truth) > 2.5
    assert step_of(project(result, source), truth) < 0.2


@pytest.mark.parametrize("tint", [(3.0, -1.0, 2.0), (-2.0, 2.5, 0.0)])
def test_the_tint_of_a_tile_is_removed(tint):
    truth = frames(3)
    source = resize(truth, (48, 64)).clamp(0, 1)
    result = truth.clone()
    result[..., 20:70, 40:100] += torch.tensor(tint)[:, None, None] * 2 / 255
    result = result.clamp(0, 1)

    def tile_difference(images):
        apart = delta_e(gaussian_blur(images, 3), gaussian_blur(truth, 3))
        return float(apart[..., 26:64, 46:94].mean())

    assert tile_difference(result) > 1.2
    assert tile_difference(project(result, source)) < 0.3
