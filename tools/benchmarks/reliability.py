"""How often a verdict on the domain is right, by its confidence, from the pixels alone.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.reliability [--drawn FOLDER ...] [--photos FOLDER ...] [--most 60]

Every picture is judged as it is, as JPEG 60, halved and as JPEG 75, and at a long edge of 160 px. The labeled pictures of
images/domains give the rows of five domains and of photograph, drawing or painting. The folders, of pictures that the
classifier was not trained on, give the row of drawn or not, by the sum of the drawn domains.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fidelity.choices import Domain
from fidelity.decide.domain import classify
from fidelity.decide.recipes import DRAWN_DOMAINS
from tools.benchmarks.sources import data_folder
from tools.training.domains import as_jpeg, scaled

_LONGEST_PX, _SMALL_PX = 1600, 160
_BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001)


def _at_most(image: Image.Image, longest_px: int) -> Image.Image:
    return scaled(image, min(1.0, longest_px / max(image.size)))


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "JPEG 60": lambda image: as_jpeg(image, 60),
    "0.5, JPEG 75": lambda image: as_jpeg(scaled(image, 0.5), 75),
    "160 px": lambda image: _at_most(image, _SMALL_PX),
}


def judge(path: Path) -> Iterator[tuple[str, dict[Domain, float]]]:
    """Yields every variant of a picture, on white, with the probabilities of the domains."""
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    whole = Image.new("RGBA", picture.size, "white")
    whole.alpha_composite(picture)
    image = _at_most(whole.convert("RGB"), _LONGEST_PX)
    for name, change in VARIANTS.items():
        pixels = torch.from_numpy(np.array(change(image))).movedim(-1, 0)[None].float() / 255
        yield name, classify(pixels).scores


def _kind(domain: str) -> str:
    return "drawn" if domain in DRAWN_DOMAINS else domain


def _print(name: str, verdicts: list[tuple[float, bool]]) -> None:
    cells: list[str] = []
    for low, high in pairwise(_BINS):
        right = [good for confidence, good in verdicts if low <= confidence < high]
        cells.append(f"{100 * np.mean(right):.0f} % of {len(right)}" if right else "–")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", nargs="*", type=Path, default=[], help="folders of drawings")
    parser.add_argument("--photos", nargs="*", type=Path, default=[], help="folders of photographs")
    parser.add_argument("--most", type=int, default=60, help="most pictures of one folder, evenly spread")
    options = parser.parse_args()
    bounds = [f"{low:g} to {min(high, 1):g}" for low, high in pairwise(_BINS)]
    print("| confidence | " + " | ".join(bounds) + " |\n|---|" + "---|" * len(bounds))
    five, three = list[tuple[float, bool]](), list[tuple[float, bool]]()
    for path in sorted((data_folder() / "images" / "domains").glob("*/*")):
        for _, scores in judge(path):
            label = max(scores, key=scores.__getitem__)
            five.append((scores[label], label == path.parent.name))
            three.append((scores[label], _kind(label) == _kind(path.parent.name)))
    _print("five domains", five)
    _print("photograph, drawing or painting", three)
    by_variant: dict[str, list[tuple[float, bool]]] = {name: [] for name in VARIANTS}
    for is_drawn, folder in [(True, one) for one in options.drawn] + [(False, one) for one in options.photos]:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        for path in paths[:: max(1, len(paths) // options.most)][: options.most]:
            for name, scores in judge(path):
                drawn = sum(scores[one] for one in DRAWN_DOMAINS)
                by_variant[name].append((max(drawn, 1 - drawn), (drawn >= 0.5) == is_drawn))
    for name, verdicts in by_variant.items():
        if verdicts:
            _print(f"drawn or not, {name} ({100 * np.mean([good for _, good in verdicts]):.1f} %)", verdicts)


if __name__ == "__main__":
    main()
