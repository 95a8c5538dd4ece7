"""Measures flicker: how much frames differ from those before, moved along the source's motion, beside bicubic enlargement.

    python -m tools.benchmarks.flicker [VIDEO …] [--start 0] [--frames 16] [--model NAME_OR_FILE]

Generated scenes pan, turn and zoom, clean and with noise; their motion is known. That of videos is found by DIS. Columns:
flicker as a ratio to bicubic's (mean squared difference
along the motion, where both frames show the same), tOF in source pixels, and the sharpness of the steadied result as a ratio to
the one before it was steadied. *raw* is the network's output, *held* has its colors held.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.imaging.drift import sharpness
from fidelity.imaging.resample import resize
from fidelity.imaging.yuv import PlaneFormat, planes_to_levels, rgb_to_planes
from fidelity.networks.loader import list_models
from fidelity.session import Session
from fidelity.steps.upscale import upscale
from fidelity.video.colors import ColorCodes, StreamColors
from fidelity.video.frames import FrameMaker
from fidelity.video.motion import find_motion, find_visible, flicker, motion_error
from fidelity.video.source import VideoSource
from fidelity.video.steady import DEFAULT_STEADY, Steadier, SteadySettings
from tools.training.data import GENERATORS

SIZE = (180, 320)
SCALE = 2
FORM = PlaneFormat("bt709")
COLORS = StreamColors(FORM, ColorCodes(1, 1, 1), "yuv420p", None, ())
MOVES = {"pan": (1.3, 0.4, 0.0, 1.0), "turn": (0.2, 0.1, 0.4, 1.0), "zoom": (0.0, 0.0, 0.0, 1.006)}
"""Pixels of the source to the right and down, degrees and growth a frame."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--start", type=int, default=0, help="first frame of a video")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--share", type=float, default=DEFAULT_STEADY.share)
    parser.add_argument("--unlike", type=float, default=DEFAULT_STEADY.unlike)
    parser.add_argument("--change", type=float, default=DEFAULT_STEADY.change)
    options = parser.parse_args()
    steady = SteadySettings(options.share, options.unlike, options.change)
    print(f"{'scene':26} flicker, of bicubic's: raw  held  steadied | tOF bicubic held steadied | sharpness")
    for path in options.videos:
        source = VideoSource(path)
        frames = [frame.levels for frame in source.frames() if options.start <= frame.index < options.start + options.frames]
        measure(path.name, frames, source.info.colors, options.model, steady)
    if not options.videos:
        for name in GENERATORS:
            for move in MOVES:
                for noise in (0, 3):
                    title = f"{name} {move}{' noise 3' if noise else ''}"
                    frames = list(generate(name, move, noise, options.frames))
                    measure(title, frames, COLORS, options.model, steady, true_motion(move, options.frames))


def generate(name: str, move: str, noise: float, count: int, size: tuple[int, int] = SIZE) -> Iterator[tuple[Tensor, ...]]:
    """Frames of a generated picture that moves, as 8-bit planes."""
    side = 4 * max(size)
    draw = np.random.default_rng(7)
    picture = torch.from_numpy(GENERATORS[name](side, draw, 3)).float()
    picture = (picture if picture.shape[0] == 3 else picture.permute(2, 0, 1))[None]
    across, down, degrees, growth = MOVES[move]
    height, width = 2 * size[0], 2 * size[1]
    rows, columns = _grid((height, width))
    for index in range(count):
        angle, zoom = np.deg2rad(degrees * index), growth**index
        x, y = _turn(columns, rows, angle, zoom)
        grid = torch.stack((x + 2 * across * index, y + 2 * down * index), dim=-1)[None] / (side / 2)
        large = functional.grid_sample(picture, grid.float(), mode="bicubic", padding_mode="reflection", align_corners=False)
        small = resize(large, size)
        small = small + torch.randn(small.shape, generator=torch.Generator().manual_seed(index)) * noise / 255
        yield tuple(planes_to_levels(rgb_to_planes(small.clamp(0, 1), FORM), FORM))


def true_motion(move: str, count: int) -> list[Tensor]:
    """Where each pixel of a generated frame was in the frame before, as `find_motion` tells it."""
    across, down, degrees, growth = MOVES[move]
    rows, columns = _grid(SIZE)
    motions: list[Tensor] = []
    for index in range(1, count):
        x, y = _turn(columns, rows, np.deg2rad(degrees * index), growth**index)
        back = np.deg2rad(-degrees * (index - 1))
        earlier = _turn(x + across, y + down, back, 1 / growth ** (index - 1))
        motions.append(torch.stack((earlier[0] - columns, earlier[1] - rows))[None].float())
    return motions


def _grid(size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Rows and columns of a picture, from its center."""
    places = [torch.arange(length, dtype=torch.float64) + 0.5 - length / 2 for length in size]
    return torch.meshgrid(*places, indexing="ij")


def _turn(x: Tensor, y: Tensor, angle: float, zoom: float) -> tuple[Tensor, Tensor]:
    return (x * np.cos(angle) - y * np.sin(angle)) / zoom, (x * np.sin(angle) + y * np.cos(angle)) / zoom


def measure(
    title: str,
    frames: list[tuple[Tensor, ...]],
    colors: StreamColors,
    model: str,
    steady: SteadySettings,
    known: list[Tensor] | None = None,
) -> None:
    size = tuple(frames[0][0].shape)
    target = (SCALE * size[0], SCALE * size[1])
    session = Session(Settings(Target(size=target), model=model), models=list_models([]))
    maker = FrameMaker(session, colors, PlaneFormat("bt709", bits=10), target)
    pictures = [maker.read(levels) for levels in frames]
    decision = maker.decide(pictures[:1])
    made = [maker.enlarge(picture, decision, True, None) for picture in pictures]
    source = [picture.planes.luma.clamp(0, 1) for picture in pictures]
    raw = [upscale(one.reference.planes.luma.clamp(0, 1), decision.planned.models, target, "luma").image for one in made]
    held = [one.planes.luma for one in made]
    bicubic = [resize(luma, target).clamp(0, 1) for luma in source]
    moves = [find_motion(before, after) for before, after in pairwise(source)]
    steadier, steadied = Steadier(steady), list[Tensor]()
    for index, one in enumerate(made):
        earlier = (source[index - 1], moves[index - 1]) if index else (None, None)
        assert one.base is not None
        steadied.append(steadier.run(held[index], one.base, source[index], *earlier))
    judged = known or moves
    shown = [find_visible(*pair, motion) for pair, motion in zip(pairwise(source), judged, strict=True)]

    def mean_flicker(frames: list[Tensor]) -> float:
        pairs = zip(pairwise(frames), judged, shown, strict=True)
        return float(np.mean([flicker(*pair, motion, visible) for pair, motion, visible in pairs]))

    def mean_error(frames: list[Tensor]) -> float:
        pairs = zip(pairwise(frames), pairwise(source), strict=True)
        return float(np.mean([motion_error(*pair, *given) for pair, given in pairs]))

    plain = max(1e-9, mean_flicker(bicubic))
    ratios = "  ".join(f"{mean_flicker(one) / plain:.2f}" for one in (raw, held, steadied))
    errors = "  ".join(f"{mean_error(one):.3f}" for one in (bicubic, held, steadied))
    sharp = np.mean([sharpness(one) for one in steadied]) / np.mean([sharpness(one) for one in held])
    print(f"{title:26} {ratios} ({plain:.2f}) | {errors} | {sharp:.3f}  {decision.recipe.restore}", flush=True)


if __name__ == "__main__":
    main()
