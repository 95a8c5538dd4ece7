"""Only a source whose damage is as coarse as its detail is restored at half size."""

import pytest
import torch
from skimage import data

from fidelity.decide.decision import decide
from fidelity.decide.half_size import LEAST_STRENGTH, describe_half, with_half_size
from fidelity.decide.model_choice import ModelChooser, Restorer, shipped_restorer
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.imaging.resample import resize
from fidelity.networks.loader import list_models, load_model
from fidelity.preparation import Preparation, prepare
from fidelity.steps.restore import HalfSize
from tools.benchmarks.restoring import as_jpeg

SIDE = 192


@pytest.fixture(scope="module")
def scene():
    """A photograph, sharp to the pixel."""
    photo = torch.from_numpy(data.astronaut().copy()).movedim(-1, 0)[None].float() / 255
    return resize(photo, (SIDE, SIDE)).clamp(0, 1)


@pytest.fixture(scope="module")
def restorer():
    return Restorer(load_model(shipped_restorer("natural")), is_shipped=True, is_held=True)


def noisy(image, sigma=18.0):
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return as_jpeg((image + noise * sigma / 255).clamp(0, 1), 60)


@pytest.fixture(scope="module")
def enlarged(scene):
    """The same at half the size, damaged there, and enlarged, as an old scan that was passed around."""
    return as_jpeg(resize(noisy(resize(scene, (SIDE // 2, SIDE // 2)).clamp(0, 1)), (SIDE, SIDE)).clamp(0, 1), 80)


def test_coarse_damage_is_restored_at_half_size_and_fine_damage_is_not(scene, enlarged, restorer):
    coarse = with_half_size(restorer, enlarged, 1.0)
    assert coarse.half and coarse.half.share > 0.5
    assert "at half size" in describe_half(coarse)[0]
    for fine in (noisy(scene), as_jpeg(scene, 40)):
        assert with_half_size(restorer, fine, 1.0).half is None
    assert describe_half(restorer) == ()


def test_what_is_hardly_damaged_too_small_or_restored_by_another_network_is_not_asked_about(enlarged, restorer, compact):
    assert with_half_size(restorer, enlarged, LEAST_STRENGTH - 0.01).half is None
    assert with_half_size(restorer, enlarged[..., :40, :40], 1.0).half is None
    assert with_half_size(Restorer(compact(scale=1), is_shipped=False), enlarged, 1.0).half is None


def test_drawings_are_restored_once_more_and_photographs_are_not(restorer):
    drawn = Restorer(load_model(shipped_restorer("drawn")), is_shipped=True)
    halves = [one.with_half(0.5).half for one in (restorer, drawn)]
    assert [half and (half.enlarger.name, half.again) for half in halves] == [
        ("natural-x2.safetensors", False),
        ("drawn-x2.safetensors", True),
    ]


def test_the_decision_says_so(scene, enlarged):
    chooser = ModelChooser("auto", list_models([]))
    decisions = [decide(image, chooser, Settings(Target(2), domain="photo"), 2**33) for image in (enlarged, noisy(scene))]
    halves = [decision.planned.restorer and decision.planned.restorer.half for decision in decisions]
    assert isinstance(halves[0], HalfSize) and halves[1] is None
    assert [any("half size" in reason for reason in decision.reasons) for decision in decisions] == [True, False]


def test_prepare_does_the_same(enlarged):
    prepared = prepare(enlarged, Preparation("auto", domain="photo"), ModelChooser("auto", list_models([])))
    assert any("at half size" in step for step in prepared.done)
