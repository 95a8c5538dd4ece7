"""Measures a network's speed on this machine and caches it."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import torch

from ..choices import PrecisionChoice
from .device import choose_precision
from .network import Network
from .runner import Runner

_PROBE_PX = 128
_BRIEF_SECONDS = 2.0
"""A run this short is measured again each time, so that a figure from a busy moment does not last."""


def measure_seconds_per_pixel(network: Network, device: torch.device, precision: PrecisionChoice = "auto") -> float:
    """Measures the seconds that a network takes per input pixel: the faster of two small runs after a warm-up.

    The result is stored in the user's cache folder by network, device, precision, thread count and PyTorch version. A network
    that takes under two seconds for the measurement is measured again each time; the lowest figure counts.

    Args:
        network: The network.
        device: Where it will run.
        precision: See `fidelity.networks.device.choose_precision`.
    """
    key = _describe(network, device, precision)
    known = _read_cache().get(key)
    if known is not None and known * _PROBE_PX**2 > _BRIEF_SECONDS:
        return known
    runner = Runner(network, device, precision)
    image = torch.rand(1, network.channels_in, _PROBE_PX, _PROBE_PX)
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        runner.run(image)
        seconds.append(time.perf_counter() - started)
    result = min(seconds[1:]) / _PROBE_PX**2
    if known is not None and known <= result:
        return known
    _write_cache(_read_cache() | {key: result})
    return result


def cache_file() -> Path:
    """Returns the file that the measurements are stored in."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "fidelity-upscale" / "speed.json"


def _describe(network: Network, device: torch.device, precision: PrecisionChoice) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    used = choose_precision(network, device, precision)
    facts = (network.name, network.architecture, network.parameters)
    parts = (*facts, where, used, torch.get_num_threads(), torch.__version__)
    return " | ".join(str(part) for part in parts)


def _read_cache() -> dict[str, float]:
    try:
        content = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, float) and value > 0}


def _write_cache(known: dict[str, float]) -> None:
    path = cache_file()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
