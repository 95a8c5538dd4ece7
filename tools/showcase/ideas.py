"""Makes the pictures in docs/ that show what each idea does, from generated images.

python -m tools.showcase.ideas docs
"""

import argparse
import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.decide.domain import DOMAINS
from fidelity.decide.model_choice import shipped_model
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.imaging.drift import drift_map, measure_drift
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from fidelity.networks.compute import Compute
from fidelity.networks.loader import load_model
from fidelity.session import Session
from fidelity.steps.consistency import project
from fidelity.steps.diffusion import guidance_weight, spread_tiles, tile_weights, truncated_times
from fidelity.steps.gate import gate, paint_heat_map
from fidelity.steps.upscale import upscale
from tools.showcase.pipeline import as_jpeg, generate
from tools.showcase.thumbnail import draw_source, to_pillow

_HEAD_PX, _GAP_PX = 40, 8
_TRAINING = Path(__file__).parents[2] / "tools/training/README.md"
_INKS = ("#3f789e", "#b06634", "#6a9a4f", "#a1309b", "#8a6d1f")


def drift_away(image: Tensor) -> Tensor:
    """Exaggerates what upscalers do to colors: more contrast, a warmer white, sharper edges with halos."""
    warm = image.new_tensor([1.04, 1.0, 0.93]).reshape(1, 3, 1, 1)
    sharp = image + 0.8 * (image - gaussian_blur(image, 2.0))
    return (0.5 + 1.18 * (sharp * warm - 0.5)).clamp(0, 1)


def drawn_scene() -> Tensor:
    """Enlarges the scene with the shipped network for drawings."""
    return upscale(draw_source(), load_model(shipped_model("drawn", 4)), (400, 400)).image


def draw_consistency() -> Image.Image:
    """Draws the source, the result of an upscaler that drifts, and the result of the projection, with heat maps."""
    source = draw_source()
    drifted = drift_away(drawn_scene())
    held = project(drifted, source)
    cells = [("source, bicubic", resize(source, (400, 400)))]
    for name, image in (("an upscaler that drifts (simulated)", drifted), ("the same, colors preserved", held)):
        drift = measure_drift(source, image)
        cells.append((f"{name}\nCIEDE2000 {drift.mean:.2f} mean, {drift.max:.2f} max", image))
    tops = row(cells)
    maps = [_legend(), *(to_pillow(enlarge_map(paint_heat_map(drift_map(source, image)))) for image in (drifted, held))]
    return column([tops, beside(maps)])


def _legend() -> Image.Image:
    """Draws the color scale of a heat map."""
    sheet = Image.new("RGB", (400, 400), "white")
    draw = ImageDraw.Draw(sheet)
    bar = to_pillow(paint_heat_map(torch.linspace(0, 3, 240).expand(1, 1, 24, 240).clone()))
    sheet.paste(bar, (80, 180))
    draw.text((80, 152), "heat map, CIEDE2000 at the source's size", fill="black", font=_font())
    draw.text((80, 208), "0", fill="black", font=_font())
    draw.text((280, 208), "3 and more", fill="black", font=_font())
    return sheet


def draw_gate() -> Image.Image:
    """Draws an enlargement with an object that the source lacks, its heat map, and the blend."""
    source = draw_source()
    image = resize(source, (400, 400)).clamp(0, 1)
    rows, columns = torch.meshgrid(torch.arange(400.0), torch.arange(400.0), indexing="ij")
    spot = ((rows - 105).square() + (columns - 95).square() < 45**2).float()[None, None]
    invented = image * (1 - spot) + spot * image.new_tensor([0.55, 0.75, 0.35]).reshape(1, 3, 1, 1)
    decision = gate(invented, source, "blend")
    cells = [
        (f"an invented moon\n{decision.before.mean:.2f} mean, {decision.before.max:.1f} max", invented),
        ("heat map at the source's size\nred: the limit and more", enlarge_map(paint_heat_map(decision.difference))),
        (f"blended back on {100 * decision.blended_share:.0f} % of the area\n{decision.after.max:.1f} max", decision.image),
    ]
    return row(cells)


def draw_domains() -> Image.Image:
    """Draws the confusion matrix of the pixel-based classifier from tools/training/README.md; each row in percent."""
    table = [line.split("|")[1:-1] for line in _TRAINING.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    start = next(index for index, cells in enumerate(table) if cells[0].strip() == "labeled")
    rows = [[int(cell) for cell in cells[1:]] for cells in table[start + 2 : start + 2 + len(DOMAINS)]]
    side, edge = 84, 110
    sheet = Image.new("RGB", (edge + 5 * side + 8, edge // 2 + 5 * side + 8), "white")
    draw = ImageDraw.Draw(sheet)
    for down, row_of in enumerate(rows):
        draw.text((4, edge // 2 + side * down + side // 2 - 8), DOMAINS[down], fill="black", font=_font())
        draw.text((edge + side * down + 6, edge // 2 - 22), DOMAINS[down], fill="black", font=_font())
        for across, count in enumerate(row_of):
            share = count / sum(row_of)
            x, y = edge + side * across, edge // 2 + side * down
            shade = tuple(round(255 + share * (ink - 255)) for ink in (63, 120, 158))
            draw.rectangle((x, y, x + side - 3, y + side - 3), fill=shade)
            ink = "white" if share > 0.5 else "black"
            draw.text((x + side // 2 - 14, y + side // 2 - 10), f"{100 * share:.0f}", fill=ink, font=_font(18))
    draw.text((4, 4), "rows: label, columns: verdict; percent", fill="dimgray", font=_font())
    return sheet


def draw_planning() -> Image.Image:
    """Draws how equal tiles cover an image where a fixed step leaves slivers, and two plans."""
    side, tile, overlap = 400, 170, 24
    fixed = [(start, min(start + tile, side)) for start in range(0, side - overlap, tile - overlap)]
    equal = spread_tiles(side, tile, overlap, 1)
    picture = to_pillow(resize(draw_source(), (side, side)).clamp(0, 1))
    cells = [
        _titled(f"tiles at a fixed step: the last ones {fixed[-1][1] - fixed[-1][0]} px", _with_tiles(picture, fixed)),
        _titled(f"equal tiles of {equal[0][1] - equal[0][0]} px", _with_tiles(picture, equal)),
        _titled("plans of a 500x400 photograph", _list_plans(side)),
    ]
    return beside(cells)


def _list_plans(side: int) -> Image.Image:
    sheet = Image.new("RGB", (side + 60, side), "white")
    draw, y = ImageDraw.Draw(sheet), 6
    source = generate("natural", 8)
    source = resize(source, (400, 500)).clamp(0, 1)
    for wanted, damaged in (("1000x800", False), ("2000x1600", False), ("12000x9600", False), ("2000x1600", True)):
        image = as_jpeg((source + 0.09 * torch.randn_like(source)).clamp(0, 1), 30) if damaged else source
        width, height = map(int, wanted.split("x"))
        settings = Settings(Target(size=(height, width)), "photo")
        decision = Session(settings, Compute(memory_bytes=8 * 2**30)).decide(image)
        steps = " > ".join(Path(step.network or step.kind).stem for step in decision.planned.plan.passes)
        memory = decision.planned.plan.peak_bytes / 2**30
        draw.text((4, y), f"to {wanted}{', noisy JPEG' if damaged else ''}, {memory:.2f} GiB", fill="black", font=_font())
        lines = steps.replace("natural-", "").split(" > ")
        draw.text((4, y + 18), "  " + "  >  ".join(lines), fill="dimgray", font=_font())
        y += 56
    return sheet


def draw_diffusion() -> Image.Image:
    """Draws how tiles share a line, and how far the estimate is pulled toward the source."""
    return beside([share_chart(), pull_chart()])


def share_chart() -> Image.Image:
    """Draws the normalized weights of three tiles along a line."""
    length, spans = 256, spread_tiles(256, 112, 32, 8)
    weights = torch.zeros(len(spans), length)
    for index, (start, stop) in enumerate(spans):
        weights[index, start:stop] = tile_weights(1, stop - start, "gaussian")[0]
    shares = weights / weights.sum(dim=0)
    return chart([share.tolist() for share in shares], "weight of each tile along a line of latents", "left to right")


def pull_chart() -> Image.Image:
    """Draws how far the estimate is pulled toward the source at each noise level."""
    highest = 14.6146
    sigmas = [highest * (1 - place / 120) for place in range(121)]
    pulls = [[guidance_weight(sigma, highest, value) for sigma in sigmas] for value in (0.2, 0.5, 0.8)]
    return chart(pulls, "pull toward the source, fidelity 0.2, 0.5, 0.8", "noise, from all to none")


def times_chart() -> Image.Image:
    """Draws at which time of the schedule each step of an ordinary and of a truncated sampler is."""
    lines = [truncated_times(15, 1.0, 0.0), truncated_times(15, 0.6667, 0.3333), truncated_times(15, 0.6667, 0.0)]
    title = "share of noise at each step: ordinary; t_max 0.6667 to t_min 0.3333, and to 0"
    return chart(lines, title, "15 steps")


def chart(lines: list[list[float]], title: str, below: str) -> Image.Image:
    """Draws a line chart of values in [0, 1]."""
    width, height, edge = 560, 300, 36
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((edge, 6), title, fill="black", font=_font())
    draw.text((edge, height - 22), below, fill="dimgray", font=_font())
    bottom, top = height - edge, edge + 4
    draw.rectangle((edge, top, width - 8, bottom), outline="#cccccc")
    for label, value in (("0", 0.0), ("1", 1.0)):
        draw.text((edge - 16, bottom - value * (bottom - top) - 8), label, fill="dimgray", font=_font())
    for ink, line in zip(_INKS, lines, strict=False):
        step = (width - 8 - edge) / (len(line) - 1)
        points = [(edge + step * place, bottom - value * (bottom - top)) for place, value in enumerate(line)]
        draw.line(points, fill=ink, width=3)
    return sheet


def _with_tiles(picture: Image.Image, spans: list[tuple[int, int]]) -> Image.Image:
    marked = picture.copy()
    draw = ImageDraw.Draw(marked)
    for place, (top, bottom) in enumerate(spans):
        for other, (left, right) in enumerate(spans):
            inset = 2 if (place + other) % 2 else 0
            draw.rectangle((left + inset, top + inset, right - 1 - inset, bottom - 1 - inset), outline="white", width=2)
    return marked


def enlarge_map(heat: Tensor, side: int = 400) -> Tensor:
    """Enlarges a heat map to the size of the pictures beside it, with visible pixels."""
    return heat.repeat_interleave(math.ceil(side / heat.shape[2]), 2).repeat_interleave(math.ceil(side / heat.shape[3]), 3)


def row(cells: list[tuple[str, Tensor]]) -> Image.Image:
    """Places pictures side by side, each below its title."""
    return beside([_titled(title, to_pillow(image)) for title, image in cells])


def beside(cells: list[Image.Image]) -> Image.Image:
    """Places pictures side by side on white."""
    width = sum(cell.width for cell in cells) + _GAP_PX * (len(cells) - 1)
    sheet, x = Image.new("RGB", (width, max(cell.height for cell in cells)), "white"), 0
    for cell in cells:
        sheet.paste(cell, (x, 0))
        x += cell.width + _GAP_PX
    return sheet


def column(rows: list[Image.Image]) -> Image.Image:
    """Stacks pictures vertically on white."""
    sheet, y = Image.new("RGB", (max(one.width for one in rows), sum(one.height for one in rows)), "white"), 0
    for one in rows:
        sheet.paste(one, (0, y))
        y += one.height
    return sheet


def _titled(title: str, picture: Image.Image) -> Image.Image:
    if not title:
        return picture
    cell = Image.new("RGB", (picture.width, picture.height + _HEAD_PX), "white")
    cell.paste(picture, (0, _HEAD_PX))
    ImageDraw.Draw(cell).text((2, 4), title, fill="black", font=_font())
    return cell


def _font(size: int = 14) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


DRAWINGS = {
    "consistency": draw_consistency,
    "gate": draw_gate,
    "domains": draw_domains,
    "planning": draw_planning,
    "diffusion": draw_diffusion,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, draw in DRAWINGS.items():
        draw().save(folder / f"{name}.jpg", quality=86)


if __name__ == "__main__":
    main()
