"""Stores measurements of networks on this machine in the user's cache folder."""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from ..choices import PrecisionChoice
from .device import choose_precision
from .network import Network


def cache_folder() -> Path:
    """Returns the user's folder for what can be measured or made again."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "fidelity-upscale"


def cache_file() -> Path:
    """Returns the file that the measurements are stored in."""
    return cache_folder() / "speed.json"


def describe_network(network: Network, device: torch.device, precision: PrecisionChoice, threads: int | None = None) -> str:
    """A key for measurements: the network, device, precision, thread count (this thread's if not given) and PyTorch version."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    used = choose_precision(network, device, precision)
    facts = (network.name, network.architecture, network.parameters)
    parts = (*facts, where, used, threads or torch.get_num_threads(), torch.__version__)
    return " | ".join(str(part) for part in parts)


def read_speeds() -> dict[str, float]:
    """The stored measurements: seconds per pixel, and how often something was measured."""
    try:
        content = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, float) and value > 0}


def write_speeds(measured: Mapping[str, float], outdated: Collection[str] = ()) -> None:
    """Stores measurements beside those that are there, except outdated ones."""
    known = {key: value for key, value in read_speeds().items() if key not in outdated} | dict(measured)
    path = cache_file()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
