"""A batch is judged by an image that shows something."""

import pytest
import torch

from fidelity.decide.decision import find_telling
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.session import Session


@pytest.fixture
def frames(photo):
    """A fade-in: black, faint, full."""
    return torch.cat((torch.zeros_like(photo), 0.1 * photo, photo))


def test_the_first_decides_unless_it_shows_hardly_anything(frames, photo):
    assert find_telling(photo) == 0
    assert find_telling(frames) == 2
    assert find_telling(frames.flip(0)) == 0
    assert find_telling(torch.cat((0.7 * photo, photo))) == 0
    assert find_telling(torch.zeros(2, 1, 1, 1)) == 0
    flat = torch.zeros_like(photo)
    flat[:, 0] = 1
    assert find_telling(torch.cat((0.3 * photo, flat))) == 0  # a color is no contrast


def test_a_black_first_frame_changes_no_decision_and_is_told(frames, photo):
    session = Session(Settings(Target(scale=2)))
    alone, all_of_them = session.decide(photo), session.decide(frames)
    assert all_of_them.verdict == alone.verdict
    assert all_of_them.recipe == alone.recipe
    assert "judged by image 3 of 3: the first shows hardly anything" in all_of_them.reasons
