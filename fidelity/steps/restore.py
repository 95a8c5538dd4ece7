"""Restoring a damaged source before it is enlarged: noise, blur, JPEG blocks, by a network at x1."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.rows import (
    NewMap,
    PartRows,
    PartSource,
    Rows,
    RowSource,
    TensorRows,
    band_rows,
    copy_rows,
    maps_in_memory,
    resize_rows,
)
from ..imaging.tensors import check_finite, check_image
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..progress import Progress, part_of
from .consistency import project_rows
from .evidence import Evidence, hold_to_evidence
from .upscale import upscale, upscale_rows


@dataclass(frozen=True)
class HalfSize:
    """How much of a source is restored at half its size.

    A scan, or a picture that was enlarged before it was compressed, may hold no detail finer than two pixels, and damage as
    coarse as that. A network that was trained on damage of single pixels takes it for detail; at half the size it does not.
    """

    enlarger: Network
    """A network of scale 2, which enlarges the restored half to the size of the source again."""
    share: float
    """Share of that in the restored image, above 0 and up to 1; the rest is restored at full size."""
    again: bool = False
    """Whether it is then restored once more at full size, which redraws lines."""

    @property
    def cost(self) -> float:
        """Time that it takes, relative to restoring at full size."""
        return _HALF_COST + self.again

    @property
    def total_cost(self) -> float:
        """Time that all restoration takes, relative to restoring at full size alone."""
        return self.cost + (self.share < 1)


def restore(
    image: Tensor,
    network: Network,
    damage_sigma: float,
    keeps_colors: bool = True,
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    strength: float = 1.0,
    evidence: Evidence | None = None,
    half: HalfSize | None = None,
) -> Tensor:
    """Restores an image at its own size; transparency stays as it is.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        network: A network of scale 1.
        damage_sigma: Standard deviation of the damage, in steps of 8 bits, for a network that takes the noise level.
        keeps_colors: Whether colors and tones are made consistent with the source's. A network that was trained to restore the
            colors of the scene needs none of that: the damaged source's own are further from the truth.
        compute: Where and how the network runs.
        progress: Told about every part of the work.
        strength: Share of the restored image in the result, from 0 to 1; the rest is the image as it was.
        evidence: What is known of the damage, which what is restored at full size is then held to; see
            `fidelity.steps.evidence`.
        half: What is restored at half size; nothing if not given.

    Returns:
        The restored image; shape, dtype and device are kept.

    Raises:
        RefusedError: If the image is not finite, or the network enlarges.
    """
    check_image(image)
    check_finite(image)
    work = _Restoration(_restorer(network, damage_sigma), keeps_colors, compute, strength, evidence, half)
    colors = image[:, :3]
    if work.full_share > 0:
        restored = upscale(colors, work.network, None, "rgb", compute, part_of(progress, 0, work.full_share)).image
    else:
        restored = torch.empty_like(colors)
    count = len(image)
    for index, (before, after) in enumerate(zip(colors.split(1), restored.split(1), strict=True)):
        first, last = (work.full_share + (1 - work.full_share) * place / count for place in (index, index + 1))
        work.finish(TensorRows(after), TensorRows(before), maps_in_memory(image.device), part_of(progress, first, last))
    return torch.cat((restored, image[:, 3:]), dim=1) if image.shape[1] == 4 else restored


def restore_rows(
    source: RowSource,
    output: Rows,
    network: Network,
    damage_sigma: float,
    keeps_colors: bool = True,
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    strength: float = 1.0,
    evidence: Evidence | None = None,
    half: HalfSize | None = None,
    new_map: NewMap | None = None,
) -> None:
    """Restores one image, ``(1, 1, 3 or 4, H, W)``, into rows of the same shape; see `restore`.

    `new_map` creates what is needed beside them for restoration at half size, by default in memory.

    Raises:
        RefusedError: If the image is not finite, or the network enlarges.
    """
    work = _Restoration(_restorer(network, damage_sigma), keeps_colors, compute, strength, evidence, half)
    colors, target = source, output
    if source.shape[1] == 4:
        copy_rows(source, output)
        colors, target = PartSource(source, slice(0, 3)), PartRows(output, slice(0, 3))
    if work.full_share > 0:
        upscale_rows(colors, [work.network], target, "rgb", compute, part_of(progress, 0, work.full_share))
    work.finish(target, colors, new_map or maps_in_memory(source.device), part_of(progress, work.full_share, 1))


def _restorer(network: Network, damage_sigma: float) -> Network:
    if network.scale != 1:
        raise RefusedError(f"{network.name} enlarges {network.scale} times; wanted a network of scale 1 to restore with")
    return network.with_noise(damage_sigma)


@dataclass(frozen=True)
class _Restoration:
    """How the images of one call are restored."""

    network: Network
    keeps_colors: bool
    compute: Compute
    strength: float
    evidence: Evidence | None
    half: HalfSize | None

    @property
    def full_share(self) -> float:
        """Share of the time that restoring at full size takes; 0 if nothing of that is wanted."""
        if self.half is None:
            return 1.0
        return (self.half.share < 1) / self.half.total_cost

    def finish(self, restored: Rows, colors: RowSource, new_map: NewMap, progress: Progress | None) -> None:
        """Holds what was restored at full size to its source, and mixes in what is restored at half size, and the source."""
        if self.full_share and self.evidence:
            hold_to_evidence(restored, colors, self.evidence)
        if self.half:
            _mix(restored, self._restore_half(self.half, colors, new_map, progress), self.half.share)
        if self.keeps_colors:
            project_rows(restored, colors)
        if self.strength < 1:
            _mix(restored, colors, 1 - self.strength)

    def _restore_half(self, half: HalfSize, colors: RowSource, new_map: NewMap, progress: Progress | None) -> RowSource:
        channels, height, width = colors.shape[1:]
        shape = (1, channels, (height + 1) // 2, (width + 1) // 2)
        small, restored, enlarged = new_map(shape), new_map(shape), new_map((1, channels, height, width))
        ends = (0.0, _QUARTER / half.cost, _HALF_COST / half.cost, 1.0)
        parts = [part_of(progress, *pair) for pair in pairwise(ends)]
        resize_rows(colors, small)
        upscale_rows(small, [self.network], restored, "rgb", self.compute, parts[0])
        upscale_rows(restored, [half.enlarger], enlarged, "luma", self.compute, parts[1])
        if not half.again:
            return enlarged
        again = new_map((1, channels, height, width))
        upscale_rows(enlarged, [self.network], again, "rgb", self.compute, parts[2])
        return again


_QUARTER, _HALF_COST = 0.25, 0.4
"""What restoring a quarter of the pixels costs, and that with their enlargement, relative to restoring all."""


def _mix(image: Rows, other: RowSource, share: float) -> None:
    """Mixes a share of another image in; in place."""
    for rows in band_rows(image):
        mixed = other.read(rows).clamp(0, 1)
        image.write(rows, mixed if share == 1 else torch.lerp(image.read(rows), mixed, share))
