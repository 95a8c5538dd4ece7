"""Measures the shipped networks: quality on the luma of photographs (Set5) and of held-out drawings, and speed.

    FIDELITY_TEST_DATA=/path/to/data python -m tools.benchmarks.shipped [--sheet FOLDER]

Quality is PSNR-Y / SSIM-Y as in tools.benchmarks.set5. Speed is measured from 1920x1080 to 3840x2160, alternating with
realesr-animevideov3-x4 in the same engine, as a ratio of medians. The sheets show bicubic, Lanczos, the shipped networks and
others side by side, on pictures of the test data and on held-out drawings with their ground truth.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.imaging.metrics import psnr, ssim
from fidelity.imaging.resample import resize
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.network import Network
from fidelity.steps.upscale import upscale
from tools.benchmarks.sources import data_folder, read, read_set5
from tools.training.data import reduce
from tools.training.validation import held_out

CROPS = {
    "images/set5/LRx4/butterfly.png": (0, 0),
    "images/set5/LRx4/baby.png": (40, 30),
    "images/real/anime_clean.png": (150, 60),
    "images/real/anime_jpeg_halo.png": (100, 100),
}
"""Sources of the sheets, each with the top left corner (x, y) of a 64x64 px window."""

DRAWINGS = {1: (40, 60), 10: (20, 10), 11: (60, 90), 14: (90, 90)}
"""Held-out drawings of the sheets by number, each with the corner (x, y) of a 128x128 px window of the ground truth."""

_WINDOW_PX = 64
_CELL_PX = 256
_RIVALS = {2: ("realcugan-up2x-conservative",), 4: ("realesr-animevideov3-x4", "realcugan-up4x-conservative")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="folder to write the side-by-side sheets to; skips the measurements")
    folder = parser.parse_args().sheet
    shipped = [load_model(path) for path in sorted(SHIPPED_WEIGHTS.glob("*.safetensors"))]
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        for scale in (2, 4):
            ours = [model for model in shipped if model.scale == scale]
            rivals = [load_model(data_folder() / f"models/{name}.safetensors") for name in _RIVALS[scale]]
            draw_pictures(scale, [*ours, *rivals]).save(folder / f"pictures-x{scale}.png")
            draw_drawings(scale, ours).save(folder / f"drawings-x{scale}.jpg", quality=92)
        return
    print("| network | parameters | Set5 | bicubic | held-out drawings | bicubic |\n|---|---|---|---|---|---|")
    for model in shipped:
        count = model.parameters
        figures = [score(model, pairs) for pairs in (list(read_set5(model.scale).values()), drawings(model.scale))]
        cells = " | ".join(f"{ours} | {bicubic}" for ours, bicubic in figures)
        print(f"| {model.name} | {count} | {cells} |", flush=True)
    print("\n| 1920x1080 to 3840x2160 | seconds | ratio |\n|---|---|---|")
    rival = load_model(data_folder() / "models/realesr-animevideov3-x4.safetensors")
    time_in_turns([rival, *(model for model in shipped if model.scale == 2)])


def drawings(scale: int) -> list[tuple[Tensor, Tensor]]:
    """(low resolution, ground truth) of each held-out drawing."""
    return [(reduce(truth, scale), truth) for truth in held_out("drawn")]


def score(model: Network, pairs: list[tuple[Tensor, Tensor]]) -> tuple[str, str]:
    """Mean PSNR-Y / SSIM-Y of a network, and of bicubic."""
    figures: list[list[tuple[float, float]]] = []
    for low, truth in pairs:
        results = (upscale(low, model).image, resize(low, (truth.shape[2], truth.shape[3])))
        rounded = [(result.clamp(0, 1) * 255).round() / 255 for result in results]
        options = {"luma": True, "crop_px": model.scale}
        figures.append([(psnr(truth, image, **options), ssim(truth, image, **options)) for image in rounded])
    network, bicubic = np.mean(figures, axis=0)
    return f"{network[0]:.2f} / {network[1]:.4f}", f"{bicubic[0]:.2f} / {bicubic[1]:.4f}"


def time_in_turns(models: list[Network], rounds: int = 3) -> None:
    """Prints the median seconds of each model and the ratio to the first."""
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


def draw_pictures(scale: int, models: list[Network]) -> Image.Image:
    """Draws windows of real pictures, enlarged by every method."""
    rows: list[list[Tensor]] = []
    for name, (x, y) in CROPS.items():
        results = enlarge_all(read(data_folder() / name), scale, models)
        rows.append([crop(result, x * scale, y * scale, _WINDOW_PX * scale) for result in results])
    return lay_out(["bicubic", "Lanczos", *map(label, models)], rows)


def draw_drawings(scale: int, models: list[Network]) -> Image.Image:
    """Draws windows of held-out drawings, downscaled and enlarged by every method, and the ground truth."""
    drawings, rows = held_out("drawn"), list[list[Tensor]]()
    for number, (x, y) in DRAWINGS.items():
        truth = drawings[number]
        results = [*enlarge_all(reduce(truth, scale), scale, models), truth]
        rows.append([crop(result, x, y, 128) for result in results])
    return lay_out(["bicubic", "Lanczos", *map(label, models), "truth"], rows)


def enlarge_all(source: Tensor, scale: int, models: list[Network]) -> list[Tensor]:
    """Enlarges by bicubic and Lanczos resampling, then by each network."""
    size = (source.shape[2] * scale, source.shape[3] * scale)
    return [resize(source, size), resize(source, size, "lanczos"), *(upscale(source, model).image for model in models)]


def crop(image: Tensor, x: int, y: int, side: int) -> Tensor:
    """A square window, (3, side, side)."""
    return image[0, :, y : y + side, x : x + side]


def label(model: Network) -> str:
    """The heading of a model's column."""
    return model.name.removesuffix(".safetensors")


def lay_out(labels: list[str], rows: list[list[Tensor]]) -> Image.Image:
    """Lays out a sheet with a column for each label and a row for each list of windows, all at the same size."""
    margin, head = 8, 26
    size = (len(labels) * (_CELL_PX + margin) + margin, head + len(rows) * (_CELL_PX + margin))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, text in enumerate(labels):
        left = margin + column * (_CELL_PX + margin)
        pen.text((left, 5), text, fill="black", font=font)
        for row, windows in enumerate(rows):
            pixels = (windows[column].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            cell = Image.fromarray(pixels).resize((_CELL_PX, _CELL_PX), Image.Resampling.NEAREST)
            sheet.paste(cell, (left, head + row * (_CELL_PX + margin)))
    return sheet


if __name__ == "__main__":
    main()
