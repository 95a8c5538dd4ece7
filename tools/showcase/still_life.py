"""A still life that looks like a photograph: fruit, a cup and a printed card on a wooden table, ray traced; ours to ship.

    python -m tools.showcase.still_life OUT.png [--side 800] [--samples 24]

Soft light from a window, a lens out of focus beyond the table, wood grain, skin of oranges, and small print: what an upscaler
meets in photographs.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from tools.showcase.thumbnail import to_pillow

_EYE, _LOOKS_AT = (0.3, -9.0, 3.6), (0.15, 0.0, 0.95)
_FIELD, _LENS_RADIUS, _FOCUS = 0.34, 0.06, 9.2
_LIGHT, _LIGHT_SIZE = (-6.0, -3.5, 8.0), 2.2
_WALL_Y = 7.0
_FAR = 1e6
_Shade = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From places (N, 3) and normals to colors (N, 3) in linear light and changed normals."""


@dataclass(frozen=True)
class _Ball:
    center: tuple[float, float, float]
    radius: float
    shade: _Shade
    gloss: float


@cache
def _lattice() -> Tensor:
    return torch.rand(64, 64, 64, generator=torch.Generator().manual_seed(4))


def _noise(places: Tensor) -> Tensor:
    """Smooth noise in [0, 1] at places (N, 3); one bump a unit."""
    cell = places.floor()
    within = places - cell
    within = within * within * (3 - 2 * within)
    cell = cell.long()
    total = torch.zeros_like(places[:, 0])
    for corner in range(8):
        steps = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])
        weight = torch.where(steps.bool(), within, 1 - within).prod(dim=1)
        at = (cell + steps) & 63
        total += weight * _lattice()[at[:, 0], at[:, 1], at[:, 2]]
    return total


def _layers(places: Tensor, count: int) -> Tensor:
    """Noise of several sizes, in [0, 1]."""
    total = sum(0.5**layer * _noise(places * 2**layer + 17 * layer) for layer in range(count))
    assert isinstance(total, Tensor)
    return total / (2 - 0.5 ** (count - 1))


def _bumped(places: Tensor, normals: Tensor, per_unit: float, depth: float) -> Tensor:
    """Normals of a surface with dents."""
    offsets = [_noise((places + shift) * per_unit) - _noise((places - shift) * per_unit) for shift in 0.01 * torch.eye(3)]
    return functional.normalize(normals - depth * torch.stack(offsets, dim=1), dim=1)


def _mix(first: tuple[float, float, float], second: tuple[float, float, float], share: Tensor) -> Tensor:
    return torch.lerp(torch.tensor(first), torch.tensor(second), share[:, None])


def _orange(places: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    return _mix((0.80, 0.22, 0.012), (0.92, 0.36, 0.03), _layers(places * 1.3, 3)), _bumped(places, normals, 26, 0.9)


def _lemon(places: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    return _mix((0.75, 0.52, 0.03), (0.88, 0.70, 0.10), _layers(places * 2, 3)), _bumped(places, normals, 30, 0.6)


def _apple(places: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    around = torch.atan2(places[:, 1] + 0.5, places[:, 0] - 1.45)
    streaks = _noise(torch.stack((around * 9, places[:, 2] * 0.8, torch.zeros_like(around)), dim=1))
    ripe = (0.25 + 0.5 * streaks + 0.5 * _noise(places * 1.5)).clamp(0, 1)
    dots = (_noise(places * 24) > 0.86).float() * 0.5
    color = _mix((0.50, 0.50, 0.06), (0.48, 0.025, 0.02), ripe)
    return torch.lerp(color, torch.tensor((0.75, 0.6, 0.35)), dots[:, None]), normals


def _plaster(places: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    return _mix((0.20, 0.25, 0.27), (0.27, 0.32, 0.33), _layers(places * 0.7, 4)), normals


def _wood(places: Tensor) -> Tensor:
    """Boards along x, each with its own grain."""
    board = (places[:, 1] / 1.6).floor()
    own = torch.stack((places[:, 0] * 0.35 + 7.3 * board, places[:, 1] * 2.6, board), dim=1)
    rings = (14 * (places[:, 1] + 0.35 * _layers(own, 2) + 0.02 * places[:, 0])).sin() * 0.5 + 0.5
    fibers = _noise(torch.stack((places[:, 0] * 3, places[:, 1] * 60, board * 5), dim=1))
    share = (0.55 * rings**2 + 0.45 * fibers).clamp(0, 1) * (0.75 + 0.25 * _noise(own * 0.5))
    gap = ((places[:, 1] / 1.6 - board) < 0.018).float()
    return _mix((0.36, 0.19, 0.085), (0.17, 0.075, 0.03), share) * (1 - 0.8 * gap[:, None])


@cache
def _card() -> Tensor:
    """A printed price card, (300, 440, 3) in linear light."""
    sheet = Image.new("RGB", (440, 300), (238, 232, 215))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((10, 10, 429, 289), outline=(120, 40, 30), width=4)
    for text, place, size, color in (
        ("ORANGES", (220, 62), 66, (150, 45, 25)),
        ("from the valley, 2.40 a kilo", (220, 130), 28, (50, 45, 40)),
        ("washed, not waxed", (220, 175), 28, (50, 45, 40)),
        ("open daily 7 to 19, Sundays 9 to 13", (220, 245), 22, (90, 80, 70)),
    ):
        pen.text(place, text, fill=color, font=ImageFont.load_default(size), anchor="mm")
    return torch.from_numpy((np.asarray(sheet, np.float32) / 255) ** 2.2)


_BALLS = (
    _Ball((-1.15, 0.9, 1.0), 1.0, _orange, 0.25),
    _Ball((0.55, 1.9, 0.95), 0.95, _orange, 0.25),
    _Ball((1.45, -0.5, 0.85), 0.85, _apple, 0.6),
    _Ball((0.05, -0.9, 0.55), 0.55, _lemon, 0.3),
)
_CUP = ((2.7, 1.6), 0.75, 1.75)
"""(x, y), radius and height of a cup."""
_CARD = ((-2.7, -0.75), (1.55, -0.35), 1.06, 0.28)
"""(x, y) of its lower left corner, its (x, y) extent, its height, and how far it leans back."""


def _hit_ball(eyes: Tensor, rays: Tensor, ball: _Ball) -> Tensor:
    offset = eyes - torch.tensor(ball.center)
    half = (offset * rays).sum(dim=1)
    inside = half * half - (offset * offset).sum(dim=1) + ball.radius**2
    near = -half - inside.clamp(min=0).sqrt()
    return torch.where((inside > 0) & (near > 1e-3), near, _FAR)


def _hit_cup(eyes: Tensor, rays: Tensor) -> Tensor:
    (x, y), radius, height = _CUP
    offset = eyes[:, :2] - torch.tensor((x, y))
    square = (rays[:, :2] ** 2).sum(dim=1).clamp(min=1e-9)
    half = (offset * rays[:, :2]).sum(dim=1)
    inside = half * half - square * ((offset * offset).sum(dim=1) - radius**2)
    best = torch.full_like(half, _FAR)
    for sign in (1.0, -1.0):  # the far wall is seen through the opening
        at = (-half + sign * inside.clamp(min=0).sqrt()) / square
        level = eyes[:, 2] + at * rays[:, 2]
        best = torch.where((inside > 0) & (at > 1e-3) & (level > 0) & (level < height), at, best)
    return best


def _hit_card(eyes: Tensor, rays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, and where on the card, from 0 to 1 across and up."""
    (left, front), (across, deep), height, lean = _CARD
    corner, right = torch.tensor((left, front, 0.0)), torch.tensor((across, deep, 0.0))
    up = functional.normalize(torch.tensor((deep, -across, 0.0)), dim=0) * -lean * height + torch.tensor((0.0, 0.0, height))
    normal = functional.normalize(torch.linalg.cross(right, up), dim=0)
    at = ((corner - eyes) * normal).sum(dim=1) / (rays * normal).sum(dim=1)
    place = eyes + at[:, None] * rays - corner
    u, v = (place @ right) / (right @ right), (place @ up) / (up @ up)
    hits = (at > 1e-3) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    return torch.where(hits, at, _FAR), u, v


def _blocked(places: Tensor, toward: Tensor) -> Tensor:
    """Whether something is between places and the light."""
    hits = [_hit_ball(places, toward, ball) < _FAR for ball in _BALLS]
    return torch.stack([*hits, _hit_cup(places, toward) < _FAR, _hit_card(places, toward)[0] < _FAR]).any(dim=0)


def _open_sky(places: Tensor, normals: Tensor) -> Tensor:
    """How much of the room's light reaches places, from 0 to 1."""
    share = 0.55 + 0.45 * normals[:, 2]
    for ball in _BALLS:
        offset = torch.tensor(ball.center) - places
        distance = offset.norm(dim=1).clamp(min=ball.radius)
        facing = ((offset / distance[:, None]) * normals).sum(dim=1).clamp(min=0)
        share = share * (1 - facing * (ball.radius / distance) ** 2)
    return share


def _look(eyes: Tensor, rays: Tensor, draw: torch.Generator) -> Tensor:
    """Light along rays, (N, 3)."""
    table = torch.where(rays[:, 2] < 0, -eyes[:, 2] / rays[:, 2], _FAR)
    wall = (_WALL_Y - eyes[:, 1]) / rays[:, 1]
    card, u, v = _hit_card(eyes, rays)
    hits = torch.stack([table, wall, *(_hit_ball(eyes, rays, ball) for ball in _BALLS), _hit_cup(eyes, rays), card])
    nearest, which = hits.min(dim=0)
    places = eyes + nearest[:, None] * rays
    colors, normals, gloss = torch.zeros_like(places), torch.zeros_like(places), torch.zeros_like(nearest)

    def paint(index: int, normal: Callable[[Tensor], Tensor], shade: _Shade, shine: float) -> None:
        chosen = which == index
        if chosen.any():
            facing = functional.normalize(normal(places[chosen]), dim=1)
            colors[chosen], normals[chosen] = shade(places[chosen], facing)
            gloss[chosen] = shine

    def fixed(*vector: float) -> Callable[[Tensor], Tensor]:
        return lambda place: torch.tensor(vector).expand_as(place)

    paint(0, fixed(0.0, 0.0, 1.0), lambda place, normal: (_wood(place), normal), 0.12)
    paint(1, fixed(0.0, -1.0, 0.0), _plaster, 0.0)
    for index, ball in enumerate(_BALLS, 2):
        center = torch.tensor(ball.center)
        paint(index, lambda place, center=center: place - center, ball.shade, ball.gloss)
    middle = torch.tensor((*_CUP[0], 0.0))
    paint(
        2 + len(_BALLS),
        lambda place: (place - middle) * torch.tensor((1.0, 1.0, 0.0)),
        lambda place, normal: (
            _mix((0.72, 0.72, 0.68), (0.03, 0.09, 0.30), ((place[:, 2] * 7).sin() > 0.72).float()),
            torch.where(((normal * rays[which == 2 + len(_BALLS)]).sum(dim=1) > 0)[:, None], -normal, normal),
        ),
        0.5,
    )
    on_card = which == 3 + len(_BALLS)
    if on_card.any():
        print_ = _card()
        grid = torch.stack((2 * u[on_card] - 1, 1 - 2 * v[on_card]), dim=1)[None, None]
        seen = functional.grid_sample(print_.movedim(-1, 0)[None], grid, align_corners=False, padding_mode="border")
        colors[on_card] = seen[0, :, 0].T
        normals[on_card] = functional.normalize(torch.tensor((0.2, -0.95, 0.25)), dim=0)
    spread = torch.rand(places.shape[0], 2, generator=draw) - 0.5
    light = torch.tensor(_LIGHT) + _LIGHT_SIZE * torch.cat((spread, spread[:, :1] - spread[:, 1:]), dim=1)
    offset = light - places
    distance = offset.norm(dim=1, keepdim=True)
    toward = offset / distance
    lit = (toward * normals).sum(dim=1).clamp(min=0) * (~_blocked(places + 1e-3 * normals, toward)).float()
    room = _open_sky(places, normals)[:, None] * torch.tensor((0.30, 0.33, 0.38))
    sun = lit[:, None] * torch.tensor((1.0, 0.93, 0.80)) * 185 / distance**2
    half = functional.normalize(toward - rays, dim=1)
    shine = (half * normals).sum(dim=1).clamp(min=0) ** 60 * gloss * (lit > 0)
    return colors * (room + sun) + 0.9 * shine[:, None]


@cache
def draw_still_life(side_px: int = 800, samples: int = 24) -> Tensor:
    """Draws it, (1, 3, side_px, side_px) in [0, 1]."""
    draw = torch.Generator().manual_seed(1)
    eye, aim = torch.tensor(_EYE), torch.tensor(_LOOKS_AT)
    ahead = functional.normalize(aim - eye, dim=0)
    right = functional.normalize(torch.linalg.cross(ahead, torch.tensor((0.0, 0.0, 1.0))), dim=0)
    up = torch.linalg.cross(right, ahead)
    rows, columns = torch.meshgrid(torch.arange(side_px), torch.arange(side_px), indexing="ij")
    total = torch.zeros(side_px**2, 3)
    for _ in range(samples):
        jitter = torch.rand(2, side_px**2, generator=draw)
        x = ((columns.flatten() + jitter[0]) / side_px * 2 - 1) * _FIELD
        y = (1 - (rows.flatten() + jitter[1]) / side_px * 2) * _FIELD
        aimed = functional.normalize(ahead + x[:, None] * right + y[:, None] * up, dim=1)
        angle, reach = 2 * torch.pi * torch.rand(side_px**2, generator=draw), torch.rand(side_px**2, generator=draw).sqrt()
        eyes = eye + _LENS_RADIUS * reach[:, None] * (angle.cos()[:, None] * right + angle.sin()[:, None] * up)
        rays = functional.normalize(eye + _FOCUS * aimed - eyes, dim=1)
        total += _look(eyes, rays, draw).clamp(max=4)
    light = total / samples
    film = (light * (1 + 0.1 * light)) / (1 + light * 0.35)
    return film.clamp(0, 1).pow(1 / 2.2).reshape(side_px, side_px, 3).movedim(-1, 0)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--side", type=int, default=800)
    parser.add_argument("--samples", type=int, default=24)
    options = parser.parse_args()
    to_pillow(draw_still_life(options.side, options.samples)).save(options.output)


if __name__ == "__main__":
    main()
