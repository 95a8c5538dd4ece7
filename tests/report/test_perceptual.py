"""LPIPS by torchmetrics where a network is installed, and nothing downloaded where none is."""

import pytest
import torch
from torchvision.models import squeezenet1_1

from fidelity.report.perceptual import BACKBONES, perceptual_distances


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Torch's folder of checkpoints, empty, and no way to the network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("something was downloaded"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_an_installed_network_gives_a_distance_of_zero_to_itself_and_more_to_others(checkpoints, photo):
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), checkpoints / BACKBONES["squeeze"])
    blurred = torch.nn.functional.avg_pool2d(photo, 5, 1, 2)
    same, other = perceptual_distances(photo, photo), perceptual_distances(photo, blurred)
    assert same == {"lpips_squeeze": 0}
    assert other["lpips_squeeze"] > 1e-4
    assert perceptual_distances(photo[:, :1], blurred[:, :1]).keys() == {"lpips_squeeze"}


def test_none_is_downloaded(checkpoints, photo):
    assert perceptual_distances(photo, photo) == {}
    assert list(checkpoints.iterdir()) == []


def test_images_too_small_for_the_networks_have_none(photo):
    assert perceptual_distances(photo[..., :63, :], photo[..., :63, :]) == {}


def test_images_too_large_for_memory_have_none(checkpoints):
    torch.save(squeezenet1_1().state_dict(), checkpoints / BACKBONES["squeeze"])
    large = torch.zeros(1, 3, 64, 70_000)
    assert perceptual_distances(large, large) == {}


def test_without_torchmetrics_there_are_none(checkpoints, photo, monkeypatch):
    torch.save(squeezenet1_1().state_dict(), checkpoints / BACKBONES["squeeze"])
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics.functional.image", None)
    assert perceptual_distances(photo, photo) == {}
