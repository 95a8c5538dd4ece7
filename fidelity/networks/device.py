"""Chooses a device and a precision."""

import torch

from ..choices import DeviceName, Precision, PrecisionChoice
from ..errors import RefusedError
from .network import Network


def choose_device(name: DeviceName = "auto") -> torch.device:
    """Returns the named device, or the best one available for "auto".

    Raises:
        RefusedError: If the device is not available.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present[name]:
        raise RefusedError(f"device {name} is not available; wanted {' or '.join(k for k, here in present.items() if here)}")
    return torch.device(name)


def list_precisions(device: torch.device) -> tuple[Precision, ...]:
    """Lists the precisions that a device supports natively; emulated bfloat16 does not count."""
    names: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
    return tuple(name for name in names if name != "bf16" or _has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):  # is_bf16_supported asks about the current device
        try:
            return torch.cuda.is_bf16_supported(including_emulation=False)
        except TypeError:  # before PyTorch 2.4
            return torch.cuda.is_bf16_supported()


def gains_from_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16 (AVX512_BF16 or AMX): convolutions then take half the time of float32."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # PyTorch has no public names for them
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def choose_precision(network: Network, device: torch.device, wanted: PrecisionChoice = "auto") -> Precision:
    """Chooses the precision to run a network in.

    Args:
        network: The network.
        device: Where it runs.
        wanted: "auto" means half precision on a GPU if the network supports it. On a CPU it means bfloat16 where that costs
            nothing visible and the CPU gains from it, else float32. A half precision that the network or the device does not
            support falls back to float32, and int8 to "auto"; the report says which was used.
    """
    can = [name for name in network.precisions if name != "bf16" or _has_bf16(device)]
    automatic: tuple[Precision, ...] = ("fp16", "bf16", "fp32")
    if device.type == "cpu":
        automatic = ("bf16", "fp32") if network.adds_in_float32 and gains_from_bf16() else ("fp32",)
    for name in automatic if wanted == "auto" or (wanted == "int8" and "int8" not in can) else (wanted,):
        if name in can:
            return name
    return "fp32"
