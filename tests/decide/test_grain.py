"""What is added back, and what stays out."""

from dataclasses import replace

import pytest
import torch

from fidelity.decide.damage import measure_conditions
from fidelity.decide.grain import judge_grain
from fidelity.decide.recipes import RECIPES
from fidelity.steps.grain import LEVEL_NODES, Grain


def grain(deviation=4.0, unevenness=0.1, across=0.4, shadows=None):
    coefficients = torch.zeros(3, 24)
    coefficients[:, -1] = across
    levels = torch.full((LEVEL_NODES,), deviation / 255)
    return Grain(levels, torch.eye(3), coefficients, unevenness, shadows)


@pytest.fixture
def clean(photo):
    return replace(measure_conditions(photo), jpeg_quality=None)


@pytest.mark.parametrize(
    ("domain", "found", "is_laid"),
    [
        ("painting", grain(), True),
        ("painting", grain(across=0.0), True),
        ("painting", grain(deviation=0.5), False),
        ("painting", grain(unevenness=0.6), False),
        ("painting", None, False),
        ("photo", grain(), True),
        ("photo", grain(shadows=0.5), True),
        ("photo", grain(across=0.0), False),
        ("photo", grain(shadows=1.0), False),
        ("line_art", grain(), True),
        ("anime_sd", grain(), False),
    ],
)
def test_auto_lays_what_is_even_and_like_film_or_paper(clean, domain, found, is_laid):
    assert judge_grain(found, RECIPES[domain], clean)[0] == is_laid


def test_the_damage_of_jpeg_stays_out(clean):
    assert not judge_grain(grain(), RECIPES["painting"], replace(clean, jpeg_quality=70.0))[0]
    assert judge_grain(grain(), RECIPES["painting"], replace(clean, jpeg_quality=95.0))[0]
    assert not judge_grain(grain(), RECIPES["painting"], replace(clean, blockiness=0.5))[0]


def test_the_user_decides(clean):
    kept, why = judge_grain(grain(unevenness=0.6), replace(RECIPES["anime_sd"], grain="keep"), clean)
    assert kept and why == "grain of 4.0 of 255 added back: chosen by the user"
    assert judge_grain(grain(), replace(RECIPES["painting"], grain="off"), clean) == (False, "")
    keep = replace(RECIPES["photo"], grain="keep")
    assert judge_grain(None, keep, clean)[1] == "no grain added back: too few flat areas to measure it"
    assert judge_grain(grain(deviation=0.1), keep, clean) == (False, "no grain added back: none was lost")


def test_correlation_is_that_of_neighbors():
    assert grain(across=0.4).correlation == pytest.approx(0.4, abs=0.02)
    assert grain(across=0.0).correlation == pytest.approx(0.0, abs=0.02)
