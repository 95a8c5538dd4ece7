"""A complete diffusion pass: upscale, encode, sample in tiles under guidance, decode, match colors, run the gate."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...fidelity.imaging.resample import resize
from ...fidelity.networks.compute import Compute
from ...fidelity.networks.network import Network
from ...fidelity.report.report import GateReport, to_json
from ...fidelity.report.summary import summarize_gate
from ...fidelity.steps.alpha import bleed_colors
from ...fidelity.steps.consistency import project
from ...fidelity.steps.diffusion import DENOISE_STEPS, DiffusionTile, choose_diffusion_tile, pass_denoise, plan_pass_sizes
from ...fidelity.steps.gate import GateLimits, gate, safe_enlargement
from ...fidelity.steps.upscale import upscale
from .. import host
from .conditioning import apply_control
from .denoise import RestorationGuidance, TiledDenoiser
from .latents import decode_latent, encode_image

_SEEDS = 2**64
"""Number of seeds; they wrap around."""


@dataclass(frozen=True)
class DiffusionSettings:
    """How passes are sampled; the defaults are the node's."""

    denoise: float = DENOISE_STEPS[0]
    """Denoise of the first pass, 0 to 1; later passes use 0.75 and 0.625 of it."""
    steps: int = 20
    """Sampling steps of each pass."""
    cfg: float = 5.0
    """How closely to follow the prompt; 1 ignores the negative prompt."""
    sampler: str = "dpmpp_2m"
    """The host's name of the sampler."""
    scheduler: str = "karras"
    """The host's name of the scheduler."""
    seed: int = 0
    """Seed of the first pass; each later pass takes the next one."""
    fidelity: float = 0.3
    """How strongly estimates are pulled toward the source, 0 to 1; see `fidelity.steps.diffusion.guidance_weight`."""
    control_strength: float = 0.6
    """Strength of the ControlNet."""
    tile_px: int = 0
    """Side of a tile in pixels; 0 chooses by memory."""
    overlap_px: int = 0
    """Overlap between tiles in pixels; 0 takes an eighth of the tile."""


@dataclass(frozen=True)
class DiffusionParts:
    """Models and conditioning from the host's loaders."""

    model: Any
    """MODEL."""
    positive: Any
    """CONDITIONING."""
    negative: Any
    """CONDITIONING."""
    vae: Any
    """VAE."""
    control_net: Any = None
    """CONTROL_NET whose hint is each pass's upscaled image (a tile ControlNet), if there is one."""
    enlarger: tuple[Network, Compute] | None = None
    """A super-resolution network that upscales before each pass; bicubic if there is none."""


@dataclass(frozen=True)
class DiffusionResult:
    """The result of the passes."""

    image: Tensor
    """The result, with the source's number of channels."""
    report: str
    """Passes, settings and the gate's measurements, as JSON."""
    summary: str
    """What the gate did, as lines of text."""


def run_passes(source: Tensor, parts: DiffusionParts, target: tuple[int, int], settings: DiffusionSettings) -> DiffusionResult:
    """Upscales with a diffusion model.

    Args:
        source: ``(B, C, H, W)`` in [0, 1].
        parts: See `DiffusionParts`.
        target: (height, width) of the result.
        settings: See `DiffusionSettings`.
    """
    colors = (bleed_colors(source) if source.shape[1] == 4 else source).float().clamp(0, 1)
    colors = colors.expand(-1, 3, -1, -1)
    tile = _choose_tile(parts.model, settings)
    multiple = parts.vae.spacial_compression_encode()
    sizes = plan_pass_sizes((source.shape[2], source.shape[3]), target, multiple)
    current, made = colors, list[dict[str, Any]]()
    progress = host.track_passes(parts.model, len(sizes), settings.steps)
    for index, size in enumerate(sizes):
        current, denoise = _enlarge(current, size, parts), pass_denoise(index, settings.denoise)
        latent = encode_image(parts.vae, current, tile.side_px, progress=_go_on)
        tiled = TiledDenoiser(tile.side_px, tile.overlap_px)
        model = tiled.patch(parts.model)
        if settings.fidelity > 0:
            model = RestorationGuidance(latent, settings.fidelity, from_first_step=True).patch(model)
        conds = apply_control(parts.positive, parts.negative, parts.control_net, current, settings.control_strength, parts.vae)
        sampled = host.sample_latent(model, latent, conds, denoise, (settings.seed + index) % _SEEDS, settings, progress(index))
        decoded = decode_latent(parts.vae, sampled, tile.side_px, progress=_go_on)[:, :, : size[0], : size[1]]
        current = _hold(decoded, colors)
        made.append(
            {
                "size": f"{size[1]}x{size[0]}",
                "denoise": round(denoise, 4),
                "tile_px": tiled.used_px or tiled.tile_px,
                "overlap_px": tiled.used_overlap_px,
            }
        )
    if tuple(current.shape[2:]) != tuple(target):
        current = _hold(resize(current, target).clamp(0, 1), colors)
    limits = GateLimits()
    judged = host.run_near_compute(lambda near: gate(near, colors, "blend", limits), current.movedim(1, -1), colors)
    result = judged.image.to(source.device)
    result = result.mean(dim=1, keepdim=True) if source.shape[1] == 1 else result
    if source.shape[1] == 4:
        result = torch.cat((result, safe_enlargement(source, source.new_empty(source.shape[0], 4, *target))[:, 3:]), dim=1)
    report = {
        "kind": "diffusion",
        "passes": made,
        "settings": asdict(settings),
        "gate": to_json(GateReport.of(judged, limits)),
    }
    return DiffusionResult(result, json.dumps(report, indent=1), summarize_gate(judged, limits))


def _hold(image: Tensor, colors: Tensor) -> Tensor:
    """Matches an upscaled image's colors to the source; returns it on the source's device."""
    held = host.run_near_compute(lambda near: project(near, colors), image.movedim(1, -1), colors)
    return held.to(colors.device)


def _go_on(_done: int, _total: int) -> None:
    """Progress callback that stops the work once the user has canceled."""
    host.check_canceled()


def _choose_tile(model: Any, settings: DiffusionSettings) -> DiffusionTile:
    side = settings.tile_px or choose_diffusion_tile(host.device_memory(model.load_device)).side_px
    return DiffusionTile(side, settings.overlap_px or side // 8)


def _enlarge(image: Tensor, size: tuple[int, int], parts: DiffusionParts) -> Tensor:
    if tuple(image.shape[2:]) == size:
        return image
    if parts.enlarger is None:
        return resize(image, size).clamp(0, 1)
    model, compute = parts.enlarger
    enlarged = upscale(image, model, size, "luma", compute, _go_on).image
    return project(enlarged, image)
