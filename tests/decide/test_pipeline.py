"""The whole way, and that a recipe's settings are what happens."""

from dataclasses import replace

import torch

from fidelity.decide.pipeline import enlarge
from fidelity.decide.planning import Target
from fidelity.decide.recipes import RECIPES
from fidelity.steps.gate import GateLimits

RECIPE = RECIPES["photo"]


def test_an_enlargement_holds_its_colours_and_says_so(compact, photo):
    result = enlarge(photo, compact(), RECIPE, Target(scale=3))
    assert result.image.shape == (1, 3, 288, 336)
    assert result.color_drift.mean < 0.3
    assert result.gate is not None
    assert result.full_drift.mean >= result.color_drift.mean


def test_steps_that_are_off_do_nothing(compact, photo):
    result = enlarge(photo, compact(), replace(RECIPE, consistency="off", gate="off"))
    assert result.gate is None
    assert result.sharpness_ratio == 1


def test_the_gate_keeps_to_the_recipes_limits(compact, photo):
    recipe = replace(RECIPE, consistency="off", channels="rgb", gate_limits=GateLimits(0.4, 1.5))
    result = enlarge(photo, compact(), recipe)
    assert result.gate.action == "blend"
    assert result.color_drift.mean <= 0.4
    assert result.color_drift.max <= 1.5


def test_progress_names_its_stages(compact, photo):
    stages = []
    enlarge(photo, compact(), RECIPE, progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["upscale", "consistency"]


def test_alpha_and_grey_go_all_the_way(compact, photo):
    alpha = torch.ones_like(photo[:, :1])
    alpha[..., :30] = 0
    assert enlarge(torch.cat((photo, alpha), dim=1), compact(), RECIPE).image.shape[1] == 4
    assert enlarge(photo[:, :1], compact(), RECIPE).image.shape[1] == 1
