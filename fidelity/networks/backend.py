"""Chooses the library that runs a network, by measurement."""

import torch

from ..choices import BackendChoice, PrecisionChoice
from .backends.openvino import as_openvino, is_installed
from .backends.torch import TorchNetwork
from .measurements import describe_network, read_speeds
from .network import Network


def with_backend(network: Network, backend: BackendChoice, device: torch.device, precision: PrecisionChoice) -> Network:
    """Returns a network as a backend runs it.

    Args:
        network: The network as loaded.
        backend: "auto" takes OpenVINO where `fidelity.networks.speed.accelerate` measured it to be faster, else PyTorch, also
            if OpenVINO then fails. OpenVINO runs nothing on other devices than the CPU, no `.pb` graphs, and no networks that
            take a noise level, even if it is named.
        device: Where it will run.
        precision: See `fidelity.networks.device.choose_precision`.

    Raises:
        ModelRefusedError: If the backend was named and is not installed.
    """
    if backend == "torch" or device.type != "cpu" or not isinstance(network, TorchNetwork) or network.takes_noise:
        return network
    if backend == "auto":
        if not is_installed():
            return network
        known = read_speeds()
        ours, others = (known.get(backend_key(network, device, precision, name)) for name in ("torch", "openvino"))
        if ours is None or others is None or ours <= others:
            return network
    return as_openvino(network, may_fall_back=backend == "auto")


def backend_key(network: Network, device: torch.device, precision: PrecisionChoice, backend: str) -> str:
    """A key for the measurement of a network with one backend."""
    return f"{describe_network(network, device, precision)} | {backend}"
