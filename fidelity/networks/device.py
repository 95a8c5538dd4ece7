"""Choosing a device and a precision, and telling an out-of-memory error from any other."""

from typing import Literal

import torch
from spandrel import ImageModelDescriptor
from torch import nn

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


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
