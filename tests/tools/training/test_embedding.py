"""The small network learns to give a teacher's maps, and what is written gives the same as what was trained."""

import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from fidelity.decide.embedding import MAPS, EmbeddingNetwork
from tools.training import embedding
from tools.training.embedding import CROP_PX, convolve_normalised, draw_crop, fold, train


class Brightness(nn.Module):
    """A teacher whose maps are the picture's brightness and its steps, as many channels as there are to be."""

    def forward(self, image):
        luma = image.mean(dim=1, keepdim=True)
        return [functional.avg_pool2d(luma, stride).repeat(1, channels, 1, 1) for stride, channels in MAPS.items()]


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (4, 12, 16, 3), np.uint8)
    return [one.repeat(24, axis=0).repeat(24, axis=1) for one in small]


def test_a_student_learns_and_what_is_written_gives_the_same(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedding, "BATCH", 2)
    monkeypatch.setattr(embedding, "_CALIBRATION", 2)
    student = train(pictures[:3], pictures[3:], 60, tmp_path / "student.safetensors", Brightness())
    told = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert len(told) == 2 and told[0] < 0.5
    plain = EmbeddingNetwork().eval()
    plain.load_state_dict({name: weight.float() for name, weight in load_file(tmp_path / "student.safetensors").items()})
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for first, second in zip(student(image), plain(image), strict=True):
            assert torch.allclose(first, second, atol=0.02 * first.std().item() + 2e-3)


def test_every_weight_of_the_plain_network_is_written():
    folded = fold(EmbeddingNetwork(convolve_normalised))
    shapes = {name: weight.shape for name, weight in EmbeddingNetwork().state_dict().items()}
    assert {name: weight.shape for name, weight in folded.items()} == shapes


def test_crops_are_of_one_size_and_the_teachers_is_never_a_jpeg(pictures):
    chance = random.Random(0)
    flat = np.zeros((300, 90, 3), np.uint8)
    flat[::2] = (200, 40, 90)
    differing = 0
    for picture in (*pictures, flat) * 4:
        given, clean = draw_crop(picture, chance)
        assert given.shape == clean.shape == (CROP_PX, CROP_PX, 3)
        differing += int((given != clean).any())
    assert 4 < differing < 16
