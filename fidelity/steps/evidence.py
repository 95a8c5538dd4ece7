"""Limits what restoration changes in photographs and paintings to what the damage explains, so that texture stays.

A restoring network removes whatever may be damage, and fine texture may be: fur and sand look like noise. But the source itself
limits what damage did. JPEG moved every coefficient of an 8x8 block by at most half a quantization step, and noise shows in
the flattest blocks as it is. So every coefficient of a restored block may differ from the source's by

    max(0.4 q, 2 n)

where q is its quantization step and n the root mean square of the network's change of that coefficient in the flattest
quarter of the blocks that are neither black nor white; what the network changed beyond that is undone. (The set of images
within half a step is convex and contains the image before compression, so the projection onto it comes closer to that. A
narrower set comes closer still: Park and Kim, "Theory of projection onto the narrow quantization constraint set and its
application", 1999.) Without JPEG's grid, the mean over four grids is taken.

These limits are valid only if the last compression or noise is the only damage. A picture that was compressed, resized and
compressed again has damage beyond the last quantization, most of it at edges, and there the network is right. Such pictures
are changed more, so the limits fade out between a root mean square change of 5 and 7 in 8-bit levels. On drawings the network
is right far more often, and they are not held at all.

The constants were chosen on photographs with JPEG, noise, both, and two rounds of damage, and by eye on real pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.color import rgb_to_luma
from ..imaging.filters import dct_matrix
from ..imaging.rows import Rows, RowSource, band_rows

BLOCK_PX = 8
"""Side of JPEG's blocks."""

DARKEST, BRIGHTEST = 12, 243
"""8-bit levels beyond which a block says nothing about noise: it is clipped there, and bars and margins have none."""

_STEP_SHARE = 0.4
_NOISE_FACTOR = 2.0
_FLAT_SHARE = 0.25
_FULL_CHANGE, _NO_CHANGE = 5.0 / 255, 7.0 / 255
_GRIDS = ((0, 0), (4, 4), (2, 6), (6, 2))
_SAMPLED_BANDS = 48


@dataclass(frozen=True)
class Evidence:
    """What is known of a source's damage."""

    grid: tuple[int, int] = (0, 0)
    """The (row, column) where its first whole 8x8 block begins, each from 0 to 7."""
    steps: Tensor | None = None
    """``(8, 8)``: quantization steps of luma in 8-bit levels, vertical frequency first; None without measured JPEG damage."""


def hold_to_evidence(restored: Rows, source: RowSource, evidence: Evidence) -> None:
    """Undoes in place what restoration changed beyond what the damage explains; luma only.

    Args:
        restored: The restored image, ``(B, 1 or 3, H, W)`` in [0, 1].
        source: The same as it was.
        evidence: What is known of its damage.
    """
    if min(restored.shape[2:]) < 2 * BLOCK_PX:
        return
    noise, change = _measure(restored, source, evidence.grid)
    share = min(1.0, (_NO_CHANGE - change) / (_NO_CHANGE - _FULL_CHANGE))
    if share <= 0:
        return
    limits, grids = _NOISE_FACTOR * noise, _GRIDS
    if evidence.steps is not None:
        limits = torch.maximum(limits, evidence.steps.to(limits) / 255 * _STEP_SHARE)
        grids = (evidence.grid,)
    height = restored.shape[2]
    above = torch.empty((*restored.shape[:2], 0, restored.shape[3]), device=restored.device)
    for rows in band_rows(restored):
        # The rows above were written already, so they are kept as they were.
        wide = torch.cat((above, restored.read(slice(rows.start, min(height, rows.stop + BLOCK_PX)))), dim=2)
        top = rows.start - above.shape[2]
        before, after = (rgb_to_luma(band) for band in (source.read(slice(top, top + wide.shape[2])), wide))
        held = torch.stack([_limit(before, after, limits, (row - top, column)) for row, column in grids]).mean(dim=0)
        inner = slice(rows.start - top, rows.stop - top)
        above = wide[:, :, max(0, inner.stop - BLOCK_PX) : inner.stop]
        moved = (held - after)[:, :, inner] * share
        restored.write(rows, (wide[:, :, inner] + moved).clamp_(0, 1))


def _measure(restored: Rows, source: RowSource, grid: tuple[int, int]) -> tuple[Tensor, float]:
    """The root mean square of restoration's change: of every coefficient in the flattest blocks, and of all samples."""
    bands = max(1, (restored.shape[2] - grid[0]) // BLOCK_PX)
    details, changes, levels = list[Tensor](), list[Tensor](), list[Tensor]()
    for index in range(min(bands, _SAMPLED_BANDS)):
        top = grid[0] + index * bands // min(bands, _SAMPLED_BANDS) * BLOCK_PX
        rows = slice(top, min(restored.shape[2], top + BLOCK_PX))
        before, after = (_blocks(rgb_to_luma(image.read(rows)), (0, grid[1])) for image in (source, restored))
        details.append(after.square().sum(dim=(-2, -1)).flatten() - after[..., 0, 0].square().flatten())
        changes.append((after - before).square().flatten(0, -3))
        levels.append(before[..., 0, 0].flatten() / BLOCK_PX)
    detail, change, level = torch.cat(details), torch.cat(changes), torch.cat(levels)
    open_to_noise = (level > DARKEST / 255) & (level < BRIGHTEST / 255)
    if open_to_noise.any():
        detail, noisy = detail[open_to_noise], change[open_to_noise]
    else:
        noisy = change
    flattest = detail.topk(max(1, round(_FLAT_SHARE * len(detail))), largest=False).indices
    return noisy[flattest].mean(dim=0).sqrt(), change.mean().sqrt().item()


def _limit(before: Tensor, after: Tensor, limits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Limits the change of every coefficient but the mean, ``(B, 1, H, W)``, on a grid that may begin outside the image."""
    first = _blocks(before, grid)
    change = _blocks(after, grid) - first
    mean = change[..., 0, 0].clone()
    change = torch.minimum(torch.maximum(change, -limits), limits)
    change[..., 0, 0] = mean
    return _join(first + change, grid, (after.shape[2], after.shape[3]))


def _blocks(plane: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns the coefficients of all 8x8 blocks, ``(B, rows, columns, 8, 8)``; incomplete ones repeat the border's samples."""
    top, left = _margins(grid)
    bottom, right = -(plane.shape[2] + top) % BLOCK_PX, -(plane.shape[3] + left) % BLOCK_PX
    padded = functional.pad(plane, (left, right, top, bottom), mode="replicate")
    tiles = padded.unflatten(3, (-1, BLOCK_PX)).unflatten(2, (-1, BLOCK_PX))[:, 0].transpose(2, 3)
    basis = dct_matrix(BLOCK_PX).to(plane)
    return basis @ tiles @ basis.T


def _join(blocks: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The inverse of `_blocks`."""
    basis = dct_matrix(BLOCK_PX).to(blocks)
    tiles = basis.T @ blocks @ basis
    padded = tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, None]
    top, left = _margins(grid)
    return padded[:, :, top : top + size[0], left : left + size[1]]


def _margins(grid: tuple[int, int]) -> tuple[int, int]:
    return -grid[0] % BLOCK_PX, -grid[1] % BLOCK_PX
