"""Restoration at the source's own size: JPEG and Gaussian noise, on photographs and drawings.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.restoring_alone [--networks NAME_OR_FILE ...]

PSNR over all channels and SSIM-Y against the undamaged original. *restored* is the shipped network at full strength; *default*
restores as strongly as it judges the damage, and holds photographs to what the damage explains.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fidelity.decide.damage import measure_conditions
from fidelity.decide.model_choice import shipped_restorer
from fidelity.decide.recipes import LEAST_RESTORATION
from fidelity.imaging.metrics import psnr, ssim
from fidelity.networks.loader import find_model, list_models, load_model
from fidelity.steps.restore import restore
from fidelity.steps.upscale import upscale
from tools.benchmarks.restoring import as_jpeg, read_sources
from tools.benchmarks.sources import data_folder

_JPEG = (30, 50, 70)
_NOISE = (15, 25, 50)


def damages() -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Kinds of damage by name; the second argument is the seed."""
    found: dict[str, Callable[[Tensor, int], Tensor]] = {"none": lambda image, _: image}
    for quality in _JPEG:
        found[f"JPEG {quality}"] = lambda image, _, quality=quality: as_jpeg(image, quality)
    for sigma in _NOISE:
        found[f"noise {sigma}"] = lambda image, seed, sigma=sigma: _add_noise(image, sigma, seed)
    return found


def _add_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return ((image + noise * sigma / 255).clamp(0, 1) * 255).round() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=[], help="x1 networks: names in the test data, or files")
    options = parser.parse_args()
    known = list_models([data_folder() / "models"])
    shipped = {"photo": load_model(shipped_restorer("natural")), "drawn": load_model(shipped_restorer("drawn"))}
    networks = {Path(name).stem: load_model(find_model(name, known)) for name in options.networks}
    names = ["damaged", "restored", "default", *networks]
    print("| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for kind, sources in read_sources().items():
        for level, damage in damages().items():
            rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for index, truth in enumerate(sources.values()):
                source = damage(truth, index)
                restored = upscale(source, shipped[kind], None, "rgb").image
                conditions = measure_conditions(source)
                strength = conditions.restore_strength if conditions.restore_strength >= LEAST_RESTORATION else 0.0
                evidence = conditions.evidence if kind == "photo" else None
                judged = restore(source, shipped[kind], 0.0, keeps_colors=False, strength=strength, evidence=evidence)
                results = {"damaged": source, "restored": restored, "default": judged}
                results |= {name: upscale(source, network, None, "rgb").image for name, network in networks.items()}
                for name, result in results.items():
                    rows[name].append((min(psnr(truth, result), 99.0), ssim(truth, result, luma=True)))
            cells = [np.mean(rows[name], axis=0) for name in names]
            print(f"| {kind}, {level} | " + " | ".join(f"{cell[0]:.2f} / {cell[1]:.3f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
