"""Processes images in bands of rows, so that memory use does not grow with the image."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import RefusedError
from .tensors import memory_format_of, working_dtype

BAND_BYTES = 16 * 2**20
"""Float32 bytes of one image in one band, for steps that keep several copies of it in memory."""
CPU_BAND_BYTES = 2**20
"""The same on a CPU, so small that what a step keeps of it fits the cache."""
GPU_BAND_BYTES = 64 * 2**20
"""The same on a GPU, which large bands keep busy."""


def best_band_bytes(device: torch.device) -> int:
    """The size of a band that suits a device."""
    return CPU_BAND_BYTES if device.type == "cpu" else GPU_BAND_BYTES


def iterate_bands(height: int, bytes_per_row: int, band_bytes: int = BAND_BYTES) -> Iterator[slice]:
    """Yields row slices that cover `height` once, each of about `band_bytes` but at least one row."""
    rows = max(1, band_bytes // max(1, bytes_per_row))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def iterate_bands_around(
    height: int, bytes_per_row: int, reach_px: int, band_bytes: int = BAND_BYTES
) -> Iterator[tuple[slice, slice, slice]]:
    """Yields bands with `reach_px` rows of context above and below: (rows, rows with context, rows within that context)."""
    for rows in iterate_bands(height, bytes_per_row, band_bytes):
        first = max(0, rows.start - reach_px)
        yield rows, slice(first, min(height, rows.stop + reach_px)), slice(rows.start - first, rows.stop - first)


def map_bands(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Applies a pointwise function to images of the same size, in float32 bands.

    Args:
        function: Takes one ``(B, C, rows, W)`` float32 band of each image and returns a band with the same number of
            rows and any number of channels. It must not read neighboring rows.
        *images: Images of equal height and width; the first sets dtype, device and memory format.

    Returns:
        The whole result, in the dtype of the first image.
    """
    first = images[0]
    height, width = first.shape[2:]
    dtype = working_dtype(first.dtype)
    widest = max(image.shape[0] * image.shape[1] for image in images)
    output: Tensor | None = None
    for rows in iterate_bands(height, widest * width * dtype.itemsize, best_band_bytes(first.device)):
        band = function(*(image[:, :, rows].to(dtype) for image in images))
        if output is None:
            shape = (band.shape[0], band.shape[1], height, width)
            output = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=memory_format_of(first))
        output[:, :, rows] = band
    if output is None:
        raise RefusedError(f"image has shape {tuple(first.shape)}; wanted at least one pixel")
    return output
