"""Measures what upscaling changed: color drift, sharpness, overshoot and texture in flat areas."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .bands import iterate_bands
from .color import delta_e
from .filters import box_mean, gaussian_blur, local_range
from .resample import resize
from .tensors import check_image, working_dtype

DriftBand = Literal["color", "full"]

COLOR_BAND_SIGMA_PX = 1.5
"""Low-pass of the *color* band, in source pixels: large enough that legitimate sharpening does not count as drift."""

OVERSHOOT_TOLERANCE = 3 / 255
"""How far outside the source's local range a sample must lie to count as overshoot."""

SOURCE_RANGE_PX = 5
"""Side of the source neighborhood that a sample's range is taken from."""

_FLAT_DEVIATION = 1.5 / 255
_FLAT_WINDOW_PX = 9


@dataclass(frozen=True)
class Drift:
    """A summary of a CIEDE2000 map."""

    mean: float
    """Mean difference; 0 means none, about 1 is just noticeable."""
    p99: float
    """99th percentile."""
    max: float
    """Largest difference of any pixel."""


def common_size(reference: Tensor, candidate: Tensor) -> tuple[int, int]:
    """Returns the (height, width) at which two images of the same scene are compared: the shorter of each side."""
    return min(reference.shape[2], candidate.shape[2]), min(reference.shape[3], candidate.shape[3])


def drift_map(reference: Tensor, candidate: Tensor, band: DriftBand = "color") -> Tensor:
    """Computes CIEDE2000 between a source and its upscaled image, at the smaller size of the two.

    Args:
        reference: The source, ``(B or 1, C, H, W)``.
        candidate: The upscaled image, ``(B, C, H', W')``, of any size.
        band: "color" first low-passes both images with a Gaussian of `COLOR_BAND_SIGMA_PX`; "full" does not.

    Returns:
        ``(B, 1, h, w)`` in float32. Images with alpha are composited over mid-grey, so that hidden colors do not
        count; if only one has alpha, both use it.
    """
    size = common_size(reference, candidate)
    check_image(reference, "reference")
    check_image(candidate, "candidate")
    with_alpha = [image[:, 3:] for image in (reference, candidate) if image.shape[1] == 4]
    lone_alpha = with_alpha[0] if len(with_alpha) == 1 else None
    small_reference, small_candidate = (_at_size(image, size, band, lone_alpha) for image in (reference, candidate))
    batch = max(small_reference.shape[0], small_candidate.shape[0])
    return delta_e(small_reference.expand(batch, -1, -1, -1), small_candidate.expand(batch, -1, -1, -1))


def summarize_drift(difference: Tensor) -> Drift:
    """Returns the mean, 99th percentile and maximum of a CIEDE2000 map."""
    values = difference.flatten().float().cpu()  # a map is small, and not every device supports rank selection
    rank = max(1, round(0.99 * values.numel()))  # torch.quantile refuses more than 16 million values
    p99 = np.partition(values.numpy(), rank - 1)[rank - 1]  # torch's selection also stores 8 bytes of index per value
    return Drift(values.mean().item(), float(p99), values.max().item())


def measure_drift(reference: Tensor, candidate: Tensor, band: DriftBand = "color") -> Drift:
    """Returns `summarize_drift` of `drift_map`."""
    return summarize_drift(drift_map(reference, candidate, band))


def sharpness(image: Tensor) -> float:
    """Returns the standard deviation of a 3x3 Laplacian of the channel mean; alpha is ignored."""
    total = squares = 0.0
    for grey in _grey_bands(image, halo=1):
        kernel = grey.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
        edges = functional.conv2d(functional.pad(grey, (1, 1, 0, 0), mode="replicate"), kernel.reshape(1, 1, 3, 3))
        total += edges.sum().item()
        squares += edges.square().sum().item()
    count = image.shape[0] * image.shape[2] * image.shape[3]
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2))


def sharpness_ratio(raw: Tensor, result: Tensor) -> float:
    """Returns the result's `sharpness` divided by that of the raw output; 1 means equally sharp."""
    before = sharpness(raw)
    return sharpness(result) / before if before > 0 else 1.0


def overshoot_percent(source: Tensor, result: Tensor) -> float:
    """Returns the percentage of result samples that lie outside the source's local range.

    The range is that of the 5x5 source pixels around a sample, widened by `OVERSHOOT_TOLERANCE`.
    Images with alpha are composited over mid-grey, as for drift, so that hidden colors do not count.
    """
    source = flatten_alpha(source)
    channels = max(min(3, result.shape[1]), source.shape[1])
    outside = 0
    for rows, lowest, highest in SourceRange(source, (result.shape[2], result.shape[3])).bands():
        band = flatten_alpha(result[:, :, rows].float())
        over = (band < lowest - OVERSHOOT_TOLERANCE) | (band > highest + OVERSHOOT_TOLERANCE)
        outside += int(over.sum())
    return 100 * outside / (result.shape[0] * channels * result[0, 0].numel())


class SourceRange:
    """The source's local range at each sample of a larger image."""

    def __init__(self, source: Tensor, size: tuple[int, int]) -> None:
        """Computes the range over `SOURCE_RANGE_PX` around every pixel.

        Args:
            source: ``(B, C, h, w)``; alpha is ignored.
            size: (height, width) of the larger image.
        """
        height, width = size
        self._rows = _nearest(height, source.shape[2], source.device)
        self._columns = _nearest(width, source.shape[3], source.device)
        self._bounds = local_range(source[:, :3].float(), SOURCE_RANGE_PX)

    def bands(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yields (rows, lowest, highest), starting at the top of the larger image."""
        row_bytes = self._bounds[0].shape[0] * 3 * len(self._columns) * 4
        for rows in iterate_bands(len(self._rows), row_bytes):
            index = self._rows[rows]
            first, last = int(index[0]), int(index[-1]) + 1
            lowest, highest = (
                bound[:, :, first:last].index_select(3, self._columns).index_select(2, index - first) for bound in self._bounds
            )
            yield rows, lowest, highest


def flat_texture(raw: Tensor, result: Tensor) -> tuple[float, float]:
    """Returns the mean 9x9 standard deviation where the raw output is flat, in 1/255: (of the raw output, of the result).

    An area is flat if the raw output's own deviation is below 1.5/255. If the second value exceeds the
    first, texture was added where the model produced none. Both are 0 if nothing is flat.
    """
    before, after = (_local_deviation(image) for image in (raw, result))
    flat = before < _FLAT_DEVIATION
    if not flat.any():
        return 0.0, 0.0
    return 255 * before[flat].mean().item(), 255 * after[flat].mean().item()


def flatten_alpha(image: Tensor, backdrop: float = 0.5) -> Tensor:
    """Composites an image with straight alpha over a grey backdrop; an image without alpha is returned unchanged."""
    if image.shape[1] != 4:
        return image
    alpha = image[:, 3:4]
    return image[:, :3] * alpha + backdrop * (1 - alpha)


def _at_size(image: Tensor, size: tuple[int, int], band: DriftBand, lone_alpha: Tensor | None) -> Tensor:
    if lone_alpha is None:
        small = resize(flatten_alpha(image), size).float().clamp_(0, 1)
    else:
        alpha = resize(lone_alpha.to(image.device), size).float().clamp_(0, 1)
        small = resize(image[:, :3], size).float().clamp_(0, 1)
        small = flatten_alpha(torch.cat((small.expand(-1, 3, -1, -1), alpha.expand(small.shape[0], -1, -1, -1)), dim=1))
    return gaussian_blur(small, COLOR_BAND_SIGMA_PX) if band == "color" else small


def _nearest(outputs: int, inputs: int, device: torch.device) -> Tensor:
    return ((torch.arange(outputs, device=device) * 2 + 1) * inputs // (2 * outputs)).clamp(max=inputs - 1)


def _grey_bands(image: Tensor, halo: int) -> Iterator[Tensor]:
    """Yields bands of the channel mean with `halo` more rows above and below; border rows are repeated."""
    height, width = image.shape[2:]
    for rows in iterate_bands(height, image.shape[0] * 3 * width * 4):
        top, bottom = max(0, rows.start - halo), min(height, rows.stop + halo)
        grey = image[:, :3, top:bottom].to(working_dtype(image.dtype)).mean(dim=1, keepdim=True)
        missing = (0, 0, halo - (rows.start - top), halo - (bottom - rows.stop))
        yield functional.pad(grey, missing, mode="replicate")


def _local_deviation(image: Tensor) -> Tensor:
    grey = image[:, :3].float().mean(dim=1, keepdim=True)
    mean = box_mean(grey, _FLAT_WINDOW_PX)
    return (box_mean(grey.square(), _FLAT_WINDOW_PX) - mean.square()).clamp(min=0).sqrt()
