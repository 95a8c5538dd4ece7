"""How often the domain is detected on damaged pictures, from the pixels alone.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.damaged_domains [--seeds 1] [--side 1400]

The labeled pictures of images/domains are reduced to a long edge, then damaged at random, as in training
(`tools.training.degradations`), and reduced to three quarters. Right out of all: five domains; photograph, drawing or painting;
drawn or not.
"""

import argparse

import numpy as np
import torch
from torch import Tensor

from fidelity.choices import Domain
from fidelity.decide.domain import DOMAINS, classify
from fidelity.decide.features import shrink
from fidelity.decide.recipes import DRAWN_DOMAINS
from fidelity.files.read import read_image
from tools.benchmarks.sources import data_folder
from tools.training.degradations import degrade


def damage(image: Tensor, drawn: bool, seed: tuple[int, int]) -> Tensor:
    """Damages an image ``(1, 3, H, W)`` at random and reduces it to three quarters."""
    pixels = np.ascontiguousarray(image[0].movedim(0, -1).numpy(), np.float32)
    size = (pixels.shape[0] * 3 // 32 * 8, pixels.shape[1] * 3 // 32 * 8)
    return torch.from_numpy(degrade(pixels, size, np.random.default_rng(seed), drawn)).movedim(-1, 0)[None]


def _kind(domain: Domain) -> str:
    return "drawn" if domain in DRAWN_DOMAINS else domain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="how often each picture is damaged")
    parser.add_argument("--side", type=int, default=1400, help="long edge before the damage, in pixels")
    options = parser.parse_args()
    right = {"as it is": np.zeros(3), "damaged": np.zeros(3)}
    counts = dict.fromkeys(right, 0)
    for label in DOMAINS:
        for index, path in enumerate(sorted((data_folder() / "images/domains" / label).iterdir())):
            image = shrink(read_image(path, "srgb").image[:, :3], options.side).expand(-1, 3, -1, -1)
            views = [("as it is", image)]
            views += [("damaged", damage(image, label in DRAWN_DOMAINS, (index, seed))) for seed in range(options.seeds)]
            for name, view in views:
                found = classify(view).label
                is_drawn = (found in DRAWN_DOMAINS) == (label in DRAWN_DOMAINS)
                right[name] += (found == label, _kind(found) == _kind(label), is_drawn)
                counts[name] += 1
    print("| | five domains | photo / drawn / painted | drawn or not |\n|---|---|---|---|")
    for name, sums in right.items():
        print(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in sums / counts[name]) + " |")


if __name__ == "__main__":
    main()
