"""ONNX Runtime on the CPU."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...choices import Precision
from ...quiet import no_warnings
from .converted import Engine, Run, sample_for
from .torch import TorchNetwork

_FILE = "network.onnx"
_OPSET = 17
_IMAGE, _RESULT = "image", "result"


class OnnxRuntime(Engine):
    """ONNX Runtime, which runs networks that PyTorch exports."""

    name = "onnxruntime"
    needs = ("onnx",)
    title = "ONNX Runtime"
    precisions: ClassVar[Sequence[Precision]] = ("fp32",)

    def convert(self, network: TorchNetwork, folder: Path, precision: Precision) -> None:  # noqa: ARG002
        module = network.to(torch.device("cpu"), "fp32").descriptor.model
        sides = {0: "batch", 2: "height", 3: "width"}
        with no_warnings():  # as for OpenVINO; and the exporter without further packages is the older one
            torch.onnx.export(
                module,
                (sample_for(network),),
                folder / _FILE,
                input_names=[_IMAGE],
                output_names=[_RESULT],
                dynamic_axes={_IMAGE: sides, _RESULT: sides},
                opset_version=_OPSET,
                dynamo=False,
            )

    def compile(self, folder: Path, precision: Precision) -> Run:  # noqa: ARG002
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / _FILE, options, providers=["CPUExecutionProvider"])
        return lambda samples: run_session(self.title, session, {_IMAGE: samples.numpy()})


ONNX_RUNTIME = OnnxRuntime()


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
    try:
        return torch.from_numpy(session.run(None, given)[0])
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        if "Failed to allocate memory" in reason or "bad allocation" in reason:
            raise MemoryError(f"{name}: {reason}") from error
        raise RuntimeError(f"{name}: ONNX Runtime failed ({reason})") from error
