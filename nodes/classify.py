"""The node that detects an image's domain."""

import json
from typing import Any

from comfy_api.latest import io

from ..fidelity.decide.decision import find_telling
from ..fidelity.decide.domain import DOMAINS, classify, named_verdict
from ..fidelity.report.report import DomainReport, to_json
from ..fidelity.report.summary import summarize_verdict
from . import host
from .source import SourceInfo, provenance_of, source_input

_DOMAIN_TIP = "The detected domain. If unsure: the likeliest type of drawing if all total 65 %, otherwise photo or painting."


class FidelityClassifyDomain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityClassifyDomain",
            display_name="Classify Domain (Fidelity)",
            category=host.CATEGORY,
            description="Detects an image's domain from its file and its pixels: photo, anime made with FLUX, anime made with "
            "Stable Diffusion, line art drawn by hand, or painting. Wire the domain into Load Upscale Model (Fidelity), set "
            "to auto.",
            search_aliases=["classify", "detect style", "photo or anime", "image type", "content type"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("image", tooltip="The source. For a batch, only the first image is classified."),
                io.Combo.Input(
                    "override",
                    options=["none", *DOMAINS],
                    default="none",
                    tooltip="Sets the domain yourself. none: detects it from the file and the pixels.",
                ),
                source_input(),
            ],
            outputs=[
                io.Combo.Output("domain", options=list(DOMAINS), tooltip=_DOMAIN_TIP),
                io.Float.Output("confidence", tooltip="Confidence, from 0.2 (no idea) to 1."),
                io.String.Output("report", tooltip="The result, the scores of all five domains and the measurements, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, override: Any, source: SourceInfo | None = None) -> io.NodeOutput:
        images, provenance = host.to_engine(image), provenance_of(source)
        place = find_telling(images)
        verdict = classify(images[place : place + 1], provenance) if override == "none" else named_verdict(override)
        report = json.dumps(to_json(DomainReport.of(verdict)), indent=2)
        shown = host.show_result(cls, summarize_verdict(verdict))
        return io.NodeOutput(verdict.recipe_domain, verdict.confidence, report, ui=shown)
