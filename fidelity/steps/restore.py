"""Restoring a damaged source before it is enlarged: noise, blur, JPEG blocks, by a network at x1."""

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import iterate_bands
from ..imaging.tensors import check_finite, check_image
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..progress import Progress
from .consistency import project_
from .upscale import upscale


def restore(
    image: Tensor,
    network: Network,
    damage_sigma: float,
    keeps_colors: bool = True,
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
    strength: float = 1.0,
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

    Returns:
        The restored image; shape, dtype and device are kept.

    Raises:
        RefusedError: If the image is not finite, or the network enlarges.
    """
    check_image(image)
    check_finite(image)
    if network.scale != 1:
        raise RefusedError(f"{network.name} enlarges {network.scale} times; wanted a network of scale 1 to restore with")
    colors = image[:, :3]
    restored = upscale(colors, network.with_noise(damage_sigma), None, "rgb", compute, progress).image
    if keeps_colors:
        project_(restored, colors)
    for rows in iterate_bands(image.shape[2], colors[:, :, :1].nbytes):
        restored[:, :, rows].lerp_(colors[:, :, rows].clamp(0, 1), 1 - strength)
    return torch.cat((restored, image[:, 3:]), dim=1) if image.shape[1] == 4 else restored
