"""Runs networks with OpenVINO on the CPU: converted once, stored, and checked against PyTorch before they are used."""

import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...choices import Precision
from ...errors import ModelRefusedError
from ...imaging.tensors import is_finite
from ..network import Network, NonFiniteOutputError, Sizes
from .torch import TorchNetwork

_TRACED_PX = 64
_CHECKED_PX = (80, 72)
"""Another size than the traced one, so that sizes that were traced as constants are found out."""
_TOLERANCE: dict[Precision, float] = {"fp32": 2e-3, "bf16": 8e-2, "fp16": 8e-2}
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINONetwork:
    """A `Network` that OpenVINO runs on the CPU; on other devices PyTorch runs it.

    One request at a time: OpenVINO uses all processors for each.
    """

    backend = "openvino"
    cpu_tile_px: int | None = 512
    adds_in_float32 = False

    def __init__(self, network: TorchNetwork, precision: Precision = "fp32") -> None:
        """Wraps a network; it is converted when it first runs.

        Args:
            network: The network as loaded.
            precision: Precision to compute in.
        """
        self._torch = network
        self.device = torch.device("cpu")
        self.precision: Precision = precision
        self._lock = threading.Lock()
        self._compiled: Any = None

    @property
    def name(self) -> str:
        return self._torch.name

    @property
    def architecture(self) -> str:
        return self._torch.architecture

    @property
    def scale(self) -> int:
        return self._torch.scale

    @property
    def channels_in(self) -> int:
        return self._torch.channels_in

    @property
    def channels_out(self) -> int:
        return self._torch.channels_out

    @property
    def multiple_of(self) -> int:
        return self._torch.multiple_of

    @property
    def minimum(self) -> int:
        return self._torch.minimum

    @property
    def sizes(self) -> Sizes:
        return self._torch.sizes

    @property
    def reach_px(self) -> int | None:
        return self._torch.reach_px

    @property
    def bytes_per_pixel(self) -> float:
        return self._torch.bytes_per_pixel

    @property
    def weight_bytes(self) -> int:
        return 2 * self._torch.weight_bytes

    @property
    def parameters(self) -> int:
        return self._torch.parameters

    @property
    def precisions(self) -> Sequence[Precision]:
        return self._torch.precisions

    def to(self, device: torch.device, precision: Precision) -> Network:
        if device.type != "cpu":
            return self._torch.to(device, precision)
        return self if precision == self.precision else as_openvino(self._torch, precision)

    def with_noise(self, sigma: float) -> Network:
        return self._torch.with_noise(sigma)  # the level is not part of the converted network

    def stream(self) -> None:
        return None

    def run(self, batch: Tensor) -> Tensor:
        samples = _pad(batch.detach().to("cpu", torch.float32), self.multiple_of, self.minimum)
        with self._lock:
            if self._compiled is None:
                self._compiled = _compile(self._torch, self.precision)
            result = _infer(self._compiled, samples)
        if not is_finite(result):
            raise NonFiniteOutputError(f"{self.name}: output is not finite in {self.precision}")
        height, width = (side * self.scale for side in batch.shape[2:])
        return result[..., :height, :width].clamp_(0, 1)


def is_installed() -> bool:
    """Whether OpenVINO can be used."""
    return find_spec("openvino") is not None


def as_openvino(network: TorchNetwork, precision: Precision = "fp32") -> OpenVINONetwork:
    """Returns a network that OpenVINO runs; the same one for the same weights and precision.

    Raises:
        ModelRefusedError: If OpenVINO is not installed.
    """
    if not is_installed():
        raise ModelRefusedError("backend openvino: OpenVINO is not installed; pip install 'fidelity-upscale[openvino]'")
    made: dict[Precision, OpenVINONetwork] = vars(network.descriptor).setdefault("_fidelity_openvino", {})
    if precision not in made:
        made[precision] = OpenVINONetwork(network, precision)
    return made[precision]


def engine_folder() -> Path:
    """The folder that converted networks are stored in."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "fidelity-upscale" / "openvino"


@torch.inference_mode()
def _compile(network: TorchNetwork, precision: Precision) -> Any:
    """Compiles a network, from the stored conversion if there is one that gives what PyTorch gives."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
    folder = engine_folder() / _key(network)
    stored = folder / "network.xml"
    if stored.exists():
        try:
            compiled = core.compile_model(core.read_model(stored), "CPU", options)
            if _difference(network, compiled) <= _TOLERANCE[precision]:
                return compiled
        except (RuntimeError, OSError):
            pass  # damaged, or of another version: converted anew
        shutil.rmtree(folder, ignore_errors=True)
    try:
        model = _convert(network)
        compiled = core.compile_model(model, "CPU", options)
        off = _difference(network, compiled)
    except Exception as error:  # the converter raises whatever the operation it meets makes it raise
        reason = " ".join(str(error).split())[:160]
        raise ModelRefusedError(f"{network.name}: OpenVINO cannot run it ({reason}); wanted --backend torch") from error
    if off > _TOLERANCE[precision]:
        raise ModelRefusedError(
            f"{network.name}: OpenVINO's output differs by {off:.4f}, wanted at most {_TOLERANCE[precision]:g}; "
            f"wanted --backend torch"
        )
    _store(model, folder)
    return compiled


def _convert(network: TorchNetwork) -> Any:
    import openvino

    side = -(-max(_TRACED_PX, network.minimum) // network.multiple_of) * network.multiple_of
    sample = torch.rand(1, network.channels_in, side, side)
    module = network.to(torch.device("cpu"), "fp32").descriptor.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of sizes that become constants; the check at another size finds those
        return openvino.convert_model(module, example_input=sample)


def _store(model: Any, folder: Path) -> None:
    """Stores a conversion, whole or not at all; one that cannot be stored is made again next time."""
    import openvino

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as scratch:
            openvino.save_model(model, Path(scratch) / "network.xml", compress_to_fp16=False)
            shutil.copytree(scratch, folder)
    except (OSError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)


def _key(network: TorchNetwork) -> str:
    """A name for a network's conversion: its weights, its architecture and OpenVINO's version."""
    digest = hashlib.sha256(f"{network.architecture} {network.scale} {version('openvino')}".encode())
    for name, values in network.descriptor.model.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _difference(network: TorchNetwork, compiled: Any) -> float:
    """The largest difference from PyTorch's output on a random image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, network.channels_in, *_CHECKED_PX), generator=generator)
    padded = _pad(image, network.multiple_of, network.minimum)
    exact = network.to(torch.device("cpu"), "fp32").run(padded)
    return (_infer(compiled, padded).clamp(0, 1) - exact).abs().max().item()


def _infer(compiled: Any, samples: Tensor) -> Tensor:
    return torch.from_numpy(next(iter(compiled(samples.contiguous().numpy()).values())).copy())


def _pad(image: Tensor, multiple: int, minimum: int) -> Tensor:
    """Pads sides to the network's grid, repeating the border."""
    sides = [-(-max(side, minimum) // multiple) * multiple for side in image.shape[2:]]
    missing = sides[1] - image.shape[3], sides[0] - image.shape[2]
    return torch.nn.functional.pad(image, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else image
