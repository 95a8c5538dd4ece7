"""Finds cuts and repeated frames from small copies of the frames, and the frames that a scene is decided by."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.yuv import PlaneFormat, Planes, levels_to_planes
from .source import SourceFrame

LOOKAHEAD = 24
"""Frames of a scene that are seen before it is decided."""
_SAMPLES = 3
"""How many of them decide."""
_SMALL = (36, 64)
_CUT = 0.06
"""Mean difference of two frames' small copies, in [0, 1], from which on there may be a cut."""
_CERTAIN = 0.1
"""Difference at which there is one, however alike the shapes."""
_CUT_RATIO = 3.0
"""How much larger it is than the differences before."""
_UNLIKE = 0.55
"""Correlation of the small copies below which two frames show different things, however much moves."""
_REMEMBERED = 8
_AREA_PX = 8
_NEAR_PIXEL = 8


@dataclass(frozen=True)
class FramePlace:
    """What a frame is in its video."""

    frame: SourceFrame
    scene: int
    """Number of its scene, from 0."""
    starts_scene: bool
    is_repeat: bool
    """Whether it repeats the frame before."""


class CutFinder:
    """Tells of one picture after another whether it follows a cut."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._changes: list[float] = []

    def starts_scene(self, planes: Planes) -> bool:
        """Whether this picture, the next one, begins a scene, as the first one does."""
        small = torch.cat([functional.adaptive_avg_pool2d(plane, _SMALL)[0] for plane in planes])
        starts = self._last is None or self._is_cut(self._last, small)
        if starts:
            self._changes.clear()
        self._last = small
        return starts

    def _is_cut(self, before: Tensor, after: Tensor) -> bool:
        change = float((after - before).abs().mean(dim=(1, 2)).sum()) / 3  # grey pictures have one plane, or three
        usual = sorted(self._changes)[len(self._changes) // 2] if self._changes else 0.0
        self._changes = [*self._changes[-_REMEMBERED + 1 :], change]
        if change < _CUT or change < _CUT_RATIO * usual:
            return False
        return change > _CERTAIN or _correlation(before, after) < _UNLIKE


class SceneFinder:
    """Tells of one frame after another which scene it belongs to."""

    def __init__(self, form: PlaneFormat, near_repeats: bool = False) -> None:
        """Starts before the first frame.

        Args:
            form: Format of the frames' planes.
            near_repeats: Whether a frame that differs by no more than compression does also counts as a repeat.
        """
        self._form = form
        self._near_repeats = near_repeats
        self._scene = -1
        self._last: SourceFrame | None = None
        self._cuts = CutFinder()

    def place(self, frame: SourceFrame) -> FramePlace:
        """Places the next frame."""
        if self._last and self._repeats(frame, self._last):
            return FramePlace(frame, self._scene, False, True)
        starts = self._cuts.starts_scene(levels_to_planes(frame.levels, self._form))
        self._scene += starts
        self._last = frame
        return FramePlace(frame, self._scene, starts, False)

    def _repeats(self, frame: SourceFrame, before: SourceFrame) -> bool:
        pairs = list(zip(frame.levels, before.levels, strict=True))
        if all(torch.equal(*pair) for pair in pairs):
            return True
        return self._near_repeats and all(_is_near(*pair, 2 ** (self._form.bits - 8)) for pair in pairs)


def with_samples(places: Iterator[FramePlace]) -> Iterator[tuple[FramePlace, tuple[SourceFrame, ...]]]:
    """Yields every frame with some of the first frames of its scene, by which the scene is decided.

    It holds back at most as many frames as a scene is seen ahead.
    """
    held: list[FramePlace] = []
    samples: tuple[SourceFrame, ...] = ()

    def release() -> Iterator[tuple[FramePlace, tuple[SourceFrame, ...]]]:
        nonlocal samples
        if held:
            steps = [round(index * (len(held) - 1) / max(1, _SAMPLES - 1)) for index in range(_SAMPLES)]
            samples = tuple(held[step].frame for step in dict.fromkeys(steps))
        for place in held:
            yield place, samples
        held.clear()

    is_open = False
    for place in places:
        if place.starts_scene or not (is_open or samples):
            yield from release()
            is_open = True
        if is_open:
            held.append(place)
            if len(held) == LOOKAHEAD:
                yield from release()
                is_open = False
        else:
            yield place, samples
    yield from release()


def _is_near(plane: Tensor, before: Tensor, step: int) -> bool:
    """Whether two planes differ by less than a step of 8 bits in every small area, and by a few at most in any pixel."""
    apart = plane.float() - before.float()
    if float(apart.abs().max()) > _NEAR_PIXEL * step:
        return False
    return float(functional.avg_pool2d(apart[None], _AREA_PX, ceil_mode=True).abs().max()) < step


def _correlation(before: Tensor, after: Tensor) -> float:
    pair = [image - image.mean(dim=(1, 2), keepdim=True) for image in (before, after)]
    scale = float(pair[0].norm() * pair[1].norm())
    return float((pair[0] * pair[1]).sum()) / scale if scale > 1e-6 else 0.0
