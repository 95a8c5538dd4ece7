"""Corrects lens distortion and perspective in a single resampling."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.bands import BAND_BYTES, iterate_bands
from ..imaging.tensors import check_finite, check_image, empty_image
from ..progress import Progress

Corners = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""(x, y) of the top left, top right, bottom right and bottom left of the area to fill the picture, as shares of width
and height."""

WHOLE: Corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
"""The whole picture: no perspective correction."""

_LIVE_PLANES = 16


@dataclass(frozen=True)
class Lens:
    """Radial distortion after Brown and Conrady: it moves a point at radius r of the true picture to r (1 + k1 r² + k2 r⁴).

    Source: Brown, "Decentering distortion of lenses", 1966, without its tangential terms.
    """

    k1: float = 0.0
    """Coefficient of r², with r = 1 at half the diagonal; below 0 for barrel, above 0 for pincushion distortion."""
    k2: float = 0.0
    """Coefficient of r⁴."""

    def __post_init__(self) -> None:
        # Otherwise the radius stops growing before the corner, and the picture folds over itself.
        radii = torch.linspace(0, 1, 101, dtype=torch.float64)
        if not bool((1 + 3 * self.k1 * radii**2 + 5 * self.k2 * radii**4 > 0).all()):
            raise RefusedError(f"lens has k1 {self.k1} and k2 {self.k2}, which would fold the picture; wanted smaller values")


KNOWN_LENSES: dict[str, Lens] = {
    "Apple iPhone XS, wide": Lens(0.0342, -0.0218),
    "Apple iPhone XS, telephoto": Lens(0.0158, -0.0261),
    "Huawei P20 Pro": Lens(0.0336, -0.0156),
    "Huawei P30 Pro, wide": Lens(0.0054, -0.0140),
    "Huawei P30 Pro, ultra-wide": Lens(0.1137, -0.1836),
    "LG G4": Lens(0.0085),
    "Microsoft Lumia 950": Lens(0.0282, -0.0172),
    "Nokia Lumia 1020": Lens(0.0209, -0.0058),
}
"""Phone lenses, for raw photographs: JPEGs from phones are mostly corrected already.

Fitted to the calibrations of the Lensfun database, version 0.3.3 (misc.xml), which use polynomials of other powers. The fit
is within 0.0023 of half a diagonal; the lenses distort by 0.009 to 0.068 of it."""


def correct_geometry(
    image: Tensor, lens: Lens | None = None, corners: Corners = WHOLE, progress: Progress | None = None
) -> Tensor:
    """Corrects lens distortion, then stretches four corners to the whole picture, in a single bicubic resampling.

    The corrected picture is scaled so that the lens correction leaves no empty areas. Corners may lie outside the picture by
    up to half its sides; the area outside repeats its border.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        lens: The distortion to correct.
        corners: Corners in the lens-corrected picture; see `Corners`.
        progress: Called with (rows done, rows in all).

    Returns:
        The corrected image in [0, 1], at the same size. An image that needs no correction is returned unchanged.

    Raises:
        RefusedError: If the image is not finite, or the corners do not enclose a convex area in that order.
    """
    check_image(image)
    check_finite(image)
    lens = lens or Lens()
    if lens == Lens() and corners == WHOLE:
        return image
    height, width = image.shape[2:]
    project = _projection(corners)
    bend = _bending(lens, height, width)
    output = empty_image(image, image.shape[1], height, width)
    has_alpha = image.shape[1] == 4
    source = image.float()
    if has_alpha:
        source = torch.cat((source[:, :3] * source[:, 3:], source[:, 3:]), dim=1)
    across = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    for rows in iterate_bands(height, width * 4 * _LIVE_PLANES, 4 * BAND_BYTES):
        down = (torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) / height
        y, x = torch.meshgrid(down, across, indexing="ij")
        grid = torch.stack(bend(*project(x, y)), dim=-1).float().to(image.device) * 2 - 1
        grid = grid.expand(image.shape[0], -1, -1, -1)
        band = functional.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=False)
        if has_alpha:
            band = torch.cat((band[:, :3] / band[:, 3:].clamp(min=1e-4), band[:, 3:]), dim=1)
        output[:, :, rows] = band.clamp_(0, 1).to(output.dtype)
        if progress:
            progress(rows.stop, height)
    return output


Mapping = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _projection(corners: Corners) -> Mapping:
    """The mapping from the unit square to the quadrilateral of the corners.

    Source: Heckbert, "Fundamentals of texture mapping and image warping", 1989, section 2.2.3.
    """
    turns = [
        (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
        for a, b, c in zip(corners, corners[1:] + corners[:1], corners[2:] + corners[:2], strict=True)
    ]
    if min(turns) <= 1e-6 or any(not -0.5 <= value <= 1.5 for corner in corners for value in corner):
        raise RefusedError(
            f"corners are {corners}; wanted (x, y) of top left, top right, bottom right, bottom left, clockwise around a "
            "convex area, as shares of width and height"
        )
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    dx1, dx2, dy1, dy2 = x1 - x2, x3 - x2, y1 - y2, y3 - y2
    determinant = dx1 * dy2 - dx2 * dy1
    g = (sum_x * dy2 - dx2 * sum_y) / determinant
    h = (dx1 * sum_y - sum_x * dy1) / determinant
    a, b, d, e = x1 - x0 + g * x1, x3 - x0 + h * x3, y1 - y0 + g * y1, y3 - y0 + h * y3

    def project(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        depth = g * x + h * y + 1
        return (a * x + b * y + x0) / depth, (d * x + e * y + y0) / depth

    return project


def _bending(lens: Lens, height: int, width: int) -> Mapping:
    """The mapping from the corrected picture to the source, both as shares of width and height."""
    half_diagonal = (height * height + width * width) ** 0.5 / 2
    ratio_x, ratio_y = width / half_diagonal, height / half_diagonal

    def bend(x: Tensor, y: Tensor, zoom: float) -> tuple[Tensor, Tensor]:
        right, down = (x - 0.5) * ratio_x * zoom, (y - 0.5) * ratio_y * zoom
        square = right * right + down * down
        factor = 1 + lens.k1 * square + lens.k2 * square * square
        return right * factor / ratio_x + 0.5, down * factor / ratio_y + 0.5

    border = torch.linspace(0, 1, 201, dtype=torch.float64)
    zero, one = torch.zeros_like(border), torch.ones_like(border)
    around = torch.cat((zero, one, border, border)), torch.cat((border, border, zero, one))
    low, high = 0.05, 2.0  # find the largest zoom whose border is within the source
    for _ in range(50):
        zoom = (low + high) / 2
        x, y = bend(*around, zoom)
        fits = bool((torch.cat((x, y)).sub(0.5).abs() <= 0.5 + 1e-12).all())
        low, high = (zoom, high) if fits else (low, zoom)
    best = 1.0 if lens == Lens() else low
    return lambda x, y: bend(x, y, best)
