"""Makes the README's first picture: a drawn scene as a small, damaged JPEG, enlarged bicubically and by the defaults.

    python -m tools.showcase.hero docs/before-after.jpg

The scene is drawn here, so we may ship it.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.decide.settings import Settings
from fidelity.imaging.resample import resize
from fidelity.session import Session
from tools.showcase.pipeline import as_jpeg
from tools.showcase.thumbnail import to_pillow

SIZE = (640, 960)
"""(height, width) of the enlarged scene; the source has a quarter of each."""

_DRAWN, _INK = 4, (38, 30, 48)
_QUALITY = 60
_CROPS = ((280, 196), (60, 280))
"""(left, top) of the crops below the scene."""
_CROP_PX, _HEAD_PX, _GAP_PX = 240, 34, 8

Point = tuple[float, float]


class _Pen:
    """Draws with coordinates of the finished scene on a canvas of four times its size."""

    def __init__(self, canvas: Image.Image) -> None:
        self._draw = ImageDraw.Draw(canvas)

    def area(self, points: list[Point], fill: tuple[int, int, int], outline_px: float = 0) -> None:
        scaled = [(x * _DRAWN, y * _DRAWN) for x, y in points]
        self._draw.polygon(scaled, fill=fill)
        if outline_px:
            self.line([*points, points[0]], outline_px)

    def line(self, points: list[Point], width_px: float, ink: tuple[int, int, int] = _INK) -> None:
        scaled = [(x * _DRAWN, y * _DRAWN) for x, y in points]
        self._draw.line(scaled, fill=ink, width=round(width_px * _DRAWN), joint="curve")

    def round(self, center: Point, radii: Point, fill: tuple[int, int, int], outline_px: float = 0) -> None:
        self.area([(center[0] + radii[0] * c, center[1] + radii[1] * s) for c, s in _circle()], fill, outline_px)

    def text(self, place: Point, text: str, size_px: float, ink: tuple[int, int, int]) -> None:
        font = ImageFont.load_default(round(size_px * _DRAWN))
        self._draw.text((place[0] * _DRAWN, place[1] * _DRAWN), text, fill=ink, font=font, anchor="mm")


def _circle() -> list[Point]:
    return [(math.cos(turn), math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 97)[:-1]]


def _curve(points: list[Point], steps: int = 24) -> list[Point]:
    """A smooth line through points (Catmull and Rom)."""
    ends = [points[0], *points, points[-1]]
    made: list[Point] = []
    for first, start, stop, last in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for step in range(steps):
            t = step / steps
            made.append(
                tuple(
                    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
                    for a, b, c, d in zip(first, start, stop, last, strict=True)
                )  # type: ignore[arg-type]
            )
    return [*made, points[-1]]


def draw_scene() -> Tensor:
    """Draws a cat on a harbor wall at dusk, ``(1, 3, *SIZE)``."""
    height, width = (side * _DRAWN for side in SIZE)
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = np.array([66, 92, 168]) * (1 - ramp) + np.array([255, 196, 138]) * ramp
    canvas = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).round().astype(np.uint8))
    pen = _Pen(canvas)
    for part in (_draw_sky, _draw_land, _draw_lighthouse, _draw_boat, _draw_wall, _draw_sign, _draw_cat):
        part(pen)
    small = canvas.resize((SIZE[1], SIZE[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small).copy()).movedim(-1, 0)[None].float() / 255


def _draw_sky(pen: _Pen) -> None:
    pen.round((706, 250), (62, 62), (255, 236, 180))
    for x, y, size in ((130, 96, 1.0), (420, 58, 0.7), (830, 120, 0.9)):
        for dx, dy, radius in ((-46, 6, 24), (-14, -6, 34), (24, 0, 28), (54, 8, 20)):
            pen.round((x + dx * size, y + dy * size), (radius * 1.3 * size, radius * 0.7 * size), (255, 226, 208))
    for x, y in ((560, 120), (596, 100), (636, 132)):
        pen.line(_curve([(x - 14, y - 5), (x - 6, y - 8), (x, y), (x + 6, y - 8), (x + 14, y - 5)]), 1.8)


def _draw_land(pen: _Pen) -> None:
    hills = (((140, 122, 168), 300, 26, 150), ((98, 84, 138), 326, 20, 96))
    for color, base, swell, length in hills:
        ridge = [(x, base - swell * math.sin(x / length) - 9 * math.sin(x / 31)) for x in np.arange(0, 964, 4.0)]
        pen.area([(0, 420), *ridge, (960, 420)], color)
    pen.area([(0, 352), (960, 352), (960, 640), (0, 640)], (70, 104, 158))
    for row in range(10):
        y = 362 + row * 12
        for x in np.arange(-20 + 37 * (row % 3), 980, 92.0):
            pen.line([(x, y), (x + 34 + 5 * row, y)], 1.6, (132, 160, 200) if (row + int(x)) % 2 else (255, 208, 160))


def _draw_lighthouse(pen: _Pen) -> None:
    pen.area([(852, 366), (868, 190), (900, 190), (916, 366)], (244, 238, 230), 2.2)
    for top in (222, 282, 338):
        shift = (366 - top) / 176 * 16
        pen.area(
            [(852 + shift, top), (916 - shift, top), (914.5 - shift, top + 24), (853.5 + shift, top + 24)], (206, 66, 60), 1.6
        )
    pen.area([(862, 190), (906, 190), (906, 182), (862, 182)], (90, 84, 96), 1.8)
    pen.area([(870, 182), (898, 182), (898, 156), (870, 156)], (255, 232, 150), 1.8)
    for x in (877, 884, 891):
        pen.line([(x, 182), (x, 156)], 1.2)
    pen.area([(864, 156), (904, 156), (884, 136)], (206, 66, 60), 1.8)


def _draw_boat(pen: _Pen) -> None:
    pen.area(_curve([(560, 396), (580, 424), (664, 426), (694, 392)]), (122, 64, 52), 2.2)
    pen.line([(622, 404), (622, 276)], 2.6)
    pen.area(_curve([(618, 286), (598, 340), (568, 388), (618, 388)]), (250, 240, 222), 2.0)
    pen.area(_curve([(627, 292), (656, 340), (676, 384), (627, 386)]), (236, 220, 196), 2.0)
    for x, y in ((606, 330), (600, 352), (596, 372)):
        pen.line([(x - 6, y), (616, y)], 1.0)


def _draw_wall(pen: _Pen) -> None:
    pen.area([(0, 500), (960, 478), (960, 640), (0, 640)], (176, 150, 138), 2.4)
    pen.area([(0, 500), (960, 478), (960, 494), (0, 517)], (208, 184, 168), 1.8)
    for row in range(4):
        y = 530 + 32 * row
        pen.line([(0, y), (960, y - 22)], 1.4, (128, 104, 100))
        for x in np.arange(30 + 40 * (row % 2), 960, 84.0):
            pen.line([(x, y - 22 * x / 960), (x, y - 32 - 22 * x / 960)], 1.4, (128, 104, 100))


def _draw_sign(pen: _Pen) -> None:
    pen.area([(160, 500), (174, 500), (174, 300), (160, 300)], (110, 76, 60), 2.0)
    pen.area([(58, 308), (278, 300), (280, 398), (60, 404)], (236, 214, 170), 2.6)
    pen.text((170, 338), "CAFE", 46, (120, 40, 44))
    pen.text((170, 380), "open 7 to 22", 27, (60, 52, 70))


def _draw_cat(pen: _Pen) -> None:
    fur, light = (232, 146, 78), (252, 226, 190)
    tail = _curve([(470, 474), (520, 486), (552, 452), (540, 414), (556, 396)])
    pen.line(tail, 24)
    pen.line(tail, 19, fur)
    pen.area(_curve([(330, 494), (322, 410), (346, 350), (420, 344), (466, 380), (482, 440), (478, 492)]), fur, 2.6)
    pen.area(_curve([(352, 490), (350, 430), (380, 402), (412, 430), (410, 490)]), light)
    for y, reach in ((386, 20), (404, 26), (424, 26)):
        pen.area(_curve([(474 - reach, y), (458, y + 4), (478, y + 10), (474 - reach, y)]), (188, 102, 52))
    for x in (352, 398):
        pen.area(_curve([(x - 14, 494), (x - 16, 470), (x, 460), (x + 16, 470), (x + 14, 494)]), light, 2.2)
        for toe in (-5, 4):
            pen.line([(x + toe, 494), (x + toe, 482)], 1.4)
    pen.area([(316, 268), (312, 202), (362, 236)], fur, 2.6)
    pen.area([(424, 236), (470, 200), (468, 268)], fur, 2.6)
    pen.area([(324, 256), (321, 218), (350, 240)], (236, 168, 160))
    pen.area([(434, 240), (462, 218), (460, 256)], (236, 168, 160))
    pen.round((392, 296), (86, 70), fur, 2.6)
    pen.round((392, 326), (44, 32), light)
    for x in (376, 392, 408):
        pen.area([(x - 5, 228), (x + 5, 228), (x, 256)], (188, 102, 52))
    for x in (356, 430):
        pen.round((x, 288), (19, 21), (250, 250, 240), 2.2)
        pen.round((x + 2, 290), (12, 16), (84, 150, 92))
        pen.round((x + 2, 290), (5, 14), (24, 20, 30))
        pen.round((x - 3, 282), (3.4, 4.2), (255, 255, 255))
    pen.area([(384, 314), (402, 314), (393, 324)], (212, 104, 104), 1.6)
    for side in (-1, 1):
        pen.line(_curve([(393, 324), (393 + 6 * side, 335), (393 + 18 * side, 332)]), 1.8)
        for lift in (-8, 0, 8):
            pen.line(
                _curve([(393 + 30 * side, 324 + lift / 2), (393 + 64 * side, 320 + lift), (393 + 98 * side, 322 + 1.6 * lift)]),
                2.0,
            )
    pen.area(_curve([(340, 352), (392, 374), (446, 350), (444, 362), (392, 386), (342, 364)]), (64, 108, 176), 2.0)
    pen.round((392, 384), (10, 10), (250, 206, 84), 1.8)


def draw_sheet() -> Image.Image:
    """Draws the scene, left half bicubic and right half ours, over crops of both."""
    source = as_jpeg(resize(draw_scene(), (SIZE[0] // 4, SIZE[1] // 4)).clamp(0, 1), _QUALITY)
    made = Session(Settings()).run(source)
    bicubic, ours = to_pillow(resize(source, SIZE).clamp(0, 1)), to_pillow(made.image)
    sheet = Image.new("RGB", (SIZE[1], SIZE[0] + _GAP_PX + _CROP_PX), "white")
    middle = SIZE[1] // 2
    sheet.paste(bicubic, (0, 0))
    sheet.paste(ours.crop((middle, 0, *SIZE[::-1])), (middle, 0))
    draw = ImageDraw.Draw(sheet)
    draw.line((middle, 0, middle, SIZE[0]), fill="white", width=3)
    width = (SIZE[1] - 3 * _GAP_PX) // 4
    cells: list[tuple[Image.Image, Point]] = [(picture, crop) for crop in _CROPS for picture in (bicubic, ours)]
    for place, (picture, (left, top)) in enumerate(cells):
        box = (round(left), round(top), round(left) + width, round(top) + _CROP_PX)
        sheet.paste(picture.crop(box), (place * (width + _GAP_PX), SIZE[0] + _GAP_PX))
    kilobytes = f"{source.shape[3]}x{source.shape[2]} px, JPEG {_QUALITY}"
    assert made.held_drift  # the gate is on by default
    _label(draw, (10, SIZE[0] - _HEAD_PX), f"{kilobytes}, enlarged 4x bicubically")
    _label(draw, (middle + 10, SIZE[0] - _HEAD_PX), f"Fidelity Upscale, defaults; color drift {made.held_drift.mean:.2f}")
    return sheet


def _label(draw: ImageDraw.ImageDraw, place: Point, text: str) -> None:
    draw.text(place, text, fill="white", font=ImageFont.load_default(19), stroke_width=3, stroke_fill="black")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    draw_sheet().save(parser.parse_args().output, quality=90)


if __name__ == "__main__":
    main()
