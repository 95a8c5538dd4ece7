"""Measured damage is restored, requested corrections are applied, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from skimage import data

from fidelity.decide.damage import measure_conditions
from fidelity.decide.decision import decide
from fidelity.decide.model_choice import ModelChooser
from fidelity.decide.recipes import choose_cleanup
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.preparation import Preparation, prepare
from fidelity.session import run_passes
from fidelity.steps.balance import Balance, balance
from fidelity.steps.geometry import Lens, correct_geometry


@pytest.fixture
def chooser():
    return ModelChooser("auto", {})


@pytest.fixture
def gentle():
    """A sharp, clean picture: nothing in it looks like damage."""
    astronaut = torch.from_numpy(data.astronaut()).movedim(-1, 0)[None].float() / 255
    return resize(astronaut, (128, 128)).clamp(0.02, 0.98)


def test_what_needs_nothing_comes_out_to_the_bit(gentle, chooser):
    result = prepare(gentle, Preparation(), chooser)
    assert torch.equal(result.image, gentle)
    assert result.done == ()


def test_noise_is_restored_where_measured_and_left_if_off(gentle, chooser):
    noisy = (gentle + torch.randn(gentle.shape, generator=torch.Generator().manual_seed(0)) * 0.06).clamp(0, 1)
    restored = prepare(noisy, Preparation(), chooser)
    assert "restore denoise: damage rated" in restored.done[0]
    assert restored.done[0].endswith("by natural-x1.safetensors")
    assert psnr(restored.image, gentle) > psnr(noisy, gentle) + 3
    assert torch.equal(prepare(noisy, Preparation(restore="off"), chooser).image, noisy)
    half, whole = (prepare(noisy, Preparation(restore_strength=share), chooser).image for share in (0.5, 1.0))
    assert torch.allclose(half, (noisy + whole) / 2, atol=1e-5)
    named = prepare(noisy, Preparation("deblock"), chooser).image
    assert torch.equal(named, whole)


def test_the_stairs_of_a_gradient_are_evened_out_where_measured(chooser):
    ramp = torch.linspace(0.3, 0.45, 512).expand(1, 3, 256, 512)
    stairs = (ramp * 64).round() / 64
    result = prepare(stairs, Preparation(restore="off"), chooser)
    assert result.done[0].startswith("deband on: share of the area with banding")
    assert (result.image - ramp).abs().mean() < (stairs - ramp).abs().mean()


def test_light_comes_before_geometry_and_both_are_told(gentle, chooser):
    wanted = Preparation("off", deband="off", balance=Balance(0.5), lens=Lens(-0.1))
    result = prepare(gentle, wanted, chooser)
    assert torch.equal(result.image, correct_geometry(balance(gentle, Balance(0.5))[0], Lens(-0.1)))
    assert [line.split()[0] for line in result.done] == ["light", "lens"]


def test_a_given_network_restores(gentle, chooser, compact):
    model = compact(1)
    result = prepare(gentle, Preparation("denoise"), chooser, model)
    assert result.done == (f"restore denoise: chosen by the user, by {model.name}",)
    with pytest.raises(ValueError, match="enlarges 2 times; wanted a network of scale 1"):
        prepare(gentle, Preparation("denoise"), chooser, compact(2))


@pytest.mark.parametrize("options", [{"restore": "bogus"}, {"deband": "bogus"}, {"restore_strength": 5}])
def test_settings_that_mean_nothing_are_refused(options):
    with pytest.raises(ValueError, match="wanted"):
        Preparation(**options)


def test_cleaning_is_chosen_by_what_is_measured():
    from dataclasses import replace

    from fidelity.decide.damage import measure_conditions

    calm = replace(measure_conditions(torch.full((1, 3, 64, 64), 0.5)), ringing=0.0, jaggedness=0.0)
    assert choose_cleanup(calm)[0] is None
    assert choose_cleanup(replace(calm, jaggedness=0.9)) == (
        "antialias",
        "cleanup antialias: share of jagged lines 0.90, above 0.6",
    )
    assert choose_cleanup(replace(calm, ringing=2.0, jaggedness=0.9))[0] == "bilateral"


def test_the_domains_recipe_decides_what_is_cleaned():
    calm = measure_conditions(torch.full((1, 3, 64, 64), 0.5))
    assert choose_cleanup(replace(calm, ringing=1.2), "anime_sd")[0] == "bilateral"
    assert choose_cleanup(replace(calm, ringing=1.2), "photo")[0] is None
    assert choose_cleanup(replace(calm, ringing=9.0), "line_art") == (
        None,
        "nothing to clean: the line_art recipe uses no cleanup",
    )


def test_it_restores_as_the_pipeline_does(domain="anime_sd"):
    generator = torch.Generator().manual_seed(0)
    noisy = (0.5 + 14 / 255 * torch.randn(1, 3, 96, 96, generator=generator)).clamp(0, 1)
    restored = prepare(noisy, Preparation(domain=domain), ModelChooser("auto", {})).image
    decision = decide(noisy, ModelChooser("auto", {}), Settings(Target(scale=2.0), domain, passes="direct"), 2**32)
    assert decision.recipe.restore == "denoise"
    assert torch.equal(restored, run_passes(noisy, decision).reference)
