"""Compares training settings of a small network on unseen images, one change at a time, and prints a table.

python -m tools.training.sweep [NAME ...] [--generator natural] [--scale 2] [--steps 2500]
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from tools.training.data import GENERATORS
from tools.training.train import Settings, train
from tools.training.validation import held_out, luma_psnr, photographs

_BASE = Settings(features=32, convolutions=8)

CHANGES: dict[str, dict[str, object]] = {
    "base": {},
    "width 48": {"features": 48},
    "width 64": {"features": 64},
    "depth 4": {"convolutions": 4},
    "depth 12": {"convolutions": 12},
    "RGB": {"channels": 3},
    "L1": {"loss": "l1"},
    "no average": {"average": 0.0},
    "window 24": {"patch_px": 24, "batch": 44},
    "window 64": {"patch_px": 64, "batch": 6},
    "batch 8": {"batch": 8},
    "rate 5e-4": {"learning_rate": 5e-4},
    "rate 2e-3": {"learning_rate": 2e-3},
    "fp32": {"precision": "fp32"},
    "bank 200": {"bank": 200},
}
"""Changes to the base network of 32 features and 8 convolutions; window changes keep the number of pixels per step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(CHANGES), metavar="NAME")
    parser.add_argument("--generator", choices=list(GENERATORS), default="natural")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2500)
    options = parser.parse_args()
    base = replace(_BASE, generator=options.generator, scale=options.scale, steps=options.steps)
    images = photographs() if options.generator == "natural" else held_out(options.generator)
    print("| change | parameters | PSNR-Y dB | seconds |\n|---|---|---|---|")
    print(f"| bicubic | 0 | {luma_psnr(None, images, options.scale):.2f} | |")
    for name in options.names:
        settings = replace(base, **CHANGES[name])  # pyright: ignore[reportArgumentType]
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            network = train(settings, Path(folder) / "sweep.safetensors", torch.device("cpu"), every=settings.steps)
        seconds = time.perf_counter() - started
        count = sum(parameter.numel() for parameter in network.parameters())
        figure = luma_psnr(network, images, options.scale, settings.channels)
        print(f"| {name} | {count} | {figure:.3f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
