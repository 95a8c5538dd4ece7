"""Runs a network on images of any size: tiles, batches, precision, and recovery when memory runs out."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..choices import MIN_TILE_PX, BackendChoice, Precision, PrecisionChoice
from ..errors import RefusedError
from ..imaging.color import rgb_to_luma
from ..imaging.tensors import empty_image, is_finite
from ..imaging.tiling import Tile, choose_window, fade_weights, plan_tiles, split_tile
from ..progress import Progress
from .backend import with_backend
from .device import choose_precision
from .memory import free_memory_bytes, is_out_of_memory, release_memory
from .network import Network, NonFiniteOutputError, describe_failure
from .threads import adapt_threads, on_free_cores

BLEND_CONTEXT_PX = 16
"""Context of a tile when the network's receptive field is too large to cover."""
BLEND_FADE_PX = 16
"""Width of the blend between such tiles."""
CPU_TENSOR_BYTES = 30 * 2**20
"""Largest tensor between two layers on a CPU. Above 32 MiB the C library maps fresh pages for each tensor and
spends time clearing them: a network took 1.5 times as long (tools/benchmarks/speed.py)."""
CPU_TWICE_SHARE = 1.2
"""Most pixels to compute on a CPU per image pixel, context included. If small tiles exceed this because the receptive field is
large, larger tiles are used (tools/benchmarks/architectures.py: small tiles took 2.6 times as long with ESRGAN)."""
MAX_TILE_PIXELS = 1024 * 1024
"""Largest tile on a GPU; memory beyond it goes into a batch of tiles."""
ROOM_TILE_PX = 512
"""Tile side that memory is planned for; tiles shrink if there is less memory and grow if there is more."""

_GPU_SHARE = 0.6
_LAYERS_ALIVE = 4.0  # one tensor between two layers is about a quarter of the working memory


class ModelOutputError(RefusedError, RuntimeError):
    """The network fails, or its output is not finite, even in float32."""


class OutOfMemoryError(RefusedError, RuntimeError):
    """Memory ran out even with the smallest tile."""


@dataclass(frozen=True)
class RunReport:
    """How a network was run."""

    precision: Precision
    """Precision of the last tile."""
    tile_px: tuple[int, int]
    """(height, width) of the smallest tiles, context included."""
    tiles: int
    """Number of tiles computed."""
    seamless: bool
    """Whether the context covered the receptive field, so that tiling changed nothing."""


def estimate_memory(
    network: Network,
    size: tuple[int, int],
    device: torch.device,
    precision: PrecisionChoice = "auto",
    tile: int | None = None,
    backend: BackendChoice = "auto",
) -> int:
    """Estimates the free bytes that a network needs: on a CPU for the tile or rows that it will take, on a GPU for a tile of
    `ROOM_TILE_PX`, or the image if that is smaller.

    Args:
        network: The network as loaded.
        size: (height, width) of the image.
        device: Where it will run.
        precision: See `choose_precision`.
        tile: Tile side in source pixels, if it was chosen.
        backend: See `fidelity.networks.backend.with_backend`.
    """
    if device.type == "cpu":
        return Runner(network, device, precision, backend=backend).planned_bytes(size, tile)
    share = 1.0 if choose_precision(network, device, precision) == "fp32" else 0.5
    return int(min(size[0], ROOM_TILE_PX) * min(size[1], ROOM_TILE_PX) * network.bytes_per_pixel * share)


class Runner:
    """Runs one network on images of any size: tiles, batches, precision, and recovery when memory runs out."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        precision: PrecisionChoice = "auto",
        output: Literal["image", "luma"] = "image",
        backend: BackendChoice = "auto",
    ) -> None:
        """Binds the network to a device.

        Args:
            network: The network; with output "luma", an RGB network gets a grey image and the luma of its output is used.
            device: Where to run it.
            precision: See `choose_precision`.
            output: "image" takes and returns RGB; "luma" takes and returns one channel.
            backend: See `fidelity.networks.backend.with_backend`.

        Raises:
            ModelRefusedError: If the backend was named and is not installed.
        """
        self.network = network = with_backend(network, backend, device, precision)
        self.device = device
        self.output = output
        self.reach_px = network.reach_px
        self._bound = network.to(device, choose_precision(network, device, precision))

    @property
    def scale(self) -> int:
        """Scale factor."""
        return self.network.scale

    @property
    def multiple(self) -> int:
        """Grid that tiles start on, in input pixels."""
        return self.network.multiple_of

    @property
    def precision(self) -> Precision:
        """Precision the network computes in now."""
        return self._bound.precision

    def tile_bytes(self, height: int, width: int) -> int:
        """Returns the memory that one tile of this size needs while it is computed."""
        return int(height * width * self._bound.bytes_per_pixel)

    def recommend(self, size: tuple[int, int]) -> tuple[tuple[int, int] | None, int]:
        """Returns how an image would be run: the tiles' (height, width), or None if rows are streamed, and the batch size.

        Args:
            size: (height, width) of the image.
        """
        if self._bound.stream():
            return None, 1
        context, fade = self._overlap()
        window = self._window(size, None, context, fade)
        return window, self._batch(plan_tiles(size, window, context, fade, self.multiple)[0])

    def planned_bytes(self, size: tuple[int, int], tile: int | None = None) -> int:
        """Returns the memory for one tile or strip of an image of that (height, width)."""
        stream = None if tile else self._bound.stream()
        if stream:
            height, width = stream.strip_rows(size[1]), size[1]
        else:
            height, width = self._window(size, tile, *self._overlap())
        return int(min(height, size[0]) * min(width, size[1]) * self._bound.peak_bytes_per_pixel)

    @on_free_cores()
    def run(
        self, image: Tensor, out: Tensor | None = None, tile: int | None = None, progress: Progress | None = None
    ) -> tuple[Tensor, RunReport]:
        """Runs the network on a whole image.

        Args:
            image: ``(B, C, H, W)`` in [0, 1], on any device; C is 1 with output "luma", else 3.
            out: Tensor for the result, ``(B, C, scale·H, scale·W)``; allocated like `image` if None.
            tile: Tile side in source pixels, context included; chosen to fit memory if None.
            progress: Called after every batch of tiles.

        Returns:
            The result, on the device of `image`, and a report of how it was computed.

        Raises:
            ModelOutputError: If the network fails or its output is not finite, even in float32.
            OutOfMemoryError: If memory runs out even with the smallest tiles.
            RefusedError: If the tile is too small.
        """
        size = (image.shape[2], image.shape[3])
        if out is None:
            out = empty_image(image, image.shape[1], size[0] * self.scale, size[1] * self.scale)
        if tile is None and self._bound.stream():
            return out, self._run_stream(image, out, progress)
        context, fade = self._overlap()
        window = self._window(size, tile, context, fade)
        tiles = plan_tiles(size, window, context, fade, self.multiple)
        pending = deque((index, part) for index in range(image.shape[0]) for part in tiles)
        if fade:
            out.zero_()
        batch, done, smallest = self._batch(pending[0][1]), 0, pending[0][1].window_size
        while pending:
            adapt_threads()
            jobs = _take_alike(pending, batch)
            result = self._compute(image, jobs)
            if result is None:
                release_memory(self.device)
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
        return out, RunReport(self.precision, smallest, done, seamless)

    @torch.inference_mode()
    def _run_stream(self, image: Tensor, out: Tensor, progress: Progress | None) -> RunReport:
        batch, _, height, width = image.shape
        total, strips, rows = batch * height * self.scale, 0, 0
        for index in range(batch):
            stream, done = self._bound.stream(), 0
            assert stream is not None  # the caller checked
            rows = stream.strip_rows(width)
            for top in range(0, height, rows):
                adapt_threads()
                strip = self._expand(image[index : index + 1, :, top : top + rows])
                values = stream.feed(strip, is_last=top + rows >= height)
                if values is None:
                    continue
                if not is_finite(values):
                    self._fall_back()
                    return self._run_stream(image, out, progress)
                out[index : index + 1, :, done : done + values.shape[2]] = self._to_output(values.clamp_(0, 1))
                done += values.shape[2]
                strips += 1
                if progress:
                    progress(index * height * self.scale + done, total)
        return RunReport(self.precision, (min(height, rows), width), strips, True)

    def _overlap(self) -> tuple[int, int]:
        reach = self.reach_px
        if reach is None:
            return BLEND_CONTEXT_PX, BLEND_FADE_PX
        return reach + self.multiple - 1, 0  # on a grid, the receptive field depends on the pixel's position

    def _window(self, size: tuple[int, int], tile: int | None, context: int, fade: int) -> tuple[int, int]:
        if tile is not None:
            if tile < MIN_TILE_PX:
                raise RefusedError(f"tile is {tile} px; wanted at least {MIN_TILE_PX}")
            side = max(tile, 2 * (context + fade + self.multiple) + MIN_TILE_PX)
            return self._limit((side, side))
        free = free_memory_bytes(self.device)
        if free is not None:
            pixels = min(MAX_TILE_PIXELS, free * _GPU_SHARE / self.tile_bytes(1, 1))
            return self._limit(choose_window(size, int(pixels), context, fade, self.multiple))
        if self._bound.tile_px:
            return choose_window(size, self._bound.tile_px**2, context, fade, self.multiple)
        pixels = CPU_TENSOR_BYTES / (self._bound.bytes_per_pixel / _LAYERS_ALIVE)
        while True:
            window = choose_window(size, int(pixels), context, fade, self.multiple)
            tiles = plan_tiles(size, window, context, fade, self.multiple)
            computed = sum(part.window_size[0] * part.window_size[1] for part in tiles)
            if computed <= CPU_TWICE_SHARE * size[0] * size[1] or len(tiles) == 1 or 2 * pixels > ROOM_TILE_PX**2:
                return window
            pixels *= 2

    def _limit(self, window: tuple[int, int]) -> tuple[int, int]:
        """A tile's (height, width), cut to what the network takes on a GPU."""
        longest = self._bound.tile_px if self.device.type != "cpu" else None
        return (min(window[0], longest), min(window[1], longest)) if longest else window

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
                f"{self.network.name}: out of memory on {self.device} even with a tile of {width}x{height} px; "
                f"wanted about {self.tile_bytes(height, width) / 2**20:.0f} MiB of free memory"
            )
        return deque(
            (index, piece)
            for index, part in pending
            for piece in split_tile(part, size, context, fade, self.multiple) or [part]
        )

    def _compute(self, image: Tensor, jobs: list[tuple[int, Tile]]) -> Tensor | None:
        """Returns the tiles' results, in float32 if a lower precision fails; None if memory ran out."""
        try:
            windows = [
                image[index, :, slice(*part.rows.window), slice(*part.columns.window)].to(self.device) for index, part in jobs
            ]
            return self._to_output(self._bound.run(self._expand(torch.stack(windows))))
        except RefusedError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                return None  # the caller retries once the failed tensors are freed
            # SwinIR, for example, adds float32 masks to its features, whatever precisions it declares.
            if self.precision == "fp32" and not isinstance(error, NonFiniteOutputError):
                raise ModelOutputError(describe_failure(self.network.name, error)) from error
        self._fall_back()
        return self._compute(image, jobs)

    def _expand(self, image: Tensor) -> Tensor:
        return image.to(self.device).expand(-1, self.network.channels_in, -1, -1)

    def _to_output(self, result: Tensor) -> Tensor:
        return rgb_to_luma(result.float()) if self.output == "luma" and result.shape[1] == 3 else result

    def _fall_back(self) -> None:
        """Switches to float32 if a lower precision failed; raises if the precision is float32 already."""
        if self.precision == "fp32":
            raise ModelOutputError(f"{self.network.name}: output is not finite, even in fp32; the file may be damaged")
        self._bound = self.network.to(self.device, "fp32")

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


def _take_alike(pending: "deque[tuple[int, Tile]]", count: int) -> list[tuple[int, Tile]]:
    jobs = [pending.popleft()]
    while pending and len(jobs) < count and pending[0][1].window_size == jobs[0][1].window_size:
        jobs.append(pending.popleft())
    return jobs
