"""Detects the domain of an image from its metadata and its pixels."""

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
from ..networks.cache import NETWORKS
from ..networks.compute import Compute
from ..steps.restore import restore
from .features import Features, measure_features, measure_patch_features, on_white, shrink, take_opaque
from .model_choice import shipped_restorer
from .pixel_art import find_pixel_art
from .provenance import Provenance
from .recipes import DRAWN_DOMAINS, SAFE_DOMAIN
from .restoration import judge_restoration

DOMAINS: tuple[Domain, ...] = get_args(Domain)
"""All domains, in the order of the scores."""

PAIRS = tuple(combinations(range(len(DOMAINS)), 2))
"""All pairs of domains by index, in the order of the trained model's decisions."""

SURE_CONFIDENCE = 0.8
"""Least confidence of a verdict that counts as sure: nine in ten of those are right (see tools/training/README.md)."""

DRAWN_CONFIDENCE = 0.65
"""Least total probability of the drawn domains at which a drawn recipe is followed. A drawn network on a photograph costs as
much as a natural one on a drawing, and from 0.5 to this, hardly half of the images are drawings. It also exceeds the three
fifths that an image unlike any domain gets."""

DAMAGED_DRAWN_CONFIDENCE = 0.55
"""The same for a damaged image, of which a part still looks like a photograph's texture (see tools/benchmarks/README.md)."""

LIKELY_CONFIDENCE = 0.5
"""Least confidence at which the recipe of an undrawn label is followed."""

_VIEW_PX = 320
"""Longest side of the view of a damaged image that is restored and judged."""
_DAMAGED = 0.5
"""Restore strength from which the restored view counts as well."""
_AGAIN_WEIGHT = 2.0
"""Weight of the restored view at full strength, relative to the image as it is."""

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
"""How many times more or less likely the metadata make each domain; 1 if not listed. A camera is not proof, since paintings
and drawings are photographed too (of 766 labeled files with a camera's EXIF, 193 are paintings; a factor of 6 leaves 98 of
100 photographs right). Nor is a generator, since it also produces photorealistic images."""


@dataclass(frozen=True)
class Verdict:
    """The detected domain of an image, with its confidence."""

    label: Domain
    """The most likely domain."""
    confidence: float
    """Score of that domain, in [0, 1]."""
    scores: dict[Domain, float]
    """Scores of all five domains; they add up to 1."""
    evidence: tuple[str, ...]
    """Why, as readable text: metadata first, then measurements."""
    is_damaged: bool = False
    """Whether the image was also judged as it is after restoration."""

    @property
    def recipe_domain(self) -> Domain:
        """The domain whose recipe to follow.

        The drawn domains count together, since they share their networks: an image between two types of drawing is still a
        drawing. If they are likely enough together, this is the most likely of them; otherwise it is the label if that is not
        one of them and has half the probability, and else `SAFE_DOMAIN`.
        """
        least = DAMAGED_DRAWN_CONFIDENCE if self.is_damaged else DRAWN_CONFIDENCE
        if sum(self.scores[domain] for domain in DRAWN_DOMAINS) >= least:
            return max(DRAWN_DOMAINS, key=self.scores.__getitem__)
        return self.label if self.confidence >= LIKELY_CONFIDENCE and self.label not in DRAWN_DOMAINS else SAFE_DOMAIN

    @property
    def is_sure(self) -> bool:
        """Whether the label is sure; the recipe may be that of another domain if not."""
        return self.confidence >= SURE_CONFIDENCE


def classify(image: Tensor, provenance: Provenance | None = None, texture: Features | None = None) -> Verdict:
    """Detects the domain of an image.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1].
        provenance: What its file says about its origin; without it, the pixels alone decide.
        texture: From `fidelity.decide.features.measure_patch_features`, if already measured.

    Returns:
        The verdict. An image unlike all five domains gets a low confidence. A damaged image is also judged as it is after
        restoration, since noise and blocks look like a photograph's texture.
    """
    pixel_art = find_pixel_art(image)
    if pixel_art:
        scores: dict[Domain, float] = {one: 0.9 if one == "line_art" else 0.1 / (len(DOMAINS) - 1) for one in DOMAINS}
        evidence = (f"{pixel_art}; networks round its pixels, nearest neighbor would keep them",)
        if provenance and provenance.evidence:
            scores, evidence = weigh(scores, provenance), provenance.evidence + evidence
        label = max(DOMAINS, key=scores.__getitem__)
        return Verdict(label, scores[label], scores, evidence)
    texture = texture or measure_patch_features(image)
    features = measure_features(image, texture)
    scores = _score_pixels(features)
    evidence = tuple(_describe(features))
    weight = _AGAIN_WEIGHT * (judge_restoration(texture) - _DAMAGED) / (1 - _DAMAGED)
    if weight > 0:
        again = _score_pixels(measure_features(_restore_view(image)))
        scores = {one: (scores[one] + weight * again[one]) / (1 + weight) for one in DOMAINS}
        evidence += ("damaged, so it was also judged after restoration",)
    if provenance and provenance.evidence:
        scores = weigh(scores, provenance)
        evidence = provenance.evidence + evidence
    label = max(DOMAINS, key=scores.__getitem__)
    return Verdict(label, scores[label], scores, evidence, is_damaged=weight > 0)


def _restore_view(image: Tensor) -> Tensor:
    """Returns a small view of an image, restored on the CPU."""
    view = on_white(shrink(take_opaque(image), _VIEW_PX))
    network = NETWORKS.load(shipped_restorer("natural"))
    return restore(view, network, 0.0, keeps_colors=False, compute=Compute(torch.device("cpu")))


def named_verdict(domain: Domain) -> Verdict:
    """Returns the verdict for a domain that the user chose."""
    return Verdict(domain, 1.0, {other: float(other == domain) for other in DOMAINS}, ("chosen by the user",))


@dataclass(frozen=True)
class _Expert:
    """One support vector machine with a radial kernel for each pair of domains, on a subset of the features."""

    names: list[str]
    share: float
    """Exponent of its probabilities before they are multiplied with those of the other experts."""
    mean: Tensor
    spread: Tensor
    weights: Tensor
    """``(pairs, features)``: weight of each feature in the squared distance between two images."""
    limit: float
    """Standardized features are clipped to this, so that none dominates the others."""
    vectors: Tensor
    """``(vectors, features)``, standardized support vectors."""
    shares: Tensor
    """``(vectors, pairs)``: coefficient of each vector in favor of the first domain of a pair."""
    offsets: Tensor
    """``(pairs,)``: intercepts."""
    familiar: float
    """Largest mean square of the standardized features at which an image still resembles the training images."""


@cache
def _load_experts() -> list[_Expert]:
    with safe_open(_MODEL_FILE, framework="pt") as file:
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dictionary)
        numbers = {name: json.loads(value) for name, value in file.metadata().items()}
    found: list[_Expert] = []
    for name, expert in numbers["experts"].items():
        own = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        vectors = own.pop("vectors").float() * numbers["step"]
        found.append(
            _Expert(
                expert["features"], expert["share"], limit=numbers["limit"], familiar=expert["familiar"], vectors=vectors, **own
            )
        )
    return found


def _score_pixels(features: Features) -> dict[Domain, float]:
    """Returns the trained model's probability of each domain; nearly uniform for an image unlike the training images."""
    logarithms, strangeness = torch.zeros(len(DOMAINS)), 0.0
    for expert in _load_experts():
        said, strange = _ask(expert, features)
        logarithms += expert.share * said
        strangeness = max(strangeness, strange)
    trust = 1.0 if strangeness <= 1 else strangeness**-2
    mixed = trust * torch.softmax(logarithms, dim=0) + (1 - trust) / len(DOMAINS)
    return dict(zip(DOMAINS, mixed.tolist(), strict=True))


def _ask(expert: _Expert, features: Features) -> tuple[Tensor, float]:
    """Returns the log probability of each domain, and how far the image is from the training images: 1 is the limit."""
    raw = (torch.tensor([features[name] for name in expert.names]) - expert.mean) / expert.spread
    apart = raw.clamp(-expert.limit, expert.limit) - expert.vectors
    likeness = (apart.square() @ expert.weights.T).neg().exp()
    decisions = (likeness * expert.shares).sum(dim=0) + expert.offsets
    # Each pair's decision is a log odds; the pairs combine as a product of probabilities.
    scores = torch.zeros(len(DOMAINS))
    for (first, second), decision in zip(PAIRS, decisions, strict=True):
        scores[first] += functional.logsigmoid(decision)
        scores[second] += functional.logsigmoid(-decision)
    return torch.log_softmax(scores, dim=0), raw.clamp(-20, 20).square().mean().item() / expert.familiar


def _describe(features: Features) -> list[str]:
    """Returns the most telling measurements as readable text."""
    flat = features["whole wide range below 4.5"]
    lines = features["whole strong dark lines 1"]
    noise = math.exp(features["noise of flattest third"]) - 0.1
    return [
        f"{100 * flat:.0f} % of the area is flat",
        f"dark outlines on {100 * lines:.1f} % of the area",
        f"{100 * features['top 16 colors']:.0f} % of the pixels in 16 colors",
        f"grain of {max(noise, 0):.2f} 8-bit levels in the flattest third",
        f"mean saturation {features['saturation mean']:.2f}",
    ]


def weigh(scores: Mapping[Domain, float], provenance: Provenance) -> dict[Domain, float]:
    """Combines the scores of the pixels with the metadata.

    Args:
        scores: Scores from the pixels; they add up to 1.
        provenance: What the file says about its origin.
    """
    tables = [_BY_FAMILY[provenance.family]] if provenance.family else []
    if provenance.family and provenance.style:
        tables.append(_BY_STYLE[provenance.style])
    if provenance.camera:
        tables.append(_BY_CAMERA)
    if provenance.program:
        tables.append(_BY_PROGRAM)
    # Keep every score above 0, so that metadata can always outweigh the pixels.
    weighted: dict[Domain, float] = {domain: 0.98 * score + 0.02 / len(scores) for domain, score in scores.items()}
    for table in tables:
        for domain, factor in table.items():
            weighted[domain] *= factor
    total = sum(weighted.values())
    return {domain: score / total for domain, score in weighted.items()}
