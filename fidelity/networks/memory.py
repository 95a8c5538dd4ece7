"""Measures free memory on a device and recognizes out-of-memory errors."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..limits import free_bytes

Result = TypeVar("Result")


_RESULT_BYTES = 6  # a float32 result that most steps change in place; cleanup copies it
_SOURCE_BYTES = 40  # float32: the restored source, the result at its size, and the projection's four maps
_BAND_BYTES = 2**27  # bands, windows and blocks of any size of image


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in message for sign in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def free_memory_bytes(device: torch.device) -> int | None:
    """Returns the memory available to a run on a GPU; None if the device does not report it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def free_host_bytes() -> int:
    """Returns the memory that this process can still get."""
    return free_bytes()


def work_memory_bytes(result: tuple[int, ...], source: tuple[int, ...]) -> int:
    """Returns the most memory that the steps after the network need, for ``(B, C, H, W)`` shapes of a result and its source."""
    channels = max(result[1], source[1])
    small = min(result[2], source[2]) * min(result[3], source[3])
    return result[0] * channels * (result[2] * result[3] * _RESULT_BYTES + small * _SOURCE_BYTES) + _BAND_BYTES


def run_where_room(step: Callable[[Tensor], Result], image: Tensor, source: Tensor, device: torch.device) -> Result:
    """Runs a step on `device`, or on the image's own device if memory is short there.

    Args:
        step: The step to run on the image.
        image: The upscaled image, ``(B, C, H, W)``.
        source: The source image.
        device: The preferred device.
    """
    free = free_memory_bytes(device)
    if free is not None and free > work_memory_bytes(tuple(image.shape), tuple(source.shape)):
        try:
            return step(image.to(device))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    return step(image)


def release_memory(device: torch.device) -> None:
    """Returns PyTorch's cached, unused memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
