"""How strongly a source should be restored."""

import numpy as np
import pytest
import torch
from skimage import data

from fidelity.decide.damage import measure_conditions
from fidelity.decide.restoration import choose_strength
from fidelity.imaging.resample import resize
from tools.benchmarks.restoring import as_jpeg
from tools.training.generators.drawn import drawing


def clean(name):
    image = torch.from_numpy(np.atleast_3d(getattr(data, name)()).copy()).movedim(-1, 0)[None].float() / 255
    return resize(image, (image.shape[2] // 4, image.shape[3] // 4)).clamp(0, 1)


def test_what_is_seen_is_restored_more_than_is_judged_and_clean_pictures_as_judged():
    chosen = [choose_strength(judged / 100) for judged in range(101)]
    assert chosen == sorted(chosen)
    assert chosen[:10] == [judged / 100 for judged in range(10)]
    assert chosen[-1] == 1
    assert all(share >= judged / 100 for judged, share in enumerate(chosen))


def strength(image):
    return measure_conditions(image).restore_strength


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_clean_photographs_are_left_alone_and_the_worse_the_damage_the_stronger(name):
    image = clean(name)
    strengths = [strength(image), *(strength(as_jpeg(image, quality)) for quality in (75, 30))]
    assert strengths[0] < 0.2
    assert strengths[2] > 0.6
    assert strengths == sorted(strengths)


def test_clean_drawings_are_left_alone_and_compressed_ones_are_not():
    pictures = [torch.from_numpy(drawing(160, np.random.default_rng((11, index)), 3))[None] for index in range(4)]
    assert np.mean([strength(picture) for picture in pictures]) < 0.35
    assert np.mean([strength(as_jpeg(picture, 40)) for picture in pictures]) > 0.7


def test_damage_that_was_resized_since_is_found_although_jpegs_grid_is_gone(test_data):
    from fidelity.files.read import read_image

    for name in ("anime_small.jpg", "anime_jpeg_halo.png", "building.png"):
        assert strength(read_image(test_data / "images/real" / name, "srgb").image) > 0.6
    assert strength(read_image(test_data / "images/real/anime_clean.png", "srgb").image) < 0.2


def test_a_picture_of_one_color_is_left_alone():
    assert strength(torch.full((1, 3, 40, 40), 0.4)) == 0


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 4, 9, 300), (1, 1, 40, 40)])
def test_any_image_gets_a_share(random_image, shape):
    assert 0 <= strength(random_image(*shape)) <= 1
