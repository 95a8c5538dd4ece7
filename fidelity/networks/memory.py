"""How much memory there is on a device, and telling an out-of-memory error from any other."""

from collections.abc import Callable
from typing import TypeVar

import psutil
import torch
from torch import Tensor

Result = TypeVar("Result")


_RESULT_BYTES = 16  # a step works on float32 bands of a result, beside its input and its output


_SOURCE_BYTES = 128  # the projection's solver keeps about 30 float32 copies at the source's size


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in message for sign in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def free_memory_bytes(device: torch.device) -> int | None:
    """Memory that a run may take on a GPU; None where there is no figure to go by."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def free_host_bytes() -> int:
    """Memory of this machine that is free for an image and its result."""
    return psutil.virtual_memory().available


def work_memory_bytes(result: tuple[int, ...], source: tuple[int, ...]) -> int:
    """What the steps after the network need at most, for shapes ``(B, C, H, W)`` of a result and its source."""
    channels = max(result[1], source[1])
    small = min(result[2], source[2]) * min(result[3], source[3])
    return result[0] * channels * (result[2] * result[3] * _RESULT_BYTES + small * _SOURCE_BYTES)


def run_where_room(step: Callable[[Tensor], Result], image: Tensor, source: Tensor, device: torch.device) -> Result:
    """Runs a step on `device` if there is room for it, else, or if memory runs out there, where the image is.

    Args:
        step: What to do with the image.
        image: The enlargement, ``(B, C, H, W)``.
        source: Its source.
        device: Where to work if possible.
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
    """Gives memory that PyTorch has freed and kept back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
