"""CLIP-IQA with encoders whose answers are known."""

import math

import pytest
import torch

from fidelity.errors import RefusedError
from fidelity.imaging.clip_iqa import CROP_PX, PAIRS, cut_crops, judge


def brightness(crops):
    """Two dimensions: light and dark."""
    light = crops.mean(dim=(1, 2, 3))
    return torch.stack((light, 1 - light), dim=1)


def text(sentences):
    return torch.tensor([(1.0, 0.0) if one == PAIRS["brightness"][0] else (0.0, 1.0) for one in sentences])


def test_the_nearer_sentence_wins():
    dark, light = (torch.full((1, 3, 300, 260), level) for level in (0.1, 0.9))
    assert judge(dark, brightness, text)["brightness"] < 0.01
    assert judge(light, brightness, text)["brightness"] > 0.99


def test_a_score_is_the_softmax_of_a_hundred_cosines():
    level = 0.503
    image, norm = torch.full((1, 1, 224, 224), level), math.hypot(level, 1 - level)
    apart = 100 * (2 * level - 1) / norm
    assert judge(image, brightness, text)["brightness"] == pytest.approx(1 / (1 + math.exp(-apart)), abs=1e-4)


@pytest.mark.parametrize(
    ("size", "count"),
    [((224, 224), 1), ((225, 224), 2), ((300, 460), 6), ((100, 50), 2), ((5000, 4000), 48), ((224, 90000), 48)],
)
def test_crops_cover_the_image_or_are_spread_over_it(size, count):
    crops = cut_crops(torch.rand(1, 3, 1, 1).expand(1, 3, *size))
    assert crops.shape[1:] == (3, CROP_PX, CROP_PX)
    assert 0.7 * count <= crops.shape[0] <= count


def test_every_row_and_column_is_seen():
    rows = torch.arange(300.0).reshape(1, 1, 300, 1).expand(1, 1, 300, 460) / 300
    assert torch.unique(cut_crops(rows)).numel() == 300


def test_text_and_vision_of_two_models_are_refused():
    with pytest.raises(RefusedError, match="the texts have 3 dimensions, the images 2"):
        judge(torch.rand(1, 3, 224, 224), brightness, lambda sentences: torch.ones(len(sentences), 3))


def test_progress_reaches_the_end_and_can_cancel():
    seen = []
    judge(torch.rand(1, 3, 500, 900), brightness, text, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 15 and len(seen) == 2
