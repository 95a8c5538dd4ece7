"""Makes the documentation's before-and-after pictures of every processing step.

    python -m tools.showcase.steps docs/steps.jpg

The pictures are generated and then damaged as labeled.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.imaging.color import linear_to_srgb, srgb_to_linear
from fidelity.imaging.resample import resize
from fidelity.networks.loader import find_model, list_models, load_model
from fidelity.steps.balance import Balance, Grade, balance, grade
from fidelity.steps.cleanup import clean
from fidelity.steps.deband import deband
from fidelity.steps.enhance import enhance
from fidelity.steps.geometry import Lens, correct_geometry
from fidelity.steps.restore import restore
from tools.showcase.pipeline import as_jpeg, generate
from tools.showcase.thumbnail import draw_scene, to_pillow
from tools.training.generators.drawn import drawing

_SIDE_PX, _ZOOM, _TITLE_PX = 96, 2, 22


def scene(left: int, top: int, side: int, size: int = _SIDE_PX) -> Tensor:
    """Crops a square of the dusk scene, resized to (1, 3, size, size)."""
    piece = draw_scene().crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(piece).copy()).movedim(-1, 0)[None].float() / 255


def make_cases() -> dict[str, tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Makes the cases by title: a damaged image and the step to apply to it."""
    restorer = load_model(find_model("natural-x1", list_models([])))
    generator = torch.Generator().manual_seed(0)
    trees, leaves, stones = scene(420, 620, 760), generate("natural", 8), generate("natural", 21)
    noisy = (trees + torch.randn(trees.shape, generator=generator) * 0.05).clamp(0, 1)
    hard = torch.from_numpy(drawing(2 * _SIDE_PX, np.random.default_rng(11), 3))[None][..., ::2, ::2]
    sky = grade(scene(0, 0, 420), Grade(white=0.6))
    stairs = (sky * 63).round() / 63
    tint = torch.tensor([1.0, 0.75, 0.5]).reshape(1, 3, 1, 1)
    tinted = linear_to_srgb(srgb_to_linear(leaves) * tint * 0.6)
    lattice = scene(0, 0, 1600, 200)
    lattice[..., ::25, :] = lattice[..., ::25] = 0.95
    return {
        "noise, restored": (noisy, lambda image: restore(image, restorer, 13, keeps_colors=False)),
        "JPEG 30, restored": (as_jpeg(trees, 30), lambda image: restore(image, restorer, 6, keeps_colors=False)),
        "64 levels, debanded, contrast 5": (stairs, lambda image: deband(image, value_range=10 / 255)),
        "cast and dark, balanced": (tinted, lambda image: balance(image, Balance("auto", "grey_world", max_gain=2))[0]),
        "lens, k1 -0.2": (lattice, lambda image: correct_geometry(image, Lens(-0.2))),
        "four corners": (lattice, lambda image: correct_geometry(image, corners=((0.1, 0.1), (0.9, 0), (1, 0.9), (0, 1)))),
        "stairs, antialias": (hard, lambda image: clean(image, "antialias")),
        "bilateral": (as_jpeg(hard, 60), lambda image: clean(image, "bilateral", noise_sigma=4)),
        "unsharp": (resize(resize(leaves, (48, 48)), (96, 96)).clamp(0, 1), lambda image: clean(image, "unsharp")),
        "enhance": (leaves, lambda image: enhance(image).image),
        "contrast 1.4, saturation 1.3": (stones, lambda image: grade(image, Grade(contrast=1.4, saturation=1.3))),
        "median": (speckled(trees, generator), lambda image: clean(image, "median", channels="rgb")),
    }


def speckled(image: Tensor, generator: torch.Generator) -> Tensor:
    """Turns one pixel in twenty black or white."""
    chance = torch.rand(image[:, :1].shape, generator=generator)
    return torch.where(chance < 0.025, 0.0, torch.where(chance > 0.975, 1.0, image))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    cases = make_cases()
    side = _SIDE_PX * _ZOOM
    width, height = 2 * side + 8, side + _TITLE_PX
    columns = 3
    sheet = Image.new("RGB", (columns * width, -(-len(cases) // columns) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (title, (image, step)) in enumerate(cases.items()):
        left, top = index % columns * width, index // columns * height
        draw.text((left + 2, top + 3), title, fill="black", font=font)
        for place, picture in enumerate((image, step(image))):
            resized = to_pillow(picture).resize((side, side), Image.Resampling.NEAREST if picture.shape[2] < side else None)
            sheet.paste(resized, (left + place * (side + 2), top + _TITLE_PX))
    sheet.save(options.output, quality=90)


if __name__ == "__main__":
    main()
