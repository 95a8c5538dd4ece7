"""Trains the small network that predicts how strongly a source should be restored.

    python -m tools.training.damage --banks FOLDER/*.npy --output fidelity/decide/damage.safetensors

Crops get random damage, from none to heavy, and the shipped networks restore them. Since the ground truth is known, so is the
best share of the restored image, in closed form: the projection of the missing signal onto the change that restoration made.
A perceptron learns this share from the texture measurements that the domain classifier also uses. It learns nothing about what
a picture shows.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fidelity.decide.features import measure_patch_features
from fidelity.decide.model_choice import shipped_restorer
from fidelity.networks.loader import load_model
from fidelity.networks.network import Network
from tools.training.bank import Bytes
from tools.training.degradations import degrade
from tools.training.restore import open_banks

HIDDEN = 24
UNTOUCHED_SHARE = 0.35
"""Share of crops that are only downscaled, so that the network learns to recognize clean sources."""
_SEED = 3
_SIDES_PX = (80, 96, 128, 160)


@dataclass(frozen=True)
class Examples:
    """Crops whose best share is known."""

    features: Tensor
    """``(N, features)``: measurements."""
    shares: Tensor
    """``(N,)``: the best share, in [0, 1]."""
    weights: Tensor
    """``(N,)``: how much that share matters, in [0, 1]."""


def draw_example(crop: Bytes, drawn: bool, restorer: Network, draw: np.random.Generator) -> tuple[list[float], float, float]:
    """Damages a crop; returns its measurements, the best share of the restored crop, and how much that share matters."""
    side = int(draw.choice(_SIDES_PX))
    high = np.asarray(crop, np.float32) / np.float32(255)
    clean = torch.from_numpy(high).movedim(-1, 0)[None]
    truth = nn.functional.interpolate(clean, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    low = truth
    if draw.random() >= UNTOUCHED_SHARE:
        low = torch.from_numpy(degrade(high, (side, side), draw, drawn)).movedim(-1, 0)[None]
    low = (low * 255).round() / 255
    with torch.inference_mode():
        change = restorer.run(low) - low
        energy = change.square().mean()
        share = ((truth - low) * change).mean() / energy.clamp(min=1e-9)
    return list(measure_patch_features(low).values()), float(share.clamp(0, 1)), float(energy.sqrt() * 255)


def collect(paths: list[Path], count: int) -> Examples:
    """Measures `count` damaged crops."""
    networks = {kind: load_model(shipped_restorer(kind)).to(torch.device("cpu"), "fp32") for kind in ("natural", "drawn")}
    banks = open_banks(paths)
    examples: list[tuple[list[float], float, float]] = []
    for index in range(count):
        draw = np.random.default_rng((_SEED, index))
        bank = banks[int(draw.choice(len(banks), p=np.array([one.share for one in banks])))]
        crop = bank.crops[int(draw.integers(len(bank.crops)))]
        examples.append(draw_example(crop, bank.drawn, networks["drawn" if bank.drawn else "natural"], draw))
        if (index + 1) % 500 == 0:
            print(f"{index + 1} of {count} crops", flush=True)
    features, shares, changes = zip(*examples, strict=True)
    weights = torch.tensor(changes).clamp(max=6) / 6  # the share does not matter where restoration changes nothing
    return Examples(torch.tensor(features), torch.tensor(shares), weights)


def fit(features: Tensor, shares: Tensor, weights: Tensor, steps: int = 3000) -> tuple[list[nn.Linear], Tensor, Tensor]:
    """Fits a perceptron with one hidden layer to standardized measurements; returns its layers, the mean and the spread."""
    torch.manual_seed(0)
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-4)
    inputs = ((features - mean) / spread).clamp(-4, 4)
    layers = [nn.Linear(features.shape[1], HIDDEN), nn.Linear(HIDDEN, 1)]
    network = nn.Sequential(layers[0], nn.Tanh(), layers[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (256,))
        predicted = network(inputs[chosen] + 0.05 * torch.randn_like(inputs[chosen])).sigmoid()[:, 0]
        loss = (weights[chosen] * (predicted - shares[chosen]).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return layers, mean, spread


def fit_and_save(examples: Examples, output: Path, banks: list[str]) -> None:
    """Fits a perceptron, tells how well it does on a fifth that it has not seen, and writes one fitted to all."""
    features, shares, weights = examples.features, examples.shares, examples.weights
    held = len(features) * 4 // 5
    (first, last), mean, spread = fit(features[:held], shares[:held], weights[:held])
    with torch.inference_mode():
        predicted = last(torch.tanh(first(((features[held:] - mean) / spread).clamp(-4, 4)))).sigmoid()[:, 0]
    error = predicted - shares[held:]
    kept = weights[held:]
    explained = 1 - (kept * error.square()).sum() / (kept * (shares[held:] - shares[held:].mean()).square()).sum()
    print(f"held out: mean absolute error {error.abs().mean():.3f}, weighted explained variance {explained:.2f}")
    (first, last), mean, spread = fit(features, shares, weights)
    tensors = {"mean": mean, "spread": spread, "hidden": first.weight, "hidden_bias": first.bias, "output": last.weight[0]}
    tensors = {name: value.detach().float().contiguous() for name, value in tensors.items()}
    facts = {"output_bias": json.dumps(last.bias.item()), "crops": json.dumps(len(features))}
    facts |= {"banks": json.dumps(banks), "explained": json.dumps(round(float(explained), 3))}
    save_file(tensors, output, facts)
    output.chmod(0o644)


def train_judge(description: str | None, collect: Callable[[list[Path], int], Examples]) -> None:
    """The command that collects examples and writes a perceptron fitted to them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=Path, nargs="+", required=True, help="written by tools.training.bank")
    parser.add_argument("--crops", type=int, default=4000)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fit_and_save(collect(options.banks, options.crops), options.output, [path.name for path in options.banks])


if __name__ == "__main__":
    train_judge(__doc__, collect)
