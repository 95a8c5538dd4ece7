"""Embedded color profiles of curves and a matrix: conversion to sRGB and back, in float.

Nearly all profiles of cameras, phones and screens are of this type (sRGB, Display P3, Adobe RGB, ProPhoto). `icc_tables`
reads table-based RGB profiles (scanners, printers); littleCMS converts CMYK and Lab, which Pillow stores in 8 bits.

Source: International Color Consortium, "Specification ICC.1:2022", sections 8.3, 10.6 and 10.18.
"""

import io
import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import map_bands

Curve = NDArray[np.float64]
"""A tone curve, sampled evenly over [0, 1]."""

_SAMPLES = 65_537
_COLUMNS = (b"rXYZ", b"gXYZ", b"bXYZ")
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
_HEADER_BYTES = 128
_PARAMETERS = (1, 3, 4, 5, 7)


@dataclass(frozen=True)
class ColorProfile:
    """A profile of curves and a matrix for RGB, or of one curve and no matrix for grey."""

    curves: tuple[Curve, ...]
    """Curves from stored values to linear light, one per channel."""
    matrix: NDArray[np.float64] | None
    """(3, 3) matrix from linear light to XYZ under D50; None for grey."""

    def is_srgb(self) -> bool:
        """Whether it equals sRGB, to within a few hundredths of an 8-bit step."""
        standard = srgb_profile()
        if self.matrix is None or standard.matrix is None:
            return len(self.curves) == 1 and bool(np.abs(self.curves[0] - standard.curves[0]).max() < 1e-4)
        close = all(np.abs(own - other).max() < 1e-4 for own, other in zip(self.curves, standard.curves, strict=True))
        return close and bool(np.abs(self.matrix - standard.matrix).max() < 2e-3)


def read_profile(profile: bytes) -> ColorProfile | None:
    """Reads a profile of curves and a matrix.

    Args:
        profile: An ICC profile.

    Returns:
        The profile; None if it is of another type or damaged.
    """
    try:
        tags = read_tags(profile)
        if profile[16:24] == b"GRAYXYZ " and b"kTRC" in tags:
            return ColorProfile((_read_curve(tags[b"kTRC"]),), None)
        if profile[16:20] != b"RGB " or profile[20:24] != b"XYZ " or b"A2B0" in tags:
            return None
        matrix = np.array([struct.unpack(">3i", tags[name][8:20]) for name in _COLUMNS], np.float64).T / 65536
        if abs(np.linalg.det(matrix)) < 1e-6:
            return None
        return ColorProfile(tuple(_read_curve(tags[name]) for name in _CURVES), matrix)
    except (KeyError, IndexError, ValueError, struct.error):
        return None


@cache
def srgb_profile() -> ColorProfile:
    """The sRGB profile as littleCMS defines it."""
    found = read_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert found is not None
    return found


def to_srgb(image: Tensor, profile: ColorProfile) -> Tensor:
    """Converts an image from a profile to sRGB, relative colorimetric; colors outside the sRGB gamut are clipped.

    Args:
        image: ``(B, C, H, W)`` in [0, 1]; C is 1 for a grey profile, 3 or 4 for an RGB one. Alpha is unchanged.
        profile: The profile of the samples.
    """
    return _convert(image, profile, srgb_profile())


def from_srgb(image: Tensor, profile: ColorProfile) -> Tensor:
    """The inverse of `to_srgb`.

    Args:
        image: ``(B, C, H, W)`` sRGB in [0, 1].
        profile: The profile to convert to.
    """
    return _convert(image, srgb_profile(), profile)


def convert_by_tables(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """Converts a picture to 8-bit sRGB with littleCMS; None if the profile does not match or is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _convert(image: Tensor, source: ColorProfile, target: ColorProfile) -> Tensor:
    if source.matrix is None or target.matrix is None:
        pairs = [(source.curves[0], target.curves[0])]
        matrix = torch.eye(1)
    else:
        pairs = list(zip(source.curves, target.curves, strict=True))
        matrix = torch.from_numpy(np.linalg.inv(target.matrix) @ source.matrix).float()
    forward = [torch.from_numpy(curve).float() for curve, _ in pairs]
    inverse = [torch.from_numpy(curve).float() for _, curve in pairs]

    def apply(band: Tensor) -> Tensor:
        planes = [look_up(curve, band[:, index]) for index, curve in enumerate(forward)]
        light = torch.einsum("ij,bjhw->bihw", matrix.to(band.device), torch.stack(planes, dim=1)).clamp_(0, 1)
        return torch.stack([look_back(curve, light[:, index]) for index, curve in enumerate(inverse)], dim=1)

    colors = map_bands(apply, image[:, : len(pairs)])
    return torch.cat((colors, image[:, len(pairs) :]), dim=1)


def look_up(curve: Tensor, values: Tensor) -> Tensor:
    """Evaluates a sampled curve at values in [0, 1]."""
    curve = curve.to(values.device)
    place = values.clamp(0, 1) * (len(curve) - 1)
    below = place.long().clamp_(max=len(curve) - 2)
    return torch.lerp(curve[below], curve[below + 1], place - below)


def look_back(curve: Tensor, values: Tensor) -> Tensor:
    """Evaluates the inverse of a rising sampled curve."""
    curve = curve.to(values.device)
    above = torch.searchsorted(curve, values.contiguous()).clamp_(1, len(curve) - 1)
    low, high = curve[above - 1], curve[above]
    share = ((values - low) / (high - low).clamp(min=1e-12)).clamp_(0, 1)
    return (above - 1 + share) / (len(curve) - 1)


def read_tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of a profile by name.

    Raises:
        ValueError, struct.error: If it is damaged.
    """
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    tags: dict[bytes, bytes] = {}
    for index in range(min(count, 100)):
        name, offset, size = struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * index)
        if offset + size > len(profile):
            raise RefusedError("a tag points outside the profile")
        tags[name] = profile[offset : offset + size]
    return tags


def _read_curve(tag: bytes) -> Curve:
    """A rising curve, as samples.

    Raises:
        RefusedError: If it does not rise or is not a curve.
    """
    curve, _ = sample_curve(tag)
    if (np.diff(curve) < 0).any() or curve[-1] - curve[0] < 0.5:
        raise RefusedError("a curve that does not rise")
    return curve


def sample_curve(tag: bytes) -> tuple[Curve, int]:
    """The samples of a curve or parametric curve, and its size in bytes.

    Raises:
        ValueError, struct.error: If it is of another type or damaged.
    """
    inputs = np.linspace(0, 1, _SAMPLES)
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        size = 12 + 2 * count
        if count == 0:
            curve = inputs
        elif count == 1:
            curve = inputs ** (struct.unpack_from(">H", tag, 12)[0] / 256)
        else:
            table = np.frombuffer(tag, ">u2", count, 12) / 65535
            curve = np.interp(inputs, np.linspace(0, 1, count), table)
    elif tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        size = 12 + 4 * _PARAMETERS[kind]
        curve = _parametric(inputs, kind, tag)
    else:
        raise RefusedError("a curve of unknown type")
    if not np.isfinite(curve).all():
        raise RefusedError("a curve with values that are not finite")
    return np.clip(curve, 0, 1), size


def _parametric(inputs: Curve, kind: int, tag: bytes) -> Curve:
    g, *rest = (number / 65536 for number in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12))
    if kind == 0:
        return inputs**g
    a, b = rest[:2]
    if a <= 0:
        raise RefusedError("a curve that does not rise")
    power = np.maximum(a * inputs + b, 0) ** g
    if kind == 1:
        return np.where(inputs >= -b / a, power, 0)
    if kind == 2:
        return np.where(inputs >= -b / a, power + rest[2], rest[2])
    c, d = rest[2:4]
    e, f = rest[4:6] if kind == 4 else (0.0, 0.0)
    return np.where(inputs >= d, power + e, c * inputs + f)
