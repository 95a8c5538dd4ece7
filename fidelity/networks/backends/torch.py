"""Runs networks of any architecture that spandrel or this package supports, with PyTorch."""

import copy
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ...choices import Precision
from ...errors import ModelRefusedError
from ...imaging.color import rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from ...imaging.resample import resize
from ...imaging.tensors import is_finite
from ..memory import is_out_of_memory
from ..network import NonFiniteOutputError, RowStream, Sizes, describe_failure
from ..probe import NetworkProbe, find_reach
from .compact import COMPACT, SPANDREL, CompactDescriptor
from .streaming import ConvolutionStream

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

    Descriptor = ImageModelDescriptor[Any] | CompactDescriptor

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What PyTorch computes in."""

_COPIES, _ENGINES = "_fidelity_copies", "_fidelity_engines"
_LIVE_LAYERS = 2.0
"""The widest layer's input and output are in memory at once; skip connections and workspaces need as much again."""
_WORKSPACE = 1.3
"""What kernels need besides the values between layers: 1.06 to 1.4 of these (tools/benchmarks/planning.py)."""


class LumaAdapter(nn.Module):
    """Lets a grey network take RGB: the network processes luma, and chroma is resampled."""

    def __init__(self, network: nn.Module, scale: int) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        luma = self.network(rgb_to_luma(image))
        size = (image.shape[2] * self.scale, image.shape[3] * self.scale)
        chroma = resize(rgb_to_ycbcr(image)[:, 1:], size)
        return ycbcr_to_rgb(torch.cat((luma.to(chroma.dtype), chroma), dim=1))


class _Copies:
    """Private copies of one network, and its measurements. Stored on the descriptor, so that all its wrappers share them."""

    def __init__(self) -> None:
        self.turns = threading.Lock()
        """Held while a network runs that replaces its own tensors."""
        self.measured: list[NetworkProbe] = []
        """The result of the probe, empty before it has run; bound copies share it."""
        self.bound: WeakValueDictionary[tuple[str, Precision], TorchNetwork] = WeakValueDictionary()
        self.kept: TorchNetwork | None = None
        """The last copy on the CPU. GPU memory is scarcer: a copy there lives only while something uses it."""


class TorchNetwork:
    """A `Network` that PyTorch runs.

    The descriptor's module is never changed: `to` works on a private copy, because moving or casting the original would
    affect everything that shares it, such as the other nodes of a workflow.
    """

    backend = "torch"
    tile_px: int | None = None

    def __init__(self, name: str, descriptor: "Descriptor") -> None:
        """Wraps a loaded network.

        Args:
            name: See `Network.name`.
            descriptor: Spandrel's description of the network, or one like it, in evaluation mode. A `LumaAdapter` is
                removed, and the grey network inside is used directly.
        """
        self.name = name
        self._copies = _copies_of(descriptor)
        self.engines: dict[tuple[str, Precision, bool, str], Any] = vars(descriptor).setdefault(_ENGINES, {})
        """The same network as other backends run it, by backend, precision, whether PyTorch may take over, and device."""
        self.descriptor = _without_adapter(descriptor)
        self.device = torch.device("cpu")
        self.precision: Precision = "fp32"
        self._noise_sigma: float | None = None
        self._plain = self.descriptor  # without a noise level of its own
        self._is_private = False
        # GFPGAN has five-dimensional weights and takes images only in the contiguous format.
        flat = all(parameter.ndim <= 4 for parameter in self.descriptor.model.parameters())
        self._memory_format = torch.channels_last if flat else torch.contiguous_format

    @property
    def architecture(self) -> str:
        return self.descriptor.architecture.name

    @property
    def scale(self) -> int:
        return self.descriptor.scale

    @property
    def channels_in(self) -> int:
        return self.descriptor.input_channels

    @property
    def channels_out(self) -> int:
        return self.descriptor.output_channels

    @property
    def multiple_of(self) -> int:
        return self.descriptor.size_requirements.multiple_of

    @property
    def minimum(self) -> int:
        return max(1, self.descriptor.size_requirements.minimum)

    @property
    def sizes(self) -> Sizes:
        return "bounded" if self.minimum > 1 else "any"

    @property
    def reach_px(self) -> int | None:
        return self.probe.receptive_field_px

    @property
    def bytes_per_pixel(self) -> float:
        return self.probe.values_per_pixel * DTYPES[self.precision].itemsize * _LIVE_LAYERS

    @property
    def peak_bytes_per_pixel(self) -> float:
        return self.probe.alive_per_pixel * DTYPES[self.precision].itemsize * _WORKSPACE

    @property
    def probe(self) -> NetworkProbe:
        """Receptive field and widest layer, measured on first use."""
        if not self._copies.measured:
            try:
                self._copies.measured.append(probe_module(self.descriptor))
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                raise ModelRefusedError(describe_failure(self.name, error)) from error
        return self._copies.measured[0]

    @property
    def weight_bytes(self) -> int:
        return self.parameters * DTYPES[self.precision].itemsize

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.descriptor.model.parameters())

    @property
    def precisions(self) -> Sequence[Precision]:
        can: tuple[tuple[Precision, bool], ...] = (
            ("fp32", True),
            ("fp16", self.descriptor.supports_half),
            ("bf16", self.descriptor.supports_bfloat16),
        )
        return tuple(name for name, supported in can if supported)

    @property
    def adds_in_float32(self) -> bool:
        return self._is_chain

    @property
    def _is_chain(self) -> bool:
        return self.architecture == COMPACT and self.device.type == "cpu"

    def to(self, device: torch.device, precision: Precision) -> "TorchNetwork":
        if self._is_private and (self.device, self.precision) == (device, precision):
            return self
        key = (str(device), precision)
        bound = self._copies.bound.get(key)
        if bound is None:
            bound = TorchNetwork(self.name, _private_copy(self._plain, device, DTYPES[precision], self._memory_format))
            bound.device, bound.precision, bound._is_private = device, precision, True
            bound._copies.measured = self._copies.measured
            self._copies.bound[key] = bound
            if device.type == "cpu":
                self._copies.kept = bound
        return bound if self._noise_sigma is None else bound._at_noise(self._noise_sigma)

    def with_noise(self, sigma: float) -> "TorchNetwork":
        return self._at_noise(sigma) if self.takes_noise else self

    @property
    def takes_noise(self) -> bool:
        """Whether it takes the noise level as an input."""
        return getattr(self.descriptor.model, "takes_noise", False)

    def _at_noise(self, sigma: float) -> "TorchNetwork":
        """Returns a view of the same weights with its own noise level."""
        view = copy.copy(self)
        view._noise_sigma = sigma
        view.descriptor = copy.copy(self._plain)
        view.descriptor._call_fn = partial(_call_with_noise, sigma=sigma)
        return view

    @torch.inference_mode()
    def run(self, batch: Tensor) -> Tensor:
        if self._is_chain and self.precision != "fp32":
            result = ConvolutionStream(self.descriptor.model).feed(batch, is_last=True)
            assert result is not None  # all rows went in
            finite = is_finite(result)
            result.clamp_(0, 1)
        else:
            result, finite = self._call(batch)
        if not finite:
            raise NonFiniteOutputError(f"{self.name}: output is not finite in {self.precision}")
        return result

    def _call(self, batch: Tensor) -> tuple[Tensor, bool]:
        """Calls the descriptor; returns its result, and whether that was finite before it was clamped."""
        called = copy.copy(self.descriptor)
        finite = True

        def call(network: nn.Module, image: Tensor) -> Tensor:
            # The descriptor clamps the output, so infinity would pass for white.
            nonlocal finite
            output = self.descriptor._call_fn(network, image)
            finite = is_finite(output)
            return output

        called._call_fn = call
        with _exact_convolutions(self.device), self._turn():
            result = called(batch.to(DTYPES[self.precision]).contiguous(memory_format=self._memory_format))
        return result, finite

    def _turn(self) -> AbstractContextManager[object]:
        """The turn of this thread, of a network that replaces its own tensors."""
        measured = self._copies.measured
        return self._copies.turns if measured and measured[0].replaces_tensors else nullcontext()

    def stream(self) -> RowStream | None:
        return ConvolutionStream(self.descriptor.model) if self._is_chain else None


@torch.inference_mode()
def probe_module(descriptor: "Descriptor") -> NetworkProbe:
    """Measures the receptive field of a network, its widest layer and its memory, by running it on a strip.

    Args:
        descriptor: The network, on any device, in any precision.
    """
    widest = most_alive = 0
    seen: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def record(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal widest, most_alive
        tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
        widest = max(widest, sum(tensor.numel() for tensor in tensors))
        seen.update({id(tensor): tensor for tensor in tensors})
        storages = ((tensor.untyped_storage(), tensor.element_size()) for tensor in seen.values())
        alive = {storage.data_ptr(): storage.nbytes() // size for storage, size in storages}
        most_alive = max(most_alive, sum(alive.values()))

    replaced: set[bool] = set()

    def run(strip: Tensor) -> Tensor:
        parameter, before = next(descriptor.model.parameters()), _places_of(descriptor.model)
        made = descriptor(strip.to(parameter.device, parameter.dtype))
        replaced.add(_places_of(descriptor.model) != before)
        return made

    leaves: list[nn.Module] = [module for module in descriptor.model.modules() if not list(module.children())]
    # Attention windows lie on a grid: tiles that start off it see other windows, however small the receptive field.
    attends = any(isinstance(leaf, nn.Linear) for leaf in leaves)
    hooks = [module.register_forward_hook(record) for module in leaves]
    try:
        found = find_reach(run, descriptor.input_channels, descriptor.scale, descriptor.size_requirements.minimum, attends)
    finally:
        for hook in hooks:
            hook.remove()
    return NetworkProbe(found.reach_px, widest / found.pixels, most_alive / found.pixels, any(replaced))


def _places_of(network: nn.Module) -> list[tuple[str, int]]:
    """Where all tensors are that a network holds, as parameters, as buffers or otherwise."""
    return [
        (key, value.untyped_storage().data_ptr())
        for module in network.modules()
        for held in (vars(module), module._parameters, module._buffers)
        for key, value in held.items()
        if isinstance(value, Tensor)
    ]


def _copies_of(descriptor: "Descriptor") -> _Copies:
    return vars(descriptor).setdefault(_COPIES, _Copies())


def _call_with_noise(network: nn.Module, image: Tensor, sigma: float) -> Tensor:
    return network(image, sigma)


def _without_adapter(descriptor: "Descriptor") -> "Descriptor":
    if not isinstance(descriptor.model, LumaAdapter):
        return descriptor
    inner = copy.copy(descriptor)
    inner._model = descriptor.model.network  # spandrel offers no public way to swap the module
    inner.input_channels = inner.output_channels = 1
    return inner


def _private_copy(
    descriptor: "Descriptor", device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> "Descriptor":
    copied = copy.copy(descriptor)
    for own in (_COPIES, _ENGINES, SPANDREL, "patcher"):  # they are of the original module, and must not outlive it here
        vars(copied).pop(own, None)
    network: nn.Module = copy.deepcopy(descriptor.model).to(device=device, dtype=dtype)
    if memory_format == torch.channels_last:
        network = network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
    copied._model = network.eval().requires_grad_(False)
    return copied


@contextmanager
def _exact_convolutions(device: torch.device) -> Generator[None, None, None]:
    """Lets cuDNN pick the fastest convolutions, since all tiles have the same size, and keeps float32 exact (no TF32).

    PyTorch has an old and a new switch for TF32 and raises if a process uses both. The new one is used where it exists, and
    its previous setting is restored afterwards.
    """
    if device.type != "cuda":
        yield
        return
    cudnn: Any = torch.backends.cudnn
    switch, name, off = (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    before, benchmark = getattr(switch, name), cudnn.benchmark
    setattr(switch, name, off)
    cudnn.benchmark = True
    try:
        yield
    finally:
        setattr(switch, name, before)
        cudnn.benchmark = benchmark
