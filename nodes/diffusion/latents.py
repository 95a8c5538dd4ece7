"""Encodes images to latents and decodes them in tiles, without contrast jumps between tiles.

A decoder's group normalization takes mean and variance over its whole input. In tiles, each tile is normalized by its own
statistics, and a flat sky turns patchy. Here the statistics are recorded once, on a downscaled copy of the whole latent, and
replayed in every tile. An encoder's tiles hardly differ, so they keep their own statistics.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...fidelity.imaging.resample import resize
from ...fidelity.imaging.tiling import fade_at_ends
from ...fidelity.progress import Progress
from ...fidelity.steps.diffusion import spread_tiles
from .. import host
from .conditioning import Window

_PARTS = 8
_SMALLEST_LATENTS = 32
TILE_PX = 1024
"""Side of a tile in pixels."""
OVERLAP_SHARE = 3 / 16
"""Minimum overlap as a fraction of the tile: an autoencoder has a large receptive field."""
_MEMORY_SHARE = 0.25
"""Fraction of total device memory for one piece; of the total, so that the choice does not depend on what is loaded."""


def encode_image(
    vae: Any, image: Tensor, tile_px: int = TILE_PX, whole: bool | None = None, progress: Progress | None = None
) -> Tensor:
    """Encodes an image with a VAE.

    Args:
        vae: The host's VAE.
        image: ``(B, 3, H, W)`` in [0, 1], sides multiples of the VAE's downscaling factor.
        tile_px: Side of a tile in pixels, if tiles are needed.
        whole: Whether to run in one piece; if None, it does if that takes less than a quarter of the device's memory.
        progress: Called with (tiles done, total tiles).

    Returns:
        ``(B, C, h, w)`` or ``(B, C, 1, h, w)``, in the VAE's layout.
    """
    if vae.latent_dim == 3 and image.shape[0] > 1:  # the host would treat a batch as the frames of one video
        return torch.cat([encode_image(vae, one, tile_px, whole, progress) for one in image.split(1)])
    factor = vae.spacial_compression_encode()
    shape = image.shape if vae.latent_dim == 2 else (*image.shape[:2], 1, *image.shape[2:])
    if _in_one_piece(image, tile_px, whole, lambda: vae.memory_used_encode(tuple(shape), vae.vae_dtype), vae):
        return vae.encode(image.movedim(1, -1))

    def encode(part: Tensor) -> Tensor:
        return vae.encode(part.movedim(1, -1))

    return _in_tiles(image, encode, 1 / factor, tile_px // factor * factor, factor, progress)


def decode_latent(
    vae: Any, latent: Tensor, tile_px: int = TILE_PX, whole: bool | None = None, progress: Progress | None = None
) -> Tensor:
    """Decodes a latent with a VAE.

    Args:
        vae: The host's VAE.
        latent: The latent, in the VAE's layout.
        tile_px: Side of a tile in pixels, if tiles are needed.
        whole: Whether to run in one piece; if None, it does if that takes less than a quarter of the device's memory.
        progress: Called with (tiles done, total tiles).

    Returns:
        ``(B, 3, H, W)`` in [0, 1].
    """
    if vae.latent_dim == 3 and latent.shape[0] > 1:
        return torch.cat([decode_latent(vae, one, tile_px, whole, progress) for one in latent.split(1)])
    factor = vae.spacial_compression_decode()

    def decode(part: Tensor) -> Tensor:
        shown = vae.decode(part)
        return shown.reshape(-1, *shown.shape[-3:]).movedim(-1, 1)

    tile = max(1, tile_px // factor)
    if _in_one_piece(latent, tile, whole, lambda: vae.memory_used_decode(tuple(latent.shape), vae.vae_dtype), vae):
        return decode(latent)

    @contextmanager
    def even_norms(whole: Tensor) -> Generator[None, None, None]:
        with replay_norms(_norms_of(vae.first_stage_model, lambda longest: decode(_shrink(whole, longest)), tile)):
            yield

    return _in_tiles(latent, decode, factor, tile, 1, progress, even_norms).clamp(0, 1)


def _in_one_piece(tensor: Tensor, tile: int, whole: bool | None, need: Callable[[], float], vae: Any) -> bool:
    if max(tensor.shape[-2:]) <= tile:
        return True
    return whole if whole is not None else need() < _MEMORY_SHARE * host.device_memory(vae.device)


def _in_tiles(
    tensor: Tensor,
    work: Callable[[Tensor], Tensor],
    factor: float,
    tile: int,
    align: int,
    progress: Progress | None,
    even_norms: Callable[[Tensor], AbstractContextManager[None]] | None = None,
) -> Tensor:
    """Runs each image of a batch in tiles, blended by distance from the tile's edges."""
    overlap = int(tile * OVERLAP_SHARE) // align * align
    spans = [spread_tiles(length, tile, overlap, align) for length in tensor.shape[-2:]]
    windows = [Window(*rows, *columns) for rows, columns in product(*spans)]
    results: list[Tensor] = []
    for index in range(tensor.shape[0]):
        one = tensor[index : index + 1]
        total = sums = torch.empty(0)
        with even_norms(one) if even_norms else nullcontext():
            for done, window in enumerate(windows):
                made = work(window.cut(one)).float()
                if not done:
                    sides = [round(length * factor) for length in one.shape[-2:]]
                    sums, total = made.new_zeros(*made.shape[:-2], *sides), made.new_zeros(*sides)
                size, reach = (one.shape[-2], one.shape[-1]), max(1, round(overlap * factor))
                weights = _rim_weights(window, size, (made.shape[-2], made.shape[-1]), reach).to(made)
                there = Window(*(round(edge * factor) for edge in (window.top, window.bottom, window.left, window.right)))
                there.cut(sums).add_(made * weights)
                there.cut(total).add_(weights)
                if progress:
                    progress(index * len(windows) + done + 1, tensor.shape[0] * len(windows))
        results.append(sums.div_(total))
    return torch.cat(results)


def _rim_weights(window: Window, size: tuple[int, int], made: tuple[int, int], reach: int) -> Tensor:
    """1 at the center of a tile and along the image's own border, falling over the overlap."""
    rows = fade_at_ends(made[0], reach, window.top > 0, window.bottom < size[0])
    return rows[:, None] * fade_at_ends(made[1], reach, window.left > 0, window.right < size[1])


def _shrink(tensor: Tensor, longest: int) -> Tensor:
    """Downscales the whole latent to a tile's size, preserving its contrast."""
    share = longest / max(tensor.shape[-2:])
    size = tuple(max(1, round(side * share)) for side in tensor.shape[-2:])
    planes = tensor.reshape(-1, 1, *tensor.shape[-2:]).float()
    small = resize(planes, cast("tuple[int, int]", size))
    mean, deviation = (planes.mean(dim=(2, 3), keepdim=True), planes.std(dim=(2, 3), keepdim=True))
    small = (small - small.mean(dim=(2, 3), keepdim=True)) / small.std(dim=(2, 3), keepdim=True).clamp(
        min=1e-6
    ) * deviation + mean
    small = torch.where(deviation > 1e-6, small, mean)
    return small.clamp(planes.min(), planes.max()).reshape(*tensor.shape[:-2], *size).to(tensor.dtype)


Norms = dict[nn.GroupNorm, tuple[Tensor, Tensor]]
"""Mean and variance of every group, ``(1, groups)``, by module."""


def _norms_of(network: nn.Module, work: Callable[[int], object], longest: int) -> Norms:
    """Records the normalization statistics of a downscaled whole.

    If memory runs out, the host resumes in its own tiles, and the statistics would be a tile's: a smaller whole is used then.
    """
    while True:
        with record_norms(network) as norms:
            work(longest)
        if not norms.torn:
            return norms.seen
        if longest <= _SMALLEST_LATENTS:
            raise RuntimeError(f"out of memory decoding {longest} latent samples a side")
        longest //= 2


@dataclass
class RecordedNorms:
    """The normalization statistics of a network."""

    seen: Norms = field(default_factory=dict[nn.GroupNorm, tuple[Tensor, Tensor]])
    torn: bool = False
    """Whether a module saw inputs of several sizes, so not the whole."""


@contextmanager
def record_norms(network: nn.Module) -> Generator[RecordedNorms, None, None]:
    """Records the statistics of every group normalization of a network during one call."""
    recorded, sizes = RecordedNorms(), dict[nn.Module, torch.Size]()

    def note(module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        norm = cast(nn.GroupNorm, module)
        values = inputs[0].float().reshape(inputs[0].shape[0], norm.num_groups, -1)
        recorded.torn |= sizes.setdefault(module, inputs[0].shape[-2:]) != inputs[0].shape[-2:]
        recorded.seen[norm] = (values.mean(dim=2), values.var(dim=2, unbiased=False))

    with _hooked([module for module in network.modules() if isinstance(module, nn.GroupNorm)], note):
        yield recorded


@contextmanager
def replay_norms(norms: Norms) -> Generator[None, None, None]:
    """Makes group normalizations use recorded mean and variance instead of their own."""

    def normalise(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        norm = cast(nn.GroupNorm, module)
        mean, variance = norms[norm]
        repeats = inputs[0].shape[1] // norm.num_groups
        shape = (-1, inputs[0].shape[1], *[1] * (inputs[0].ndim - 2))
        slope = (variance + norm.eps).rsqrt().repeat_interleave(repeats, dim=1)
        offset = -mean.repeat_interleave(repeats, dim=1) * slope
        if norm.affine:
            weight, bias = norm.weight.to(slope), norm.bias.to(slope)
            slope, offset = slope * weight, offset * weight + bias
        slope, offset = slope.reshape(shape), offset.reshape(shape)
        parts = (one.chunk(_PARTS, dim=1) for one in (inputs[0], slope, offset, output))
        for values, slopes, offsets, made in zip(*parts, strict=True):
            made.copy_(values.float() * slopes + offsets)  # in parts: a float32 copy of all may be a gigabyte
        return output

    with _hooked(norms, normalise):
        yield


@contextmanager
def _hooked(modules: Iterable[nn.Module], hook: Callable[..., Tensor | None]) -> Generator[None, None, None]:
    """Calls a forward hook on each of these modules inside the context."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
