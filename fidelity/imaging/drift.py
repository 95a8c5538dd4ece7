"""Measures what upscaling changed: color drift, sharpness, overshoot and texture in flat areas."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .bands import best_band_bytes, iterate_bands_around
from .color import delta_e
from .filters import box_mean, gaussian_blur, local_range
from .resample import resize
from .rows import MappedSource, NewMap, Resized, RowSource, TensorRows, band_rows, maps_in_memory
from .tensors import check_image

DriftBand = Literal["color", "full"]

Difference = Callable[[Tensor, Tensor], Tensor]
"""A color difference, elementwise: `delta_e` unless the images are of high dynamic range."""

COLOR_BAND_SIGMA_PX = 1.5
"""Low-pass of the *color* band, in source pixels: large enough that legitimate sharpening does not count as drift."""

OVERSHOOT_TOLERANCE = 3 / 255
"""How far outside the source's local range a sample must lie to count as overshoot."""

SOURCE_RANGE_PX = 5
"""Side of the source neighborhood that a sample's range is taken from."""

_RANGE_ROWS = 48
"""Rows of the source whose range is found at once, as most bands need only a few."""

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
    small, compared = (TensorRows(_at_size(image, size, lone_alpha)) for image in (reference, candidate))
    return compare_rows(small, compared, band)


def compare_rows(
    reference: RowSource, candidate: RowSource, band: DriftBand = "color", difference: Difference = delta_e
) -> Tensor:
    """Computes CIEDE2000, or another difference, between two images of the same size without alpha, in bands.

    Args:
        reference: ``(B or 1, 1 or 3, h, w)`` in [0, 1].
        candidate: ``(B or 1, 1 or 3, h, w)`` in [0, 1].
        band: See `drift_map`.
        difference: Of two images of equal size, as ``(B, 1, h, w)``.

    Returns:
        ``(B, 1, h, w)`` in float32.
    """
    batch, _, height, width = (max(pair) for pair in zip(reference.shape, candidate.shape, strict=True))
    found = torch.empty((batch, 1, height, width), device=candidate.device)
    reach = math.ceil(4 * COLOR_BAND_SIGMA_PX) if band == "color" else 0
    size = best_band_bytes(candidate.device) + 2 * reach * batch * 3 * width * 4  # at least as many rows as are context
    for rows, wide, inner in iterate_bands_around(height, batch * 3 * width * 4, reach, size):
        pair = [image.read(wide).to(found.device) for image in (reference, candidate)]
        if band == "color":
            pair = [gaussian_blur(image, COLOR_BAND_SIGMA_PX) for image in pair]
        found[:, :, rows] = difference(*(image[:, :, inner].expand(batch, -1, -1, -1) for image in pair))
    return found


def summarize_drift(difference: Tensor) -> Drift:
    """Returns the mean, 99th percentile and maximum of a CIEDE2000 map."""
    values = difference.flatten().float().cpu()  # a map is small, and not every device supports rank selection
    rank = max(1, round(0.99 * values.numel()))  # torch.quantile refuses more than 16 million values
    p99 = np.partition(values.numpy(), rank - 1)[rank - 1]  # torch's selection also stores 8 bytes of index per value
    return Drift(values.mean().item(), float(p99), values.max().item())


def measure_drift(reference: Tensor, candidate: Tensor, band: DriftBand = "color") -> Drift:
    """Returns `summarize_drift` of `drift_map`."""
    return summarize_drift(drift_map(reference, candidate, band))


def sharpness(image: Tensor | RowSource) -> float:
    """Returns the standard deviation of a 3x3 Laplacian of the channel mean; alpha is ignored."""
    image, sums = TensorRows(image) if isinstance(image, Tensor) else image, _LaplacianSums()
    for rows in band_rows(image):
        sums.add(image.read(rows))
    return sums.deviation()


class _LaplacianSums:
    """Sums a 3x3 Laplacian of the channel mean over bands from top to bottom; border pixels are repeated."""

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._count = 0
        self._above: Tensor | None = None

    def add(self, band: Tensor) -> None:
        """Adds the next band, ``(B, C, rows, W)``."""
        grey = band[:, :3].mean(dim=1)
        grey = torch.cat((grey[:, :1] if self._above is None else self._above, grey), dim=1)
        self._above = grey[:, -2:]
        self._add_inner(grey)

    def deviation(self) -> float:
        """The standard deviation of all values; no band can be added afterwards."""
        if self._above is not None:
            self._add_inner(torch.cat((self._above, self._above[:, -1:]), dim=1))
            self._above = None
        total, squares = torch.stack(self._sums).double().sum(dim=0).tolist()
        return math.sqrt(max(0.0, squares / self._count - (total / self._count) ** 2))

    def _add_inner(self, grey: Tensor) -> None:
        """Adds all rows but the first and the last."""
        inner = grey[:, 1:-1]
        edges = grey[:, :-2] + grey[:, 2:]
        edges.sub_(inner, alpha=4)
        edges[..., 1:] += inner[..., :-1]
        edges[..., :-1] += inner[..., 1:]
        edges[..., 0] += inner[..., 0]
        edges[..., -1] += inner[..., -1]
        self._sums.append(torch.stack((edges.sum(), edges.square().sum())))
        self._count += edges.numel()


def sharpness_ratio(raw: Tensor, result: Tensor) -> float:
    """Returns the result's `sharpness` divided by that of the raw output; 1 means equally sharp."""
    before = sharpness(raw)
    return sharpness(result) / before if before > 0 else 1.0


def overshoot_percent(source: Tensor, result: Tensor) -> float:
    """Returns the percentage of result samples that lie outside the source's local range.

    The range is that of the 5x5 source pixels around a sample, widened by `OVERSHOOT_TOLERANCE`.
    Images with alpha are composited over mid-grey, as for drift, so that hidden colors do not count.
    """
    shown, flat = flatten_rows(TensorRows(source)), flatten_rows(TensorRows(result))
    allowed = SourceRange(shown, flat.shape[2:])
    outside = int(sum(_count_outside(flat.read(rows), *allowed.at(rows)) for rows in band_rows(flat)))
    return _as_percent(outside, shown, flat)


def _count_outside(band: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    return torch.count_nonzero(torch.maximum(lowest - band, band - highest) > OVERSHOOT_TOLERANCE)


def _as_percent(samples: int, source: RowSource, result: RowSource) -> float:
    """Samples as a percentage of all of a result's, which has as many channels as its source if that has more."""
    batch, channels, height, width = result.shape
    return 100 * samples / (batch * max(channels, source.shape[1]) * height * width)


@dataclass(frozen=True)
class Survey:
    """What one pass over an enlargement finds."""

    small: RowSource
    """The enlargement over mid-grey, reduced to the size at which it is compared with its source."""
    sharpness: float
    """See `sharpness`."""
    overshoot_percent: float
    """See `overshoot_percent`."""


def survey_rows(source: RowSource, result: RowSource, new_map: NewMap | None = None) -> Survey:
    """Measures an enlargement in one pass from top to bottom.

    Args:
        source: ``(B, C, h, w)``.
        result: ``(B, C, H, W)``.
        new_map: Creates the reduced image; in memory if not given.
    """
    source, flat = flatten_rows(source), flatten_rows(result)
    batch, channels, height, width = flat.shape
    size = min(source.shape[2], height), min(source.shape[3], width)
    shape = (batch, channels, *size)
    small = (new_map or maps_in_memory(result.device))(shape)
    allowed, reducer, counts = SourceRange(source, (height, width)), Resized(flat, size).reducer(), SurveyCounts()
    for rows in band_rows(result):
        whole = result.read(rows)
        band = flatten_alpha(whole)
        counts.add(whole, band, *allowed.at(rows))
        finished = reducer.add(band)
        if finished:
            small.write(finished[0], finished[1].clamp_(0, 1))
    return counts.survey(small, source, flat)


class SurveyCounts:
    """What a survey counts in the bands of an enlargement, which it is given from top to bottom."""

    def __init__(self) -> None:
        self._sums, self._outside = _LaplacianSums(), list[Tensor]()

    def add(self, whole: Tensor, flat: Tensor, lowest: Tensor, highest: Tensor) -> None:
        """Adds a band as it is and over mid-grey, with the source's local range at its samples."""
        self._sums.add(whole)
        self._outside.append(_count_outside(flat, lowest, highest))

    def survey(self, small: RowSource, source: RowSource, flat: RowSource) -> Survey:
        """Returns the survey of all bands."""
        return Survey(small, self._sums.deviation(), _as_percent(int(sum(self._outside)), source, flat))


class SourceRange:
    """The source's local range at each sample of a larger image."""

    def __init__(self, source: RowSource, size: tuple[int, int]) -> None:
        """Prepares the range over `SOURCE_RANGE_PX` around every pixel.

        Args:
            source: ``(B, 1 or 3, h, w)``.
            size: (height, width) of the larger image.
        """
        self._source, self._width = source, size[1]
        self._rows = _nearest(size[0], source.shape[2], torch.device("cpu"))
        self._columns = _nearest(size[1], source.shape[3], source.device)
        self._known = slice(0, 0)
        self._bounds: tuple[Tensor, ...] = ()

    def at(self, rows: slice, ahead: int = _RANGE_ROWS) -> tuple[Tensor, Tensor]:
        """Returns the lowest and the highest value at each sample of some rows of the larger image.

        Args:
            rows: The rows.
            ahead: Rows of the source whose range is found at once, for rows that are read one after another.
        """
        index = self._rows[rows]
        first, last = int(index[0]), int(index[-1]) + 1
        if first < self._known.start or last > self._known.stop:
            self._find(first, min(self._source.shape[2], max(last, first + ahead)))
        index = index.to(self._columns.device) - self._known.start
        lowest, highest = (bound.index_select(2, index) for bound in self._bounds)
        return lowest, highest

    def _find(self, first: int, last: int) -> None:
        """Finds the range at these rows of the source, for all columns of the larger image."""
        reach = SOURCE_RANGE_PX // 2
        top, bottom = max(0, first - reach), min(self._source.shape[2], last + reach)
        bounds = local_range(self._source.read(slice(top, bottom)), SOURCE_RANGE_PX)
        self._known = slice(first, last)
        self._bounds = tuple(self._widen(bound[:, :, first - top : last - top]) for bound in bounds)

    def _widen(self, bound: Tensor) -> Tensor:
        times, rest = divmod(self._width, bound.shape[3])
        return bound.index_select(3, self._columns) if rest else bound.repeat_interleave(times, dim=3)


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


def flatten_rows(image: RowSource) -> RowSource:
    """Returns an image that `flatten_alpha` is applied to as it is read."""
    return MappedSource(image, flatten_alpha, 3) if image.shape[1] == 4 else image


def _at_size(image: Tensor, size: tuple[int, int], lone_alpha: Tensor | None) -> Tensor:
    if lone_alpha is None:
        return resize(flatten_alpha(image), size).float().clamp_(0, 1)
    alpha = resize(lone_alpha.to(image.device), size).float().clamp_(0, 1)
    small = resize(image[:, :3], size).float().clamp_(0, 1)
    return flatten_alpha(torch.cat((small.expand(-1, 3, -1, -1), alpha.expand(small.shape[0], -1, -1, -1)), dim=1))


def _nearest(outputs: int, inputs: int, device: torch.device) -> Tensor:
    return ((torch.arange(outputs, device=device) * 2 + 1) * inputs // (2 * outputs)).clamp(max=inputs - 1)


def _local_deviation(image: Tensor) -> Tensor:
    grey = image[:, :3].float().mean(dim=1, keepdim=True)
    mean = box_mean(grey, _FLAT_WINDOW_PX)
    return (box_mean(grey.square(), _FLAT_WINDOW_PX) - mean.square()).clamp(min=0).sqrt()
