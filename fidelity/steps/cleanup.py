"""Local filters against artifacts that networks amplify: ringing, swirls, jagged lines, softness.

They work in bands of rows with context rows around them, so working memory does not grow with the image height.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import BAND_BYTES, iterate_bands_around
from ..imaging.color import rgb_to_luma
from ..imaging.rows import Rows, RowSource, TensorRows
from ..imaging.smoothing import (
    TENSOR_SIGMA_PX,
    bilateral_filter,
    guided_filter,
    median_filter,
    smooth_along_edges,
    unsharp_mask,
)
from ..imaging.tensors import check_finite, check_image
from ..progress import Progress, part_of

CleanupMethod = Literal["bilateral", "guided", "median", "antialias", "unsharp"]
"""bilateral and guided: smooth small variations and preserve edges; median: removes specks and jagged steps of lines;
antialias: smooths lines along their direction; unsharp: sharpens edges without halos."""

CleanupChannels = Literal["luma", "rgb"]
"""Channels to filter; luma leaves the color differences unchanged."""


@dataclass(frozen=True)
class CleanupSettings:
    """All constants of the filters; lengths in pixels, values in [0, 1]."""

    radius_px: int = 2
    """Window radius of bilateral and guided."""
    median_radius_px: int = 1
    """Window radius of median; 1 is 3 x 3."""
    sigma_px: float = 1.2
    """Spatial sigma of bilateral."""
    value_range: float = 6 / 255
    """Largest difference between neighbors that bilateral and guided smooth: about the height of the networks' ringing."""
    along_px: float = 1.5
    """Sigma of antialias along a line."""
    unsharp_sigma_px: float = 1.0
    """Sigma of the blur of unsharp."""
    unsharp_amount: float = 0.5
    """Share of the detail that unsharp adds."""
    unsharp_threshold: float = 2 / 255
    """Unsharp ignores detail below this, which is mostly grain."""
    unsharp_halo: float = 0.0
    """How far unsharp may push a sample beyond the range of its neighbors."""

    def __post_init__(self) -> None:
        if not (1 <= self.radius_px <= 16 and 1 <= self.median_radius_px <= 4):
            raise RefusedError(
                f"radius is {self.radius_px} and {self.median_radius_px} px; wanted 1 to 16 and, for median, 1 to 4"
            )
        lengths = (self.sigma_px, self.value_range, self.along_px, self.unsharp_sigma_px)
        if not all(0 < length <= 32 for length in lengths):
            raise RefusedError(f"sigmas and range are {lengths}; wanted more than 0, at most 32")
        if not all(0 <= value <= 10 for value in (self.unsharp_amount, self.unsharp_threshold, self.unsharp_halo)):
            raise RefusedError("unsharp amount, threshold or halo is outside its range; wanted 0 to 10")

    def reach_px(self, method: CleanupMethod) -> int:
        """Radius of a filter's support, in pixels."""
        reaches: dict[CleanupMethod, int] = {
            "bilateral": self.radius_px,
            "guided": 2 * self.radius_px,
            "median": self.median_radius_px,
            "antialias": max(math.ceil(4 * TENSOR_SIGMA_PX) + 1, math.ceil(2 * self.along_px) + 1),
            "unsharp": math.ceil(4 * self.unsharp_sigma_px),
        }
        return reaches[method]


DEFAULT_SETTINGS = CleanupSettings()
_LIVE_PLANES = 30  # float32 planes in memory while a filter runs


def clean(
    image: Tensor,
    method: CleanupMethod,
    strength: float = 1.0,
    noise_sigma: float = 0.0,
    settings: CleanupSettings = DEFAULT_SETTINGS,
    channels: CleanupChannels = "luma",
    mask: Tensor | None = None,
    guide: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Filters an image; alpha is unchanged.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        method: See `CleanupMethod`.
        strength: 0 for nothing, 1 for the whole effect.
        noise_sigma: Standard deviation of the luma noise, in 8-bit steps; bilateral and guided also smooth noise of this
            strength.
        settings: Constants of the filters.
        channels: See `CleanupChannels`.
        mask: ``(1 or B, 1, H, W)`` in [0, 1]: strength of the effect at each pixel; 1 everywhere if not given.
        guide: ``(1 or B, 1, 3 or 4, H, W)`` whose edges bilateral and guided preserve instead of the image's own.
        progress: Called with (rows done, rows in all).

    Returns:
        The filtered image in [0, 1], with the same shape, dtype, device and memory format.

    Raises:
        RefusedError: If the image is not finite, the method is unknown, the strength is outside [0, 1], or the mask or guide
            does not fit the image.
    """
    check_image(image)
    check_finite(image)
    if method not in get_args(CleanupMethod):
        raise RefusedError(f"method is {method!r}; wanted {', '.join(get_args(CleanupMethod))}")
    if not 0 <= strength <= 1:
        raise RefusedError(f"strength is {strength}; wanted 0 to 1")
    for name, other in (("mask", mask), ("guide", guide)):
        if other is not None and (other.shape[2:] != image.shape[2:] or other.shape[0] not in (1, image.shape[0])):
            raise RefusedError(f"{name} has shape {tuple(other.shape)}; wanted the size of the image, {tuple(image.shape)}")
        if other is not None:
            check_finite(other, name)
    output = image.clone()
    for index in range(image.shape[0]):
        part = slice(index, index + 1)
        clean_rows(
            TensorRows(image[part]),
            TensorRows(output[part]),
            method,
            strength,
            noise_sigma,
            settings,
            channels,
            mask=None if mask is None else mask[min(index, mask.shape[0] - 1)].unsqueeze(0),
            guide=None if guide is None else guide[min(index, guide.shape[0] - 1)].unsqueeze(0),
            progress=part_of(progress, index / image.shape[0], (index + 1) / image.shape[0]),
        )
    return output


def clean_rows(
    image: RowSource,
    output: Rows,
    method: CleanupMethod,
    strength: float = 1.0,
    noise_sigma: float = 0.0,
    settings: CleanupSettings = DEFAULT_SETTINGS,
    channels: CleanupChannels = "luma",
    mask: Tensor | None = None,
    guide: Tensor | None = None,
    progress: Progress | None = None,
) -> None:
    """Filters one image in bands; see `clean`.

    Args:
        image: ``(1, 1, 3 or 4, H, W)``.
        output: Rows of the same shape.
        method: See `clean`.
        strength: See `clean`.
        noise_sigma: See `clean`.
        settings: See `clean`.
        channels: See `clean`.
        mask: ``(1, 1, H, W)``.
        guide: ``(1, 1, 3 or 4, H, W)``.
        progress: Called with (rows done, rows in all).
    """
    apply = _choose_filter(method, settings, noise_sigma)
    height, width = image.shape[2:]
    side = 2 * settings.median_radius_px + 1
    live_planes = 3 * side * side if method == "median" else _LIVE_PLANES
    row_bytes = width * 4 * live_planes * (1 if channels == "luma" else 3)
    for rows, wide, inner in iterate_bands_around(height, row_bytes, settings.reach_px(method), 8 * BAND_BYTES):
        around = image.read(wide)
        plane = _planes(around, channels)
        guides = None if guide is None else _planes(guide[:, :, wide].float(), channels)
        if guides is not None and guides.shape[1] not in (1, plane.shape[1]):
            guides = rgb_to_luma(guides)
        change = (apply(plane, guides) - plane)[:, :, inner] * strength
        if mask is not None:
            change = change * mask[:, :, rows].to(change)
        band = around[:, :, inner].clone()
        band[:, :3].add_(change).clamp_(0, 1)
        output.write(rows, band)
        if progress:
            progress(rows.stop, height)


def _planes(image: Tensor, channels: CleanupChannels) -> Tensor:
    colors = image[:, :3]
    return rgb_to_luma(colors) if channels == "luma" and colors.shape[1] == 3 else colors


def _choose_filter(
    method: CleanupMethod, settings: CleanupSettings, noise_sigma: float
) -> Callable[[Tensor, Tensor | None], Tensor]:
    """The filter as a function of planes and a guide."""
    value_range = max(settings.value_range, 2 * noise_sigma / 255)
    if method == "bilateral":
        return lambda plane, guide: bilateral_filter(plane, settings.radius_px, settings.sigma_px, value_range, guide)
    if method == "guided":
        return lambda plane, guide: guided_filter(plane, settings.radius_px, value_range**2, guide)
    if method == "median":
        return lambda plane, _: median_filter(plane, settings.median_radius_px)
    if method == "antialias":
        return lambda plane, _: torch.cat(
            [smooth_along_edges(channel, settings.along_px) for channel in plane.split(1, dim=1)], dim=1
        )
    return lambda plane, _: unsharp_mask(
        plane, settings.unsharp_sigma_px, settings.unsharp_amount, settings.unsharp_threshold, settings.unsharp_halo
    )
