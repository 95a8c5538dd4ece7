"""Work over bands of rows, so that the memory in use does not grow with the image."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BAND_BYTES = 16 * 2**20
"""Float32 bytes of one image in one band; large enough to keep a GPU busy, small enough to stay in reach of a cache."""

IMAGE_CHANNELS = (1, 3, 4)


def check_image(image: Tensor, name: str = "image", channels: tuple[int, ...] = IMAGE_CHANNELS) -> None:
    """Raises a ValueError unless a tensor is an image by the contract of `fidelity.imaging`.

    Args:
        image: The tensor to check; its values are not read.
        name: What to call it in the message.
        channels: The channel counts that are accepted.

    Raises:
        ValueError: If the shape, the channel count or the dtype is not that of an image.
    """
    if image.ndim != 4:
        raise ValueError(f"{name} has shape {tuple(image.shape)}; wanted (batch, channels, height, width)")
    if image.shape[1] not in channels:
        wanted = " or ".join(str(count) for count in channels)
        raise ValueError(f"{name} has {image.shape[1]} channels; wanted {wanted}")
    if 0 in image.shape:
        raise ValueError(f"{name} has shape {tuple(image.shape)}; wanted at least one pixel")
    if not image.is_floating_point():
        raise ValueError(f"{name} has dtype {image.dtype}; wanted floating point in [0, 1]")


def check_pair(image: Tensor, reference: Tensor) -> None:
    """Raises a ValueError unless an enlargement and its source are finite images and one source serves each of the batch."""
    for name, tensor in (("image", image), ("reference", reference)):
        check_image(tensor, name)
        check_finite(tensor, name)
    if reference.shape[0] not in (1, image.shape[0]):
        raise ValueError(f"reference has {reference.shape[0]} images, image {image.shape[0]}; wanted 1 or as many")


def is_finite(values: Tensor) -> bool:
    """Whether no number is NaN or infinite, without a mask as large as the tensor."""
    return bool(torch.isfinite(values.sum(dtype=working_dtype(values.dtype))))


def check_finite(image: Tensor, name: str = "image") -> None:
    """Raises a ValueError that counts them if any samples are NaN or infinite."""
    if not is_finite(image):
        count = int((~torch.isfinite(image)).sum())
        raise ValueError(f"{name} has {count} samples that are not finite (NaN or infinite); wanted numbers in [0, 1]")


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that arithmetic is done in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def memory_format_of(image: Tensor) -> torch.memory_format:
    """channels_last if the tensor lies that way (as the host's images do), else contiguous."""
    if image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def empty_image(like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """An uninitialised image of another size with the batch, device, memory format and by default dtype of `like`."""
    shape = (like.shape[0], channels, height, width)
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=memory_format_of(like))


def iterate_bands(height: int, bytes_per_row: int, band_bytes: int = BAND_BYTES) -> Iterator[slice]:
    """Row slices that cover `height` once, each of about `band_bytes` and of at least one row."""
    rows = max(1, band_bytes // max(1, bytes_per_row))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def iterate_bands_around(
    height: int, bytes_per_row: int, reach_px: int, band_bytes: int = BAND_BYTES
) -> Iterator[tuple[slice, slice, slice]]:
    """The same for a filter that looks `reach_px` rows up and down: (rows, rows with those around, rows within these)."""
    for rows in iterate_bands(height, bytes_per_row, band_bytes):
        first = max(0, rows.start - reach_px)
        yield rows, slice(first, min(height, rows.stop + reach_px)), slice(rows.start - first, rows.stop - first)


def map_bands(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Applies a pointwise function to images of one size, in float32 bands.

    Args:
        function: Takes one ``(B, C, rows, W)`` float32 band of each image and returns a band of as many rows,
            with any number of channels. It must not look at neighbouring rows.
        *images: Images of equal height and width; the first sets dtype, device and memory format.

    Returns:
        The whole result, in the dtype of the first image.
    """
    first = images[0]
    height, width = first.shape[2:]
    dtype = working_dtype(first.dtype)
    widest = max(image.shape[0] * image.shape[1] for image in images)
    output: Tensor | None = None
    for rows in iterate_bands(height, widest * width * dtype.itemsize):
        band = function(*(image[:, :, rows].to(dtype) for image in images))
        if output is None:
            shape = (band.shape[0], band.shape[1], height, width)
            output = torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=memory_format_of(first))
        output[:, :, rows] = band
    if output is None:
        raise ValueError(f"image has shape {tuple(first.shape)}; wanted at least one pixel")
    return output
