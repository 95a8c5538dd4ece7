"""Restoring a damaged source before it is enlarged: noise, blur, JPEG blocks, by a network at x1."""

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.rows import PartRows, PartSource, Rows, RowSource, TensorRows, band_rows, copy_rows
from ..imaging.tensors import check_finite, check_image
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..progress import Progress
from .consistency import project_rows
from .evidence import Evidence, hold_to_evidence
from .upscale import upscale, upscale_rows


def restore(
    image: Tensor,
    network: Network,
    damage_sigma: float,
    keeps_colors: bool = True,
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    strength: float = 1.0,
    evidence: Evidence | None = None,
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
        evidence: What is known of the damage, which the result is then held to; see `fidelity.steps.evidence`.

    Returns:
        The restored image; shape, dtype and device are kept.

    Raises:
        RefusedError: If the image is not finite, or the network enlarges.
    """
    check_image(image)
    check_finite(image)
    colors = image[:, :3]
    restored = upscale(colors, _restorer(network, damage_sigma), None, "rgb", compute, progress).image
    for before, after in zip(colors.split(1), restored.split(1), strict=True):
        _hold(TensorRows(after), TensorRows(before), keeps_colors, strength, evidence)
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
) -> None:
    """Restores one image, ``(1, 1, 3 or 4, H, W)``, into rows of the same shape; see `restore`.

    Raises:
        RefusedError: If the image is not finite, or the network enlarges.
    """
    restorer, colors, target = _restorer(network, damage_sigma), source, output
    if source.shape[1] == 4:
        copy_rows(source, output)
        colors, target = PartSource(source, slice(0, 3)), PartRows(output, slice(0, 3))
    upscale_rows(colors, [restorer], target, "rgb", compute, progress)
    _hold(target, colors, keeps_colors, strength, evidence)


def _restorer(network: Network, damage_sigma: float) -> Network:
    if network.scale != 1:
        raise RefusedError(f"{network.name} enlarges {network.scale} times; wanted a network of scale 1 to restore with")
    return network.with_noise(damage_sigma)


def _hold(restored: Rows, colors: RowSource, keeps_colors: bool, strength: float, evidence: Evidence | None) -> None:
    """Holds a restored image to its source as far as asked for, and mixes the source in; in place."""
    if evidence:
        hold_to_evidence(restored, colors, evidence)
    if keeps_colors:
        project_rows(restored, colors)
    if strength == 1:
        return
    for rows in band_rows(restored):
        restored.write(rows, torch.lerp(colors.read(rows).clamp(0, 1), restored.read(rows), strength))
