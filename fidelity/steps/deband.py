"""Removes banding from gradients that were stored with too few levels."""

import torch
from torch import Tensor

from ..imaging.bands import iterate_bands_around
from ..imaging.filters import box_mean, local_range
from ..imaging.rows import Rows, RowSource, TensorRows
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
    output = torch.empty_like(image)
    deband_rows(TensorRows(image), TensorRows(output), radius_px, value_range, progress)
    return output


def deband_rows(
    source: RowSource,
    output: Rows,
    radius_px: int = DEBAND_RADIUS_PX,
    value_range: float = DEBAND_RANGE,
    progress: Progress | None = None,
) -> None:
    """Smooths an image, ``(B, 1, 3 or 4, H, W)``, into other rows of the same shape; see `deband`."""
    batch, _, height, width = source.shape
    size = 2 * radius_px + 1
    for rows, wide, inner in iterate_bands_around(height, width * 4 * batch * 3 * 6, 3 * radius_px):
        whole = source.read(wide)
        band = whole[:, :3]
        lowest, highest = local_range(band, size)
        flat = ((highest - lowest).amax(dim=1, keepdim=True) <= value_range + 1e-6).float()
        weight = box_mean(flat, 2 * (radius_px // 2) + 1).sub_(0.5).mul_(2).clamp_(0, 1)  # fades in gradually
        change = (box_mean(box_mean(band, size), size) - band).clamp(-value_range / 2, value_range / 2) * weight
        smooth = torch.cat((band + change, whole[:, 3:]), dim=1)
        output.write(rows, smooth[:, :, inner].clamp(0, 1))
        if progress:
            progress(rows.stop, height)
