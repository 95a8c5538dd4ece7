"""Compares the consistency projection with simpler methods: drift, sharpness, overshoot and flat texture.

    FIDELITY_TEST_DATA=/path/to/data python -m tools.benchmarks.consistency [--methods raw plain project] [--crops DIR]

Sources are clean (Set5's small images, scikit-image's astronaut, anime_clean) or damaged (the other images in
images/real of the test data). Every loadable super-resolution network of the test data enlarges each of them. Every
row lists the columns that miss their targets. Methods:

- raw: the network's raw RGB output.
- luma: luma through the network, color differences resampled; the usual method.
- low band: back-projection of one Gaussian low-pass, sigma 2 source pixels, 5 steps.
- two bands: the same with luma at sigma 2 and color differences at sigma 1, 10 steps.
- color: `fidelity.steps.consistency.project`; its derivation is in that module's docstring.
- full: the mode "full" of the same function, which corrects every frequency.

Columns: color drift mean, p99 and max (CIEDE2000); sharpness against raw; overshoot in percent; flat texture over raw
in 1/255. They are defined in `fidelity.imaging.drift`.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from fidelity.errors import ModelRefusedError
from fidelity.imaging.color import rgb_to_ycbcr, ycbcr_to_rgb
from fidelity.imaging.drift import flat_texture, measure_drift, overshoot_percent, sharpness_ratio
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.network import Network
from fidelity.steps.consistency import project
from fidelity.steps.upscale import upscale
from tools.benchmarks.sources import data_folder, read

COLUMNS = ("mean", "p99", "max", "sharp", "over", "flat")
LIMITS = {"clean": (0.10, 0.5, 1.5, 0.97, 2.0, 0.1), "damaged": (0.30, 1.2, 3.5, 0.95, np.inf, 1.6)}

Method = Callable[[torch.Tensor, torch.Tensor, Network], torch.Tensor]


def back_project(raw: torch.Tensor, source: torch.Tensor, luma: float, chroma: float, steps: int) -> torch.Tensor:
    """Plain iterative back-projection of a low-pass filtered residual."""
    neutral = torch.tensor([0, 0.5, 0.5]).reshape(1, 3, 1, 1)
    for _ in range(steps):
        residual = rgb_to_ycbcr(source - resize(raw, tuple(source.shape[2:]))) - neutral
        residual = torch.cat((gaussian_blur(residual[:, :1], luma), gaussian_blur(residual[:, 1:], chroma)), dim=1)
        raw = (raw + resize(ycbcr_to_rgb(residual + neutral), tuple(raw.shape[2:]))).clamp(0, 1)
    return raw


METHODS: dict[str, Method] = {
    "raw": lambda raw, _source, _model: raw,
    "luma": lambda _raw, source, model: upscale(source, model, channels="luma").image,
    "low band": lambda raw, source, _model: back_project(raw, source, 2, 2, 5),
    "two bands": lambda raw, source, _model: back_project(raw, source, 2, 1, 10),
    "color": lambda raw, source, _model: project(raw, source, "color"),
    "full": lambda raw, source, _model: project(raw, source, "full"),
}


def read_sources(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Reads the clean and the damaged sources by name."""
    clean = {f"set5 {path.stem}": read(path) for path in sorted((folder / "set5/LRx4").glob("*.png"))}
    clean["astronaut"] = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None].float() / 255
    damaged = {path.stem: read(path) for path in sorted((folder / "real").iterdir())}
    clean["anime_clean"] = damaged.pop("anime_clean")
    return {"clean": clean, "damaged": damaged}


def figures(source: torch.Tensor, raw: torch.Tensor, result: torch.Tensor) -> tuple[float, ...]:
    """One value for each of `COLUMNS`."""
    drift, (before, after) = measure_drift(source, result), flat_texture(raw, result)
    return (*vars(drift).values(), sharpness_ratio(raw, result), overshoot_percent(source, result), after - before)


def misses(kind: str, row: tuple[float, ...]) -> list[str]:
    """The columns of a row that are worse than their targets."""
    worse = [
        value < limit if name == "sharp" else value > limit
        for name, value, limit in zip(COLUMNS, row, LIMITS[kind], strict=True)
    ]
    return [name for name, bad in zip(COLUMNS, worse, strict=True) if bad]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["raw", "two bands", "color"])
    parser.add_argument("--crops", type=Path, help="folder to write side-by-side sheets of bicubic and each method to")
    parser.add_argument(
        "--networks",
        choices=["data", "shipped", "all"],
        default="data",
        help="networks of the test data, shipped networks, or both",
    )
    options = parser.parse_args()
    folder = data_folder()
    sources = read_sources(folder / "images")
    folders = {"data": [folder / "models"], "shipped": [SHIPPED_WEIGHTS], "all": [folder / "models", SHIPPED_WEIGHTS]}
    paths = [path for place in folders[options.networks] for path in sorted(place.glob("*.safetensors"))]
    table: dict[str, dict[str, list[tuple[float, ...]]]] = {kind: {name: [] for name in options.methods} for kind in sources}
    count = dict.fromkeys(options.methods, 0)
    print(f"{'':<8}{'image':<18}{'network':<26}{'method':<11}" + "".join(f"{name:>7}" for name in COLUMNS) + "  misses")
    for path in paths:
        try:
            model = load_model(path)
        except ModelRefusedError as error:
            print(f"skipped: {error}")
            continue
        for kind, images in sources.items():
            for image_name, source in images.items():
                channels = "luma" if path.parent == SHIPPED_WEIGHTS else "rgb"  # as the pipeline runs them
                raw = upscale(source, model, channels=channels).image
                panels = [resize(source, (raw.shape[2], raw.shape[3])).clamp(0, 1)]
                for name in options.methods:
                    result = METHODS[name](raw, source, model)
                    panels.append(result)
                    row = figures(source, raw, result)
                    missed = misses(kind, row)
                    count[name] += bool(missed)
                    table[kind][name].append(row)
                    values = "".join(f"{value:>7.2f}" for value in row)
                    print(f"{kind:<8}{image_name:<18}{path.stem[:25]:<26}{name:<11}{values}  {' '.join(missed)}", flush=True)
                if options.crops:
                    options.crops.mkdir(parents=True, exist_ok=True)
                    samples = (torch.cat(panels, dim=3)[0] * 255).round().byte().movedim(0, -1).numpy()
                    Image.fromarray(samples).save(options.crops / f"{image_name} {path.stem}.png")
    print("\nmean and worst of all, and number of pairs that miss a target")
    for kind, methods in table.items():
        for name, rows in methods.items():
            worst = [
                min(column) if title == "sharp" else max(column)
                for title, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)
            ]
            print(f"{kind:<8}{name:<11}mean " + "".join(f"{value:>7.2f}" for value in np.mean(rows, axis=0)))
            print(f"{'':<8}{'':<11}worst" + "".join(f"{value:>7.2f}" for value in worst))
    print("  ".join(f"{name}: {missed} of {sum(len(rows[name]) for rows in table.values())}" for name, missed in count.items()))


if __name__ == "__main__":
    main()
