"""Super-resolution of any image to an exact target size: luma or RGB, grey, alpha."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.color import is_grey, rgb_to_luma
from ..imaging.filters import local_range
from ..imaging.rows import (
    MappedRows,
    MappedSource,
    PartRows,
    PartSource,
    Resized,
    Rows,
    RowSource,
    TensorRows,
    band_rows,
    copy_rows,
    has_grey_rows,
    read_all,
)
from ..imaging.tensors import check_finite, check_image, empty_image
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..progress import Progress, part_of
from .alpha import bleed_colors
from .chain import Between, Chain, Pass
from .consistency import project

Channels = Literal["luma", "rgb"]

MAX_SIDE_PX = 65_500
"""Longest side of a result: the limit of JPEG, and close to that of most viewers."""

RESIZE_SHARE = 1.5
"""Largest factor left to an ordinary resize after the last network pass; beyond it another pass is added."""


@dataclass(frozen=True)
class Upscaled:
    """An enlargement and its passes."""

    image: Tensor
    """``(B, C, H, W)`` in [0, 1], with the channels, dtype and device of the source."""
    passes: tuple[Pass, ...]
    """In the order they ran."""


def count_passes(size: tuple[int, int], target: tuple[int, int], scale: int) -> int:
    """How many passes of a network an image needs to reach its target, leaving up to `RESIZE_SHARE` to a resize.

    Args:
        size: (height, width) of the source.
        target: (height, width) of the target.
        scale: Enlargement factor of the network.
    """
    ratio = max(wanted / given for wanted, given in zip(target, size, strict=True))
    if ratio <= 1 or scale == 1:
        return 1 if scale == 1 else 0
    return max(1, math.ceil(math.log(ratio / RESIZE_SHARE) / math.log(scale) - 1e-9))


def upscale(
    image: Tensor,
    model: Network | Sequence[Network],
    target: tuple[int, int] | None = None,
    channels: Channels = "luma",
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    between: Between | None = None,
) -> Upscaled:
    """Enlarges an image with networks to exactly the target size.

    Args:
        image: ``(B, 1, 3 or 4, H, W)``, from 1x1 pixel up. Grey stays exactly grey. The network enlarges alpha too,
            which is then limited to the source's local range; colors under transparent pixels are filled in first.
        model: The network, used as often as the target needs; or several, each used once, in that order.
        target: (height, width) in pixels; if not given, the size after one pass of each network.
        channels: "luma" runs luma through the network and resamples the color differences, which preserves
            hue and saturation; "rgb" runs all three channels, which also restores damaged color.
        compute: Where and how to run the networks.
        progress: Called as the work proceeds, over all passes together.
        between: Cleanup after each network but the last; none if not given.

    Returns:
        The enlargement, on the image's device, and its passes.

    Raises:
        RefusedError: If the image is not finite, or the target is not positive or too large.
    """
    check_image(image)
    image = _within_range(image)
    size = (image.shape[2], image.shape[3])
    chain = list(model) if isinstance(model, Sequence) else [model]
    if target is None:
        scale = math.prod(one.scale for one in chain)
        target = (size[0] * scale, size[1] * scale)
    check_target(target)
    if not isinstance(model, Sequence):
        chain *= count_passes(size, target, model.scale)

    def enlarge(one: Tensor, out: Tensor, part: Progress | None) -> list[Pass]:
        return _Enlarger(chain, target, channels, compute, between).run(one, out, part)

    output = empty_image(image, image.shape[1], *target)
    if image.shape[0] == 1 or len({(is_grey(one), _is_flat(one)) for one in image.split(1)}) == 1:
        return Upscaled(output, tuple(enlarge(image, output, progress)))
    passes: list[Pass] = []
    for index, one in enumerate(image.split(1)):
        part = part_of(progress, index / image.shape[0], (index + 1) / image.shape[0])
        passes += enlarge(one, output[index : index + 1], part)
    return Upscaled(output, tuple(passes))


def upscale_rows(
    source: RowSource,
    models: Sequence[Network],
    sink: Rows,
    channels: Channels = "luma",
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    between: Between | None = None,
) -> tuple[Pass, ...]:
    """Enlarges one image to the size of a sink, in strips; see `upscale`.

    Args:
        source: ``(1, 1, 3 or 4, H, W)``; read as a whole if it has alpha, else in bands.
        models: The networks, each used once, in that order.
        sink: Rows of as many channels; written several times if there is alpha.
        channels: See `upscale`.
        compute: Where and how to run the networks.
        progress: Called as the work proceeds, over all passes together.
        between: Cleanup after each network but the last; none if not given.

    Returns:
        The passes.

    Raises:
        RefusedError: If the image is not finite, or the target is too large.
    """
    check_target(sink.shape[2:])
    for rows in band_rows(source):
        check_finite(source.read(rows))
    enlarger = _Enlarger(list(models), sink.shape[2:], channels, compute, between)
    return tuple(enlarger.run_rows(source, sink, progress))


@dataclass(frozen=True)
class _Enlarger:
    """Enlarges images that are all grey or all in color, and whose alpha is all uniform or all varying."""

    models: list[Network]
    target: tuple[int, int]
    channels: Channels
    compute: Compute
    between: Between | None

    def run(self, image: Tensor, output: Tensor, progress: Progress | None) -> list[Pass]:
        """Writes to the output, which has the image's channels; returns the passes."""
        alpha = image[:, 3:]
        share = 1.0 if _is_flat(image) else 0.5
        first = part_of(progress, 0, share)
        colors, target = (bleed_colors(image) if len(alpha[0]) else image), output[:, :3]
        if is_grey(colors):
            passes = self._chain(colors[:, :1], "luma", target[:, :1], first)
            target.copy_(target[:, :1].clamp_(0, 1).expand_as(target))
        elif self.channels == "luma" or any(one.channels_out == 1 for one in self.models):
            passes = self._chain(rgb_to_luma(colors), "luma", target[:, :1], first)
            merge_chroma(target[:, :1], colors, target)
        else:
            passes = self._chain(colors, "image", target, first)
            target.clamp_(0, 1)
        if len(alpha[0]):
            coverage = output[:, 3:]
            if share == 1:
                coverage.copy_(alpha[:, :, :1, :1].expand_as(coverage))
            else:
                passes += self._chain(alpha, "luma", coverage, part_of(progress, share, 1))
                coverage.copy_(_hold_alpha(coverage, alpha))
        return passes

    def run_rows(self, source: RowSource, sink: Rows, progress: Progress | None) -> list[Pass]:
        """Does the same in strips, for one image."""
        if source.shape[1] == 4:
            return self._run_transparent(read_all(source).clamp(0, 1), sink, progress)
        colors = MappedSource(source, lambda band: band.clamp(0, 1), source.shape[1])
        if has_grey_rows(colors):
            grey = PartSource(colors, slice(0, 1))
            back = MappedRows(sink, rgb_to_luma, 1, lambda luma: luma.clamp(0, 1).expand(-1, sink.shape[1], -1, -1))
            return self._bind("luma", source).run_rows(grey, back, progress)
        if self.channels == "luma" or any(one.channels_out == 1 for one in self.models):
            luma, merged = MappedSource(colors, rgb_to_luma, 1), _ChromaSink(colors, sink)
            return self._bind("luma", source).run_rows(luma, merged, progress)
        clamped = MappedRows(sink, lambda band: band, 3, lambda band: band.clamp(0, 1))
        return self._bind("image", source).run_rows(colors, clamped, progress)

    def _run_transparent(self, image: Tensor, sink: Rows, progress: Progress | None) -> list[Pass]:
        alpha, is_flat = image[:, 3:], _is_flat(image)
        first = part_of(progress, 0, 1.0 if is_flat else 0.5)
        passes = self.run_rows(TensorRows(bleed_colors(image)), PartRows(sink, slice(0, 3)), first)
        coverage = alpha[:, :, :1, :1]
        if not is_flat:
            drawn, more = self._bind("luma", image).run(alpha, progress=part_of(progress, 0.5, 1))
            coverage, passes = _hold_alpha(drawn, alpha), passes + more
        copy_rows(TensorRows(coverage.expand(1, 1, *self.target)), PartRows(sink, slice(3, 4)))
        return passes

    def _chain(self, image: Tensor, kind: Literal["image", "luma"], output: Tensor, progress: Progress | None) -> list[Pass]:
        return self._bind(kind, image).run(image, output, progress)[1]

    def _bind(self, kind: Literal["image", "luma"], image: Tensor | RowSource) -> Chain:
        return Chain(self.models, self.target, kind, self.compute.device_for(image), self.compute, self.between)


def _is_flat(image: Tensor) -> bool:
    """Whether alpha is uniform in each image, or absent."""
    alpha = image[:, 3:]
    return bool((alpha == alpha[:, :, :1, :1]).all())


def check_target(target: tuple[int, int]) -> None:
    """Raises a RefusedError unless a (height, width) is within the limits."""
    height, width = target
    if min(height, width) < 1:
        raise RefusedError(f"target size is {width}x{height} px; wanted at least 1x1")
    if max(height, width) > MAX_SIDE_PX:
        raise RefusedError(f"target size is {width}x{height} px; wanted at most {MAX_SIDE_PX} per side")


def merge_chroma(luma: Tensor, colors: Tensor, output: Tensor | None = None) -> Tensor:
    """Combines an enlarged luma with the resampled color differences of a source.

    Args:
        luma: ``(B, 1, H, W)`` in [0, 1].
        colors: ``(B, 3, h, w)``, the source in RGB.
        output: ``(B, 3, H, W)`` to write to; its first channel may be the luma itself.

    Returns:
        ``(B, 3, H, W)`` RGB in [0, 1].
    """
    if output is None:
        output = empty_image(luma, 3, luma.shape[2], luma.shape[3], dtype=colors.dtype)
    sink = _ChromaSink(TensorRows(colors), TensorRows(output))
    for rows in band_rows(sink):
        sink.write(rows, luma[:, :, rows].float())
    return output


class _ChromaSink:
    """Takes rows of luma, adds the resampled color differences of a source and passes RGB on."""

    def __init__(self, colors: RowSource, target: Rows) -> None:
        batch, _, height, width = target.shape
        self.shape = (batch, 1, height, width)
        self.device = target.device
        self._target = target
        # Color differences are linear, so R-Y, G-Y and B-Y can be resampled as they are and Y added back.
        differences = MappedSource(colors, lambda band: band - rgb_to_luma(band), 3)
        self._differences = Resized(differences, (height, width))

    def read(self, rows: slice) -> Tensor:
        """Returns the luma of some rows."""
        return rgb_to_luma(self._target.read(rows))

    def write(self, rows: slice, values: Tensor) -> None:
        """Adds color to some rows of luma."""
        self._target.write(rows, self._differences.read(rows).add_(values).clamp_(0, 1))


def _hold_alpha(coverage: Tensor, alpha: Tensor) -> Tensor:
    """Corrects the network's alpha: opaque and transparent areas stay so, and mean coverage is preserved.

    No shape reaches beyond the centers of the transparent pixels around it, or a hole beyond those of opaque ones. The steep
    limit leaves lines narrower than a pixel room to be opaque. Nor is any more or less opaque than its source's surroundings.
    """
    coverage = project(coverage, alpha, "full")
    spread = partial(functional.interpolate, size=coverage.shape[2:], mode="bilinear", align_corners=False)
    between, least, most = (spread(part) for part in (alpha.float(), *local_range(alpha.float(), 3)))
    lowest, highest = torch.maximum(least, 1 - _ALPHA_ROOM * (1 - between)), torch.minimum(most, _ALPHA_ROOM * between)
    return torch.minimum(torch.maximum(coverage, lowest.to(coverage.dtype)), highest.to(coverage.dtype))


_ALPHA_ROOM = 4.0


def _within_range(image: Tensor) -> Tensor:
    """The image clipped to [0, 1]; the image itself if nothing is outside, which saves a copy."""
    check_finite(image)
    lowest, highest = torch.aminmax(image)
    return image if lowest >= 0 and highest <= 1 else image.clamp(0, 1)
