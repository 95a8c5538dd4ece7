"""Trains the pixel-based part of the domain classifier and writes it as plain tensors.

    python -m tools.training.collect FOLDER
    python -m tools.training.domains FOLDER [--check DATA/images/domains] [--output fidelity/decide/domains.safetensors]

Every image is measured unchanged and in common variants: compressed, downscaled and cropped. The printed table comes from
cross-validation grouped by repository owner, since images from one source resemble each other. The exported classifier is
trained on all images.
"""

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

from fidelity.decide.domain import DOMAINS, PAIRS, weigh
from fidelity.decide.embedding import MAP_PREFIX
from fidelity.decide.features import measure_features
from fidelity.files.metadata import read_provenance
from fidelity.files.paths import FileRefusedError
from fidelity.files.read import read_image
from tools.training.collect import LIST

Array = NDArray[np.float64]

LIMIT = 3.0
"""Features are clipped at this many standard deviations."""
STEP = LIMIT / 127
"""Features are rounded to whole steps of this many standard deviations, so that a vector is stored as bytes."""
FIRMNESS = 30.0
"""Penalty for an image on the wrong side of the margin (the C of the support vector machine)."""
REACH = 0.3
"""The kernel is exp(-REACH * d), where d is the weighted mean squared difference between two images' features."""
STEADINESS = 200.0
"""How strongly to discount a feature that changes between variants of an image."""
LEAST_RELEVANCE = 0.1
"""Added to the weight of every feature, even if it separates no domains; the mean weight without it is 1."""
FOLDS = 8
SHARES = {"measured": 0.5, "seen": 1.0}
"""Exponent of each expert's probabilities in the product."""
_LONGEST_PX = 1600
"""Larger images are cropped to their center to save time, since the features only describe texture."""


def as_jpeg(image: Image.Image, quality: int, subsampling: int = 2) -> Image.Image:
    """Compresses an image as JPEG, with chroma at half size (2) or full size (0)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """Resizes an image by a factor."""
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 6, height // 6, width - width // 6, height - height // 6))


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "JPEG 90": lambda image: as_jpeg(image, 90),
    "0.75": lambda image: scaled(image, 0.75),
    "0.5, JPEG 85": lambda image: as_jpeg(scaled(image, 0.5), 85),
    "cropped": _cropped,
    "JPEG 75": lambda image: as_jpeg(image, 75),
    "0.66": lambda image: scaled(image, 0.66),
    "0.85, JPEG 92": lambda image: as_jpeg(scaled(image, 0.85), 92),
}
MILD = slice(1, 3)
"""The variants that must not change a verdict."""


def load(path: Path, crop: tuple[int, int, int, int] | None = None) -> Image.Image:
    """Reads an image as RGB over white, cropped to (left, top, right, bottom) if given; very large ones to their center."""
    tensor = read_image(path).image
    if tensor.shape[1] == 4:
        tensor = tensor[:, :3] * tensor[:, 3:] + 1 - tensor[:, 3:]
    samples = (tensor.expand(-1, 3, -1, -1)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    image = Image.fromarray(samples).crop(crop) if crop else Image.fromarray(samples)
    left, top = max(0, (image.width - _LONGEST_PX) // 2), max(0, (image.height - _LONGEST_PX) // 2)
    return image.crop((left, top, min(image.width, left + _LONGEST_PX), min(image.height, top + _LONGEST_PX)))


def measure(image: Image.Image) -> Array:
    """Measures the features of every variant, ``(variants, features)``."""
    torch.set_num_threads(1)
    rows: list[list[float]] = []
    for change in VARIANTS.values():
        samples = np.asarray(change(image), np.float32) / 255
        rows.append(list(measure_features(torch.from_numpy(samples).permute(2, 0, 1)[None]).values()))
    return np.array(rows)


def measure_all(entries: list[dict[str, Any]], folder: Path, cache: Path) -> tuple[Array, list[dict[str, Any]]]:
    """Measures the images that are present, ``(images, variants, features)``, and caches the results in a file."""
    known: dict[str, Array] = dict(np.load(cache)) if cache.exists() else {}
    kept: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        if entry["file"] not in known:
            try:
                known[entry["file"]] = measure(load(folder / entry["file"], entry.get("crop")))
            except FileRefusedError as error:
                print(error)
                continue
        kept.append(entry)
        if number % 50 == 49:
            np.savez(cache, allow_pickle=False, **known)
    np.savez(cache, allow_pickle=False, **known)
    return np.stack([known[entry["file"]] for entry in kept]), kept


class Expert:
    """Standardized, clipped features and a support vector machine with a radial kernel for each pair of domains."""

    def fit(self, features: Array, labels: NDArray[np.int64]) -> "Expert":
        """Trains on ``(images, variants, features)``; every domain has the same weight regardless of its number of images."""
        flat = features.reshape(-1, features.shape[-1])
        self.mean, self.spread = flat.mean(axis=0), flat.std(axis=0) + 1e-6
        wavering = ((features[:, MILD] - features[:, :1]) ** 2).mean(axis=(0, 1)) / self.spread**2
        inputs, targets = self._scale(flat), np.repeat(labels, features.shape[1])
        self.weights, self.machines = np.zeros((len(PAIRS), flat.shape[1])), list[SVC]()
        shares, unit = (
            np.zeros((len(flat), len(PAIRS))),
            cast(Any, 1.0),
        )  # scikit-learn accepts numbers, despite its annotations
        for column, pair in enumerate(PAIRS):
            rows = np.flatnonzero(np.isin(targets, pair))
            weight = _relevance(*(inputs[targets == kind] for kind in pair)) / (1 + STEADINESS * wavering)
            self.weights[column] = REACH * weight / weight.sum()
            machine = SVC(C=FIRMNESS, gamma=unit, class_weight="balanced", cache_size=1000)
            machine.fit(inputs[rows] * np.sqrt(self.weights[column]), targets[rows] == pair[0])
            shares[rows[machine.support_], column] = machine.dual_coef_[0]
            self.machines.append(machine)
        kept = shares.any(axis=1)
        self.vectors, self.shares = inputs[kept], shares[kept]
        return self

    def predict(self, features: Array) -> Array:
        """``(images, domains)`` from ``(images, features)``."""
        inputs, scores = self._scale(features), np.zeros((len(features), len(DOMAINS)))
        for (first, second), weight, machine in zip(PAIRS, self.weights, self.machines, strict=True):
            decision = np.asarray(machine.decision_function(inputs * np.sqrt(weight)))
            scores[:, first] -= np.logaddexp(0, -decision)
            scores[:, second] -= np.logaddexp(0, decision)
        scores = np.exp(scores)
        return scores / scores.sum(axis=1, keepdims=True)

    def familiar(self, features: Array) -> float:
        """The 99th percentile, over all training variants, of the mean squared standardized feature."""
        raw = ((features.reshape(-1, features.shape[-1]) - self.mean) / self.spread).clip(-20, 20)
        return float(np.quantile((raw**2).mean(axis=1), 0.99))

    def _scale(self, features: Array) -> Array:
        """Standardizes and rounds to whole steps, so that the exported vectors exactly match those used in training."""
        inputs = ((features - self.mean) / self.spread).clip(-LIMIT, LIMIT)
        return (inputs / STEP).round() * STEP


def _relevance(first: Array, second: Array) -> Array:
    """How well each feature separates two domains: the variance of their means over the variance within them.

    Source: Fisher, "The use of multiple measurements in taxonomic problems", 1936.
    """
    between = ((first.mean(axis=0) - second.mean(axis=0)) / 2) ** 2
    ratio = between / ((first.var(axis=0) + second.var(axis=0)) / 2 + 1e-9)
    return ratio / ratio.mean() + LEAST_RELEVANCE


class Classifier:
    """Multiplies the probabilities of two experts: one for the measured features, one for the small network's maps.

    In a single machine, the many maps would dominate the measured features. Source: Hinton, "Products of experts", 1999.
    """

    def __init__(self) -> None:
        names = list(measure_features(torch.zeros(1, 3, 64, 64)))
        self.columns = {
            name: [index for index, feature in enumerate(names) if feature.startswith(MAP_PREFIX) == (name == "seen")]
            for name in SHARES
        }
        self.experts = {name: Expert() for name in SHARES}

    def fit(self, features: Array, labels: NDArray[np.int64]) -> "Classifier":
        """Trains on ``(images, variants, features)``."""
        for name, expert in self.experts.items():
            expert.fit(features[..., self.columns[name]], labels)
        return self

    def predict(self, features: Array) -> Array:
        """``(images, domains)`` from ``(images, features)``."""
        scores = np.ones((len(features), len(DOMAINS)))
        for name, expert in self.experts.items():
            scores *= expert.predict(features[..., self.columns[name]]) ** SHARES[name]
        return scores / scores.sum(axis=1, keepdims=True)


def validate(features: Array, labels: NDArray[np.int64], owners: list[str]) -> Array:
    """``(images, variants, domains)``: each image is classified by a model that was trained on nothing from its owner."""
    scores = np.zeros((*features.shape[:2], len(DOMAINS)))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for learned, judged in folds.split(features, labels, owners):
        classifier = Classifier().fit(features[learned], labels[learned])
        for variant in range(features.shape[1]):
            scores[judged, variant] = classifier.predict(features[judged, variant])
    return scores


def report(scores: Array, labels: NDArray[np.int64]) -> None:
    """Prints accuracy, robustness and the confusion matrix."""
    groups = np.array([{"photo": 0, "painting": 2}.get(kind, 1) for kind in DOMAINS])
    verdicts = scores.argmax(axis=2)
    print("\n| variant | five domains | photo / drawn / painted | drawn or not | changed |\n|---|---|---|---|---|")
    for variant, name in enumerate(VARIANTS):
        given = verdicts[:, variant]
        figures = (
            (given == labels).mean(),
            (groups[given] == groups[labels]).mean(),
            ((groups[given] == 1) == (groups[labels] == 1)).mean(),
            (given != verdicts[:, 0]).mean(),
        )
        print(f"| {name} | " + " | ".join(f"{100 * figure:.1f} %" for figure in figures) + " |")
    print_confusion(verdicts[:, 0], labels)


def print_confusion(verdicts: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Prints the confusion matrix."""
    print("\n| labeled | " + " | ".join(DOMAINS) + " |\n" + "|---" * (len(DOMAINS) + 1) + "|")
    for name, row in zip(DOMAINS, confusion_matrix(labels, verdicts, labels=range(len(DOMAINS))), strict=True):
        print(f"| {name} | " + " | ".join(map(str, row)) + " |")


def report_metadata(scores: Array, labels: NDArray[np.int64], files: list[Path]) -> None:
    """Prints the accuracy and the confusion matrix for unchanged images, classified by pixels and metadata."""
    found = [read_provenance(path) for path in files]
    # Files without metadata go through it too; their most likely domain stays the same.
    together = [
        weigh(dict(zip(DOMAINS, map(float, row), strict=True)), one) for row, one in zip(scores[:, 0], found, strict=True)
    ]
    verdicts = np.array([DOMAINS.index(max(DOMAINS, key=one.__getitem__)) for one in together])
    speaking = np.array([bool(one.evidence) for one in found])
    right = verdicts == labels
    print(
        f"\nwith metadata: {100 * right.mean():.1f} % of five domains correct; "
        f"{100 * right[speaking].mean() if speaking.any() else 0:.1f} % for the {speaking.sum()} files that have any"
    )
    print_confusion(verdicts, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where tools.training.collect put the images")
    parser.add_argument("--check", type=Path, help="folder with manifest.json; used for evaluation only, never for training")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    entries = [json.loads(line) for line in LIST.read_text().splitlines()]
    features, entries = measure_all(entries, options.folder, options.folder / "features.npz")
    labels = np.array([DOMAINS.index(entry["label"]) for entry in entries])
    owners = [entry["repo"].split("/")[0] for entry in entries]
    print(f"{len(entries)} images from {len(set(owners))} owners")
    scores = validate(features, labels, owners)
    report(scores, labels)
    report_metadata(scores, labels, [options.folder / entry["file"] for entry in entries])
    classifier = Classifier().fit(features, labels)
    if options.check:
        held = json.loads((options.check / "manifest.json").read_text())
        figures, held = measure_all(held, options.check, options.folder / "check.npz")
        truth = np.array([DOMAINS.index(entry["label"]) for entry in held])
        scores = np.stack([classifier.predict(figures[:, variant]) for variant in range(len(VARIANTS))], axis=1)
        report(scores, truth)
        report_metadata(scores, truth, [options.check / entry["file"] for entry in held])
    if options.output:
        write(classifier, features, options.output)


def write(classifier: Classifier, features: Array, output: Path) -> None:
    """Writes the classifier as tensors, together with the metadata needed to read them."""
    names = list(measure_features(torch.zeros(1, 3, 64, 64)))
    tensors: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[str, Any]] = {}
    for name, expert in classifier.experts.items():
        tensors |= {f"{name}.{part}": tensor for part, tensor in _as_tensors(expert).items()}
        columns = classifier.columns[name]
        experts[name] = {
            "features": [names[index] for index in columns],
            "share": SHARES[name],
            "familiar": expert.familiar(features[..., columns]),
        }
    numbers = {"experts": experts, "limit": LIMIT, "step": STEP}
    save_file(tensors, output, {name: json.dumps(value) for name, value in numbers.items()})


def _as_tensors(expert: Expert) -> dict[str, torch.Tensor]:
    """The scaling of the features, the support vectors as bytes, and their coefficients for each pair."""
    return {
        "mean": torch.from_numpy(expert.mean).float(),
        "spread": torch.from_numpy(expert.spread).float(),
        "weights": torch.from_numpy(expert.weights).float(),
        "vectors": torch.from_numpy((expert.vectors / STEP).round()).to(torch.int8),
        "shares": torch.from_numpy(expert.shares).float(),
        "offsets": torch.tensor([float(machine.intercept_[0]) for machine in expert.machines]),
    }


if __name__ == "__main__":
    main()
