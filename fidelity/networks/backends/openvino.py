"""Runs networks with OpenVINO on the CPU: converted once, stored, and checked against PyTorch before they are used."""

import hashlib
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
from ..measurements import cache_folder
from ..network import Network, NonFiniteOutputError, Sizes
from .torch import TorchNetwork

_TRACED_PX = 64
_CHECKED_STEP_PX = 8
_TOLERANCE: dict[Precision, float] = {"fp32": 2e-3, "bf16": 8e-2, "fp16": 8e-2}
_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVINONetwork:
    """A `Network` that OpenVINO runs on the CPU; on other devices PyTorch runs it.

    One request at a time: OpenVINO uses all processors for each.
    """

    cpu_tile_px: int | None = 512
    adds_in_float32 = False

    def __init__(self, network: TorchNetwork, precision: Precision = "fp32", may_fall_back: bool = False) -> None:
        """Wraps a network; it is converted when it first runs.

        Args:
            network: The network as loaded.
            precision: Precision to compute in.
            may_fall_back: Whether PyTorch runs it if OpenVINO cannot.
        """
        self._may_fall_back = may_fall_back
        self._fallback: TorchNetwork | None = None
        self._torch = network
        self.device = torch.device("cpu")
        self.precision: Precision = precision
        self._lock = threading.Lock()
        self._compiled: Any = None

    @property
    def backend(self) -> str:
        return self._fallback.backend if self._fallback else "openvino"

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
        return self if precision == self.precision else as_openvino(self._torch, precision, self._may_fall_back)

    def with_noise(self, sigma: float) -> Network:
        return self._torch.with_noise(sigma)  # the level is not part of the converted network

    def stream(self) -> None:
        return None

    def run(self, batch: Tensor) -> Tensor:
        with self._lock:
            if self._compiled is None and self._fallback is None:
                self._prepare()
        if self._fallback:
            return self._fallback.run(batch)
        samples = _pad(batch.detach().to("cpu", torch.float32), self.multiple_of, self.minimum)
        with self._lock:
            result = _infer(self._compiled, samples)
        if not is_finite(result):
            raise NonFiniteOutputError(f"{self.name}: output is not finite in {self.precision}")
        height, width = (side * self.scale for side in batch.shape[2:])
        return result[..., :height, :width].clamp_(0, 1)

    def _prepare(self) -> None:
        """Compiles the network, or has PyTorch run it from now on."""
        try:
            self._compiled = _compile(self._torch, self.precision)
        except ModelRefusedError:
            if not self._may_fall_back:
                raise
            self._fallback = self._torch.to(self.device, self.precision)


def is_installed() -> bool:
    """Whether OpenVINO can be used."""
    return find_spec("openvino") is not None


def as_openvino(network: TorchNetwork, precision: Precision = "fp32", may_fall_back: bool = False) -> OpenVINONetwork:
    """Returns a network that OpenVINO runs; the same one for the same weights, precision and fallback.

    Raises:
        ModelRefusedError: If OpenVINO is not installed.
    """
    if not is_installed():
        raise ModelRefusedError("backend openvino: OpenVINO is not installed; pip install 'fidelity-upscale[openvino]'")
    made: dict[tuple[Precision, bool], OpenVINONetwork] = vars(network.descriptor).setdefault("_fidelity_openvino", {})
    key = precision, may_fall_back
    if key not in made:
        made[key] = OpenVINONetwork(network, precision, may_fall_back)
    return made[key]


def engine_folder() -> Path:
    """The folder that converted networks are stored in."""
    return cache_folder() / "openvino"


@torch.inference_mode()
def _compile(network: TorchNetwork, precision: Precision) -> Any:
    """Compiles a network, from the stored conversion if there is one that gives what PyTorch gives."""
    if getattr(network.descriptor.size_requirements, "square", False):
        raise ModelRefusedError(f"{network.name}: takes square images only; wanted --backend torch")
    try:
        import openvino

        core, folder = openvino.Core(), engine_folder() / _key(network)
    except (ImportError, RuntimeError) as error:
        raise ModelRefusedError(f"OpenVINO cannot be used ({_reason(error)}); wanted --backend torch") from error
    options = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
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
        raise ModelRefusedError(f"{network.name}: OpenVINO cannot run it ({_reason(error)}); wanted --backend torch") from error
    if off > _TOLERANCE[precision]:
        raise ModelRefusedError(
            f"{network.name}: OpenVINO's output differs by {off:.4f}, wanted at most {_TOLERANCE[precision]:g}; "
            f"wanted --backend torch"
        )
    _store(model, folder)
    return compiled


def _reason(error: Exception) -> str:
    """The start of a message of OpenVINO's, which may have many lines."""
    return " ".join(str(error).split())[:160]


def _convert(network: TorchNetwork) -> Any:
    import openvino

    side = _traced_side(network)
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
            whole = Path(scratch) / "whole"
            whole.mkdir()
            openvino.save_model(model, whole / "network.xml", compress_to_fp16=False)
            whole.rename(folder)
    except (OSError, RuntimeError):
        return  # a full disk, or another process was faster: what it stored is as good


def _key(network: TorchNetwork) -> str:
    """A name for a network's conversion: its weights, its architecture and OpenVINO's version."""
    digest = hashlib.sha256(f"{network.architecture} {network.scale} {version('openvino')}".encode())
    for name, values in network.descriptor.model.state_dict().items():
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _difference(network: TorchNetwork, compiled: Any) -> float:
    """The largest difference from PyTorch's output on a random image of another size than the traced one.

    So sizes that were traced as constants are found out.
    """
    generator = torch.Generator().manual_seed(0)
    step = max(_CHECKED_STEP_PX, network.multiple_of)
    side = _traced_side(network)
    image = torch.rand((1, network.channels_in, side + 2 * step, side + step), generator=generator)
    exact = network.to(torch.device("cpu"), "fp32").run(image)
    return (_infer(compiled, image).clamp(0, 1) - exact).abs().max().item()


def _traced_side(network: TorchNetwork) -> int:
    return -(-max(_TRACED_PX, network.minimum) // network.multiple_of) * network.multiple_of


def _infer(compiled: Any, samples: Tensor) -> Tensor:
    return torch.from_numpy(next(iter(compiled(samples.contiguous().numpy()).values())).copy())


def _pad(image: Tensor, multiple: int, minimum: int) -> Tensor:
    """Pads sides to the network's grid, repeating the border."""
    sides = [-(-max(side, minimum) // multiple) * multiple for side in image.shape[2:]]
    missing = sides[1] - image.shape[3], sides[0] - image.shape[2]
    return torch.nn.functional.pad(image, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else image
