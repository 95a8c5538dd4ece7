"""Removes banding from gradients that were stored with too few levels."""

from torch import Tensor

from ..imaging.bands import iterate_bands_around
from ..imaging.filters import box_mean, local_range
from ..imaging.tensors import check_finite, check_image
from ..progress import Progress

DEBAND_RADIUS_PX = 8
"""Radius of the smoothing window; bands are wider than details."""


DEBAND_RANGE = 4 / 255
"""Largest value range within the window of an area that counts as flat and may be banded."""


def deband(
    image: Tensor, radius_px: int = DEBAND_RADIUS_PX, value_range: float = DEBAND_RANGE, progress: Progress | None = None
) -> Tensor:
    """Smooths the steps of gradients that had too few levels; everything else is preserved bit for bit.

    Where all samples in a window lie within a few levels of each other, they are replaced by a mean of means, which is
    smooth. No sample moves by more than half that range.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        radius_px: Radius of the window.
        value_range: Largest difference within the window, in any channel, that counts as flat.
        progress: Called with (rows done, rows in all).

    Returns:
        The image, with the same shape, dtype, device and alpha. Save it with 16 bits, or the bands return.
    """
    check_image(image)
    check_finite(image)
    output = image.clone()
    height, width = image.shape[2:]
    size = 2 * radius_px + 1
    row_bytes = width * 4 * image.shape[0] * 3 * 6
    for rows, wide, inner in iterate_bands_around(height, row_bytes, 3 * radius_px):
        band = image[:, :3, wide].float()
        lowest, highest = local_range(band, size)
        flat = ((highest - lowest).amax(dim=1, keepdim=True) <= value_range + 1e-6).float()
        weight = box_mean(flat, 2 * (radius_px // 2) + 1).sub_(0.5).mul_(2).clamp_(0, 1)  # fades in gradually
        change = (box_mean(box_mean(band, size), size) - band).clamp(-value_range / 2, value_range / 2) * weight
        output[:, :3, rows] = (band + change)[:, :, inner].clamp(0, 1).to(output.dtype)
        if progress:
            progress(rows.stop, height)
    return output
