"""Chooses the library that runs a network, by measurement."""

import torch

from ..choices import BackendChoice, PrecisionChoice
from ..errors import ModelRefusedError
from .backends.converted import Engine
from .backends.onnxruntime import ONNX_RUNTIME
from .backends.openvino import OPENVINO
from .backends.tensorrt import TENSORRT
from .backends.torch import TorchNetwork
from .measurements import describe_network, read_speeds
from .network import Network

ENGINES: dict[BackendChoice, Engine] = {"openvino": OPENVINO, "onnxruntime": ONNX_RUNTIME, "tensorrt": TENSORRT}
"""The libraries beside PyTorch, by name."""
_THREADS = torch.get_num_threads()
"""Those of the process: a thread that works beside others has fewer, and yet the same library is the fastest."""


def with_backend(network: Network, backend: BackendChoice, device: torch.device, precision: PrecisionChoice) -> Network:
    """Returns a network as a backend runs it.

    Args:
        network: The network as loaded.
        backend: "auto" takes the one that `fidelity.networks.speed.accelerate` measured to be fastest, PyTorch if none was
            measured, and also if the other then fails. On a device that is not the backend's, PyTorch runs everything; `.pb`
            graphs are OpenCV's, and networks that take a noise level PyTorch's, even if another is named. In int8 it takes
            OpenVINO, on the CPU, the only one of them that computes in it.
        device: Where it will run.
        precision: See `fidelity.networks.device.choose_precision`.

    Raises:
        ModelRefusedError: If the backend was named, or int8 needs it, and it is not installed.
    """
    if backend == "torch" or not isinstance(network, TorchNetwork) or network.takes_noise:
        return network
    if backend == "auto":
        if precision == "int8" and device.type == "cpu":
            return OPENVINO.wrap(network)
        engine = _fastest(network, device, precision)
        return engine.wrap(network, may_fall_back=True, device=device) if engine else network
    check_backend(backend, device)
    engine = ENGINES[backend]
    return engine.wrap(network, device=device) if engine.runs_on(device) else network


def _fastest(network: TorchNetwork, device: torch.device, precision: PrecisionChoice) -> Engine | None:
    """The installed library that was measured to be faster than PyTorch and all others; None if there is none."""
    names = list_backends(device)
    if not names:
        return None
    speeds, measured = read_speeds(), dict[BackendChoice, float]()
    candidates: list[BackendChoice] = ["torch", *names]
    for name in candidates:
        seconds = speeds.get(backend_key(network, device, precision, name))
        if seconds is not None:
            measured[name] = seconds
    return ENGINES.get(min(measured, key=measured.__getitem__)) if "torch" in measured else None


def check_backend(backend: BackendChoice, device: torch.device) -> None:
    """Refuses a backend that would be used on a device and is not installed, and TensorRT without an NVIDIA GPU.

    Raises:
        ModelRefusedError: If it was named and cannot be used.
    """
    if backend == "tensorrt" and not TENSORRT.runs_on(device):
        raise ModelRefusedError(f"backend tensorrt: runs on NVIDIA GPUs, not on {device.type}; wanted auto or another one")
    if backend in ENGINES and (device.type == "cpu" or ENGINES[backend].runs_on(device)):
        ENGINES[backend].check_installed()


def list_backends(device: torch.device, precision: PrecisionChoice = "auto") -> list[BackendChoice]:
    """Lists the installed libraries beside PyTorch that compute on a device, for int8 only those that compute in it."""
    return [name for name in usable_backends(device, precision) if ENGINES[name].is_installed()]


def usable_backends(device: torch.device, precision: PrecisionChoice = "auto") -> list[BackendChoice]:
    """Lists the same, installed or not."""
    return [
        name
        for name, engine in ENGINES.items()
        if engine.runs_on(device) and (precision != "int8" or "int8" in engine.precisions_on(device))
    ]


def backend_key(network: Network, device: torch.device, precision: PrecisionChoice, backend: str) -> str:
    """A key for the measurement of a network with one backend."""
    suffix = " int8" if precision == "int8" else ""
    return f"{describe_network(network, device, precision, _THREADS)} | {backend}{suffix}"
