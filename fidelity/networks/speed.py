"""Measures the speed of networks on this machine."""

import time
from dataclasses import dataclass

import torch

from ..choices import BackendChoice, PrecisionChoice
from .backend import backend_key, with_backend
from .backends.torch import TorchNetwork
from .measurements import read_speeds, write_speeds
from .network import Network
from .runner import Runner

_PROBE_PX = 128
_TURN_PX = 192
_TURNS = 3
_BRIEF_SECONDS = 2.0
"""A run this short is measured again each time, so that a figure from a busy moment does not last."""


def measure_seconds_per_pixel(
    network: Network, device: torch.device, precision: PrecisionChoice = "auto", backend: BackendChoice = "auto"
) -> float:
    """Measures the seconds that a network takes per input pixel: the faster of two small runs after a warm-up.

    The result is stored in the user's cache folder by network, device, precision, thread count and PyTorch version. A network
    that takes under two seconds for the measurement is measured again each time; the lowest figure counts.

    Args:
        network: The network.
        device: Where it will run.
        precision: See `fidelity.networks.device.choose_precision`.
        backend: See `fidelity.networks.backend.with_backend`.
    """
    used = with_backend(network, backend, device, precision).backend
    key = backend_key(network, device, precision, used)
    known = read_speeds().get(key)
    if known is not None and known * _PROBE_PX**2 > _BRIEF_SECONDS:
        return known
    runner = Runner(network, device, precision, backend=backend)
    image = torch.rand(1, network.channels_in, _PROBE_PX, _PROBE_PX)
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        runner.run(image)
        seconds.append(time.perf_counter() - started)
    result = min(seconds[1:]) / _PROBE_PX**2
    if known is not None and known <= result:
        return known
    write_speeds({key: result})
    return result


@dataclass(frozen=True)
class Acceleration:
    """A network's speed on this machine with each backend."""

    name: str
    """The network."""
    torch_precision: str
    """The precision that PyTorch computed in."""
    torch_seconds: float
    """Seconds per megapixel of input with PyTorch."""
    openvino_precision: str
    """The precision that OpenVINO computed in."""
    openvino_seconds: float
    """Seconds per megapixel of input with OpenVINO."""

    @property
    def chosen(self) -> BackendChoice:
        """The faster one."""
        return "openvino" if self.openvino_seconds < self.torch_seconds else "torch"


def accelerate(network: TorchNetwork, precision: PrecisionChoice = "auto") -> Acceleration:
    """Converts a network, measures it with both backends in turns on the CPU, and stores the figures for "auto".

    Raises:
        ModelRefusedError: If OpenVINO is not installed, or cannot run the network.
    """
    device = torch.device("cpu")
    image = torch.rand(1, network.channels_in, _TURN_PX, _TURN_PX)
    runners = {name: Runner(network, device, precision, backend=name) for name in ("torch", "openvino")}
    best = dict.fromkeys(runners, float("inf"))
    for turn in range(1 + _TURNS):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.run(image)
            if turn:  # the first converts, and warms up
                best[name] = min(best[name], (time.perf_counter() - started) / _TURN_PX**2)
    write_speeds({backend_key(network, device, precision, name): seconds for name, seconds in best.items()})
    return Acceleration(
        network.name,
        runners["torch"].precision,
        best["torch"] * 1e6,
        runners["openvino"].precision,
        best["openvino"] * 1e6,
    )
