"""Deciding everything from the image: the plan, the passes, and the whole pipeline in one node."""

import json
from typing import Any, get_args

from comfy_api.latest import io

from ..fidelity.decide.decision import Decision
from ..fidelity.decide.domain import DOMAINS
from ..fidelity.decide.recipes import RECIPES, SAFE_DOMAIN
from ..fidelity.decide.settings import Settings
from ..fidelity.networks.compute import Compute
from ..fidelity.report.report import DecisionReport, Report, to_json
from ..fidelity.report.summary import summarize_enlargement, summarize_plan
from ..fidelity.session import Session, run_passes
from ..fidelity.steps.cleanup import CleanupMethod
from . import host
from .source import SourceInfo, provenance_of, source_input
from .target import read_target, target_input

_Plan = io.Custom("FIDELITY_PLAN")

_GIB = 2**30


def _deciding_inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Grey, RGB or RGBA. Of a batch, the first image decides for all."),
        target_input(),
        io.Combo.Input(
            "domain",
            options=["auto", *DOMAINS],
            default="auto",
            tooltip="The kind of image, which decides everything else; auto lets the pixels tell.",
        ),
        io.Combo.Input(
            "model_name",
            options=["auto", *host.list_upscale_models()],
            default="auto",
            tooltip="The network; auto takes the best one installed for the kind of image and the scale.",
        ),
        io.Combo.Input(
            "restore",
            options=["auto", "off", "denoise", "deblock"],
            default="auto",
            advanced=True,
            tooltip="Mends the source first, by a x1 network if one is installed, else by a filter. "
            "auto: only where noise or JPEG damage is measured.",
        ),
        io.Combo.Input(
            "deband",
            options=["auto", "off", "on"],
            default="auto",
            advanced=True,
            tooltip="Evens out the stairs of gradients. auto: only where banding is measured.",
        ),
        io.Combo.Input(
            "passes",
            options=["auto", "direct", "stepwise"],
            default="auto",
            advanced=True,
            tooltip="direct: as few passes as reach the size. stepwise: doubles and cleans in between; for bad sources.",
        ),
        io.Float.Input(
            "memory_gb",
            default=0.0,
            min=0.0,
            max=4096.0,
            step=0.5,
            advanced=True,
            tooltip="Memory that images and tiles may take, in GiB; 0 for what is free. What does not fit is refused.",
        ),
        source_input(),
    ]


def _open_session(settings: Settings, memory_gb: float) -> Session:
    compute = Compute(host.compute_device(), memory_bytes=int(memory_gb * _GIB) or None)
    return Session(settings, compute, host.list_upscale_models())


class FidelityPlanPasses(host.ChoosingNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityPlanPasses",
            display_name="Plan Passes (Fidelity)",
            category=host.CATEGORY,
            description="Decides how an image gets to a size before any of it is done: its kind, networks, passes, memory, "
            "and what damage was measured. Refuses what does not fit into memory. Run it with Run Passes (Fidelity).",
            search_aliases=["multi pass", "upscale plan", "scheduler", "print size", "dpi", "target size"],
            hidden=host.TELLING,
            inputs=_deciding_inputs(),
            outputs=[
                _Plan.Output(display_name="plan", tooltip="For Run Passes (Fidelity)."),
                io.Combo.Output("domain", options=list(DOMAINS), tooltip="The kind of image whose recipe is followed."),
                io.Int.Output("width", tooltip="Width of the result in pixels."),
                io.Int.Output("height", tooltip="Height of the result in pixels."),
                io.String.Output("report", tooltip="Verdict, measurements, recipe and passes with their memory, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        domain: Any,
        model_name: str,
        restore: Any,
        deband: Any,
        passes: Any,
        memory_gb: float,
        target: dict[str, Any] | None = None,
        source: SourceInfo | None = None,
    ) -> io.NodeOutput:
        settings = Settings(read_target(target), domain, model_name, restore=restore, deband=deband, passes=passes)
        decision = _open_session(settings, memory_gb).decide(host.to_engine(image), provenance_of(source))
        height, width = decision.planned.plan.target
        report = json.dumps(to_json(DecisionReport.of(decision)), indent=1)
        shown = host.show_result(cls, summarize_plan(decision))
        return io.NodeOutput(decision, decision.recipe.domain, width, height, report, ui=shown)


class FidelityRunPasses(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityRunPasses",
            display_name="Run Passes (Fidelity)",
            category=host.CATEGORY,
            description="Runs a plan block by block: beside the image and the result, memory does not grow with the size. "
            "Hold the result's colours to the reference with Hold Colors (Fidelity).",
            search_aliases=["multi pass", "upscale", "scheduler", "large upscale", "streaming"],
            inputs=[
                _Plan.Input("plan", tooltip="From Plan Passes (Fidelity), for an image of this size."),
                io.Image.Input("image", tooltip="The image that was planned for."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The enlarged image, as the networks drew it."),
                io.Image.Output(
                    display_name="reference", tooltip="The source as it was sent to them, mended if the plan says so."
                ),
            ],
        )

    @classmethod
    def execute(cls, plan: Decision, image: io.Image.Type) -> io.NodeOutput:
        source = host.to_engine(image)
        compute = Compute(host.make_room((plan.planned.restorer, *plan.planned.models), source))
        raw = run_passes(source, plan, compute, host.track_stages())
        return io.NodeOutput(host.to_host(raw.image), host.to_host(raw.reference))


class FidelityAutoUpscale(host.ChoosingNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        recipe = RECIPES[SAFE_DOMAIN]
        cleanup = io.Combo.Input(
            "cleanup",
            options=["auto", "off", *get_args(CleanupMethod)],
            default=recipe.cleanup,
            advanced=True,
            tooltip="What is done to the result at the end. auto: only where ringing, jagged lines or softness are measured.",
        )
        return io.Schema(
            node_id="FidelityAutoUpscale",
            display_name="Auto Upscale (Fidelity)",
            category=host.CATEGORY,
            description="The whole way in one node: tells what kind of image it is, measures its damage, plans the passes, "
            "enlarges, holds the colours to the source, checks them by CIEDE2000 and reports every decision.",
            search_aliases=["upscale", "enlarge", "super resolution", "hires", "one click", "auto"],
            hidden=host.TELLING,
            inputs=[*_deciding_inputs(), cleanup],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The finished image."),
                io.Combo.Output("domain", options=list(DOMAINS), tooltip="The kind of image whose recipe was followed."),
                io.String.Output("report", tooltip="Every decision and figure, as JSON; the same as the command writes."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        domain: Any,
        model_name: str,
        restore: Any,
        deband: Any,
        passes: Any,
        memory_gb: float,
        cleanup: Any,
        target: dict[str, Any] | None = None,
        source: SourceInfo | None = None,
    ) -> io.NodeOutput:
        steps: dict[str, Any] = {"restore": restore, "deband": deband, "passes": passes, "cleanup": cleanup}
        session = _open_session(Settings(read_target(target), domain, model_name, **steps), memory_gb)
        pixels = host.to_engine(image)
        decision = session.decide(pixels, provenance_of(source))
        host.make_room((decision.planned.restorer, *decision.planned.models), pixels)
        made = session.carry_out(pixels, decision, host.track_stages())
        report = json.dumps(to_json(Report.of(made, session.settings, session.compute)), indent=1)
        shown = host.show_result(cls, summarize_enlargement(made))
        return io.NodeOutput(host.to_host(made.image), decision.recipe.domain, report, ui=shown)
