"""Makes the icon and the banner for the registry.

    python -m tools.showcase.emblem docs

Both show the scene with the same colors, coarsely pixelated on the left and in full detail on the right.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tools.showcase.thumbnail import draw_scene

ICON_PX = 400
BANNER_PX = (1260, 540)
_CELLS = 16
_WORDS = ("Fidelity Upscale", "bigger, and still itself")


def draw_icon() -> Image.Image:
    """Draws the square icon."""
    return _half_coarse(draw_scene().resize((ICON_PX, ICON_PX), Image.Resampling.LANCZOS), ICON_PX // _CELLS, ICON_PX // 2)


def draw_banner() -> Image.Image:
    """Draws the 21:9 banner with the name."""
    width, height = BANNER_PX
    scene = draw_scene()
    tall = scene.width * height // width
    top = (scene.height - tall) // 2 - 80
    banner = scene.crop((0, top, scene.width, top + tall)).resize(BANNER_PX, Image.Resampling.LANCZOS)
    banner = _half_coarse(banner, 30, width // 2)
    draw = ImageDraw.Draw(banner)
    for text, size, y in ((_WORDS[0], 76, height - 190), (_WORDS[1], 38, height - 96)):
        draw.text((48, y), text, "white", ImageFont.load_default(size), stroke_width=3, stroke_fill=(24, 22, 40))
    return banner


def _half_coarse(picture: Image.Image, cell_px: int, middle: int) -> Image.Image:
    """Pixelates the left half of a picture."""
    middle -= middle % cell_px
    left = picture.crop((0, 0, middle, picture.height))
    few = left.resize((middle // cell_px, picture.height // cell_px), Image.Resampling.BOX)
    picture.paste(few.resize(left.size, Image.Resampling.NEAREST))
    ImageDraw.Draw(picture).line((middle, 0, middle, picture.height), fill="white", width=3)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    draw_icon().save(folder / "icon.png", optimize=True)
    draw_banner().save(folder / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
