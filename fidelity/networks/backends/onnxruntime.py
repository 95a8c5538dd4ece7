"""ONNX Runtime, on the CPU and on NVIDIA GPUs."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...choices import Precision
from ...quiet import no_warnings
from .converted import Engine, Run, sample_for
from .torch import DTYPES, TorchNetwork

IMAGE, RESULT = "image", "result"
"""Names of the exported network's input and output."""

FILE = "network.onnx"
"""Name of the exported network in its folder."""

Provider = tuple[str, dict[str, str]]
"""One of ONNX Runtime's ways to compute, by name, and its options."""

_OPSET = 17
_NUMPY: dict[Precision, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}


class OnnxRuntime(Engine):
    """ONNX Runtime, which runs networks that PyTorch exports.

    The package onnxruntime computes on the CPU, onnxruntime-gpu also on NVIDIA GPUs, by CUDA.
    """

    name = "onnxruntime"
    needs = ("onnx",)
    title = "ONNX Runtime"

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cpu" or (device.type == "cuda" and "CUDAExecutionProvider" in available_providers())

    def precisions_on(self, device: torch.device) -> Sequence[Precision]:
        return ("fp32",) if device.type == "cpu" else ("fp32", "fp16")

    def variant(self, precision: Precision, device: torch.device) -> str:
        return "" if self._exported_in(precision, device) == "fp32" else precision

    def convert(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> None:
        exported = self._exported_in(precision, device)
        place = torch.device("cpu") if exported == "fp32" else device  # not every operation is in half precision on the CPU
        sides = {0: "batch", 2: "height", 3: "width"}
        with no_warnings():  # as for OpenVINO; and the exporter without further packages is the older one
            torch.onnx.export(
                network.to(place, exported).descriptor.model,
                (sample_for(network).to(place, DTYPES[exported]),),
                folder / FILE,
                input_names=[IMAGE],
                output_names=[RESULT],
                dynamic_axes={IMAGE: sides, RESULT: sides},
                opset_version=_OPSET,
                dynamo=False,
            )

    def compile(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> Run:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        providers = self.list_providers(network, folder, precision, device)
        session = onnxruntime.InferenceSession(folder / FILE, options, providers=providers, enable_fallback=False)
        if session.get_providers()[0] != providers[0][0]:  # ONNX Runtime goes on without what it cannot load
            versions = f"the versions of CUDA and TensorRT that ONNX Runtime {onnxruntime.__version__} was built for"
            raise RuntimeError(f"{providers[0][0]} did not start; wanted {versions}")
        return lambda samples: self._run(session, network, samples, self._exported_in(precision, device))

    def list_providers(
        self,
        network: TorchNetwork,  # noqa: ARG002
        folder: Path,  # noqa: ARG002
        precision: Precision,  # noqa: ARG002
        device: torch.device,
    ) -> list[Provider]:
        """What computes, in order of preference."""
        if device.type == "cpu":
            return [("CPUExecutionProvider", {})]
        # Tiles of a picture have few sizes, and a search for the fastest kernels of each takes longer than it gains.
        options = {"device_id": str(device.index or 0), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        return [("CUDAExecutionProvider", options), ("CPUExecutionProvider", {})]

    def _exported_in(self, precision: Precision, device: torch.device) -> Precision:
        """The precision of the exported network, and of what goes in and comes out."""
        return "fp32" if device.type == "cpu" else precision

    def _run(self, session: Any, network: TorchNetwork, samples: Tensor, precision: Precision) -> Tensor:
        """Runs a session where its samples are: they and the result stay on their device."""
        image = samples.to(DTYPES[precision]).contiguous()
        batch, _, height, width = image.shape
        size = (batch, network.channels_out, height * network.scale, width * network.scale)
        result = torch.empty(size, dtype=image.dtype, device=image.device)
        binding = session.io_binding()
        for bind, name, tensor in ((binding.bind_input, IMAGE, image), (binding.bind_output, RESULT, result)):
            bind(name, image.device.type, image.device.index or 0, _NUMPY[precision], tuple(tensor.shape), tensor.data_ptr())
        if image.device.type == "cuda":
            torch.cuda.current_stream(image.device).synchronize()  # ONNX Runtime computes on a stream of its own
        _run_or_raise(self.title, lambda: session.run_with_iobinding(binding))
        return result.float()


ONNX_RUNTIME = OnnxRuntime()


def available_providers() -> list[str]:
    """What the installed ONNX Runtime can compute with; PyTorch, imported before, has loaded CUDA's libraries."""
    if not find_spec("onnxruntime"):
        return []
    import onnxruntime

    return onnxruntime.get_available_providers()


def run_session(name: str, session: Any, given: dict[str, Any]) -> Tensor:
    """Runs a session of ONNX Runtime, and returns its first output.

    Args:
        name: Name of the network or library, for messages.
        session: The session.
        given: Its inputs by name.

    Raises:
        MemoryError: If it ran out of memory.
        RuntimeError: If it failed for another reason. (ONNX Runtime's own exceptions are no `RuntimeError`.)
    """
    return torch.from_numpy(_run_or_raise(name, lambda: session.run(None, given))[0])


def _run_or_raise(name: str, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        if any(sign in reason for sign in ("Failed to allocate memory", "bad allocation", "out of memory")):
            raise MemoryError(f"{name}: {reason}") from error
        raise RuntimeError(f"{name}: ONNX Runtime failed ({reason})") from error
