"""Telling what kind of image this is."""

import json

from comfy_api.latest import io

from ..fidelity.decide.domain import DOMAINS, classify, named_verdict
from ..fidelity.report.report import DomainReport, to_json
from ..fidelity.report.summary import summarize_verdict
from . import host
from .source import SourceInfo, provenance_of, source_input

_DOMAIN_TIP = "The kind of image; a verdict that is unsure gives photo, the safe one."


class FidelityClassifyDomain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityClassifyDomain",
            display_name="Classify Domain (Fidelity)",
            category=host.CATEGORY,
            description="Tells what kind of image this is by what its file says and by its pixels: photo, anime made with "
            "FLUX, anime made with Stable Diffusion, line art drawn by people, or painting. Wire the domain into Load Upscale "
            "Model (Fidelity) on auto.",
            search_aliases=["classify", "detect style", "photo or anime", "image type"],
            hidden=host.TELLING,
            inputs=[
                io.Image.Input("image", tooltip="The source. Of a batch, the first image is judged."),
                io.Combo.Input(
                    "override",
                    options=["none", *DOMAINS],
                    default="none",
                    tooltip="Names the domain yourself; none lets file and pixels decide.",
                ),
                source_input(),
            ],
            outputs=[
                io.Combo.Output("domain", options=list(DOMAINS), tooltip=_DOMAIN_TIP),
                io.Float.Output("confidence", tooltip="How sure that is, from 0.2 (no idea) to 1."),
                io.String.Output("report", tooltip="Verdict, scores of all five and what was measured, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, override: str, source: SourceInfo | None = None) -> io.NodeOutput:
        first, provenance = host.to_engine(image)[:1], provenance_of(source)
        verdict = classify(first, provenance) if override == "none" else named_verdict(override)
        report = json.dumps(to_json(DomainReport.of(verdict)), indent=2)
        shown = host.show_result(cls, summarize_verdict(verdict))
        return io.NodeOutput(verdict.recipe_domain, verdict.confidence, report, ui=shown)
