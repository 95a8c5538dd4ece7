"""Measurements decide what is on "auto", and nothing else."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from fidelity.decide.damage import Conditions
from fidelity.decide.recipes import DEFAULT_VALUES, RECIPES, settle
from fidelity.steps.cleanup import CleanupMethod

CLEAN = Conditions(
    long_edge_px=1000,
    jpeg_quality=None,
    blockiness=0.0,
    noise_sigma=0.3,
    chroma_noise_sigma=0.2,
    banding=0.0,
    ringing=0.3,
    softness=0.3,
    jaggedness=0.1,
)


@pytest.mark.parametrize("domain", RECIPES)
def test_a_clean_image_gets_the_defaults_and_no_reasons(domain):
    recipe, reasons = settle(RECIPES[domain], CLEAN)
    assert reasons == ()
    for setting, value in DEFAULT_VALUES.items():
        expected = value if getattr(RECIPES[domain], setting) == "auto" else getattr(RECIPES[domain], setting)
        assert getattr(recipe, setting) == expected


@pytest.mark.parametrize(
    ("domain", "damage", "expected"),
    [
        ("photo", {"restore_strength": 0.8}, {"restore": "denoise"}),
        ("photo", {"restore_strength": 0.9, "jpeg_quality": 60.0}, {"restore": "deblock", "channels": "rgb"}),
        ("photo", {"restore_strength": 0.05, "jpeg_quality": 90.0}, {}),
        ("photo", {"restore_strength": 0.3, "jpeg_quality": 93.0}, {"restore": "denoise"}),
        ("photo", {"noise_sigma": 20.0, "restore_strength": 1.0}, {"restore": "denoise", "passes": "stepwise"}),
        ("photo", {"ringing": 2.0}, {"cleanup": "bilateral"}),
        ("photo", {"softness": 0.9, "jaggedness": 0.9}, {}),
        ("photo", {"banding": 0.9}, {"deband": "on"}),
        ("line_art", {"banding": 0.9}, {}),
        ("anime_flux", {"jaggedness": 0.9}, {"cleanup": "antialias"}),
        ("anime_flux", {"ringing": 2.0, "noise_sigma": 8.0}, {}),
        ("anime_sd", {"banding": 0.2}, {"deband": "on"}),
        ("anime_sd", {"restore_strength": 0.2}, {"restore": "denoise"}),
        ("anime_sd", {"ringing": 1.2}, {"cleanup": "bilateral"}),
        ("anime_sd", {"ringing": 9.0, "restore_strength": 0.9}, {"restore": "denoise"}),
        ("line_art", {"restore_strength": 0.2, "jpeg_quality": 90.0}, {"restore": "deblock"}),
        ("line_art", {"ringing": 3.0, "jaggedness": 0.9}, {}),
        ("painting", {"softness": 0.6}, {"cleanup": "unsharp"}),
        ("painting", {"restore_strength": 0.9, "jpeg_quality": 50.0}, {"restore": "deblock"}),
        ("painting", {"noise_sigma": 8.0}, {}),  # canvas and brushwork measure like this
    ],
)
def test_damage_switches_what_the_kind_of_image_asks_for(domain, damage, expected):
    recipe, reasons = settle(RECIPES[domain], replace(CLEAN, **damage))
    clean, _ = settle(RECIPES[domain], CLEAN)
    changed = {name: getattr(recipe, name) for name in DEFAULT_VALUES if getattr(recipe, name) != getattr(clean, name)}
    assert changed == expected
    assert {reason.split(" ")[0] for reason in reasons} == set(expected)


def test_the_reason_names_the_measurement_its_value_and_the_limit():
    _, reasons = settle(RECIPES["photo"], replace(CLEAN, restore_strength=0.8, jpeg_quality=62.4))
    assert "restore deblock: traces of JPEG compression of quality 62, below 92" in reasons


def test_what_is_not_on_auto_is_never_switched():
    chosen = replace(RECIPES["photo"], restore="off", deband="off", channels="luma", cleanup="off", passes="direct")
    recipe, reasons = settle(chosen, replace(CLEAN, restore_strength=1.0, jpeg_quality=20.0, noise_sigma=30.0, ringing=9.0))
    assert recipe == chosen
    assert reasons == ()


def test_switches_name_measurements_and_values_that_exist():
    measures = {field.name for field in fields(Conditions)}
    allowed = {
        "channels": {"luma", "rgb"},
        "restore": {"off", "denoise", "deblock"},
        "deband": {"on"},
        "cleanup": set(get_args(CleanupMethod)),
        "passes": {"direct", "stepwise"},
    }
    for recipe in RECIPES.values():
        for switch in recipe.switches:
            assert switch.measure in measures
            assert switch.value in allowed[switch.setting]
            assert (switch.above is None) != (switch.below is None)


@pytest.mark.parametrize("domain", RECIPES)
def test_diffusion_names_workflows_that_ship_and_denoise_as_they_do(domain):
    recipe, folder = RECIPES[domain], Path(__file__).parents[2] / "workflows/api"
    assert bool(recipe.diffusion) == (domain != "line_art")
    for name in recipe.diffusion:
        nodes = json.loads((folder / f"{name}.json").read_text(encoding="utf-8")).values()
        for node in nodes:
            if node["class_type"] == "FidelityDiffusionPass" and domain != "painting":
                assert node["inputs"]["denoise"] == recipe.diffusion_denoise
