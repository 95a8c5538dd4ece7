"""Runs a PyTorch network with another library: converted once, stored, and checked against PyTorch before it is used."""

import hashlib
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...choices import BackendChoice, Precision
from ...errors import ModelRefusedError
from ...imaging.resample import resize
from ...imaging.tensors import is_finite
from ..calibration import calibration_images
from ..measurements import cache_folder
from ..memory import is_out_of_memory
from ..network import Network, NonFiniteOutputError, Sizes
from .torch import TorchNetwork

Run = Callable[[Tensor], Tensor]
"""Runs a compiled network on ``(B, channels_in, H, W)`` in [0, 1], float32, contiguous and on its device; the result, on the
same device, is not clamped."""

_CPU = torch.device("cpu")
_CPU_TILE_PX = 512
_TRACED_PX = 64
_CHECKED_STEP_PX = 8
_HALF: Sequence[Precision] = ("bf16", "fp16")
_TOLERANCE: dict[Precision, float] = {"fp32": 2e-3, "bf16": 8e-2, "fp16": 8e-2, "int8": 5e-2}
"""Of the largest difference on noise; in int8, of the root mean square on a generated image."""


class Engine(ABC):
    """A library that runs networks converted from PyTorch."""

    name: ClassVar[BackendChoice]
    """Its name as a choice, which is also that of its Python module."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Other Python modules that conversion needs."""
    title: ClassVar[str]
    """Its name in messages."""
    gpu_tile_px: ClassVar[int | None] = None
    """The longest side of a tile that it takes on a GPU, in input pixels."""

    @property
    def installation(self) -> str:
        """The command that installs it."""
        return f"pip install {' '.join((*self.needs, self.name))}"

    @property
    def folder(self) -> Path:
        """The folder that converted networks are stored in."""
        return cache_folder() / self.name

    def is_installed(self) -> bool:
        """Whether it can be used."""
        return all(find_spec(module) for module in (self.name, *self.needs))

    def runs_on(self, device: torch.device) -> bool:
        """Whether it computes on a device; else PyTorch does."""
        return device.type == "cpu"

    @abstractmethod
    def precisions_on(self, device: torch.device) -> Sequence[Precision]:
        """Precisions that it can compute in on a device."""

    def check_installed(self) -> None:
        """Refuses to go on without the library.

        Raises:
            ModelRefusedError: If it is not installed.
        """
        if not self.is_installed():
            raise ModelRefusedError(f"backend {self.name}: {self.title} is not installed; {self.installation}")

    @abstractmethod
    def convert(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> None:
        """Converts a network and writes it to a folder.

        Args:
            network: The network.
            folder: Where to write it.
            precision: What it will compute in.
            device: Where it will run.

        Raises:
            ModelRefusedError: If something that conversion to this precision needs is not installed.
        """

    def adds_in_float32(self, network: TorchNetwork) -> bool:  # noqa: ARG002
        """See `fidelity.networks.network.Network.adds_in_float32`."""
        return False

    def version(self) -> str:
        """The library's version."""
        library: Any = import_module(self.name)
        return library.__version__

    def variant(self, precision: Precision, device: torch.device) -> str:  # noqa: ARG002
        """What tells a conversion from others of the same network: by default, whether it is in int8."""
        return "int8" if precision == "int8" else ""

    @abstractmethod
    def compile(self, network: TorchNetwork, folder: Path, precision: Precision, device: torch.device) -> Run:
        """Compiles what `convert` wrote of a network."""

    def wrap(
        self, network: TorchNetwork, precision: Precision = "fp32", may_fall_back: bool = False, device: torch.device = _CPU
    ) -> "ConvertedNetwork":
        """Returns a network that this library runs; the same one for the same weights, precision, fallback and device.

        Raises:
            ModelRefusedError: If it is not installed.
        """
        self.check_installed()
        key = self.name, precision, may_fall_back, str(device)
        return network.engines.setdefault(key, ConvertedNetwork(self, network, precision, may_fall_back, device))

    @torch.inference_mode()
    def prepare(self, network: TorchNetwork, precision: Precision, device: torch.device = _CPU) -> Run:
        """Compiles a network, from the stored conversion if there is one that gives what PyTorch gives.

        Raises:
            ModelRefusedError: If it cannot be run, or its output is off.
        """
        if getattr(network.descriptor.size_requirements, "square", False):
            raise ModelRefusedError(f"{network.name}: takes square images only; wanted --backend torch")
        try:
            stored = self.folder / self._key(network, precision, device)
            run, off = self._try_stored(network, stored, precision, device)
            if run is None:
                run, off = self._convert_anew(network, stored, precision, device)
        except ModelRefusedError:
            raise
        except Exception as error:  # a library raises whatever the operation that it meets makes it raise
            reason = " ".join(str(error).split())[:160]
            refusal = f"{network.name}: {self.title} cannot run it ({reason}); wanted --backend torch"
            raise ModelRefusedError(refusal) from error
        if not off <= _TOLERANCE[precision]:  # NaN is off too
            raise ModelRefusedError(
                f"{network.name}: {self.title}'s output differs by {off:.4f}, wanted at most {_TOLERANCE[precision]:g}; "
                f"wanted --backend torch"
            )
        return run

    def _try_stored(
        self, network: TorchNetwork, stored: Path, precision: Precision, device: torch.device
    ) -> tuple[Run | None, float]:
        """Compiles the stored conversion, and measures it; removes it if it is damaged, or of other weights."""
        if not stored.exists():
            return None, 0.0
        with suppress(Exception):  # a damaged one is made anew
            run = self.compile(network, stored, precision, device)
            off = difference(network, run, precision, device)
            if off <= _TOLERANCE[precision]:
                return run, off
            if precision in _HALF and not self.variant(precision, device):
                exact = self.compile(network, stored, "fp32", device)
                if difference(network, exact, "fp32", device) <= _TOLERANCE["fp32"]:
                    return run, off  # the conversion is right, only too coarse in this precision
        shutil.rmtree(stored, ignore_errors=True)
        return None, 0.0

    def _convert_anew(
        self, network: TorchNetwork, stored: Path, precision: Precision, device: torch.device
    ) -> tuple[Run, float]:
        """Converts a network, stores it, whole or not at all, compiles it and measures it."""
        with self._scratch() as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            self.convert(network, whole, precision, device)
            with suppress(OSError):  # a full disk, or another process was faster: what it stored is as good
                whole.rename(stored)  # before it is compiled, since a library may keep files open
            run = self.compile(network, stored if stored.exists() else whole, precision, device)
            off = difference(network, run, precision, device)
        if precision not in _HALF and not off <= _TOLERANCE[precision]:
            shutil.rmtree(stored, ignore_errors=True)
        return run, off

    def _scratch(self) -> AbstractContextManager[str]:
        """A temporary folder beside the stored conversions, or anywhere if nothing can be stored there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-", ignore_cleanup_errors=True)
        except OSError:
            return tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def _key(self, network: TorchNetwork, precision: Precision, device: torch.device) -> str:
        """A name for a network's conversion: its weights, its architecture, the library's version and the variant."""
        part = " change" if self.adds_in_float32(network) else ""
        kind = f"{network.architecture} {network.scale} {self.version()} {self.variant(precision, device)}{part}"
        digest = hashlib.sha256(kind.strip().encode())
        for name, values in network.descriptor.model.state_dict().items():
            digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:32]


class ConvertedNetwork:
    """A `Network` that another library runs; on devices that are not the library's, PyTorch runs it.

    One request at a time: each uses all processors, or the whole GPU.
    """

    def __init__(
        self,
        engine: Engine,
        network: TorchNetwork,
        precision: Precision = "fp32",
        may_fall_back: bool = False,
        device: torch.device = _CPU,
    ) -> None:
        """Wraps a network; it is converted when it first runs.

        Args:
            engine: The library.
            network: The network as loaded.
            precision: Precision to compute in.
            may_fall_back: Whether PyTorch runs it if the library cannot.
            device: Where it runs.
        """
        self._engine = engine
        self._may_fall_back = may_fall_back
        self._fallback: TorchNetwork | None = None
        self._torch = network
        self.device = device
        self.precision: Precision = precision
        self.tile_px: int | None = _CPU_TILE_PX if device.type == "cpu" else engine.gpu_tile_px
        self._lock = threading.Lock()
        self._run: Run | None = None

    @property
    def backend(self) -> str:
        return self._fallback.backend if self._fallback else self._engine.name

    @property
    def adds_in_float32(self) -> bool:
        return self._engine.adds_in_float32(self._torch)

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
    def peak_bytes_per_pixel(self) -> float:
        return self._torch.peak_bytes_per_pixel

    @property
    def weight_bytes(self) -> int:
        return 2 * self._torch.weight_bytes

    @property
    def parameters(self) -> int:
        return self._torch.parameters

    @property
    def precisions(self) -> Sequence[Precision]:
        return [one for one in self._engine.precisions_on(self.device) if one in ("int8", *self._torch.precisions)]

    def to(self, device: torch.device, precision: Precision) -> Network:
        if not self._engine.runs_on(device):
            return self._torch.to(device, precision)
        if (device, precision) == (self.device, self.precision):
            return self
        return self._engine.wrap(self._torch, precision, self._may_fall_back, device)

    def with_noise(self, sigma: float) -> Network:
        return self._torch.with_noise(sigma)  # the level is not part of the converted network

    def stream(self) -> None:
        return None

    def run(self, batch: Tensor) -> Tensor:
        with self._lock:
            if self._run is None and self._fallback is None:
                self._prepare()
        if self._fallback:
            return self._fallback.run(batch)
        assert self._run
        samples = pad_to_grid(batch.detach().to(self.device, torch.float32), self.multiple_of, self.minimum)
        try:
            with self._lock:
                result = self._run(samples.contiguous())
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            if not self._may_fall_back:  # a conversion that follows one size, as with windows of attention
                height, width = batch.shape[2:]
                raise ModelRefusedError(
                    f"{self.name}: {self._engine.title} cannot run it on {width}x{height} px; wanted --backend auto or torch"
                ) from error
            self._fallback = self._torch.to(self.device, self.precision)
            return self._fallback.run(batch)
        if not is_finite(result):
            raise NonFiniteOutputError(f"{self.name}: output is not finite in {self.precision}")
        height, width = (side * self.scale for side in batch.shape[2:])
        return result[..., :height, :width].clamp_(0, 1)

    def _prepare(self) -> None:
        """Compiles the network, or has PyTorch run it from now on."""
        try:
            self._run = self._engine.prepare(self._torch, self.precision, self.device)
        except ModelRefusedError:
            if not self._may_fall_back:
                raise
            self._fallback = self._torch.to(self.device, self.precision)


def sample_for(network: TorchNetwork) -> Tensor:
    """A random image to trace a network with."""
    side = _traced_side(network)
    return torch.rand(1, network.channels_in, side, side)


def difference(network: TorchNetwork, run: Run, precision: Precision, device: torch.device = _CPU) -> float:
    """How far a network's output is from PyTorch's on an image of another size than the traced one.

    So sizes that were traced as constants are found out. It is the largest difference on noise, except in int8: there single
    pixels may be off, and noise is not what the network was quantized for, so the root mean square on a generated image.
    """
    generator = torch.Generator().manual_seed(0)
    step = max(_CHECKED_STEP_PX, network.multiple_of)
    side = _traced_side(network)
    size = side + 2 * step, side + step
    image = torch.rand((1, network.channels_in, *size), generator=generator)
    if precision == "int8":
        image = resize(calibration_images(network.channels_in, count=1)[0], size).clamp(0, 1)
    exact = network.to(_CPU, "fp32").run(image)
    off = run(image.to(device).contiguous()).cpu().clamp(0, 1) - exact
    return (off.square().mean().sqrt() if precision == "int8" else off.abs().max()).item()


def _traced_side(network: TorchNetwork) -> int:
    return -(-max(_TRACED_PX, network.minimum) // network.multiple_of) * network.multiple_of


def pad_to_grid(image: Tensor, multiple: int, minimum: int) -> Tensor:
    """Pads sides to the network's grid, repeating the border."""
    sides = [-(-max(side, minimum) // multiple) * multiple for side in image.shape[2:]]
    missing = sides[1] - image.shape[3], sides[0] - image.shape[2]
    return torch.nn.functional.pad(image, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else image
