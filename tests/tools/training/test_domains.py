"""The classifier learns, and what is written down decides as what was trained."""

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.decide import domain
from fidelity.decide.domain import DOMAINS
from fidelity.decide.features import measure_features
from tools.training.domains import PAIRS, VARIANTS, Classifier, Expert, load, measure, validate, write

NAMES = list(measure_features(torch.zeros(1, 3, 64, 64)))


@pytest.fixture(scope="module")
def learned():
    """Made-up features in which each kind has twenty of its own raised for either expert, 30 images each of 10 owners."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(DOMAINS)), 30)
    features = generator.normal(size=(len(labels), 2, len(NAMES)))
    for index, label in enumerate(labels):
        features[index, :, label * 20 : label * 20 + 20] += 2
        features[index, :, 200 + label * 20 : 200 + label * 20 + 20] += 2
    return features, labels, Classifier().fit(features, labels)


def test_it_learns_what_tells_kinds_apart(learned):
    features, labels, classifier = learned
    assert (classifier.predict(features[:, 0]).argmax(axis=1) == labels).mean() > 0.97


def test_a_feature_counts_more_that_tells_kinds_apart_and_less_that_wavers(learned):
    features, labels, _ = learned
    expert = Expert().fit(features[..., :150], labels)
    assert PAIRS[4] == (1, 2)
    weight = expert.weights[4]  # the pair's own features are 20 to 59
    assert weight[20:60].min() > 3 * max(weight[:20].max(), weight[60:].max())
    wavering = features[..., :150].copy()
    wavering[:, 1, 20] += 4
    assert Expert().fit(wavering, labels).weights[4, 20] < 0.5 * weight[20]


def test_one_expert_looks_at_what_is_measured_and_one_at_what_the_network_sees(learned):
    measured, seen = learned[2].columns.values()
    assert sorted(measured + seen) == list(range(len(NAMES)))
    assert all(NAMES[index].startswith("map ") for index in seen) and len(seen) == 2 * (40 + 112)
    assert not any(NAMES[index].startswith("map ") for index in measured)


def test_judging_what_was_not_seen_keeps_owners_apart(learned):
    features, labels, _ = learned
    owners = [f"owner {index % 10}" for index in range(len(labels))]
    scores = validate(features, labels, owners)
    assert np.allclose(scores.sum(axis=2), 1)
    assert (scores[:, 0].argmax(axis=1) == labels).mean() > 0.9


@pytest.fixture
def written(learned, tmp_path, monkeypatch):
    """The file of that classifier, which decides for as long as the test runs."""
    features, _, classifier = learned
    path = tmp_path / "domains.safetensors"
    write(classifier, features, path)
    monkeypatch.setattr(domain, "_MODEL_FILE", path)
    domain._load_experts.cache_clear()
    yield path
    domain._load_experts.cache_clear()


def test_what_is_written_decides_as_what_was_trained(learned, written):
    features, _, classifier = learned
    for row in features[::29, 0]:
        scores = domain._score_pixels(dict(zip(NAMES, row.tolist(), strict=True)))
        assert list(scores.values()) == pytest.approx(classifier.predict(row[None])[0].tolist(), abs=0.01)
    assert [name for expert in domain._load_experts() for name in expert.names] == NAMES


@pytest.mark.usefixtures("written")
def test_what_is_unlike_anything_learned_from_is_unsure():
    scores = domain._score_pixels(dict.fromkeys(NAMES, 9.0))
    assert max(scores.values()) < 0.3


def test_every_variant_of_an_image_is_measured_alike(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (90, 120, 4), np.uint8)
    Image.fromarray(samples).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png")
    assert (image.mode, image.size) == ("RGB", (120, 90))
    assert measure(image).shape == (len(VARIANTS), len(NAMES))
