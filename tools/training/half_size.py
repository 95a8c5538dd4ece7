"""Trains the small network that predicts how much of a damaged source should be restored at half its size.

    python -m tools.training.half_size --banks FOLDER/*.npy --output fidelity/decide/half_size.safetensors

Crops get random damage; most of them are damaged at a smaller size and then enlarged, as pictures are that were enlarged long
ago. The shipped networks restore them at full and at half size. Since the ground truth is known, so is the best share of the
latter, in closed form. A perceptron learns it from measurements of the crop as it is, at half its size, and restored at full
size: what is left there of coarse damage shows best. It sees only crops that look damaged, as in use.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fidelity.decide.features import measure_patch_features
from fidelity.decide.half_size import LEAST_STRENGTH, measure_views
from fidelity.decide.model_choice import Restorer, shipped_restorer
from fidelity.decide.restoration import choose_strength, judge_restoration
from fidelity.networks.loader import load_model
from fidelity.steps.restore import restore
from tools.training.bank import Bytes
from tools.training.damage import Examples, train_judge
from tools.training.degradations import degrade, degrade_enlarged
from tools.training.restore import Bank, open_banks

ENLARGED_SHARE = 0.6
"""Share of crops that are damaged at a smaller size and then enlarged."""
_SEED = 11
_SIDES_PX = (96, 128, 160)
_LARGEST_CHANGE = 8.0
"""Difference of the two restorations, in 8-bit levels, from which on an example counts fully."""


def draw_crops(banks: list[Bank]) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Yields endless crops that look damaged, and their truths, ``(1, 3, S, S)`` each, and whether they are drawings."""
    index = 0
    while True:
        draw = np.random.default_rng((_SEED, index))
        index += 1
        bank = banks[int(draw.choice(len(banks), p=np.array([one.share for one in banks])))]
        crop: Bytes = bank.crops[int(draw.integers(len(bank.crops)))]
        side = int(draw.choice(_SIDES_PX))
        high = np.asarray(crop, np.float32) / np.float32(255)
        clean = torch.from_numpy(high).movedim(-1, 0)[None]
        truth = nn.functional.interpolate(clean, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        damage = degrade_enlarged if draw.random() < ENLARGED_SHARE else degrade
        low = torch.from_numpy(damage(high, (side, side), draw, bank.drawn)).movedim(-1, 0)[None]
        if choose_strength(judge_restoration(measure_patch_features(low))) >= LEAST_STRENGTH:
            yield low, truth, bank.drawn


def measure_example(low: Tensor, truth: Tensor, restorer: Restorer) -> tuple[list[float], float, float]:
    """Returns a crop's measurements, the best share of its restoration at half size, and how much that share matters."""
    half = restorer.with_half(1.0).half
    assert half
    full, coarse = (restore(low, restorer.network, 0.0, keeps_colors=False, half=one) for one in (None, half))
    change = coarse - full
    energy = change.square().mean()
    share = float(((truth - full) * change).mean() / energy.clamp(min=1e-9))
    return list(measure_views(low, restorer.network).values()), min(1.0, max(0.0, share)), float(energy.sqrt() * 255)


def collect(paths: list[Path], count: int) -> Examples:
    """Measures `count` crops."""
    restorers = {kind: Restorer(load_model(shipped_restorer(kind)), True, kind == "natural") for kind in ("natural", "drawn")}
    examples: list[tuple[list[float], float, float]] = []
    for low, truth, drawn in draw_crops(open_banks(paths)):
        with torch.inference_mode():
            examples.append(measure_example(low, truth, restorers["drawn" if drawn else "natural"]))
        if len(examples) % 200 == 0:
            print(f"{len(examples)} of {count} crops", flush=True)
        if len(examples) == count:
            break
    features, shares, changes = zip(*examples, strict=True)
    weights = torch.tensor(changes).clamp(max=_LARGEST_CHANGE) / _LARGEST_CHANGE
    return Examples(torch.tensor(features), torch.tensor(shares), weights)


if __name__ == "__main__":
    train_judge(__doc__, collect)
