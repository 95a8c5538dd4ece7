"""Video's planes: luma and subsampled chroma in integers, to floats and RGB and back.

Sources: ITU-R BT.601-7, BT.709-6 and BT.2020-2 (matrices and quantization), SMPTE ST 240, ITU-T H.273 (code points and chroma
sample location), ITU-T T.871 (full range).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..errors import RefusedError
from .resample import apply_separable, grid_weights

Matrix = Literal["bt601", "bt709", "bt2020", "smpte240m", "fcc", "rgb"]
"""Which colors luma and chroma stand for; "rgb": the planes are G, B and R themselves."""

Siting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]
"""Where a chroma sample lies among the luma samples it belongs to."""

LUMA_SHARES: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
"""Shares of red and blue in luma."""


@dataclass(frozen=True)
class PlaneFormat:
    """What the integers in a video's planes stand for."""

    matrix: Matrix = "bt709"
    """How luma and chroma are made from RGB."""
    is_full: bool = False
    """Whether black and white are the first and last code, not 16 and 235 (of 8 bits)."""
    bits: int = 8
    """Bits per sample, 8 to 16."""
    subsampling: tuple[int, int] = (2, 2)
    """Luma rows and columns per chroma sample; (2, 2) is 4:2:0, (1, 2) 4:2:2, (1, 1) 4:4:4."""
    siting: Siting = "left"
    """Where chroma samples lie, as far as they are subsampled."""
    is_grey: bool = False
    """Whether there is no chroma."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the integers: uint8, or int32, since PyTorch computes hardly anything in uint16."""
        return torch.uint8 if self.bits == 8 else torch.int32

    def chroma_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the chroma planes of a picture of that size."""
        height, width = (-(-length // step) for length, step in zip(size, self.subsampling, strict=True))
        return height, width

    @property
    def offsets(self) -> tuple[float, float]:
        """How far chroma samples lie above and left of the center of their luma samples, in chroma samples (negative)."""
        down = {"topleft": -1, "top": -1, "bottomleft": 1, "bottom": 1}.get(self.siting, 0)
        across = -1 if self.siting in ("left", "topleft", "bottomleft") else 0
        rows, columns = (side * (step - 1) / (2 * step) for side, step in zip((down, across), self.subsampling, strict=True))
        return rows, columns


class Planes(NamedTuple):
    """A picture as luma in [0, 1] and color differences in [-0.5, 0.5], in float32, with what lies outside kept."""

    luma: Tensor
    """``(1, 1, H, W)``."""
    blue: Tensor
    """Cb, ``(1, 1, h, w)``."""
    red: Tensor
    """Cr, likewise."""


def _ranges(form: PlaneFormat) -> tuple[float, float, float, float]:
    """Offset and span of the codes of luma, then of chroma."""
    top, unit = float(2**form.bits - 1), float(2 ** (form.bits - 8))
    middle = 128 * unit
    if form.is_full:
        return 0.0, top, middle, top
    return 16 * unit, 219 * unit, middle, 224 * unit


def levels_to_planes(levels: Sequence[Tensor], form: PlaneFormat) -> Planes:
    """Converts the integers of a picture to floats; grey gets neutral chroma.

    Args:
        levels: Y, Cb and Cr, each ``(h, w)``; only Y if the format is grey. RGB comes as G, B and R.
        form: What they stand for.
    """
    start, span, middle, width = _ranges(form)
    luma = (levels[0].float() - start)[None, None] / span
    if form.is_grey:
        neutral = luma.new_zeros(1, 1, *form.chroma_size((luma.shape[2], luma.shape[3])))
        return Planes(luma, neutral, neutral)
    if form.matrix == "rgb":
        blue, red = ((plane.float() - start)[None, None] / span for plane in levels[1:3])
    else:
        blue, red = ((plane.float() - middle)[None, None] / width for plane in levels[1:3])
    return Planes(luma, blue, red)


def planes_to_levels(planes: Planes, form: PlaneFormat) -> list[Tensor]:
    """The inverse of `levels_to_planes`, rounded to the nearest code; ``(h, w)`` each, in `PlaneFormat.dtype`."""
    start, span, middle, width = _ranges(form)
    top = 2**form.bits - 1
    chroma = (start, span) if form.matrix == "rgb" else (middle, width)
    scales = [(start, span)] if form.is_grey else [(start, span), chroma, chroma]
    return [
        (plane[0, 0] * factor).add_(offset).round_().clamp_(0, top).to(form.dtype)
        for plane, (offset, factor) in zip(planes, scales, strict=False)
    ]


def planes_to_rgb(planes: Planes, form: PlaneFormat) -> Tensor:
    """Converts planes to RGB, chroma enlarged to the size of luma with its siting.

    Returns:
        ``(1, 3, H, W)``, not clamped: what lies outside [0, 1] is in the source.
    """
    luma = planes.luma
    if form.matrix == "rgb":
        return torch.cat((planes.red, luma, planes.blue), dim=1)
    size = (luma.shape[2], luma.shape[3])
    blue, red = (resample_chroma(plane, form, size, FULL, size) for plane in planes[1:])
    share_red, share_blue = _shares(form.matrix)
    red_part, blue_part = 2 * (1 - share_red) * red, 2 * (1 - share_blue) * blue
    share_green = 1 - share_red - share_blue
    green = luma - (share_red * red_part + share_blue * blue_part) / share_green
    return torch.cat((luma + red_part, green, luma + blue_part), dim=1)


def rgb_to_planes(image: Tensor, form: PlaneFormat) -> Planes:
    """Converts RGB, ``(1, 3, H, W)``, to planes of a format, chroma reduced with antialiasing to where its samples lie."""
    red, green, blue = image.split(1, dim=1)
    if form.matrix == "rgb":
        return Planes(green, blue, red)
    share_red, share_blue = _shares(form.matrix)
    luma = share_red * red + (1 - share_red - share_blue) * green + share_blue * blue
    differences = (blue - luma) / (2 * (1 - share_blue)), (red - luma) / (2 * (1 - share_red))
    size = (image.shape[2], image.shape[3])
    small = [resample_chroma(plane, FULL, size, form, size) for plane in differences]
    return Planes(luma, small[0], small[1])


def resample_chroma(
    plane: Tensor, form: PlaneFormat, size: tuple[int, int], wanted: PlaneFormat, wanted_size: tuple[int, int]
) -> Tensor:
    """Resamples a chroma plane at the places of another format's samples, in a picture of the same or another size.

    Args:
        plane: ``(1, 1, h, w)``.
        form: Its format.
        size: (height, width) of its picture's luma.
        wanted: The format of the result.
        wanted_size: (height, width) of the luma of the result's picture.

    Returns:
        ``(1, 1, h', w')`` of `PlaneFormat.chroma_size`.
    """
    lengths = wanted.chroma_size(wanted_size)
    if (form.subsampling, form.offsets, size) == (wanted.subsampling, wanted.offsets, wanted_size):
        return plane
    axes = [
        grid_weights(plane.shape[2 + axis], lengths[axis], ratio := step * given / (target * own), ratio * shift - own_shift)
        for axis, (given, target, own, step, own_shift, shift) in enumerate(
            zip(size, wanted_size, form.subsampling, wanted.subsampling, form.offsets, wanted.offsets, strict=True)
        )
    ]
    rows, columns = axes
    return apply_separable(plane, rows, columns)


FULL = PlaneFormat(subsampling=(1, 1), siting="center")
"""Chroma as large as luma."""


def _shares(matrix: Matrix) -> tuple[float, float]:
    if matrix not in LUMA_SHARES:
        raise RefusedError(f"the matrix is {matrix}; wanted one of {', '.join(LUMA_SHARES)}")
    return LUMA_SHARES[matrix]
