"""What the colors of an enlargement are held to where its source is damaged.

A damaged source does not know the colors of its scene. A network that was trained on damage, given the damaged source, makes
one estimate of them, x; the restorer makes another, y. Both err, and independently for the most part: x because such networks
drift, y because restoration takes from the damage only what it knows. So the best estimate lies between them:

    y + (1 - g) (x - y)        g = d² / (d² + u²)

Here d is the difference of the two in the band that color is judged in, and u is the error of y there. Restoration is
believed to have left twice what it changed: what it changed in that band, since what damage has moved far was not all moved
back, and that band's share of all it changed as if that were white noise, since noise that was found at high frequencies is
there at low ones too. All are root mean squares over the neighborhood, for luma and the color differences separately. This is
the linear estimate of least error of a difference whose power is d², seen through an error of power u² (Wiener). Where
restoration changed nothing, g is 1, and the source alone counts.

The constants were chosen on five networks whose colors drift, ten photographs and twelve drawings at three levels of damage
(`tools/benchmarks/holding.py`): windows from 15 pixels to the whole image and factors from 1.5 to 2.5 all gave colors nearer to
the undamaged original's, on average, than either estimate.
"""

import math

import torch
from torch import Tensor

from ..imaging.color import opponent_to_rgb, rgb_to_luma, rgb_to_opponent
from ..imaging.drift import COLOR_BAND_SIGMA_PX
from ..imaging.filters import box_mean, gaussian_blur
from ..imaging.rows import (
    MappedSource,
    NewMap,
    PartSource,
    RowSource,
    band_rows_around,
    has_grey_rows,
    resize_rows,
)

_ERROR_FACTOR = 2.0
_WHITE_SHARE = 1 / (4 * math.pi * COLOR_BAND_SIGMA_PX**2)
"""Power of white noise in the color band: that of the Gaussian which cuts the band off."""
_NEARBY_PX = 12
_REACH_PX = _NEARBY_PX + math.ceil(4 * COLOR_BAND_SIGMA_PX)


def estimate_reference(raw: RowSource, source: RowSource, restored: RowSource, new_map: NewMap) -> RowSource:
    """Estimates the source's true colors from a network's output and the restored source.

    Args:
        raw: The output of a network that was given the damaged source, ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        source: The damaged source, ``(B, 1, 3 or 4, h, w)``.
        restored: The same, restored.
        new_map: Creates the rows of the result and of an intermediate image of the source's size.

    Returns:
        The estimate, of the restored source's shape, with its alpha, in [0, 1]; grey if that is. The restored source itself if
        the output is smaller than it.
    """
    height, width = restored.shape[2:]
    if raw.shape[2] < height or raw.shape[3] < width:
        return restored
    colors = slice(0, min(3, restored.shape[1]))
    damaged, known = PartSource(source, colors), PartSource(restored, colors)
    small = new_map((*known.shape[:2], height, width))
    resize_rows(PartSource(raw, colors), small)
    guess: RowSource = small
    if known.shape[1] == 3 and has_grey_rows(known):
        guess = MappedSource(small, lambda band: rgb_to_luma(band).expand(-1, 3, -1, -1), 3)
    estimate = new_map(restored.shape)
    for rows, wide, inner in band_rows_around(restored, _REACH_PX):
        band = _combine(*(image.read(wide) for image in (guess, damaged, known)))[:, :, inner]
        alpha = restored.read(rows)[:, 3:]
        estimate.write(rows, torch.cat((band, alpha), dim=1))
    return estimate


def _combine(guess: Tensor, damaged: Tensor, known: Tensor) -> Tensor:
    left, changed = rgb_to_opponent(known - guess), rgb_to_opponent(known - damaged)
    difference, moved = (_power(gaussian_blur(one, COLOR_BAND_SIGMA_PX)) for one in (left, changed))
    error = _ERROR_FACTOR**2 * (moved + _WHITE_SHARE * _power(changed))
    share = difference / (difference + error).clamp_(min=1e-12)
    return (guess + opponent_to_rgb(share * left)).clamp_(0, 1)


def _power(band: Tensor) -> Tensor:
    """The mean square over the neighborhood."""
    return box_mean(band.square(), 2 * _NEARBY_PX + 1)
