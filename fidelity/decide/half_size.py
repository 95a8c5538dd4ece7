"""Decides how much of a damaged source is restored at half its size; see `fidelity.steps.restore.HalfSize`.

Restoring at half size loses all detail finer than two pixels. That pays only where there is none: what looks like detail is
damage then, which a network that was trained on finer damage keeps and sharpens.
"""

import torch
from torch import Tensor

from ..imaging.resample import resize
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.network import Network
from ..steps.restore import restore
from .features import Features, measure_patch_features, on_white, take_opaque, take_patches
from .model_choice import Restorer
from .restoration import judge_half_size

LEAST_STRENGTH = 0.5
"""Sources that are restored less than this are not damaged enough to be asked about."""

_PATCHES = 4
_SMALLEST_PX = 48
"""Shortest side of an image whose half still says something."""
_RANGES = {"photo": (0.25, 0.6), "drawn": (0.25, 0.32)}
"""Judged shares up to which nothing is restored at half size, and from which on everything is: a blend of both keeps the damage
of one and the blur of the other. Chosen by eye on real pictures: photographs and paintings lose texture that they may have,
drawings gain whole lines."""


def with_half_size(restorer: Restorer, image: Tensor, strength: float, compute: Compute = AUTO_COMPUTE) -> Restorer:
    """Returns a restorer that restores as much of an image at half its size as that is judged to hold no finer detail.

    Args:
        restorer: What restores it at full size. Only shipped ones are known to serve at half size too.
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1].
        strength: How strongly it is restored, in [0, 1].
        compute: Where and how the network runs.
    """
    if not restorer.is_shipped or strength < LEAST_STRENGTH or min(image.shape[2:]) < _SMALLEST_PX:
        return restorer
    least, most = _RANGES["photo" if restorer.is_held else "drawn"]
    judged = judge_half_size(measure_views(image, restorer.network, compute))
    return restorer.with_half(min(1.0, max(0.0, (judged - least) / (most - least))))


def measure_views(image: Tensor, restorer: Network, compute: Compute = AUTO_COMPUTE) -> Features:
    """Measures an image's texture as it is, at half its size, and restored; on a few patches.

    Args:
        image: As for `with_half_size`.
        restorer: The network that restores it, of scale 1.
        compute: Where and how that runs.
    """
    patches = on_white(take_patches(take_opaque(image)))
    if len(patches) > _PATCHES:
        patches = patches[torch.linspace(0, len(patches) - 1, _PATCHES).round().long()]
    smaller = (max(1, patches.shape[2] // 2), max(1, patches.shape[3] // 2))
    views = {
        "source": patches,
        "half": resize(patches, smaller).clamp(0, 1),
        "restored": restore(patches, restorer, 0.0, keeps_colors=False, compute=compute).cpu(),
    }
    return {f"{view} {name}": value for view, pixels in views.items() for name, value in measure_patch_features(pixels).items()}


def describe_half(restorer: Restorer) -> tuple[str, ...]:
    """Returns the reason for the report, if there is something to tell."""
    if not restorer.half:
        return ()
    amount = "" if restorer.half.share == 1 else f", {restorer.half.share:.0%} of it"
    return (f"restored at half size{amount}: the source shows no detail finer than two pixels, and its damage is as coarse",)
