"""The pictures of workflows: before and after of scenes that are drawn here, or a card that tells what is needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.resample import resize
from tools.showcase.hero import draw_scene as draw_harbor
from tools.showcase.pipeline import as_jpeg
from tools.showcase.still_life import draw_still_life
from tools.showcase.thumbnail import to_pillow

PICTURE_PX = 400
"""Side of a before-and-after picture."""
_SHARE = 4
"""How much larger scenes are drawn than they are as sources."""
_CARD_PX = (640, 400)


@dataclass(frozen=True)
class Scene:
    """A scene as a workflow gets it."""

    draw: Callable[[], Tensor]
    """``(1, 3, h, w)`` in [0, 1]."""
    center: tuple[float, float]
    """Where the picture of the workflow looks, as shares of the width and of the height."""


def _small(picture: Tensor) -> Tensor:
    height, width = picture.shape[2:]
    return resize(picture, (height // _SHARE, width // _SHARE)).clamp(0, 1)


def draw_cat() -> Tensor:
    """The cat on the harbor wall, square."""
    return draw_harbor()[..., 160:800]


def draw_ink() -> Tensor:
    """The same as lines of ink on paper."""
    luma = rgb_to_luma(draw_cat())
    edges = gaussian_blur(luma, 0.8) - gaussian_blur(luma, 1.6)
    ink = torch.sigmoid(-(edges + 0.012) * 260) * torch.sigmoid((0.55 - luma) * 30 + 3)
    paper = torch.tensor((0.96, 0.95, 0.91)).reshape(1, 3, 1, 1)
    return torch.lerp(paper, torch.tensor((0.10, 0.09, 0.12)).reshape(1, 3, 1, 1), ink.clamp(0, 1))


def draw_painting() -> Tensor:
    """The still life in strokes of three brushes along its edges."""
    scene = draw_still_life()
    draw, side = np.random.default_rng(5), scene.shape[3]
    canvas = to_pillow(gaussian_blur(scene, 12))
    pen = ImageDraw.Draw(canvas)
    for width, length, count in ((26, 46, 2600), (12, 28, 7000), (5, 16, 16000)):
        seen = gaussian_blur(scene, width / 3)
        colors, luma = (seen[0].movedim(0, -1).numpy() * 255), rgb_to_luma(seen)[0, 0].numpy()
        down, across = np.gradient(luma)
        for x, y in draw.integers(0, side, (count, 2)).tolist():
            if width < 12 and np.hypot(down[y, x], across[y, x]) < 0.004 and draw.random() < 0.8:
                continue  # fine strokes only where there is detail
            angle = np.arctan2(across[y, x], -down[y, x]) + draw.normal(0, 0.25)
            dx, dy = length / 2 * np.cos(angle), length / 2 * np.sin(angle)
            red, green, blue = (int(level) for level in np.clip(colors[y, x] + draw.normal(0, 6), 0, 255))
            pen.line((x - dx, y - dy, x + dx, y + dy), fill=(red, green, blue), width=width)
    samples = torch.from_numpy(np.asarray(canvas).copy()).movedim(-1, 0)[None].float() / 255
    weave = torch.from_numpy(draw.normal(0, 0.012, (1, 1, side, side)).astype(np.float32))
    return (samples + weave).clamp(0, 1)


_FRUIT, _CAT = (0.28, 0.56), (0.42, 0.45)
_STILL_LIFE = Scene(lambda: _small(draw_still_life()), _FRUIT)
SCENES = {
    "photo": Scene(lambda: as_jpeg(_small(draw_still_life()), 75), _FRUIT),
    "painting": Scene(lambda: _small(draw_painting()), _FRUIT),
    "line-art": Scene(lambda: _small(draw_ink()), _CAT),
    "two-pass-restore": Scene(lambda: as_jpeg(_small(draw_still_life()), 35), _FRUIT),
    "auto-realesrgan": Scene(lambda: as_jpeg(_small(draw_still_life()), 50), _FRUIT),
    "blend-two-models": Scene(lambda: _small(draw_painting()), _FRUIT),
    "keep-colors-after-any-upscaler": _STILL_LIFE,
    "photo-ccsr": _STILL_LIFE,
    "photo-sdxl-tile": _STILL_LIFE,
    "photo-seedvr2": _STILL_LIFE,
    "photo-supir": _STILL_LIFE,
    "sd-x4-upscaler": _STILL_LIFE,
    "hybrid-gan-diffusion": _STILL_LIFE,
}
"""By workflow."""
CAT = Scene(lambda: as_jpeg(_small(draw_cat()), 70), _CAT)
"""For all other workflows."""

CARDS = {
    "anime-sdxl-tile": ("Redraw anime detail", "SDXL and its tile ControlNet, colors preserved"),
    "anime-sd-latent": ("Enlarge latents", "your Stable Diffusion checkpoint"),
    "hybrid-gan-diffusion": ("Upscaler, then diffusion", "an upscale model and SDXL, blended"),
    "photo-ccsr": ("Restore in few steps", "SD 1.5 and its tile ControlNet, truncated sampling"),
    "photo-sdxl-tile": ("Invent photo detail", "SDXL and its tile ControlNet, colors preserved"),
    "photo-seedvr2": ("Restore photos", "SeedVR2, colors preserved"),
    "photo-supir": ("Restore photos boldly", "SUPIR and SDXL, in tiles, colors preserved"),
    "sd-x4-upscaler": ("Diffusion upscaler", "Stable Diffusion x4, in tiles"),
    "hold-colors-after-seedvr2-video": ("Restore a video", "SeedVR2, colors and flicker corrected"),
    "video-interpolate": ("Twice the frames", "RIFE or FILM, then enlarged"),
}
"""What a workflow does and needs, where it runs only with more than the pack."""


def before_and_after(source: Tensor, result: Image.Image, center: tuple[float, float]) -> Image.Image:
    """A part of a result at its own size, with the bicubic enlargement of the source on its left, both labeled."""
    wide = (max(PICTURE_PX, result.height), max(PICTURE_PX, result.width))
    before, after = to_pillow(resize(source, wide).clamp(0, 1)), result.resize((wide[1], wide[0]), Image.Resampling.LANCZOS)
    left, top = (
        round(min(max(0, share * side - PICTURE_PX / 2), side - PICTURE_PX))
        for share, side in zip(center, before.size, strict=True)
    )
    box = (left, top, left + PICTURE_PX, top + PICTURE_PX)
    picture, middle = before.crop(box), PICTURE_PX // 2
    picture.paste(after.crop(box).crop((middle, 0, PICTURE_PX, PICTURE_PX)), (middle, 0))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    draw.line((middle, 0, middle, PICTURE_PX), fill="white", width=2)
    for text, x in (("bicubic", 8), ("Fidelity", middle + 8)):
        draw.text((x, PICTURE_PX - 28), text, fill="white", font=font, stroke_width=2, stroke_fill="black")
    return picture


def draw_card(source: Tensor, center: tuple[float, float], title: str, needs: str) -> Image.Image:
    """A card: the small source as it is, before the same enlarged and dimmed, and what the workflow does and needs."""
    width, height = _CARD_PX
    side = max(_CARD_PX)
    scene = to_pillow(resize(source, (side, side)).clamp(0, 1))
    top = round(min(max(0, center[1] * side - height / 2), side - height))
    card = Image.blend(scene.crop((0, top, width, top + height)), Image.new("RGB", _CARD_PX, (20, 22, 30)), 0.45)
    small = to_pillow(source).resize((150, 150), Image.Resampling.LANCZOS)
    card.paste(Image.new("RGB", (154, 154), "white"), (28, 28))
    card.paste(small, (30, 30))
    draw = ImageDraw.Draw(card)
    draw.text((30, height - 118), title, fill="white", font=ImageFont.load_default(42))
    draw.text((30, height - 58), needs, fill=(225, 228, 235), font=ImageFont.load_default(22))
    return card
