"""Choosing a device and a precision, and telling an out-of-memory error from any other."""

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Result = TypeVar("Result")
DeviceName = Literal["auto", "cpu", "cuda", "mps"]

_RESULT_BYTES = 16  # a step works on float32 bands of a result, beside its input and its output
_SOURCE_BYTES = 128  # the projection's solver keeps about 30 float32 copies at the source's size

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PRECISION_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def choose_device(name: DeviceName = "auto") -> torch.device:
    """The device of that name, or for "auto" the best there is.

    Raises:
        ValueError: If the device is not present.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present[name]:
        raise ValueError(f"device {name} is not present; there is {', '.join(k for k, here in present.items() if here)}")
    return torch.device(name)


def list_precisions(device: torch.device) -> tuple[str, ...]:
    """What a device computes in by itself, by name; bfloat16 that a GPU only emulates does not count."""
    return tuple(name for name in ("fp32", "fp16", "bf16") if name != "bf16" or _has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):  # the question is about the current one
        try:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        except TypeError:  # before PyTorch 2.4
            return torch.cuda.is_bf16_supported()


def choose_dtype(
    descriptor: ImageModelDescriptor[nn.Module], device: torch.device, precision: Precision = "auto"
) -> torch.dtype:
    """The dtype to run a network in.

    Args:
        descriptor: The network; its limits are respected.
        device: Where it runs.
        precision: "auto" is half precision on a GPU where the network allows it, float32 on a CPU. A named
            half precision that the network or the device cannot do gives float32; what was used is in the report.

    Returns:
        float32, float16 or bfloat16.
    """
    can = {
        "fp16": descriptor.supports_half,
        "bf16": descriptor.supports_bfloat16 and _has_bf16(device),
        "fp32": True,
    }
    if precision == "auto":
        wanted = ("fp32",) if device.type == "cpu" else ("fp16", "bf16", "fp32")
        return DTYPES[next(name for name in wanted if can[name])]
    return DTYPES[precision] if can[precision] else torch.float32


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
