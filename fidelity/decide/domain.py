"""Which kind of image this is: by what its file says, and by what its pixels measure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import get_args

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from ..choices import Domain
from .features import Features, measure_features
from .provenance import Provenance
from .recipes import DRAWN_DOMAINS, SAFE_DOMAIN

DOMAINS: tuple[Domain, ...] = get_args(Domain)
"""All kinds of image, in the order of the scores."""

PAIRS = tuple(combinations(range(len(DOMAINS)), 2))
"""All pairs of kinds by their places, in the order of what the trained model decides."""

MIN_CONFIDENCE = 0.5
"""Below this the recipe of `SAFE_DOMAIN` is used."""

DRAWN_CONFIDENCE = 0.7
"""Probability of all drawn domains together from which an unsure verdict takes a drawn recipe: more than the three of five that
an image like none of them gets."""

_MODEL_FILE = Path(__file__).parent / "domains.safetensors"

_BY_FAMILY: dict[str, dict[Domain, float]] = {
    "flux": {"anime_flux": 1, "anime_sd": 0.001, "line_art": 0.01, "painting": 0.03, "photo": 0.1},
    "sd": {"anime_flux": 0.001, "anime_sd": 1, "line_art": 0.01, "painting": 0.03, "photo": 0.1},
    "other": {"anime_flux": 1, "anime_sd": 1, "line_art": 0.2, "painting": 0.2, "photo": 0.5},
}
_BY_STYLE: dict[str, dict[Domain, float]] = {
    "drawn": {"photo": 0.02, "painting": 0.3},
    "photo": {"photo": 20},
    "painting": {"photo": 0.1, "painting": 3},
}
_BY_CAMERA: dict[Domain, float] = {"photo": 6, "anime_flux": 0.01, "anime_sd": 0.01}
_BY_PROGRAM: dict[Domain, float] = {"photo": 0.02, "anime_flux": 0.1, "anime_sd": 0.1}
"""How many times more or less likely each kind is, by what the file says; one where nothing is given. A camera does not
settle it, for paintings and drawings are photographed too (of 766 labelled files with a camera's EXIF, 193 are paintings; a
factor of 6 leaves 98 of 100 photographs right); nor does a generator, for it also makes what looks like photos."""


@dataclass(frozen=True)
class Verdict:
    """A kind of image, and how sure that is."""

    label: Domain
    """The likeliest kind."""
    confidence: float
    """Its score, in [0, 1]."""
    scores: dict[Domain, float]
    """Of all five; they add up to 1."""
    evidence: tuple[str, ...]
    """Why, in words: what the file says first, then what was measured."""

    @property
    def recipe_domain(self) -> Domain:
        """The domain whose recipe to follow.

        Where no single domain is likely enough, the drawn ones count together: unsure between two types of drawing is sure
        to be a drawing. Else a safe one.
        """
        if self.is_sure:
            return self.label
        if sum(self.scores[domain] for domain in DRAWN_DOMAINS) >= DRAWN_CONFIDENCE:
            return max(DRAWN_DOMAINS, key=self.scores.__getitem__)
        return SAFE_DOMAIN

    @property
    def is_sure(self) -> bool:
        """Whether the likeliest kind is likely enough to follow its recipe."""
        return self.confidence >= MIN_CONFIDENCE


def classify(image: Tensor, provenance: Provenance | None = None) -> Verdict:
    """Tells what kind of image this is.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1].
        provenance: What its file says; pixels alone decide if not given.

    Returns:
        The verdict. An image unlike all five kinds has a low confidence.
    """
    features = measure_features(image)
    scores = _score_pixels(features)
    evidence = tuple(_describe(features))
    if provenance and provenance.evidence:
        scores = weigh(scores, provenance)
        evidence = provenance.evidence + evidence
    label = max(DOMAINS, key=scores.__getitem__)
    return Verdict(label, scores[label], scores, evidence)


def named_verdict(domain: Domain) -> Verdict:
    """The verdict of a user who named the kind."""
    return Verdict(domain, 1.0, {other: float(other == domain) for other in DOMAINS}, ("named by the user",))


@dataclass(frozen=True)
class _Expert:
    """A support vector machine with a radial kernel for each pair of kinds, all of them on some of the features."""

    names: list[str]
    share: float
    """The power to which its probabilities are raised before they are multiplied with the others'."""
    mean: Tensor
    spread: Tensor
    weights: Tensor
    """``(pairs, features)``: of each feature in the squared distance of two images."""
    limit: float
    """Standardised features are cut off there, so that none can shout the others down."""
    vectors: Tensor
    """``(vectors, features)``, standardised."""
    shares: Tensor
    """``(vectors, pairs)``: what each vector says for the first kind of a pair."""
    offsets: Tensor
    """``(pairs,)``"""
    familiar: float
    """Mean square of the standardised features up to which an image is like those that were learned from."""


@cache
def _load_experts() -> list[_Expert]:
    with safe_open(_MODEL_FILE, framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        numbers = {name: json.loads(value) for name, value in file.metadata().items()}
    found: list[_Expert] = []
    for name, told in numbers["experts"].items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        vectors = own.pop("vectors").float() * numbers["step"]
        found.append(
            _Expert(told["features"], told["share"], limit=numbers["limit"], familiar=told["familiar"], vectors=vectors, **own)
        )
    return found


def _score_pixels(features: Features) -> dict[Domain, float]:
    """The probability of each kind by the trained model; nearly even for an image unlike any that it learned from."""
    logarithms, strangeness = torch.zeros(len(DOMAINS)), 0.0
    for expert in _load_experts():
        said, strange = _ask(expert, features)
        logarithms += expert.share * said
        strangeness = max(strangeness, strange)
    trust = 1.0 if strangeness <= 1 else strangeness**-2
    mixed = trust * torch.softmax(logarithms, dim=0) + (1 - trust) / len(DOMAINS)
    return dict(zip(DOMAINS, mixed.tolist(), strict=True))


def _ask(expert: _Expert, features: Features) -> tuple[Tensor, float]:
    """The logarithm of the probability of each kind, and how unlike what it learned from the image is: 1 is the limit."""
    raw = (torch.tensor([features[name] for name in expert.names]) - expert.mean) / expert.spread
    apart = raw.clamp(-expert.limit, expert.limit) - expert.vectors
    likeness = (apart.square() @ expert.weights.T).neg().exp()
    decisions = (likeness * expert.shares).sum(dim=0) + expert.offsets
    # Each pair's decision is the logarithm of odds; what all pairs say together is their product.
    scores = torch.zeros(len(DOMAINS))
    for (first, second), decision in zip(PAIRS, decisions, strict=True):
        scores[first] += functional.logsigmoid(decision)
        scores[second] += functional.logsigmoid(-decision)
    return torch.log_softmax(scores, dim=0), raw.clamp(-20, 20).square().mean().item() / expert.familiar


def _describe(features: Features) -> list[str]:
    """What was measured, in words, the most telling figures alone."""
    flat = features["whole wide range below 4.5"]
    lines = features["whole strong dark lines 1"]
    noise = math.exp(features["noise of flattest third"]) - 0.1
    return [
        f"{100 * flat:.0f} % of it is flat",
        f"dark outlines on {100 * lines:.1f} % of it",
        f"{100 * features['top 16 colors']:.0f} % of it in 16 colours",
        f"grain of {max(noise, 0):.2f} steps of 8 bits in its flattest third",
        f"mean saturation {features['saturation mean']:.2f}",
    ]


def weigh(scores: Mapping[Domain, float], provenance: Provenance) -> dict[Domain, float]:
    """What pixels and the file say together.

    Args:
        scores: Of the pixels; they add up to 1.
        provenance: What the file says.
    """
    tables = [_BY_FAMILY[provenance.family]] if provenance.family else []
    if provenance.family and provenance.style:
        tables.append(_BY_STYLE[provenance.style])
    if provenance.camera:
        tables.append(_BY_CAMERA)
    if provenance.program:
        tables.append(_BY_PROGRAM)
    # Pixels are never so sure that a file could not say otherwise.
    weighted: dict[Domain, float] = {domain: 0.98 * score + 0.02 / len(scores) for domain, score in scores.items()}
    for table in tables:
        for domain, factor in table.items():
            weighted[domain] *= factor
    total = sum(weighted.values())
    return {domain: score / total for domain, score in weighted.items()}
