"""Measures PSNR and SSIM of networks on Set5: the network alone, and with each mode of the projection.

    FIDELITY_TEST_DATA=/path/to/data python -m tools.benchmarks.set5 [MODEL ...]

Metrics follow the literature: BT.601 studio-range luma, borders cropped by the scale, outputs rounded to 8 bits.
"""

import argparse
from pathlib import Path

import numpy as np

from fidelity.imaging.metrics import psnr, ssim
from fidelity.imaging.resample import resize
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.steps.consistency import project
from fidelity.steps.upscale import upscale
from tools.benchmarks.sources import read_set5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=sorted(SHIPPED_WEIGHTS.glob("*.safetensors")))
    for path in parser.parse_args().models:
        model = load_model(path)
        scale, figures = model.scale, dict[str, list[tuple[float, float]]]()
        print(f"{model.name}, PSNR-Y dB / SSIM-Y")
        for picture, (source, truth) in read_set5(scale).items():
            size = (truth.shape[2], truth.shape[3])
            raw = upscale(source, model).image
            results = {
                "bicubic": resize(source, size),
                "network": raw,
                "color": project(raw, source, "color"),
                "full": project(raw, source, "full"),
            }
            for name, result in results.items():
                rounded = (result.clamp(0, 1) * 255).round() / 255
                figures.setdefault(name, []).append(
                    (psnr(truth, rounded, luma=True, crop_px=scale), ssim(truth, rounded, luma=True, crop_px=scale))
                )
            line = "  ".join(f"{name} {rows[-1][0]:.2f} / {rows[-1][1]:.4f}" for name, rows in figures.items())
            print(f"  {picture:<10}{line}")
        means = {name: np.mean(rows, axis=0) for name, rows in figures.items()}
        print(f"  {'mean':<10}" + "  ".join(f"{name} {row[0]:.2f} / {row[1]:.4f}" for name, row in means.items()))


if __name__ == "__main__":
    main()
