"""Draws hills at dusk, the scene of the help pages; it is generated, so we may ship it."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from fidelity.imaging.resample import resize

SIDE_PX = 400
_DRAWN_PX = 4 * SIDE_PX


def draw_scene() -> Image.Image:
    """Draws hills at dusk at full size."""
    ramp = np.linspace(0, 1, _DRAWN_PX)[:, None, None]
    sky = np.array([46, 62, 120]) * (1 - ramp) + np.array([255, 176, 110]) * ramp
    scene = Image.fromarray(np.broadcast_to(sky, (_DRAWN_PX, _DRAWN_PX, 3)).round().astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    draw.ellipse((520, 420, 1080, 980), fill=(255, 226, 150))
    for index, color in enumerate([(150, 96, 120), (92, 66, 104), (46, 42, 74)]):
        x = np.arange(0, _DRAWN_PX + 1, 4)
        y = 860 + 210 * index + 90 * np.sin(x / (190 - 30 * index) + 2 * index) + 30 * np.sin(x / 47 + index)
        draw.polygon([(0, _DRAWN_PX), *zip(x.tolist(), y.tolist(), strict=True), (_DRAWN_PX, _DRAWN_PX)], fill=color)
    for x in range(90, _DRAWN_PX, 210):  # bare trees in front of the sun
        top = 700 + (x * 7) % 180
        draw.line((x, top, x, _DRAWN_PX), fill=(24, 22, 40), width=18)
        for step in range(4):
            y = top + 60 + 90 * step
            draw.line((x, y + 50, x + 70 - 10 * step, y - 20), fill=(24, 22, 40), width=9)
            draw.line((x, y + 80, x - 80 + 12 * step, y), fill=(24, 22, 40), width=9)
    return scene


def draw_source() -> torch.Tensor:
    """Draws the scene as a small picture, (1, 3, SIDE_PX / 4, SIDE_PX / 4)."""
    samples = torch.from_numpy(np.asarray(draw_scene()).copy()).movedim(-1, 0)[None].float() / 255
    return resize(samples, (SIDE_PX // 4, SIDE_PX // 4)).clamp(0, 1)


def to_pillow(picture: torch.Tensor) -> Image.Image:
    """Converts a (1, 3, H, W) picture in [0, 1] to a Pillow image."""
    return Image.fromarray((picture[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy())
