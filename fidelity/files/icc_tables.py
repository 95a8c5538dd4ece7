"""Table-based RGB color profiles, as used by scanners and printers: conversion to sRGB in float.

Sources: International Color Consortium, "Specification ICC.1:2022", sections 6.3.4 and 10.10 to 10.12; black point
compensation as in ISO 18619:2015, which littleCMS applies to perceptual conversions into version 4 profiles.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import map_bands
from .icc import Curve, look_back, look_up, read_tags, sample_curve, srgb_profile

_WHITE = (0.9642, 1.0, 0.8249)
"""D50, the white of the connection space."""
_PERCEPTUAL_BLACK = (0.00336, 0.0034731, 0.00287)
"""The black of version 4 perceptual tables."""
_XYZ_RANGE = 1 + 32767 / 32768
_TABLE_BYTES = 48
"""Offset of the data in the older table types, after a matrix that does not apply to RGB."""

_Stage = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TableProfile:
    """An RGB profile that looks colors up in a table."""

    stages: tuple[_Stage, ...]
    """Stages from stored samples, ``(B, 3, H, W)`` in [0, 1], to the encoded connection space."""
    is_lab: bool
    """Whether the connection space is Lab; otherwise it is XYZ."""
    lab_scale: float
    """Factor that brings encoded Lab values to [0, 1] for 0 to 100 and -128 to 127."""
    version: int
    """Major version of the profile."""

    def to_xyz(self, samples: Tensor) -> Tensor:
        """Converts stored samples to XYZ under D50, ``(B, 3, H, W)``."""
        for stage in self.stages:
            samples = stage(samples)
        return _lab_to_xyz(samples * self.lab_scale) if self.is_lab else samples * _XYZ_RANGE

    def black(self) -> Tensor:
        """XYZ of the darkest color, as a neutral color, ``(3,)``."""
        if self.version >= 4:
            return torch.tensor(_PERCEPTUAL_BLACK)
        light = float(self.to_xyz(torch.zeros(1, 3, 1, 1))[0, 1, 0, 0])
        return torch.tensor(_WHITE) * min(max(light, 0), 0.1842)  # no lighter than L* 50


def read_table_profile(profile: bytes) -> TableProfile | None:
    """Reads a table-based RGB profile.

    Args:
        profile: An ICC profile.

    Returns:
        The profile for the perceptual intent; None if it is of another type or damaged.
    """
    try:
        tag = read_tags(profile)[b"A2B0"]
        if profile[16:20] != b"RGB " or profile[20:24] not in (b"Lab ", b"XYZ ") or tag[8:10] != b"\3\3":
            return None
        kind = tag[:4]
        stages = _read_stages(tag) if kind == b"mAB " else _read_old_stages(tag, deep=kind == b"mft2")
        lab_scale = 65535 / 65280 if kind == b"mft2" else 1.0
        return TableProfile(stages, profile[20:24] == b"Lab ", lab_scale, profile[8])
    except (KeyError, IndexError, ValueError, struct.error):
        return None


def tables_to_srgb(image: Tensor, profile: TableProfile) -> Tensor:
    """Converts an image from a profile to sRGB, perceptual with black point compensation; clips to the sRGB gamut.

    Args:
        image: ``(B, C, H, W)`` in [0, 1]; C is 3 or 4. Alpha is unchanged.
        profile: The profile of the samples.
    """
    standard = srgb_profile()
    assert standard.matrix is not None
    matrix = torch.from_numpy(np.linalg.inv(standard.matrix)).float().to(image.device)
    curves = [torch.from_numpy(curve).float() for curve in standard.curves]
    white, black = torch.tensor(_WHITE).to(image.device), profile.black().to(image.device)
    slope, offset = white / (white - black), -white * black / (white - black)

    def apply(band: Tensor) -> Tensor:
        xyz = profile.to_xyz(band[:, :3].float()) * slope[:, None, None] + offset[:, None, None]
        light = torch.einsum("ij,bjhw->bihw", matrix, xyz).clamp_(0, 1)
        return torch.stack([look_back(curve, light[:, index]) for index, curve in enumerate(curves)], dim=1)

    return torch.cat((map_bands(apply, image[:, :3]).to(image.dtype), image[:, 3:]), dim=1)


def _read_old_stages(tag: bytes, deep: bool) -> tuple[_Stage, ...]:
    """Stages of an older tag: curves, table, curves, all in 16 bits or all in 8 (``mft2``, ``mft1``).

    Raises:
        ValueError, struct.error: If it is of another type or damaged.
    """
    if not deep and tag[:4] != b"mft1":
        raise RefusedError("a table of unknown type")
    grid = tag[10]
    before, after = struct.unpack_from(">2H", tag, _TABLE_BYTES) if deep else (256, 256)
    kind, white = (">u2", 65535) if deep else (">u1", 255)
    counts = (3 * before, 3 * grid**3, 3 * after)
    numbers = np.frombuffer(tag, kind, sum(counts), _TABLE_BYTES + (4 if deep else 0)).astype(np.float64) / white
    first, table, last = np.split(numbers, np.cumsum(counts)[:-1])
    return (
        _curves_stage(list(first.reshape(3, before))),
        _table_stage(table, (grid, grid, grid)),
        _curves_stage(list(last.reshape(3, after))),
    )


def _read_stages(tag: bytes) -> tuple[_Stage, ...]:
    """Stages of an ``mAB`` tag: curves, table, curves, matrix and curves, all optional but the last.

    Raises:
        ValueError, struct.error: If it is damaged.
    """
    last, matrix, middle, table, first = struct.unpack_from(">5I", tag, 12)
    stages: list[_Stage] = []
    if table:
        if first:
            stages.append(_curves_stage(_read_curves(tag, first)))
        grids = (tag[table], tag[table + 1], tag[table + 2])
        kind, white = (">u1", 255) if tag[table + 16] == 1 else (">u2", 65535)
        numbers = np.frombuffer(tag, kind, 3 * grids[0] * grids[1] * grids[2], table + 20).astype(np.float64) / white
        stages.append(_table_stage(numbers, grids))
    if matrix:
        if middle:
            stages.append(_curves_stage(_read_curves(tag, middle)))
        stages.append(_matrix_stage(np.array(struct.unpack_from(">12i", tag, matrix), np.float64) / 65536))
    return (*stages, _curves_stage(_read_curves(tag, last)))


def _read_curves(tag: bytes, offset: int) -> list[Curve]:
    curves: list[Curve] = []
    for _ in range(3):
        curve, size = sample_curve(tag[offset:])
        curves.append(curve)
        offset += (size + 3) // 4 * 4
    return curves


def _curves_stage(curves: list[Curve]) -> _Stage:
    if min(len(curve) for curve in curves) < 2:
        raise RefusedError("a curve with fewer than two points")
    tensors = [torch.from_numpy(np.ascontiguousarray(curve)).float() for curve in curves]
    return lambda values: torch.stack([look_up(curve, values[:, index]) for index, curve in enumerate(tensors)], dim=1)


def _table_stage(numbers: NDArray[np.float64], grids: tuple[int, int, int]) -> _Stage:
    """Tetrahedral interpolation in a color table, the usual method for color."""
    if min(grids) < 2:
        raise RefusedError("a table with fewer than two points per side")
    table = torch.from_numpy(numbers.reshape(-1, 3)).float()
    strides = torch.tensor((grids[1] * grids[2], grids[2], 1))  # the last channel varies fastest
    last = torch.tensor(grids) - 1

    def look_up_colors(values: Tensor) -> Tensor:
        cells, steps = table.to(values.device), strides.to(values.device)
        places = values.movedim(1, -1).clamp(0, 1) * last.to(values.device)
        corner = places.long().minimum(last.to(values.device) - 1)
        shares, order = (places - corner).sort(dim=-1, descending=True)
        index = (corner * steps).sum(-1)
        colors = cells[index] * (1 - shares[..., :1])
        for rank in range(3):
            index = index + steps[order[..., rank]]
            following = shares[..., rank + 1 : rank + 2] if rank < 2 else 0
            colors += cells[index] * (shares[..., rank : rank + 1] - following)
        return colors.movedim(-1, 1)

    return look_up_colors


def _matrix_stage(numbers: NDArray[np.float64]) -> _Stage:
    matrix, offset = torch.from_numpy(numbers[:9].reshape(3, 3)).float(), torch.from_numpy(numbers[9:]).float()
    return lambda values: (
        torch.einsum("ij,bjhw->bihw", matrix.to(values.device), values) + offset.to(values.device)[:, None, None]
    )


def _lab_to_xyz(encoded: Tensor) -> Tensor:
    """Converts Lab, as fractions of its range, to XYZ under D50."""
    lightness = (encoded[:, 0] * 100 + 16) / 116
    roots = torch.stack(
        (lightness + (encoded[:, 1] * 255 - 128) / 500, lightness, lightness - (encoded[:, 2] * 255 - 128) / 200), 1
    )
    linear = (roots - 4 / 29) * (108 / 841)
    return torch.where(roots > 6 / 29, roots**3, linear) * torch.tensor(_WHITE).to(encoded.device)[:, None, None]
