"""The shipped networks: quality on photographs' luma (Set5) and on drawings no network has seen, and speed.

    FIDELITY_TEST_DATA=/path/to/data python -m benchmarks.shipped [--sheet FOLDER]

Quality is PSNR-Y / SSIM-Y as in benchmarks.set5. Speed is 1920x1080 to 3840x2160 against realesr-animevideov3-x4 through
the same engine, in turns, as a ratio of medians. The sheets show bicubic, Lanczos, the shipped networks and two of the
test data's side by side.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.sources import data_folder, read
from fidelity.imaging.metrics import psnr, ssim
from fidelity.imaging.resample import resize
from fidelity.models.loader import SHIPPED_WEIGHTS, Model, load_model
from fidelity.steps.upscale import upscale
from training.data import reduce
from training.validation import held_out

CROPS = {
    "images/set5/LRx4/butterfly.png": (0, 0),
    "images/set5/LRx4/baby.png": (40, 30),
    "images/real/anime_clean.png": (150, 60),
    "images/real/anime_jpeg_halo.png": (100, 100),
}
"""Sources of the sheets, and the corner of a window of 64x64 px in them."""

_WINDOW_PX = 64
_CELL_PX = 256
_RIVALS = {2: ("realcugan-up2x-conservative",), 4: ("realesr-animevideov3-x4", "realcugan-up4x-conservative")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="draw the side-by-side sheets into this folder, and measure nothing")
    folder = parser.parse_args().sheet
    shipped = [load_model(path) for path in sorted(SHIPPED_WEIGHTS.glob("*.safetensors"))]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for scale in (2, 4):
            draw_sheet(scale, [model for model in shipped if model.scale == scale]).save(folder / f"shipped-x{scale}.png")
        return
    print("| network | parameters | Set5 | bicubic | held-out drawings | bicubic |\n|---|---|---|---|---|---|")
    for model in shipped:
        count = sum(parameter.numel() for parameter in model.descriptor.model.parameters())
        figures = [score(model, pairs) for pairs in (set5(model.scale), drawings(model.scale))]
        cells = " | ".join(f"{ours} | {bicubic}" for ours, bicubic in figures)
        print(f"| {model.name} | {count} | {cells} |", flush=True)
    print("\n| 1920x1080 to 3840x2160 | seconds | ratio |\n|---|---|---|")
    rival = load_model(data_folder() / "models/realesr-animevideov3-x4.safetensors")
    time_in_turns([rival, *(model for model in shipped if model.scale == 2)])


def set5(scale: int) -> list[tuple[Tensor, Tensor]]:
    """(small, truth) of each image of Set5."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for path in sorted((data_folder() / "images/set5/HR").glob("*.png")):
        low = read(path.parent.parent / f"LRx{scale}" / path.name)
        pairs.append((low, read(path)[:, :, : low.shape[2] * scale, : low.shape[3] * scale]))
    return pairs


def drawings(scale: int) -> list[tuple[Tensor, Tensor]]:
    """(small, truth) of each held-out drawing."""
    return [(reduce(truth, scale), truth) for truth in held_out("drawn")]


def score(model: Model, pairs: list[tuple[Tensor, Tensor]]) -> tuple[str, str]:
    """Mean PSNR-Y / SSIM-Y of a network, and of bicubic."""
    figures: list[list[tuple[float, float]]] = []
    for low, truth in pairs:
        results = (upscale(low, model).image, resize(low, (truth.shape[2], truth.shape[3])))
        rounded = [(result.clamp(0, 1) * 255).round() / 255 for result in results]
        options = {"luma": True, "crop_px": model.scale}
        figures.append([(psnr(truth, image, **options), ssim(truth, image, **options)) for image in rounded])
    network, bicubic = np.mean(figures, axis=0)
    return f"{network[0]:.2f} / {network[1]:.4f}", f"{bicubic[0]:.2f} / {bicubic[1]:.4f}"


def time_in_turns(models: list[Model], rounds: int = 3) -> None:
    """Prints the median seconds of each and its ratio to the first."""
    image = torch.rand(1, 3, 1080, 1920, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {model.name: [] for model in models}
    for _ in range(rounds):
        for model in models:
            started = time.perf_counter()
            upscale(image, model, (2160, 3840))
            seconds[model.name].append(time.perf_counter() - started)
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians[models[0].name]:.2f} |")


def draw_sheet(scale: int, shipped: list[Model]) -> Image.Image:
    """A labelled sheet: a row for each source, a column for each way to enlarge it."""
    rivals = [load_model(data_folder() / f"models/{name}.safetensors") for name in _RIVALS[scale]]
    columns = ["bicubic", "Lanczos", *(model.name.removesuffix(".safetensors") for model in (*shipped, *rivals))]
    margin, head = 8, 26
    size = (len(columns) * (_CELL_PX + margin) + margin, head + len(CROPS) * (_CELL_PX + margin))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, label in enumerate(columns):
        pen.text((margin + column * (_CELL_PX + margin), 5), label, fill="black", font=font)
    for row, (name, (x, y)) in enumerate(CROPS.items()):
        source = read(data_folder() / name)
        size_px = (source.shape[2] * scale, source.shape[3] * scale)
        results = [resize(source, size_px), resize(source, size_px, "lanczos")]
        results += [upscale(source, model).image for model in (*shipped, *rivals)]
        for column, result in enumerate(results):
            window = result[0, :, y * scale : (y + _WINDOW_PX) * scale, x * scale : (x + _WINDOW_PX) * scale]
            pixels = (window.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            cell = Image.fromarray(pixels).resize((_CELL_PX, _CELL_PX), Image.Resampling.NEAREST)
            sheet.paste(cell, (margin + column * (_CELL_PX + margin), head + row * (_CELL_PX + margin)))
    return sheet


if __name__ == "__main__":
    main()
