"""Nodes that decide everything from the image: planning, running the plan, and the whole pipeline in one."""

import json
from typing import Any, get_args

from comfy_api.latest import io

from ..fidelity.choices import BackendChoice, GrainChoice, Tileable
from ..fidelity.decide.decision import Decision
from ..fidelity.decide.domain import DOMAINS
from ..fidelity.decide.recipes import RECIPES, SAFE_DOMAIN
from ..fidelity.decide.settings import Settings
from ..fidelity.networks.backend import check_backend
from ..fidelity.networks.compute import Compute
from ..fidelity.report.report import DecisionReport, Report, to_json
from ..fidelity.report.summary import summarize_enlargement, summarize_plan
from ..fidelity.session import Session, run_passes
from ..fidelity.steps.cleanup import CleanupMethod
from . import host
from .choosing import choosing_inputs
from .restoration import read_strength, restoration_inputs
from .source import SourceInfo, provenance_of, source_input
from .target import read_target, target_input

_Plan = io.Custom("FIDELITY_PLAN")

_GIB = 2**30


def _deciding_inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="Grey, RGB or RGBA. For a batch, the first image decides for all."),
        target_input(),
        *choosing_inputs("Type of image, which decides everything else. auto: detected from the file and the pixels."),
        *restoration_inputs("with an installed 1x model or else the shipped one", advanced=True),
        io.Combo.Input(
            "deband",
            options=["auto", "off", "on"],
            default="auto",
            advanced=True,
            tooltip="Smooths banding in gradients. auto: only if banding is measured.",
        ),
        io.Combo.Input(
            "passes",
            options=["auto", "direct", "stepwise"],
            default="auto",
            advanced=True,
            tooltip="direct: as few passes as possible. stepwise: doubles the size and cleans up in between; for poor sources.",
        ),
        io.Float.Input(
            "memory_gb",
            default=0.0,
            min=0.0,
            max=4096.0,
            step=0.5,
            advanced=True,
            tooltip="Memory limit for images and tiles, in GiB; 0 uses what is free. A target that does not fit is refused.",
        ),
        source_input(),
    ]


def _open_session(settings: Settings, memory_gb: float, backend: BackendChoice = "auto") -> Session:
    device = host.compute_device()
    check_backend(backend, device)
    compute = Compute(device, memory_bytes=int(memory_gb * _GIB) or None, backend=backend)
    return Session(settings, compute, host.list_upscale_models())


class FidelityPlanPasses(host.ChoosingNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityPlanPasses",
            display_name="Plan Passes (Fidelity)",
            category=host.CATEGORY,
            description="Plans how an image reaches its target size before any work starts: domain, measured damage, models, "
            "passes and memory. Refuses a target that does not fit in memory. Run the plan with Run Passes (Fidelity).",
            search_aliases=["multi pass", "upscale plan", "scheduler", "print size", "dpi", "target size", "4k", "8k"],
            hidden=host.WORKFLOW_INPUT,
            inputs=_deciding_inputs(),
            outputs=[
                _Plan.Output(display_name="plan", tooltip="For Run Passes (Fidelity)."),
                io.Combo.Output("domain", options=list(DOMAINS), tooltip="The domain whose recipe is followed."),
                io.Int.Output("width", tooltip="Width of the result in pixels."),
                io.Int.Output("height", tooltip="Height of the result in pixels."),
                io.String.Output(
                    "report", tooltip="Detected domain, measurements, recipe and passes with their memory, as JSON."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        domain: Any,
        model_name: str,
        restore: Any,
        restore_strength: float,
        deband: Any,
        passes: Any,
        memory_gb: float,
        target: dict[str, Any] | None = None,
        source: SourceInfo | None = None,
    ) -> io.NodeOutput:
        settings = Settings(
            read_target(target),
            domain,
            model_name,
            restore=restore,
            deband=deband,
            passes=passes,
            restore_strength=read_strength(restore_strength),
        )
        decision = _open_session(settings, memory_gb).decide(host.to_engine(image), provenance_of(source))
        height, width = decision.target
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
            description="Runs a plan block by block: apart from the image and the result, memory use does not grow with the "
            "size. Then match the result's colors to the reference with Hold Colors (Fidelity).",
            search_aliases=["multi pass", "upscale", "scheduler", "large upscale", "tile", "streaming"],
            inputs=[
                _Plan.Input("plan", tooltip="From Plan Passes (Fidelity), for an image of this size."),
                io.Image.Input("image", tooltip="The image that was planned for."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The upscaled image, as the models produced it."),
                io.Image.Output(
                    display_name="reference", tooltip="The source as the models received it, restored if the plan calls for it."
                ),
            ],
        )

    @classmethod
    def execute(cls, plan: Decision, image: io.Image.Type) -> io.NodeOutput:
        source = host.to_engine(image)
        compute = Compute(host.make_room(plan.planned.networks, source))
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
            tooltip="Filter applied to the result at the end. auto: only if ringing, jagged lines or softness are measured.",
        )
        grain = io.Combo.Input(
            "grain",
            options=list(get_args(GrainChoice)),
            default=recipe.grain,
            advanced=True,
            optional=True,  # prompts from before it existed still run
            tooltip="Adds back film or paper grain that restoration removed, at the result's size. auto: where it is found in "
            "photos, paintings and line art, but not in anime or after JPEG damage.",
        )
        return io.Schema(
            node_id="FidelityAutoUpscale",
            display_name="Auto Upscale (Fidelity)",
            category=host.CATEGORY,
            description="Does the whole job in one node: detects the image's domain, measures damage, plans the passes, "
            "restores, upscales, matches the colors to the source, checks them with CIEDE2000 and reports every decision.",
            search_aliases=[
                *("upscale", "enlarge", "super resolution", "hires", "4k", "8k", "one click", "auto"),
                *("denoise", "deblock", "restore photo", "old photo", "jpeg artifacts", "tile"),
            ],
            hidden=host.WORKFLOW_INPUT,
            inputs=[*_deciding_inputs(), cleanup, grain, host.backend_input(), host.tileable_input()],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The finished image."),
                io.Combo.Output("domain", options=list(DOMAINS), tooltip="The domain whose recipe was followed."),
                io.String.Output("report", tooltip="Every decision and measurement, as JSON; the command writes the same."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        domain: Any,
        model_name: str,
        restore: Any,
        restore_strength: float,
        deband: Any,
        passes: Any,
        memory_gb: float,
        cleanup: Any,
        grain: Any = "auto",
        backend: BackendChoice = "auto",
        tileable: Tileable = "off",
        target: dict[str, Any] | None = None,
        source: SourceInfo | None = None,
    ) -> io.NodeOutput:
        settings = Settings(
            read_target(target),
            domain,
            model_name,
            restore=restore,
            deband=deband,
            passes=passes,
            cleanup=cleanup,
            restore_strength=read_strength(restore_strength),
            grain=grain,
            tileable=tileable,
        )
        session = _open_session(settings, memory_gb, backend)
        pixels = host.to_engine(image)
        decision = session.decide(pixels, provenance_of(source))
        host.make_room(decision.planned.networks, pixels)
        made = session.carry_out(pixels, decision, host.track_stages())
        report = json.dumps(to_json(Report.of(made, session.settings, session.compute)), indent=1)
        shown = host.show_result(cls, summarize_enlargement(made))
        return io.NodeOutput(host.to_host(made.image), decision.recipe.domain, report, ui=shown)
