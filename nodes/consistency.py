"""Nodes that match an upscaled image's colors to its source, and that measure how well they match."""

import json
from typing import Any, get_args

from comfy_api.latest import io
from torch import Tensor

from ..fidelity.choices import Tileable
from ..fidelity.decide.recipes import RECIPES, SAFE_DOMAIN
from ..fidelity.progress import part_of
from ..fidelity.report.report import GateReport, to_json
from ..fidelity.report.summary import summarize_gate
from ..fidelity.steps.consistency import ConsistencyMode, project
from ..fidelity.steps.gate import GateLimits, gate, paint_heat_map
from ..fidelity.steps.transfer import TransferMethod, transfer_colors
from ..fidelity.steps.wrap import unwrap, wrap
from ..fidelity.video.steady import check_steady, steady_frames
from . import host

_RECIPE = RECIPES[SAFE_DOMAIN]
_HELD_SHARE = 0.7
"""Share of the time that holding colors takes where frames are steadied too."""
_SOURCE_TOOLTIP = "The image before upscaling, with the same framing; one for the whole batch, or one per image."


class FidelityConsistency(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityConsistency",
            display_name="Hold Colors (Fidelity)",
            category=host.CATEGORY,
            description="Restores the source's colors and tones after any upscaler, at any scale: a GAN, SUPIR, SeedVR2, a "
            "diffusion pass. Downscaled, the result shows the source's colors; edges stay as sharp as the upscaler made them.",
            search_aliases=[
                *("color fix", "color match", "color correction", "colour correction", "color transfer"),
                *("color drift", "back projection", "wavelet"),
            ],
            inputs=[
                io.Image.Input("image", tooltip="The upscaled image, from any upscaler."),
                io.Image.Input("reference", tooltip=_SOURCE_TOOLTIP),
                io.Combo.Input(
                    "mode",
                    options=["color", "full", *get_args(TransferMethod)],
                    default=_RECIPE.consistency,
                    tooltip="color: preserves colors and tones and leaves edges to the upscaler; use it for everything. "
                    "full: preserves every pixel; only for sources without noise or compression, or lines will ring. "
                    "adain, wavelet: what other nodes do, to compare with.",
                ),
                host.tileable_input(),
                io.Combo.Input(
                    "steady",
                    options=["off", "on"],
                    default="off",
                    optional=True,
                    advanced=True,
                    tooltip="on: for the frames of a video in order; also steadies detail that flickers, along the motion of "
                    "the source. Needs one source frame for each frame, and OpenCV "
                    "(pip install opencv-contrib-python-headless).",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The image with the source's colors.")],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        reference: io.Image.Type,
        mode: ConsistencyMode | TransferMethod,
        tileable: Tileable = "off",
        steady: str = "off",
    ) -> io.NodeOutput:
        source, progress = host.to_engine(reference, "reference"), host.track_progress()
        if steady == "on":
            check_steady(len(image), len(source))
        held_share = 1.0 if steady == "off" else _HELD_SHARE
        for_holding, for_steadying = part_of(progress, 0, held_share), part_of(progress, held_share, 1)

        def hold(near: Tensor) -> Tensor:
            margin = host.choose_margin((source.shape[2], source.shape[3]), (near.shape[2], near.shape[3]), tileable)
            wide, around = wrap(near, margin.target), wrap(source, margin.source)
            if mode in ("color", "full"):
                held = project(wide, around, mode, progress=for_holding)
            else:
                held = transfer_colors(wide, around.to(wide.device), mode)
            held = unwrap(held, margin.target)
            return held if steady == "off" else steady_frames(held, source, for_steadying)

        return io.NodeOutput(host.to_host(host.run_near_compute(hold, image, source)))


class FidelityDeltaEGate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        limit: dict[str, Any] = {"min": 0.0, "max": 100.0, "step": 0.05}
        return io.Schema(
            node_id="FidelityDeltaEGate",
            display_name="Delta-E Gate (Fidelity)",
            category=host.CATEGORY,
            description="Measures how far colors drifted from the source (CIEDE2000 at the source's size) and acts if that "
            "exceeds the limits: blends those regions toward a safe upscale, rejects the image, or only reports.",
            search_aliases=["delta e", "ciede2000", "color check", "color difference", "heat map"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("image", tooltip="The upscaled image, from any upscaler."),
                io.Image.Input("reference", tooltip=_SOURCE_TOOLTIP),
                io.Combo.Input(
                    "action",
                    options=["blend", "reject", "report"],
                    default=_RECIPE.gate,
                    tooltip="What to do if a limit is exceeded. blend: mix the fallback into the failing regions until they "
                    "pass. reject: return the fallback. report: change nothing and only report.",
                ),
                io.Float.Input(
                    "mean_limit",
                    default=GateLimits.mean,
                    tooltip="Largest mean CIEDE2000 allowed for an image; about 1 is just noticeable.",
                    **limit,
                ),
                io.Float.Input("max_limit", default=GateLimits.max, tooltip="Largest CIEDE2000 allowed at any pixel.", **limit),
                io.Image.Input(
                    "fallback",
                    optional=True,
                    tooltip="A safe upscale of the same size as the image; if not wired, the source upscaled bicubically.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The image, the blend, or the fallback."),
                io.Image.Output(display_name="heat_map", tooltip="Drift at the source's size: black is none, red the limit."),
                io.String.Output(display_name="report", tooltip="The measurements and the decision, as JSON."),
                io.Boolean.Output(display_name="passed", tooltip="Whether the input image was within the limits."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        reference: io.Image.Type,
        action: str,
        mean_limit: float,
        max_limit: float,
        fallback: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        limits = GateLimits(mean_limit, max_limit)
        safe = None if fallback is None else host.to_engine(fallback, "fallback")
        source = host.to_engine(reference, "reference")
        decision = host.run_near_compute(lambda near: gate(near, source, action, limits, safe), image, source)  # type: ignore[arg-type]
        heat_map = host.to_host(paint_heat_map(decision.difference, max_limit))
        report = json.dumps({"kind": "gate"} | to_json(GateReport.of(decision, limits)), indent=1)
        shown = host.show_result(cls, summarize_gate(decision, limits), heat_map)
        return io.NodeOutput(host.to_host(decision.image), heat_map, report, decision.passed, ui=shown)
