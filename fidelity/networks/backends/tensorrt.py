"""TensorRT on NVIDIA GPUs, through ONNX Runtime, which builds its engines, stores them and knows whose they are."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import torch

from ...choices import Precision
from ..memory import free_memory_bytes
from .converted import Run
from .onnxruntime import IMAGE, OnnxRuntime, Provider, available_providers
from .torch import TorchNetwork

TENSORRT_PROVIDER = "TensorrtExecutionProvider"
"""ONNX Runtime's name for it."""

_BEST_PX, _LONGEST_PX = 512, 1024
_CUDA = "13"  # where PyTorch has none
_WORKSPACE_SHARE = 0.5


class TensorRT(OnnxRuntime):
    """TensorRT: one engine a network serves every tile, from the smallest that the network takes to `gpu_tile_px`.

    An engine fits one GPU, driver and version; it is built when the network first runs there, which takes from seconds to
    minutes. In half precision, TensorRT decides itself which layers to compute in it, and takes and returns float32.
    """

    name = "tensorrt"
    needs = ("onnx", "onnxruntime")
    title = "TensorRT"
    gpu_tile_px: ClassVar[int | None] = _LONGEST_PX

    @property
    def installation(self) -> str:
        return f"pip install onnx onnxruntime-gpu '{_package()}'"

    def is_installed(self) -> bool:
        return super().is_installed() and TENSORRT_PROVIDER in available_providers()

    def version(self) -> str:
        versions = (import_module(name).__version__ for name in ("tensorrt", "onnxruntime"))
        return " ".join(versions)

    def runs_on(self, device: torch.device) -> bool:
        return device.type == "cuda"

    def precisions_on(self, device: torch.device) -> Sequence[Precision]:  # noqa: ARG002
        return ("fp32", "fp16")

    def variant(self, precision: Precision, device: torch.device) -> str:
        gpu = torch.cuda.get_device_properties(device)
        return f"{precision} {gpu.name} {gpu.major}.{gpu.minor} {torch.version.cuda}"

    def compile(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> Run:
        import_module("tensorrt")  # loads the libraries that ONNX Runtime looks for
        run = super().compile(network, folder, precision, device)
        return lambda samples: torch.cat([run(one) for one in samples.split(1)])  # the engine takes one tile

    def list_providers(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> list[Provider]:
        engines = str(folder / "engines")
        options = {
            "device_id": str(device.index or 0),
            "trt_fp16_enable": str(precision == "fp16"),
            "trt_max_workspace_size": str(int((free_memory_bytes(device) or 0) * _WORKSPACE_SHARE)),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": engines,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(self.folder),
        }
        multiple = network.multiple_of
        smallest, longest = -(-network.minimum // multiple) * multiple, _LONGEST_PX // multiple * multiple
        for which, side in (("min", smallest), ("opt", min(_BEST_PX, longest)), ("max", longest)):
            options[f"trt_profile_{which}_shapes"] = f"{IMAGE}:1x{network.channels_in}x{side}x{side}"
        return [(TENSORRT_PROVIDER, options), *super().list_providers(network, folder, precision, device)]

    def _exported_in(self, precision: Precision, device: torch.device) -> Precision:  # noqa: ARG002
        return "fp32"


TENSORRT = TensorRT()


def _package() -> str:
    """The package for PyTorch's version of CUDA; ONNX Runtime is built for TensorRT 10 (1.31 too)."""
    return f"tensorrt-cu{(torch.version.cuda or _CUDA).split('.')[0]}<11"
