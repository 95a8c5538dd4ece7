"""Measures the speed of networks on this machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..choices import BackendChoice, PrecisionChoice
from ..errors import ModelRefusedError, RefusedError
from ..progress import Progress
from .backend import ENGINES, backend_key, list_backends, usable_backends, with_backend
from .backends.torch import TorchNetwork
from .measurements import describe_network, read_speeds, write_speeds
from .network import Network
from .runner import Runner

_Name = TypeVar("_Name", bound=str)

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
    converted = with_backend(network, backend, device, precision)
    used = converted.backend
    key = f"{describe_network(converted, device, precision)} | {used} by itself"
    known = read_speeds().get(key)
    if known is not None and known * _PROBE_PX**2 > _BRIEF_SECONDS:
        return known
    result = _time_in_turns({used: Runner(network, device, precision, backend=backend)}, _PROBE_PX, 2)[used]
    if known is not None and known <= result:
        return known
    write_speeds({key: result})
    return result


@dataclass(frozen=True)
class BackendSpeed:
    """A network's speed on this machine with one backend."""

    backend: BackendChoice
    """The library."""
    precision: str
    """The precision that it computed in."""
    seconds: float
    """Seconds per megapixel of input."""


@dataclass(frozen=True)
class Acceleration:
    """A network's speed on this machine with each backend."""

    name: str
    """The network."""
    speeds: tuple[BackendSpeed, ...]
    """The backends that can run it, PyTorch first."""
    refusals: tuple[str, ...]
    """Why others cannot, as readable text."""

    @property
    def chosen(self) -> BackendChoice:
        """The backend that is used: the fastest, or that for int8 if it was asked for."""
        quantized = [speed for speed in self.speeds if speed.precision == "int8"]
        return min(quantized or self.speeds, key=lambda speed: speed.seconds).backend


def accelerate(
    network: TorchNetwork, device: torch.device, precision: PrecisionChoice = "auto", progress: Progress | None = None
) -> Acceleration:
    """Converts a network for every installed library, measures all in turns, and stores the times for "auto".

    Args:
        network: The network as loaded.
        device: Where it will run.
        precision: See `fidelity.networks.device.choose_precision`; for int8, only libraries that compute in it.
        progress: Told about every run.

    Raises:
        ModelRefusedError: If no library beside PyTorch that runs there is installed, or none can run the network.
    """
    installed = list_backends(device, precision)
    if not installed:
        able = [ENGINES[name] for name in usable_backends(device, precision)]
        if not able:
            raise ModelRefusedError(f"no library beside PyTorch runs in {precision} on {device.type}")
        commands = " or ".join(engine.installation for engine in able)
        raise ModelRefusedError(f"no library beside PyTorch is installed; {commands}")
    runners: dict[BackendChoice, Runner] = {"torch": Runner(network, device, precision, backend="torch")}
    refusals: dict[str, str] = {}
    for name in installed:
        runner = Runner(network, device, precision, backend=name)
        try:
            runner.run(torch.rand(1, network.channels_in, _PROBE_PX, _PROBE_PX))
        except RefusedError as error:
            refusals[backend_key(network, device, precision, name)] = str(error)
            continue
        runners[name] = runner
    if len(runners) == 1:
        raise ModelRefusedError("; ".join(refusals.values()))
    best = _time_in_turns(runners, _TURN_PX, _TURNS, progress)
    write_speeds({backend_key(network, device, precision, name): seconds for name, seconds in best.items()}, refusals)
    speeds = tuple(BackendSpeed(name, runners[name].precision, seconds * 1e6) for name, seconds in best.items())
    return Acceleration(network.name, speeds, tuple(refusals.values()))


def _time_in_turns(
    runners: Mapping[_Name, Runner], side: int, turns: int, progress: Progress | None = None
) -> dict[_Name, float]:
    """The least seconds per pixel of each runner on a square image, after a first turn that warms up."""
    best = dict.fromkeys(runners, float("inf"))
    for turn in range(1 + turns):
        for place, (name, runner) in enumerate(runners.items()):
            image = torch.rand(1, runner.network.channels_in, side, side)
            started = time.perf_counter()
            runner.run(image)
            if turn:
                best[name] = min(best[name], (time.perf_counter() - started) / side**2)
            if progress:
                progress(turn * len(runners) + place + 1, (1 + turns) * len(runners))
    return best
