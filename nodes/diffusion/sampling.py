"""Diffusion nodes: tiling within every step, guidance toward the source, and a complete upscaling pass."""

from typing import Any

from comfy_api.latest import io

from ...fidelity.decide.target import resolve_target
from ...fidelity.steps.diffusion import PASS_FACTOR
from .. import host
from ..target import read_target, target_input
from .denoise import RestorationGuidance, TiledDenoiser
from .passes import DiffusionParts, DiffusionSettings, run_passes

_PASS = DiffusionSettings()
_TILE = TiledDenoiser(1024, 128)
_WHOLE = {"min": 0, "max": 8192, "step": 64}


class FidelityTiledDiffusion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityTiledDiffusion",
            display_name="Tiled Diffusion (Fidelity)",
            category=host.CATEGORY,
            description="Lets any sampler work on images too large for memory: every step runs in tiles that are blended "
            "before the next, so there are no seams. ControlNet and SUPIR hints, masks and inpainting are cropped to match.",
            search_aliases=["mixture of diffusers", "multidiffusion", "tiled ksampler", "ultimate sd upscale", "tile"],
            inputs=[
                io.Model.Input("model", tooltip="SD 1.5, SDXL, or a diffusion transformer; after SUPIR Apply and LoRAs."),
                io.Int.Input(
                    "tile",
                    default=_TILE.tile_px,
                    tooltip="Side of a tile in pixels; use the size the model was trained at.",
                    **{**_WHOLE, "min": 256},
                ),
                io.Int.Input(
                    "overlap",
                    default=_TILE.overlap_px,
                    tooltip="Minimum overlap between neighboring tiles, in pixels; an eighth of the tile is enough.",
                    **{**_WHOLE, "step": 8},
                ),
                io.Combo.Input(
                    "blend",
                    options=["gaussian", "mean"],
                    default=_TILE.blend,
                    tooltip="gaussian: weights tiles most at their center (Mixture of Diffusers). "
                    "mean: weights them equally everywhere (MultiDiffusion).",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The tiled model; an image that fits in one tile is sampled bit for bit as without it.")
            ],
        )

    @classmethod
    def execute(cls, model: io.Model.Type, tile: int, overlap: int, blend: Any) -> io.NodeOutput:
        return io.NodeOutput(TiledDenoiser(tile, overlap, blend).patch(model))


class FidelityRestorationGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        scale: dict[str, Any] = {"min": 0.0, "max": 100.0, "step": 0.1, "advanced": True}
        share: dict[str, Any] = {"default": 1.0, "min": 0.0, "max": 10.0, "step": 0.05, "advanced": True}
        return io.Schema(
            node_id="FidelityRestorationGuidance",
            display_name="Restoration Guidance (Fidelity)",
            category=host.CATEGORY,
            description="SUPIR's guidance for any model: pulls the result toward the source, strongly at high noise and less "
            "and less as it falls. Can also make CFG and ControlNet strength follow the noise.",
            search_aliases=["supir", "restore cfg", "restoration scale", "fidelity", "guidance"],
            inputs=[
                io.Model.Input("model", tooltip="Any model."),
                io.Latent.Input("latent", tooltip="The encoded source: the same latent that goes to the sampler."),
                io.Float.Input(
                    "fidelity",
                    default=0.5,
                    min=0,
                    max=1,
                    step=0.01,
                    tooltip="Higher is more faithful. 0: off. 0.5: SUPIR's default (exponent 4). 1: only the source. "
                    "The weight is (noise / highest noise) ^ (4 (1 - fidelity) / fidelity).",
                ),
                io.Combo.Input(
                    "noise_from",
                    options=["model", "first step"],
                    default="model",
                    tooltip="Which noise counts as the highest. model: the model's own, as in SUPIR; for denoise 1. "
                    "first step: the noise at which this run starts; for low denoise.",
                ),
                io.Combo.Input(
                    "band",
                    options=["all", "gaussian", "wavelet"],
                    default=RestorationGuidance.band,
                    tooltip="What is pulled: everything (all), or only low frequencies, which leaves texture free.",
                ),
                io.Float.Input(
                    "radius",
                    default=RestorationGuidance.radius,
                    min=0.5,
                    max=32,
                    step=0.5,
                    advanced=True,
                    tooltip="Radius of the low band, in latent samples (8 pixels each).",
                ),
                io.Float.Input(
                    "cfg_start", default=0.0, tooltip="CFG at the highest noise; 0 leaves CFG to the sampler.", **scale
                ),
                io.Float.Input("cfg_end", default=0.0, tooltip="CFG at zero noise; used if cfg_start is not 0.", **scale),
                io.Float.Input("control_start", tooltip="Factor on ControlNet strength at the highest noise.", **share),
                io.Float.Input("control_end", tooltip="Factor on ControlNet strength at zero noise.", **share),
            ],
            outputs=[io.Model.Output(tooltip="The guided model.")],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        latent: Any,
        fidelity: float,
        noise_from: str,
        band: Any,
        radius: float,
        cfg_start: float,
        cfg_end: float,
        control_start: float,
        control_end: float,
    ) -> io.NodeOutput:
        guidance = RestorationGuidance(
            latent["samples"],
            fidelity,
            band,
            radius,
            from_first_step=noise_from == "first step",
            cfg=(cfg_start, cfg_end) if cfg_start > 0 else None,
            control=(control_start, control_end),
        )
        return io.NodeOutput(guidance.patch(model))


class FidelityDiffusionPass(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityDiffusionPass",
            display_name="Diffusion Pass (Fidelity)",
            category=host.CATEGORY,
            description="Upscales faithfully with a diffusion model: passes of at most "
            f"{PASS_FACTOR:g} times, each sampled in tiles under guidance with less denoise than the last, with colors matched "
            "to the source and checked at the end.",
            search_aliases=["upscale", "sd upscale", "ultimate sd upscale", "hires fix", "img2img", "tile controlnet", "supir"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("image", tooltip="Grey, RGB or RGBA."),
                io.Model.Input("model", tooltip="SD 1.5, SDXL, or a diffusion transformer."),
                io.Conditioning.Input("positive", tooltip="Positive prompt: what the image shows. A few words are enough."),
                io.Conditioning.Input("negative", tooltip="Negative prompt: what the image should not show."),
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                target_input(),
                io.Float.Input(
                    "denoise",
                    default=_PASS.denoise,
                    min=0,
                    max=1,
                    step=0.01,
                    tooltip="How much the first pass may change, 0 to 1; later passes use 0.75 and 0.625 of it.",
                ),
                io.Float.Input(
                    "fidelity",
                    default=_PASS.fidelity,
                    min=0,
                    max=1,
                    step=0.01,
                    tooltip="How strongly the result is pulled toward the source, 0 to 1. Raise it if details change too much.",
                ),
                io.Int.Input("steps", default=_PASS.steps, min=1, max=1000, tooltip="Sampling steps of each pass."),
                io.Float.Input("cfg", default=_PASS.cfg, min=0, max=100, step=0.1, tooltip="How closely to follow the prompt."),
                io.Combo.Input("sampler_name", options=host.SAMPLERS, default=_PASS.sampler, tooltip="ComfyUI's sampler."),
                io.Combo.Input(
                    "scheduler", options=host.SCHEDULERS, default=_PASS.scheduler, tooltip="ComfyUI's noise schedule."
                ),
                io.Int.Input(
                    "seed",
                    default=_PASS.seed,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Seed of the noise; the same seed gives the same image.",
                ),
                io.Int.Input(
                    "tile",
                    default=_PASS.tile_px,
                    tooltip="Side of a tile in pixels; 0 chooses by memory: 512 up to 8 GB, 768 up to 12, else 1024.",
                    advanced=True,
                    **_WHOLE,
                ),
                io.Int.Input(
                    "overlap",
                    default=_PASS.overlap_px,
                    tooltip="Overlap between tiles in pixels; 0 takes an eighth of the tile.",
                    advanced=True,
                    **{**_WHOLE, "step": 8},
                ),
                io.Float.Input(
                    "control_strength",
                    default=_PASS.control_strength,
                    min=0,
                    max=10,
                    step=0.05,
                    tooltip="Strength of the ControlNet, if one is wired.",
                ),
                io.ControlNet.Input(
                    "control_net", optional=True, tooltip="A tile ControlNet; its hint is the upscaled image of each pass."
                ),
                io.UpscaleModel.Input(
                    "upscale_model", optional=True, tooltip="Upscales before each pass; bicubic if not wired."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The result, at exactly the target's size."),
                io.String.Output(display_name="report", tooltip="Passes, settings and the gate's measurements, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        model: io.Model.Type,
        positive: Any,
        negative: Any,
        vae: Any,
        denoise: float,
        fidelity: float,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        seed: int,
        tile: int,
        overlap: int,
        control_strength: float,
        target: dict[str, Any] | None = None,
        control_net: Any = None,
        upscale_model: Any = None,
    ) -> io.NodeOutput:
        source = host.to_engine(image)
        size = resolve_target((source.shape[2], source.shape[3]), read_target(target), int(PASS_FACTOR))
        enlarger = host.prepare_model(upscale_model, source) if upscale_model is not None else None
        parts = DiffusionParts(model, positive, negative, vae, control_net, enlarger)
        settings = DiffusionSettings(
            denoise, steps, cfg, sampler_name, scheduler, seed, fidelity, control_strength, tile, overlap
        )
        made = run_passes(source, parts, size, settings)
        return io.NodeOutput(host.to_host(made.image), made.report, ui=host.show_result(cls, made.summary))
