"""Hooks of the diffusion nodes into the host's sampling: tiling, guidance toward the source, schedules."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ...fidelity.errors import RefusedError
from ...fidelity.steps.diffusion import (
    ALIGN_LATENTS,
    GuidanceBand,
    TileBlend,
    guidance_weight,
    linear_schedule,
    pull_to_source,
    spread_tiles,
    tile_weights,
)
from .. import host
from .conditioning import Conds, ControlStrength, TileConditioning, Window, cut_patches

Executor = Callable[..., list[Tensor]]
"""The host's own evaluation: (model, conds, latent, sigma, model options) to one estimate per entry of conds."""

_LOG = logging.getLogger(__name__)
_KEY = "fidelity"
_SMALLEST_LATENTS = 32
_MOST_TILES = 4
"""Most tiles at once, even with memory for more: more is hardly faster, and peak memory would grow with the image."""


def _forgetting(kept: TileConditioning | ControlStrength) -> Callable[[Any], None]:
    """A callback of the host, called with its patcher, that drops what was kept for one run."""

    def forget(_patcher: Any) -> None:
        kept.clear()

    return forget


@dataclass(frozen=True)
class _Step:
    """The arguments that the host passes to a wrapper around a step."""

    executor: Executor
    model: Any
    conds: Conds
    latent: Tensor
    sigma: Tensor
    model_options: dict[str, Any]

    def run(self) -> list[Tensor]:
        """Runs the host's own evaluation."""
        return self.executor(self.model, self.conds, self.latent, self.sigma, self.model_options)


@dataclass
class TiledDenoiser:
    """Runs a model in tiles within every step of any sampler, and blends the estimates."""

    tile_px: int
    """Side of a tile in pixels."""
    overlap_px: int
    """Minimum overlap between neighboring tiles in pixels."""
    blend: TileBlend = "gaussian"
    """How tiles are weighted where they overlap."""
    used_px: int = 0
    """Tile side in the last run: below `tile_px` if memory ran out, above it if that is too small for the model."""
    _most: int | None = None
    """Tiles at once that were found to fit in memory in this run."""
    _conditioning: TileConditioning = field(default_factory=lambda: TileConditioning(host.resize_hint))

    def patch(self, model: Any) -> Any:
        """Clones a MODEL so that it works in tiles; the original stays unchanged.

        Raises:
            RefusedError: If the overlap is more than half of a tile.
        """
        if self.overlap_px * 2 > self.tile_px:
            raise RefusedError(
                f"overlap is {self.overlap_px} px with a tile of {self.tile_px}; wanted at most half of the tile"
            )
        made = model.clone()
        made.add_wrapper_with_key(host.CALC_COND_BATCH, _KEY, self)
        made.add_wrapper_with_key(host.PREPARE_SAMPLING, _KEY, self.prepare)
        made.add_callback_with_key(host.ON_CLEANUP, _KEY, _forgetting(self._conditioning))
        return made

    @property
    def used_overlap_px(self) -> int:
        """Overlap in the last run in pixels, in proportion to `used_px`."""
        return self.overlap_px * (self.used_px or self.tile_px) // self.tile_px

    def prepare(self, executor: Any, model: Any, noise_shape: Sequence[int], conds: Any, **options: Any) -> Any:
        """Starts a run: has the host reserve memory for a tile, not for the whole latent."""
        self.used_px, self._most = self.tile_px, None
        if len(noise_shape) not in (4, 5):
            _LOG.warning("this model's latents have %d axes: sampling the whole image, not tiles", len(noise_shape))
            return executor(model, noise_shape, conds, **options)
        tile, _, _ = self._in_latents(model.model)
        small = (*noise_shape[:-2], *(min(side, tile) for side in noise_shape[-2:]))
        return executor(model, small, conds, **options)

    def __call__(
        self, executor: Executor, model: Any, conds: Conds, latent: Tensor, sigma: Tensor, model_options: dict[str, Any]
    ) -> list[Tensor]:
        """Runs one step: computes the estimates of the whole latent from tiles."""
        step = _Step(executor, model, conds, latent, sigma, model_options)
        if latent.ndim not in (4, 5):
            return step.run()
        while True:
            tile, overlap, align = self._in_latents(model)
            spans = [spread_tiles(length, tile, overlap, align) for length in latent.shape[-2:]]
            windows = [Window(*rows, *columns) for rows, columns in product(*spans)]
            whole = len(windows) == 1
            estimates = self._attempt(step) if whole else self._estimate(step, windows)
            if estimates is not None:
                return estimates
            tile = min(tile, max(latent.shape[-2:]))
            if tile <= _SMALLEST_LATENTS:
                raise RuntimeError(f"out of memory with a tile of only {tile} latent samples a side")
            self.used_px, self._most = tile * host.pixels_per_latent(model) // 2, None
            _LOG.warning("out of memory with one tile: resuming with tiles of %d px", self.used_px)

    def _in_latents(self, model: Any) -> tuple[int, int, int]:
        """Side and overlap of a tile in latent samples, and the grid spacing that tiles align to."""
        factor, patch = host.pixels_per_latent(model), host.latents_per_patch(model)
        align = math.lcm(ALIGN_LATENTS, patch)
        self.used_px = max(self.used_px or self.tile_px, max(_SMALLEST_LATENTS, align) * factor)
        tile = self.used_px // factor // patch * patch
        return tile, min(tile // 2, self.used_overlap_px // factor), align

    def _attempt(self, step: _Step) -> list[Tensor] | None:
        """The host's estimates; None if memory ran out."""
        try:
            return step.run()
        except Exception as error:
            host.raise_unless_out_of_memory(error)
        host.release_memory()  # outside the handler, so that the failed tensors are freed first
        return None

    def _estimate(self, step: _Step, windows: list[Window]) -> list[Tensor] | None:
        """The blended estimates; None if memory ran out with a single tile."""
        first, latent = windows[0], step.latent
        size = (first.bottom - first.top, first.right - first.left)
        weights = tile_weights(*size, self.blend).to(latent.device)
        sums = [torch.zeros_like(latent, dtype=torch.float32) for _ in step.conds]
        total = torch.zeros(latent.shape[-2:], device=latent.device)
        host.refuse_caches(step.model_options)
        sizes = ((latent.shape[-2], latent.shape[-1]), size)
        step = replace(step, conds=host.fit_size_conditioning(step.model, step.conds, *sizes))
        shape = (latent.shape[0] * len(step.conds), *latent.shape[1:-2], *size)
        fitting = host.count_tiles(step.model, shape, latent.device, min(_MOST_TILES, len(windows)))
        batch = min(fitting, self._most or fitting)
        pending = deque(windows)
        while pending:
            host.check_canceled()
            part = [pending.popleft() for _ in range(min(batch, len(pending)))]
            made = self._attempt(self._cut(step, part))
            if made is None:
                if len(part) == 1:
                    return None
                pending.extendleft(reversed(part))
                batch = self._most = len(part) // 2
                _LOG.warning("out of memory with %d tiles at once: resuming with %d", len(part), batch)
                continue
            for index, window in enumerate(part):
                images = slice(index * latent.shape[0], (index + 1) * latent.shape[0])
                for target, estimate in zip(sums, made, strict=True):
                    window.cut(target).add_(estimate[images] * weights)
                window.cut(total).add_(weights)
        return [(estimate / total).to(latent.dtype) for estimate in sums]

    def _cut(self, step: _Step, part: list[Window]) -> _Step:
        """Crops the step to some tiles."""
        return replace(
            step,
            conds=self._conditioning.cut(step.conds, part, step.latent),
            latent=torch.cat([window.cut(step.latent) for window in part]),
            sigma=step.sigma.repeat(len(part)),
            model_options=cut_patches(step.model_options, part, step.latent.shape),
        )


@dataclass
class RestorationGuidance:
    """Pulls every estimate toward the encoded source, and makes CFG and ControlNet strength follow the noise."""

    source: Tensor
    """The encoded source, as the VAE returned it, ``(B, C, …, H, W)``."""
    fidelity: float
    """0 for no pull, 1 for only the source; see `fidelity.steps.diffusion.guidance_weight`."""
    band: GuidanceBand = "all"
    """Frequency band that is pulled."""
    radius: float = 2.0
    """Radius of a low band, in latent samples."""
    from_first_step: bool = False
    """Whether noise is measured against the first step's, as low denoise needs; else against the model's highest."""
    cfg: tuple[float, float] | None = None
    """CFG at the highest noise and at zero noise; None leaves it to the sampler."""
    control: tuple[float, float] = (1.0, 1.0)
    """Factors on ControlNet strength at the highest noise and at zero noise."""
    _scaled: ControlStrength = field(default_factory=ControlStrength)
    _ready: Tensor | None = None
    _inner: Callable[[dict[str, Any]], Tensor] | None = None
    """The CFG function already set, such as the host's RescaleCFG: it is called with the scale that follows the noise."""

    def patch(self, model: Any) -> Any:
        """Clones a MODEL so that it is guided; the original stays unchanged."""
        made = model.clone()
        self._ready = made.get_model_object("latent_format").process_in(self.source)
        if self.fidelity > 0:
            made.set_model_sampler_post_cfg_function(self.pull)
        if self.cfg:
            self._inner = made.model_options.get("sampler_cfg_function")
            made.set_model_sampler_cfg_function(self.mix, disable_cfg1_optimization=True)
        if self.control != (1.0, 1.0):
            made.add_wrapper_with_key(host.CALC_COND_BATCH, _KEY, self.scale)
            made.add_callback_with_key(host.ON_CLEANUP, _KEY, _forgetting(self._scaled))
        return made

    def pull(self, step: dict[str, Any]) -> Tensor:
        """Post-CFG function: pulls the estimate toward the source."""
        denoised: Tensor = step["denoised"]
        assert self._ready is not None
        if self._ready.shape[1:] != denoised.shape[1:] or denoised.shape[0] % self._ready.shape[0]:
            raise RefusedError(
                f"the source's latent is {tuple(self._ready.shape)}, the sampled one {tuple(denoised.shape)}; wanted one size"
            )
        source = self._ready.to(denoised).repeat(denoised.shape[0] // self._ready.shape[0], *[1] * (denoised.ndim - 1))
        highest = self._highest(step["model"], step["model_options"])
        weight = guidance_weight(float(step["sigma"].flatten()[0]), highest, self.fidelity)
        return pull_to_source(denoised, source, weight, self.band, self.radius)

    def mix(self, step: dict[str, Any]) -> Tensor:
        """CFG function: mixes with a scale that follows the noise."""
        assert self.cfg
        if step["input_uncond"] is None:  # a guider without a negative prompt has no CFG
            return step["cond"]
        sigma = float(step["sigma"].flatten()[0])
        scale = linear_schedule(sigma, self._highest(step["model"], step["model_options"]), *self.cfg)
        if self._inner:
            return self._inner({**step, "cond_scale": scale})
        return step["uncond"] + (step["cond"] - step["uncond"]) * scale

    def scale(
        self, executor: Executor, model: Any, conds: Conds, latent: Tensor, sigma: Tensor, model_options: dict[str, Any]
    ) -> list[Tensor]:
        """Wrapper around a step: scales the ControlNets."""
        factor = linear_schedule(float(sigma.flatten()[0]), self._highest(model, model_options), *self.control)
        return executor(model, self._scaled.scale(conds, factor), latent, sigma, model_options)

    def _highest(self, model: Any, model_options: dict[str, Any]) -> float:
        sigmas = model_options.get("transformer_options", {}).get("sample_sigmas")
        if self.from_first_step and sigmas is not None:
            return float(sigmas[0])
        return float(model.model_sampling.sigma_max)
