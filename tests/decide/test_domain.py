"""Verdicts: what files say and what pixels measure, put together."""

import json

import numpy as np
import pytest
import torch
from skimage import data

from fidelity.decide import domain
from fidelity.decide.domain import DOMAINS, SURE_CONFIDENCE, Verdict, classify, named_verdict
from fidelity.decide.features import measure_features
from fidelity.decide.provenance import Provenance
from fidelity.decide.recipes import RECIPES, SAFE_DOMAIN
from fidelity.files.metadata import read_provenance
from fidelity.files.read import read_image
from tools.training.generators.drawn import drawing


def as_image(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float() / 255


def test_there_is_a_recipe_for_every_domain():
    assert set(DOMAINS) == set(RECIPES)


def test_scores_of_all_kinds_add_up_and_the_best_is_the_label(photo):
    verdict = classify(photo)
    assert list(verdict.scores) == list(DOMAINS)
    assert sum(verdict.scores.values()) == pytest.approx(1, abs=1e-5)
    assert verdict.confidence == max(verdict.scores.values()) == verdict.scores[verdict.label]
    assert verdict.evidence


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "rocket"])
def test_photographs_are_photos(name):
    verdict = classify(as_image(getattr(data, name)()))
    assert verdict.label == "photo", verdict


def test_generated_drawings_are_seldom_taken_for_photos():
    verdicts = [classify(torch.from_numpy(drawing(256, np.random.default_rng((3, index)), 3))[None]) for index in range(6)]
    assert sum(verdict.label == "photo" for verdict in verdicts) <= 1


def test_noise_does_not_make_a_photo_of_a_drawing(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    drawings = [torch.from_numpy(drawing(200, np.random.default_rng((3, index)), 3))[None] for index in range(4)]
    noisy = [(image + 0.08 * torch.randn(image.shape, generator=generator)).clamp(0, 1) for image in drawings]
    judged = [classify(image) for image in noisy]
    assert all("judged after restoration" in str(verdict.evidence) for verdict in judged)
    monkeypatch.setattr(domain, "_AGAIN_WEIGHT", 0.0)
    once = [classify(image) for image in noisy]
    photos, photos_before = (sum(verdict.scores["photo"] for verdict in verdicts) for verdicts in (judged, once))
    assert photos < photos_before


@pytest.mark.parametrize(
    ("provenance", "label"),
    [
        (Provenance(family="flux", style="drawn", evidence=("x",)), "anime_flux"),
        (Provenance(family="sd", style="drawn", evidence=("x",)), "anime_sd"),
        (Provenance(family="sd", style="photo", evidence=("x",)), "photo"),
        (Provenance(camera="Canon EOS", evidence=("x",)), "photo"),
    ],
)
def test_what_a_file_says_is_weighed_against_a_photo(provenance, label):
    verdict = classify(as_image(data.astronaut()), provenance)
    assert verdict.label == label
    assert verdict.evidence[0] == "x"


def test_a_drawing_program_makes_a_photo_unlikely(photo):
    before, after = classify(photo), classify(photo, Provenance(program="Krita", evidence=("x",)))
    assert after.scores["photo"] < before.scores["photo"]


def test_a_file_that_says_nothing_changes_nothing(photo):
    assert classify(photo, Provenance()) == classify(photo)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)),
        (torch.arange(256).reshape(1, 1, 1, 256) // 4 % 2 ^ torch.arange(256).reshape(1, 1, 256, 1) // 4 % 2).float(),
    ],
    ids=["noise", "checkerboard"],
)
def test_what_is_like_none_of_the_five_is_unsure_and_takes_the_safe_recipe(image):
    verdict = classify(image)
    assert verdict.confidence < SURE_CONFIDENCE
    assert verdict.recipe_domain == SAFE_DOMAIN


def test_a_sure_verdict_takes_its_own_recipe():
    assert named_verdict("painting").recipe_domain == "painting"
    scores = dict.fromkeys(DOMAINS, 0.2)
    assert Verdict("painting", 0.3, scores, ()).recipe_domain == SAFE_DOMAIN


def test_unsure_between_two_types_of_drawing_is_sure_to_be_a_drawing():
    scores = {"photo": 0.2, "anime_flux": 0.35, "anime_sd": 0.03, "line_art": 0.37, "painting": 0.05}
    verdict = Verdict("line_art", 0.37, scores, ())
    assert not verdict.is_sure
    assert verdict.recipe_domain == "line_art"


def test_half_a_drawing_is_not_enough_for_a_drawn_network():
    scores = {"photo": 0.05, "anime_flux": 0.0, "anime_sd": 0.0, "line_art": 0.5, "painting": 0.45}
    assert Verdict("line_art", 0.5, scores, ()).recipe_domain == SAFE_DOMAIN


def test_a_damaged_drawing_needs_less_of_its_kind():
    scores = {"photo": 0.3, "anime_flux": 0.0, "anime_sd": 0.25, "line_art": 0.35, "painting": 0.1}
    assert Verdict("line_art", 0.35, scores, ()).recipe_domain == SAFE_DOMAIN
    assert Verdict("line_art", 0.35, scores, (), is_damaged=True).recipe_domain == "line_art"


def test_a_likely_painting_takes_its_recipe_though_it_is_not_sure():
    scores = {"photo": 0.3, "anime_flux": 0.0, "anime_sd": 0.0, "line_art": 0.1, "painting": 0.6}
    verdict = Verdict("painting", 0.6, scores, ())
    assert not verdict.is_sure
    assert verdict.recipe_domain == "painting"


def test_the_model_knows_every_feature_by_name():
    from fidelity.decide import domain

    known = set(measure_features(torch.zeros(1, 3, 64, 64)))
    experts = domain._load_experts()
    assert len(experts) == 2 and all(set(expert.names) <= known for expert in experts)


def test_with_metadata_every_labelled_file_that_speaks_is_right(test_data):
    folder, spoken = test_data / "images/domains", 0
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        provenance = read_provenance(folder / entry["file"])
        if provenance.family or provenance.camera:
            spoken += 1
            assert classify(read_image(folder / entry["file"]).image, provenance).label == entry["label"], entry["file"]
    assert spoken >= 29
