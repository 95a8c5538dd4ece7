"""OpenVINO on the CPU."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ...choices import Precision
from .converted import Engine, Run, sample_for
from .torch import TorchNetwork

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_FILE = "network.xml"


class OpenVINO(Engine):
    """OpenVINO, which reads PyTorch networks itself."""

    name = "openvino"
    title = "OpenVINO"
    precisions: ClassVar[Sequence[Precision]] = ("fp32", "bf16", "fp16")

    def convert(self, network: TorchNetwork, folder: Path) -> None:
        import openvino

        module = network.to(torch.device("cpu"), "fp32").descriptor.model
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that become constants: the check at another size finds those
            model = openvino.convert_model(module, example_input=sample_for(network))
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    def compile(self, folder: Path, precision: Precision) -> Run:
        import openvino

        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        compiled = core.compile_model(core.read_model(folder / _FILE), "CPU", options)

        def run(samples: Tensor) -> Tensor:
            return torch.from_numpy(next(iter(compiled(samples.numpy()).values())).copy())

        return run


OPENVINO = OpenVINO()
