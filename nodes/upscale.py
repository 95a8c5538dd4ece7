"""Nodes that load a super-resolution model and upscale with it."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import AUTO_SCALE, MIN_TILE_PX, BackendChoice, Domain, Tileable
from ..fidelity.decide.recipes import DEFAULT_VALUES, RECIPES, SAFE_DOMAIN
from ..fidelity.decide.target import resolve_target
from ..fidelity.report.summary import summarize_choice
from ..fidelity.steps.upscale import upscale
from ..fidelity.steps.wrap import unwrap, wrap
from . import host
from .target import read_target, target_input


class FidelityLoadUpscaleModel(host.ChoosingNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityLoadUpscaleModel",
            display_name="Load Upscale Model (Fidelity)",
            category=host.CATEGORY,
            description="Loads a super-resolution model: the best one available for a domain, one that ships with the pack, or "
            "one from models/upscale_models. Also works with ComfyUI's own Upscale Image (using Model).",
            search_aliases=["upscale model loader", "load upscaler", "esrgan", "realesrgan", "super resolution model"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=["auto", *host.list_upscale_models()],
                    default="auto",
                    tooltip="The model. auto: the best one installed for the domain and scale below, or else one that ships "
                    "with the pack: natural for photos and paintings, drawn for anime and line art. "
                    "Put others in models/upscale_models.",
                ),
                io.Combo.Input(
                    "domain",
                    options=list(RECIPES),
                    default=SAFE_DOMAIN,
                    optional=True,
                    tooltip="Type of image that auto chooses for; ignored if you choose a model by name.",
                ),
                io.Float.Input(
                    "scale",
                    default=float(AUTO_SCALE),
                    min=1.0,
                    max=64.0,
                    step=0.01,
                    optional=True,
                    tooltip="Upscaling factor that auto chooses for; up to 2 takes a 2x model, above 2 a 4x model.",
                ),
                host.backend_input(),
            ],
            outputs=[
                io.UpscaleModel.Output(tooltip="For Upscale (Fidelity) or ComfyUI's own Upscale Image (using Model)."),
                io.String.Output("choice", tooltip="Which model was chosen, why, and which better one you could install."),
            ],
        )

    @classmethod
    def execute(
        cls, model_name: str, domain: Domain = SAFE_DOMAIN, scale: float = AUTO_SCALE, backend: BackendChoice = "auto"
    ) -> io.NodeOutput:
        model, choice = host.load_upscale_model(model_name, domain, scale, backend)
        better = f" Better: {choice.better}." if choice.better else ""
        shown = host.show_result(cls, summarize_choice(choice.path.name, choice))
        return io.NodeOutput(model, f"{choice.path.name}: {choice.reason}.{better}", ui=shown)


class FidelityUpscale(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityUpscale",
            display_name="Upscale (Fidelity)",
            category=host.CATEGORY,
            description="Upscales images with a model to exactly the size you ask for. Grey stays grey, transparency is kept "
            "without fringes, and if memory runs out the tiles get smaller instead of the node failing.",
            search_aliases=["upscale", "enlarge", "super resolution", "upscale image using model", "hires", "tile", "4k"],
            inputs=[
                io.UpscaleModel.Input("upscale_model", tooltip="From Load Upscale Model (Fidelity) or ComfyUI's own loader."),
                io.Image.Input("image", tooltip="Grey, RGB or RGBA; a batch is upscaled image by image."),
                target_input(),
                io.Combo.Input(
                    "channels",
                    options=["luma", "rgb"],
                    default=DEFAULT_VALUES["channels"],
                    tooltip="luma: the model changes only brightness; colors are resampled and stay true. "
                    "rgb: it changes colors too, which restores colors damaged by JPEG.",
                ),
                io.Int.Input(
                    "tile",
                    default=0,
                    min=0,
                    max=8192,
                    step=16,
                    advanced=True,
                    tooltip=f"Side of a tile in source pixels, at least {MIN_TILE_PX}; 0 chooses by memory.",
                ),
                host.tileable_input(),
            ],
            outputs=[io.Image.Output(tooltip="The upscaled images.")],
        )

    @classmethod
    def execute(
        cls,
        upscale_model: Any,
        image: io.Image.Type,
        channels: str,
        tile: int,
        target: dict[str, Any] | None = None,
        tileable: Tileable = "off",
    ) -> io.NodeOutput:
        source = host.to_engine(image)
        size = source.shape[2], source.shape[3]
        model, compute = host.prepare_model(upscale_model, source)
        wanted = resolve_target(size, read_target(target), model.scale)
        margin = host.choose_margin(size, wanted, tileable)
        larger = margin.around(size, wanted)[1]
        compute = replace(compute, tile_px=tile or None)
        result = upscale(wrap(source, margin.source), model, larger, channels, compute, host.track_progress())  # type: ignore[arg-type]
        return io.NodeOutput(host.to_host(unwrap(result.image, margin.target)))
