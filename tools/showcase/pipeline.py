"""Makes docs/pipeline.jpg: five pictures enlarged four times, by bicubic resampling and by the pipeline with its defaults.

python -m tools.showcase.pipeline docs/pipeline.jpg

The pictures come from the generators of `tools.training`, so we may ship them. Each label states what was measured.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.choices import Domain
from fidelity.decide.settings import Settings
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from fidelity.session import Session
from tools.showcase.thumbnail import draw_source, to_pillow
from tools.training.data import GENERATORS

SIDE_PX = 100
SCALE = 4
HEAD_PX = 44


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    cells = [draw_cell(title, picture, domain) for title, picture, domain in pictures()]
    width, height = cells[0].size
    sheet = Image.new("RGB", (2 * width + 8, 3 * height), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % 2 * (width + 8), index // 2 * height))
    sheet.save(parser.parse_args().output, quality=86)


def pictures() -> list[tuple[str, Tensor, Domain]]:
    """Makes (damage, picture, domain) for each cell; pictures are (1, 3, SIDE_PX, SIDE_PX)."""
    dusk, leaves = draw_source(), generate("natural", 8)
    noise = torch.randn(dusk.shape, generator=torch.Generator().manual_seed(0)) * 14 / 255
    return [
        ("clean drawing", generate("drawn", 7), "line_art"),
        ("drawing, JPEG 60", as_jpeg(generate("drawn", 7), 60), "line_art"),
        ("noise of 14 levels", (dusk + noise).clamp(0, 1), "photo"),
        ("JPEG 40", as_jpeg(leaves, 40), "photo"),
        ("soft painting", gaussian_blur(leaves, 2.5), "painting"),
    ]


def generate(kind: str, seed: int) -> Tensor:
    """Generates a picture and downscales it, so that it is as sharp as a real one."""
    samples = GENERATORS[kind](2 * SIDE_PX, np.random.default_rng(seed), 3)
    return resize(torch.from_numpy(samples)[None].float(), (SIDE_PX, SIDE_PX)).clamp(0, 1)


def as_jpeg(picture: Tensor, quality: int) -> Tensor:
    """Compresses a picture as JPEG and decodes it."""
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(buffer)).copy()).movedim(-1, 0)[None].float() / 255


def draw_cell(title: str, picture: Tensor, domain: Domain) -> Image.Image:
    """Draws the bicubic result and ours side by side, below the damage and the measurements."""
    made = Session(Settings(domain=domain)).run(picture)
    decision = made.decision
    side = SIDE_PX * SCALE
    cell = Image.new("RGB", (2 * side, side + HEAD_PX), "white")
    cell.paste(to_pillow(resize(picture, (side, side))), (0, HEAD_PX))
    cell.paste(to_pillow(made.image), (side, HEAD_PX))
    draw, font = ImageDraw.Draw(cell), ImageFont.load_default(14)
    switched = [reason for reason in decision.reasons if " is " in reason and "installed" not in reason]
    draw.text((2, 4), f"{title}, bicubic", fill="black", font=font)
    draw.text((side + 2, 4), f"Fidelity as {domain}, color drift {made.color_drift.mean:.2f} mean", fill="black", font=font)
    draw.text((2, 23), "; ".join(switched) or "nothing measured, nothing switched on", fill="dimgray", font=font)
    return cell


if __name__ == "__main__":
    main()
