"""Images whose edges continue each other: textures that repeat, and panoramas.

Every step sees what lies beyond an edge: what is at the opposite one is added as a margin before the first step, and cut off
after the last.
"""

from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor

from ..choices import Tileable
from ..imaging.rows import Rows, WindowRows

_LEAST_MARGIN_PX = 64
"""More than any step looks around: the deepest shipped network 16 px, and color consistency about 30."""
_NEAR = 8
_SMALLEST_CONTRAST = 0.03
_STEP_LIMIT = 1.15
_UNRELATED_LIMIT = 0.5


@dataclass(frozen=True)
class Margin:
    """What is added on each side, (down, across) in pixels."""

    source: tuple[int, int]
    """To the source."""
    target: tuple[int, int]
    """To the result, where it covers exactly the same area."""

    def around(self, source: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The (height, width) of a source and its result with their margins."""
        return _widen(source, self.source), _widen(target, self.target)

    def within(self, source: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The (height, width) of a source and its result without their margins."""
        return _widen(source, self.source, -1), _widen(target, self.target, -1)


def _widen(size: tuple[int, int], margin: tuple[int, int], sign: int = 1) -> tuple[int, int]:
    return size[0] + 2 * sign * margin[0], size[1] + 2 * sign * margin[1]


def find_margin(source: tuple[int, int], target: tuple[int, int], tileable: Tileable) -> Margin:
    """Chooses margins that are whole pixels of the source and of the result.

    Args:
        source: (height, width) of the source.
        target: (height, width) of the result.
        tileable: Whether the image repeats across ("x"), down ("y") or in both directions.
    """
    wraps = (tileable in ("y", "both"), tileable in ("x", "both"))
    pairs = [_fit(*sides) if is_wrapped else (0, 0) for *sides, is_wrapped in zip(source, target, wraps, strict=True)]
    return Margin((pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]))


def _fit(side: int, result: int) -> tuple[int, int]:
    step = side // gcd(side, result)
    margin = step * -(-_LEAST_MARGIN_PX // step)
    return margin, margin * result // side


def describe_margin(margin: Margin) -> str | None:
    """Says that margins are large, if they are: sizes without a common step need as much as the whole side."""
    largest = max(margin.source)
    if largest <= 2 * _LEAST_MARGIN_PX:
        return None
    return f"tileable: a margin of {largest} px, since only that is whole pixels of the source and of the result"


def wrap(image: Tensor, margin: tuple[int, int]) -> Tensor:
    """Adds a margin around an image ``(B, C, H, W)`` that repeats it, as often as it takes."""
    for axis, size in zip((2, 3), margin, strict=True):
        if size:
            places = torch.arange(-size, image.shape[axis] + size, device=image.device) % image.shape[axis]
            image = image.index_select(axis, places)
    return image


def unwrap(image: Tensor, margin: tuple[int, int]) -> Tensor:
    """The image without its margin."""
    down, across = margin
    return image[:, :, down : image.shape[2] - down, across : image.shape[3] - across]


def unwrap_rows(rows: Rows, margin: tuple[int, int]) -> Rows:
    """The image without its margin, as rows."""
    down, across = margin
    _, _, height, width = rows.shape
    return WindowRows(rows, slice(down, height - down), slice(across, width - across))


def find_tileable(image: Tensor) -> Tileable:
    """Finds whether the edges of an image seem to continue each other: a hint, which plain borders do not give.

    Args:
        image: ``(B, C, H, W)``; the first image is looked at.
    """
    across, down = (_continues(image[0, :3].float(), axis) for axis in (2, 1))
    return "both" if across and down else "x" if across else "y" if down else "off"


def _continues(image: Tensor, axis: int) -> bool:
    """Whether the first line along an axis follows on the last one as smoothly as neighbors follow each other."""
    lines = image.movedim(axis, 0)
    if min(len(lines), lines.shape[2]) < 4 * _NEAR or lines[0].std(dim=-1).mean() < _SMALLEST_CONTRAST:
        return False
    step = (lines[0] - lines[-1]).abs().mean()
    inside = torch.cat((lines[: _NEAR + 1].diff(dim=0), lines[-_NEAR - 1 :].diff(dim=0))).abs().mean()
    unrelated = (lines[0] - lines[len(lines) // 2]).abs().mean()
    return bool(step < _STEP_LIMIT * inside and step < _UNRELATED_LIMIT * unrelated)


def describe_tileable(found: Tileable) -> str:
    """The hint for the user, if the edges of an image that is not taken to repeat seem to continue each other."""
    edges = {"x": "left and right edges", "y": "upper and lower edges", "both": "opposite edges"}[found]
    return f"its {edges} seem to join without a seam; to keep that, set tileable to {found}"
