"""OpenVINO on the CPU; in INT8 once NNCF has quantized a network."""

import logging
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...choices import Precision
from ...errors import ModelRefusedError
from ...quiet import no_warnings
from ..calibration import calibration_images
from .compact import COMPACT, Change, repeat_pixels
from .converted import Engine, Run, sample_for
from .torch import TorchNetwork

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_FILE = "network.xml"
_STATISTICS = "openvino_telemetry"
_NO_OPERATIONS = "Parameter", "Constant", "Result"

_importing, _quantizing = threading.Lock(), threading.Lock()


class OpenVINO(Engine):
    """OpenVINO, which reads PyTorch networks itself."""

    name = "openvino"
    title = "OpenVINO"

    def precisions_on(self, device: torch.device) -> Sequence[Precision]:  # noqa: ARG002
        return ("fp32", "bf16", "fp16", "int8")

    def adds_in_float32(self, network: TorchNetwork) -> bool:
        return network.architecture == COMPACT

    def version(self) -> str:
        return _import("openvino").__version__

    def convert(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> None:  # noqa: ARG002
        openvino = _import("openvino")
        if precision == "int8" and not find_spec("nncf"):
            raise ModelRefusedError("precision int8: NNCF, which quantizes networks, is not installed; pip install nncf")
        module: torch.nn.Module = network.to(torch.device("cpu"), "fp32").descriptor.model
        if self.adds_in_float32(network):  # here, as in PyTorch: in bfloat16, gradients would have steps
            module = Change(module).eval()
        with no_warnings():  # of sizes that become constants: the check at another size finds those
            model = openvino.convert_model(module, example_input=sample_for(network))
            if precision == "int8":
                model = _quantize(model, network.channels_in)
        openvino.save_model(model, folder / _FILE, compress_to_fp16=False)

    def compile(
        self,
        network: TorchNetwork,
        folder: Path,
        precision: Precision,
        device: torch.device,  # noqa: ARG002
    ) -> Run:
        core = _import("openvino").Core()
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if precision in _HINTS:  # what is not quantized in int8 runs in what suits the processor
            options["INFERENCE_PRECISION_HINT"] = _HINTS[precision]
        compiled = core.compile_model(core.read_model(folder / _FILE), "CPU", options)

        adds, scale = self.adds_in_float32(network), network.scale

        def run(samples: Tensor) -> Tensor:
            result = torch.from_numpy(next(iter(compiled(samples.numpy()).values())))
            return repeat_pixels(samples, scale).add_(result) if adds else result

        return run


OPENVINO = OpenVINO()


def _quantize(model: Any, channels: int) -> Any:
    """Quantizes a network to INT8, except what takes the picture itself and what follows the last convolution.

    There a network usually adds what it found to the picture, which 8 bits would cut to 256 levels. Ranges are means of
    quantiles over the images: the greatest values, which few pixels have, would cost the others their precision
    (tools/benchmarks/README.md has the effect of each).
    """
    nncf = _import("nncf")
    images = [image.numpy() for image in calibration_images(channels)]
    quantization = import_module("nncf.quantization.range_estimator")
    advanced = nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=quantization.RangeEstimatorParametersSet.MEAN_QUANTILE
    )
    with _quantizing, _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=_list_ends(model)),
            advanced_parameters=advanced,
        )


def _list_ends(model: Any) -> list[str]:
    """The operations that take the picture itself, and those that follow the last convolution."""
    operations = model.get_ordered_ops()
    last = max((place for place, one in enumerate(operations) if "Convolution" in one.get_type_name()), default=-1)
    pictures = {one.get_friendly_name() for one in model.get_parameters()}
    return [
        one.get_friendly_name()
        for place, one in enumerate(operations)
        if one.get_type_name() not in _NO_OPERATIONS
        and (place > last or any(value.get_node().get_friendly_name() in pictures for value in one.input_values()))
    ]


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Keeps what NNCF prints, a bar for each stage on rich's own console, out of the command's output."""
    console = import_module("rich").get_console()
    before, console.quiet = console.quiet, True
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = before


def _import(name: str) -> Any:
    """Imports OpenVINO or NNCF without the usage statistics that either sends to its makers when it is imported.

    Both do without the module that sends them if it is missing, as it seems to be while they are imported here. NNCF's import
    also changes the class of all loggers that are made later, which is undone.
    """
    with _importing:
        loggers, missing = logging.getLoggerClass(), name not in sys.modules and _STATISTICS not in sys.modules
        if missing:
            sys.modules[_STATISTICS] = None  # pyright: ignore[reportArgumentType] # how Python marks a module as missing
        try:
            return import_module(name)
        finally:
            logging.setLoggerClass(loggers)
            if missing:
                del sys.modules[_STATISTICS]
