"""Measures PSNR of a denoising network on clean gray images with added white Gaussian noise, as papers report it.

    python -m tools.benchmarks.denoise MODEL FOLDER [--sigma 25]

As in the literature, noise is not clipped, and outputs are rounded to 8 bits. Values are means over three seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from fidelity.files.read import read_image
from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.metrics import psnr
from fidelity.networks.loader import load_model

SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sigma", type=float, default=25, help="standard deviation of the noise, in 8-bit levels")
    options = parser.parse_args()
    network, means = load_model(options.model).with_noise(options.sigma), list[float]()
    for path in sorted(options.folder.glob("*.png")):
        image = read_image(path).image
        clean = image if image.shape[1] == 1 else rgb_to_luma(image[:, :3])
        figures: list[float] = []
        for seed in SEEDS:
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)) * options.sigma / 255
            made = network.run(clean + noise)
            figures.append(psnr(clean, (made * 255).round() / 255))
        means.append(float(np.mean(figures)))
        print(f"{path.name}: {means[-1]:.2f} dB", flush=True)
    print(f"mean of {len(means)}: {np.mean(means):.2f} dB")


if __name__ == "__main__":
    main()
