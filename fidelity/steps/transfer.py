"""What others do to an upscaled image's colors, to compare with: the source's statistics, or its low frequencies.

Neither holds the source's colors everywhere, as `fidelity.steps.consistency` does: statistics are those of the whole image, and
low frequencies leave small areas as they are and put halos where the upscaler moved an edge.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.filters import wavelet_low
from ..imaging.resample import resize

TransferMethod = Literal["adain", "wavelet"]
"""adain: each channel gets the source's mean and standard deviation; wavelet: low frequencies are replaced by the source's."""

WAVELET_LEVELS = 5
"""Levels of detail that stay the image's own, as in StableSR: what is wider than about 32 px comes from the source."""


def transfer_colors(image: Tensor, source: Tensor, method: TransferMethod) -> Tensor:
    """Gives an upscaled image its source's colors by a simpler method than the projection.

    Args:
        image: The upscaled image, ``(B, 1, 3 or 4, H, W)`` in [0, 1]; transparency stays.
        source: The image before, ``(1 or B, 1, 3 or 4, h, w)``, of the same framing.
        method: See `TransferMethod`.

    Source: Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization", 2017; Wang, Yue
    and others, "Exploiting diffusion prior for real-world image super-resolution" (StableSR), 2023, section 3.3.

    Raises:
        RefusedError: If the batches or channels do not match, or the method is unknown.
    """
    if method not in get_args(TransferMethod):
        raise RefusedError(f"method is {method!r}; wanted {' or '.join(get_args(TransferMethod))}")
    if source.shape[0] not in (1, image.shape[0]):
        raise RefusedError(f"the reference has {source.shape[0]} images; wanted 1 or {image.shape[0]}")
    colors = 1 if image.shape[1] == 1 else 3
    given, wanted = image[:, :colors].float(), source[:, : 1 if source.shape[1] == 1 else 3].float()
    if wanted.shape[1] not in (1, colors):
        raise RefusedError(f"the reference has {wanted.shape[1]} channels of color; wanted {colors}")
    if method == "adain":
        moments = [
            (planes.mean(dim=(2, 3), keepdim=True), planes.std(dim=(2, 3), keepdim=True, unbiased=False))
            for planes in (given, wanted)
        ]
        (mean, spread), (wanted_mean, wanted_spread) = moments
        made = (given - mean) / spread.clamp(min=1e-5) * wanted_spread + wanted_mean
    else:
        enlarged = resize(wanted, (image.shape[2], image.shape[3]))
        made = given + wavelet_low(enlarged - given, WAVELET_LEVELS)
    return torch.cat((made.clamp(0, 1).to(image.dtype), image[:, colors:]), dim=1)
