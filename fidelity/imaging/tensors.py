"""Checks of the image contract in `fidelity.imaging`, and tensors created like others."""

import torch
from torch import Tensor

from ..errors import RefusedError

IMAGE_CHANNELS = (1, 3, 4)


def check_image(image: Tensor, name: str = "image", channels: tuple[int, ...] = IMAGE_CHANNELS) -> None:
    """Raises a RefusedError unless a tensor is an image by the contract of `fidelity.imaging`.

    Args:
        image: The tensor to check; its values are not read.
        name: What to call it in the message.
        channels: Accepted channel counts.

    Raises:
        RefusedError: If the shape, the channel count or the dtype is not that of an image.
    """
    if image.ndim != 4:
        raise RefusedError(f"{name} has shape {tuple(image.shape)}; wanted (batch, channels, height, width)")
    if image.shape[1] not in channels:
        wanted = " or ".join(str(count) for count in channels)
        raise RefusedError(f"{name} has {image.shape[1]} channels; wanted {wanted}")
    if 0 in image.shape:
        raise RefusedError(f"{name} has shape {tuple(image.shape)}; wanted at least one pixel")
    if not image.is_floating_point():
        raise RefusedError(f"{name} has dtype {image.dtype}; wanted floating point in [0, 1]")


def check_pair(image: Tensor, reference: Tensor) -> None:
    """Raises a RefusedError unless an upscaled image and its source are finite images whose batches match."""
    for name, tensor in (("image", image), ("reference", reference)):
        check_image(tensor, name)
        check_finite(tensor, name)
    if reference.shape[0] not in (1, image.shape[0]):
        raise RefusedError(
            f"reference has {reference.shape[0]} images, image has {image.shape[0]}; wanted one, or one per image"
        )


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite, without a mask as large as the tensor."""
    return bool(torch.isfinite(values.sum(dtype=working_dtype(values.dtype))))


def check_finite(image: Tensor, name: str = "image") -> None:
    """Raises a RefusedError with their count if any samples are NaN or infinite."""
    if not is_finite(image):
        count = int((~torch.isfinite(image)).sum())
        raise RefusedError(f"{name} has {count} samples that are not finite (NaN or infinite); wanted numbers in [0, 1]")


def check_range(image: Tensor) -> None:
    """Raises a RefusedError if samples are so far outside [0, 1] that they must be in another range, such as 0 to 255."""
    least, most = (bound.item() for bound in torch.aminmax(image))
    if most > _MOST:
        raise RefusedError(f"image has values from {least:g} to {most:g}; wanted 0 to 1: divide by the value of white")
    if least < _LEAST:
        raise RefusedError(f"image has values from {least:g} to {most:g}; wanted 0 to 1: of -1 to 1, use (image + 1) / 2")


_LEAST, _MOST = -0.5, 1.5
"""What filters and networks may leave beyond [0, 1]; more is another range."""


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype for arithmetic: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def memory_format_of(image: Tensor) -> torch.memory_format:
    """Returns channels_last if the tensor is stored that way (as the host's images are), else contiguous."""
    if image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def empty_image(like: Tensor, channels: int, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Returns an uninitialized image of another size with the batch, device, memory format and by default dtype of `like`."""
    shape = (like.shape[0], channels, height, width)
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=memory_format_of(like))
