"""Running a network over an image of any size: tiles, batches, precision, and what to do when memory runs out."""

import copy
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

from ..imaging.color import rgb_to_luma
from ..imaging.tensors import empty_image, is_finite
from ..imaging.tiling import Tile, choose_window, fade_weights, plan_tiles, split_tile
from ..progress import Progress
from .backends.streaming import ConvolutionStream
from .device import PRECISION_NAMES, Precision, choose_dtype
from .loader import LumaAdapter, Model
from .memory import free_memory_bytes, is_out_of_memory
from .probe import NetworkProbe, probe_network

BLEND_CONTEXT_PX = 16
"""Context of a tile whose network reaches further than is paid for."""
BLEND_FADE_PX = 16
"""Width of the blend between such tiles."""
CPU_TENSOR_BYTES = 30 * 2**20
"""Largest tensor between two layers on a CPU. Past 32 MiB the C library maps fresh pages for every one and
time goes into clearing them: a network took 1.5 times as long (tools/benchmarks/speed.py)."""
CPU_TWICE_SHARE = 1.2
"""What may be computed on a CPU for each pixel of the image, context included: where small tiles cost more than that, because
a network sees far, larger ones are taken (tools/benchmarks/architectures.py: small tiles took
2.6 times as long with ESRGAN)."""
MAX_TILE_PIXELS = 1024 * 1024
"""On a GPU what memory allows beyond this goes into a batch of tiles."""
ROOM_TILE_PX = 512
"""Tile that room is asked for beforehand; with less, tiles get smaller, with more, larger."""
MIN_TILE_PX = 32
"""The smallest tile a user may ask for."""

_GPU_SHARE = 0.6
_LIVE_LAYERS = 2.0  # the widest layer's inputs and outputs, and as much again for skips and workspaces


class ModelOutputError(RuntimeError):
    """A network gave numbers that are not finite, in full precision too."""


class OutOfMemoryError(RuntimeError):
    """Memory ran out with the smallest tile as well."""


@dataclass(frozen=True)
class RunReport:
    """How a network was run."""

    precision: str
    """fp32, bf16 or fp16: what the last tile was computed in."""
    tile_px: tuple[int, int]
    """(height, width) of the smallest tiles, context included."""
    tiles: int
    """Number of tiles computed."""
    seamless: bool
    """Whether the context covered the receptive field, so that tiling changed nothing."""


def estimate_memory(descriptor: ImageModelDescriptor[nn.Module], size: tuple[int, int], dtype: torch.dtype) -> int:
    """Bytes that a network should find free: enough for a tile of `ROOM_TILE_PX`, or the image if that is smaller.

    Args:
        descriptor: The network.
        size: (height, width) of the image.
        dtype: What it will run in.
    """
    pixels = min(size[0], ROOM_TILE_PX) * min(size[1], ROOM_TILE_PX)
    return _tile_bytes(probe_network(descriptor), pixels, dtype)


def _tile_bytes(probe: NetworkProbe, pixels: int, dtype: torch.dtype) -> int:
    return int(pixels * probe.values_per_pixel * dtype.itemsize * _LIVE_LAYERS)


class Runner:
    """One network, ready to run on one device in one precision.

    It works on a private copy of the network, because casting or reordering the caller's own would
    change it for everyone who shares it.
    """

    def __init__(
        self, model: Model, device: torch.device, precision: Precision = "auto", output: Literal["image", "luma"] = "image"
    ) -> None:
        """Copies the network to `device`.

        Args:
            model: The network; with output "luma" an RGB network is fed grey and its luma is taken.
            device: Where to run it.
            precision: See `choose_dtype`.
            output: "image" takes and gives RGB; "luma" takes and gives one channel.
        """
        self.model = model
        self.device = device
        self.output = output
        self._finite = True
        self._source = _grey_network(model.descriptor) if output == "luma" else model.descriptor
        self._dtype = choose_dtype(self._source, device, precision)
        self.probe: NetworkProbe = probe_network(self._source)
        self._descriptor = self._copy(self._dtype)

    @property
    def scale(self) -> int:
        """Enlargement factor."""
        return self.model.scale

    @property
    def multiple(self) -> int:
        return self._source.size_requirements.multiple_of

    def tile_bytes(self, height: int, width: int) -> int:
        """What one tile of this size takes while it is computed."""
        return _tile_bytes(self.probe, height * width, self._dtype)

    def recommend(self, size: tuple[int, int]) -> tuple[tuple[int, int] | None, int]:
        """How an image would be run: the (height, width) of tiles, None where rows are streamed instead, and how many at once.

        Args:
            size: (height, width) of the image.
        """
        if self.device.type == "cpu" and ConvolutionStream.of(self._descriptor):
            return None, 1
        context, fade = self._overlap()
        window = self._window(size, None, context, fade)
        return window, self._batch(plan_tiles(size, window, context, fade, self.multiple)[0])

    def run(
        self, image: Tensor, out: Tensor | None = None, tile: int | None = None, progress: Progress | None = None
    ) -> tuple[Tensor, RunReport]:
        """Runs the network over a whole image.

        Args:
            image: ``(B, C, H, W)`` in [0, 1], on any device; C is 1 with output "luma", else 3.
            out: Where to put the result, ``(B, C, scale·H, scale·W)``; allocated like `image` if not given.
            tile: Side of a tile in pixels of the source, context included; by memory if not given.
            progress: Called after every batch of tiles.

        Returns:
            The result, on the device of `image`, and how it came about.

        Raises:
            ModelOutputError: If the network's output is not finite in float32 either.
            OutOfMemoryError: If memory runs out with the smallest tiles.
            ValueError: If the tile is too small.
        """
        size = (image.shape[2], image.shape[3])
        if out is None:
            out = empty_image(image, image.shape[1], size[0] * self.scale, size[1] * self.scale)
        stream = ConvolutionStream.of(self._descriptor) if tile is None and self.device.type == "cpu" else None
        if stream:
            return out, self._run_stream(stream, image, out, progress)
        context, fade = self._overlap()
        window = self._window(size, tile, context, fade)
        tiles = plan_tiles(size, window, context, fade, self.multiple)
        pending = deque((index, part) for index in range(image.shape[0]) for part in tiles)
        if fade:
            out.zero_()
        batch, done, smallest = self._batch(pending[0][1]), 0, pending[0][1].window_size
        while pending:
            jobs = _take_alike(pending, batch)
            result, unfit = None, False
            try:
                result = self._compute(image, jobs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    if self._dtype == torch.float32:
                        raise
                    unfit = True  # SwinIR, for one, adds float32 masks to what it computes, whatever it is said to support
            if unfit:
                self._fall_back()
                pending.extendleft(reversed(jobs))
                continue
            if result is None:  # outside the handler, so that the failed tensors are free again
                self._release()
                pending.extendleft(reversed(jobs))
                if len(jobs) > 1:
                    batch = len(jobs) // 2
                    continue
                pending = self._halve(pending, size, context, fade)
                smallest = pending[0][1].window_size
                continue
            for (index, part), values in zip(jobs, result, strict=True):
                self._place(out[index], part, values)
            done += len(jobs)
            if progress:
                progress(done, done + len(pending))
        seamless = fade == 0 or done == image.shape[0]
        return out, RunReport(PRECISION_NAMES[self._dtype], smallest, done, seamless)

    @torch.inference_mode()
    def _run_stream(self, stream: ConvolutionStream, image: Tensor, out: Tensor, progress: Progress | None) -> RunReport:
        batch, _, height, width = image.shape
        total, strips = batch * height * self.scale, 0
        for index in range(batch):
            for rows, values in stream.run(image[index : index + 1], self._prepare):
                if not is_finite(values):
                    self._fall_back()
                    return self.run(image, out, progress=progress)[1]
                out[index : index + 1, :, rows] = self._finish(values.clamp_(0, 1))
                strips += 1
                if progress:
                    progress(index * height * self.scale + rows.stop, total)
        strip = (min(height, stream.strip_rows(width, self._dtype.itemsize)), width)
        return RunReport(PRECISION_NAMES[self._dtype], strip, strips, True)

    def _overlap(self) -> tuple[int, int]:
        reach = self.probe.receptive_field_px
        if reach is None:
            return BLEND_CONTEXT_PX, BLEND_FADE_PX
        return reach + self.multiple - 1, 0  # on a grid, reach depends on where on it a pixel lies

    def _window(self, size: tuple[int, int], tile: int | None, context: int, fade: int) -> tuple[int, int]:
        if tile is not None:
            if tile < MIN_TILE_PX:
                raise ValueError(f"tile is {tile} px; wanted at least {MIN_TILE_PX}")
            side = max(tile, 2 * (context + fade + self.multiple) + MIN_TILE_PX)
            return side, side
        free = free_memory_bytes(self.device)
        if free is not None:
            pixels = min(MAX_TILE_PIXELS, free * _GPU_SHARE / self.tile_bytes(1, 1))
            return choose_window(size, int(pixels), context, fade, self.multiple)
        pixels = CPU_TENSOR_BYTES / (self.probe.values_per_pixel / 2 * self._dtype.itemsize)
        while True:
            window = choose_window(size, int(pixels), context, fade, self.multiple)
            tiles = plan_tiles(size, window, context, fade, self.multiple)
            computed = sum(part.window_size[0] * part.window_size[1] for part in tiles)
            if computed <= CPU_TWICE_SHARE * size[0] * size[1] or len(tiles) == 1 or 2 * pixels > ROOM_TILE_PX**2:
                return window
            pixels *= 2

    def _batch(self, part: Tile) -> int:
        free = free_memory_bytes(self.device)
        return 1 if free is None else max(1, int(free * _GPU_SHARE) // max(1, self.tile_bytes(*part.window_size)))

    def _halve(
        self, pending: "deque[tuple[int, Tile]]", size: tuple[int, int], context: int, fade: int
    ) -> "deque[tuple[int, Tile]]":
        failed = pending[0][1]
        if not split_tile(failed, size, context, fade, self.multiple):
            height, width = failed.window_size
            raise OutOfMemoryError(
                f"{self.model.name}: out of memory on {self.device} with a tile of {width}x{height} px already; "
                f"it needs about {self.tile_bytes(height, width) / 2**20:.0f} MiB"
            )
        return deque(
            (index, piece)
            for index, part in pending
            for piece in split_tile(part, size, context, fade, self.multiple) or [part]
        )

    @torch.inference_mode()
    def _compute(self, image: Tensor, jobs: list[tuple[int, Tile]]) -> Tensor:
        windows = [
            image[index, :, slice(*part.rows.window), slice(*part.columns.window)].to(self.device) for index, part in jobs
        ]
        batch = torch.stack(windows)
        result = self._call(batch)
        while not self._finite:
            self._fall_back()
            result = self._call(batch)
        return result

    def _call(self, batch: Tensor) -> Tensor:
        self._finite = True
        with _quiet_cudnn(self.device):
            return self._finish(self._descriptor(self._prepare(batch)))

    def _prepare(self, image: Tensor) -> Tensor:
        channels = self._descriptor.input_channels
        return image.expand(-1, channels, -1, -1).to(self._dtype).contiguous(memory_format=torch.channels_last)

    def _finish(self, result: Tensor) -> Tensor:
        return rgb_to_luma(result.float()) if self.output == "luma" and result.shape[1] == 3 else result

    def _fall_back(self) -> None:
        """Goes over to float32 where a network cannot do with less; raises if its numbers came from float32."""
        if self._dtype == torch.float32:
            raise ModelOutputError(f"{self.model.name}: gave numbers that are not finite, in fp32 too; the file may be damaged")
        self._descriptor = self._copy(torch.float32)  # first: if memory runs out here, the old copy still fits its dtype
        self._dtype = torch.float32

    def _place(self, target: Tensor, part: Tile, values: Tensor) -> None:
        scale = self.scale
        areas = []
        for span, axis in ((part.rows, 1), (part.columns, 2)):
            start, stop = span.core
            values = values.narrow(axis, (start - span.window[0]) * scale, (stop - start) * scale)
            weights = fade_weights(span, scale)
            if weights is not None:
                values = values * weights.to(values.device).reshape((-1, 1) if axis == 1 else (1, -1))
            areas.append(slice(start * scale, stop * scale))
        area = target[:, areas[0], areas[1]]
        if part.rows.fade_in or part.rows.fade_out or part.columns.fade_in or part.columns.fade_out:
            area.add_(values.to(device=target.device, dtype=target.dtype))
        else:
            area.copy_(values)

    def _copy(self, dtype: torch.dtype) -> ImageModelDescriptor[nn.Module]:
        descriptor = copy.copy(self._source)
        network = copy.deepcopy(self._source.model).to(device=self.device, dtype=dtype)
        if all(parameter.ndim <= 4 for parameter in network.parameters()):  # GFPGAN has weights of five, which it refuses
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stub lacks it
        network.register_forward_hook(self._watch)
        descriptor._model = network.eval().requires_grad_(False)  # spandrel offers no public way to swap the module
        return descriptor

    def _watch(self, _module: nn.Module, _inputs: object, output: object) -> None:
        """Looks at the network's own output, since spandrel clips it and infinity would pass for white."""
        if isinstance(output, Tensor):
            self._finite = self._finite and is_finite(output)

    def _release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


def _grey_network(descriptor: ImageModelDescriptor[nn.Module]) -> ImageModelDescriptor[nn.Module]:
    """The network inside a `LumaAdapter`, which needs no RGB made up around it; any other is returned as it is."""
    if not isinstance(descriptor.model, LumaAdapter):
        return descriptor
    inner = copy.copy(descriptor)
    inner._model = descriptor.model.network
    inner.input_channels = inner.output_channels = 1
    return inner


def _take_alike(pending: "deque[tuple[int, Tile]]", count: int) -> list[tuple[int, Tile]]:
    jobs = [pending.popleft()]
    while pending and len(jobs) < count and pending[0][1].window_size == jobs[0][1].window_size:
        jobs.append(pending.popleft())
    return jobs


@contextmanager
def _quiet_cudnn(device: torch.device) -> Generator[None, None, None]:
    """Lets cuDNN pick the fastest convolutions, as all tiles have one size, and keeps fp32 exact (no TF32)."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32 = device.type == "cuda", False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before
