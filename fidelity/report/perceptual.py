"""LPIPS and DISTS from torchmetrics, if it and their backbone networks are installed.

Nothing is downloaded: the backbones are torchvision's checkpoints in torch's cache folder.
"""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Backbone = Literal["alex", "vgg", "squeeze"]
"""A backbone network of LPIPS, by torchmetrics' name."""

BACKBONES: dict[Backbone, str] = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""Checkpoint files of torchvision; the first one present is used. AlexNet comes first because papers report it most."""
_DISTS_BACKBONE = BACKBONES["vgg"]
_SMALLEST_PX = 64
_MOST_PIXELS = 4_200_000


def perceptual_distances(reference: Tensor, candidate: Tensor) -> dict[str, float]:
    """Perceptual distances, 0 for equal images: ``lpips_alex`` (or vgg, squeeze) and ``dists``.

    Args:
        reference: ``(1, 1 or 3, H, W)`` in [0, 1].
        candidate: The same shape.

    Returns:
        The distances whose backbones are installed. Empty for images under 64 pixels per side, which are too small for the
        backbones, and above 4 megapixels, where their layers would exhaust memory.

    Sources: Zhang, Isola, Efros, Shechtman and Wang, "The unreasonable effectiveness of deep features as a perceptual metric",
    2018; Ding, Ma, Wang and Simoncelli, "Image quality assessment: unifying structure and texture similarity", 2020.
    """
    height, width = reference.shape[2:]
    if min(height, width) < _SMALLEST_PX or height * width > _MOST_PIXELS:
        return {}
    backbone: Backbone | None = next((name for name, file in BACKBONES.items() if _has_checkpoint(file)), None)
    if backbone is None:
        return {}
    try:
        from torchmetrics.functional.image import (
            deep_image_structure_and_texture_similarity,
            learned_perceptual_image_patch_similarity,
        )
    except ImportError:
        return {}
    pair = (candidate.float().expand(-1, 3, -1, -1), reference.float().expand(-1, 3, -1, -1))
    with torch.no_grad():
        distance = learned_perceptual_image_patch_similarity(*pair, net_type=backbone, normalize=True)
        found = {f"lpips_{backbone}": float(distance)}
        if _has_checkpoint(_DISTS_BACKBONE):
            found["dists"] = float(deep_image_structure_and_texture_similarity(*pair, reduction="mean"))
    return found


def _has_checkpoint(name: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()
