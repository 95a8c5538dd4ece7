"""The small network sees an image of any size, says the same each time, and hardly minds how it was saved."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.decide.embedding import MAP_PREFIX, MAPS, EmbeddingNetwork, embed


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (512, 40)])
def test_its_maps_lie_so_many_pixels_apart(size):
    found = EmbeddingNetwork().eval()(torch.rand(2, 3, *size))
    for (stride, channels), maps in zip(MAPS.items(), found, strict=True):
        assert maps.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_there_are_a_mean_and_a_deviation_of_every_channel(photo):
    features = embed(photo)
    assert len(features) == 2 * sum(MAPS.values())
    assert all(name.startswith(MAP_PREFIX) for name in features)
    assert embed(photo) == features
    assert list(features) == list(embed(photo.flip(3)))


def test_a_jpeg_changes_it_less_than_another_picture_does(photo):
    buffer = io.BytesIO()
    samples = (photo[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(samples).save(buffer, "JPEG", quality=80)
    saved = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1)[None].float() / 255
    drawn = (photo > 0.5).float()
    plain, compressed, other = (torch.tensor(list(embed(image).values())) for image in (photo, saved, drawn))
    assert (plain - compressed).norm() < 0.3 * (plain - other).norm()
