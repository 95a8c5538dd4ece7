"""Nodes that compare an image with its reference, and models with each other."""

import json
from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import AUTO_SCALE
from ..fidelity.decide.target import resolve_target
from ..fidelity.imaging.drift import drift_map
from ..fidelity.networks.compute import Compute
from ..fidelity.report.comparison import compare_models, describe_compared, draw_sheet, match_for_screen, report_compared
from ..fidelity.report.measure import measure_images
from ..fidelity.report.summary import summarize_metrics, summarize_pair
from ..fidelity.steps.gate import paint_heat_map
from . import host
from .target import read_target, target_input

_NONE = "none"
_CELLS = 4


class FidelityMeasure(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityMeasure",
            display_name="Measure (Fidelity)",
            category=host.CATEGORY,
            description="Compares an image with a reference: PSNR, SSIM and CIEDE2000 if both have the same size, color drift "
            "at the smaller size if not, with a heat map. BRISQUE and NIQE judge the image alone.",
            search_aliases=[
                *("psnr", "ssim", "ciede2000", "delta e", "brisque", "niqe"),
                *("metrics", "image difference", "image quality"),
            ],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("image", tooltip="The image to measure. For a batch, the first image."),
                io.Image.Input(
                    "reference", tooltip="The image to compare it with: the source of the upscale, or the ground truth."
                ),
            ],
            outputs=[
                io.Float.Output(display_name="drift_mean", tooltip="Mean CIEDE2000 of the color band; 1 is just visible."),
                io.Float.Output(display_name="drift_max", tooltip="Largest CIEDE2000 of any pixel."),
                io.Float.Output(
                    display_name="psnr_y", tooltip="PSNR of luma in dB; 0 if the sizes differ, 999 for identical images."
                ),
                io.Float.Output(display_name="ssim", tooltip="1 for identical images; 0 if the sizes differ."),
                io.Image.Output(display_name="heat_map", tooltip="Drift map: black is none, red is CIEDE2000 of 3 or more."),
                io.String.Output(display_name="report", tooltip="All metrics, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, reference: io.Image.Type) -> io.NodeOutput:
        candidate, truth = host.to_engine(image)[:1], host.to_engine(reference, "reference")[:1]
        figures = measure_images(truth, candidate)
        decibels = 999.0 if figures.get("identical") else figures.get("psnr_y") or 0.0
        heat = host.to_host(paint_heat_map(drift_map(truth, candidate)))
        drift = figures["color"]
        numbers = (drift["mean"], drift["max"], decibels, figures.get("ssim") or 0.0)
        shown = host.show_result(cls, summarize_metrics(figures), heat)
        return io.NodeOutput(*numbers, heat, json.dumps(figures, indent=1), ui=shown)


class FidelityBeforeAfter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityBeforeAfter",
            display_name="Before and After (Fidelity)",
            category=host.CATEGORY,
            description="Shows two images on the node with a slider between them. The one before is enlarged bicubically to "
            "the size of the one after, so what the slider shows is what was gained over that.",
            search_aliases=["before after", "compare images", "image comparison", "slider"],
            is_output_node=True,
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Image.Input("before", tooltip="Shown on the left: the source. For a batch, the first image."),
                io.Image.Input("after", tooltip="Shown on the right: the result. For a batch, the first image."),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, before: io.Image.Type, after: io.Image.Type) -> io.NodeOutput:
        first, second = host.to_engine(before, "before")[:1], host.to_engine(after, "after")[:1]
        told = summarize_pair((first.shape[2], first.shape[3]), (second.shape[2], second.shape[3]))
        return io.NodeOutput(ui=host.show_result(cls, told, pair=match_for_screen(first, second)))


class FidelityCompareModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list(host.list_upscale_models())
        cells = [
            io.Combo.Input(
                f"model_{index}",
                options=[_NONE, *names],
                default=names[min(index - 1, len(names) - 1)] if index <= 2 else _NONE,
                tooltip="A model; none leaves the slot empty. If a model fails, the sheet says so.",
            )
            for index in range(1, _CELLS + 1)
        ]
        return io.Schema(
            node_id="FidelityCompareModels",
            display_name="Compare Models (Fidelity)",
            category=host.CATEGORY,
            description="Runs one image through several models and shows the raw results side by side at equal zoom, with heat "
            "maps of their color shift, differences from the ground truth if you have it, and metrics.",
            search_aliases=[
                "before after",
                "compare upscalers",
                "compare upscale models",
                "model comparison",
                "contact sheet",
                "benchmark",
            ],
            inputs=[
                io.Image.Input(
                    "image", tooltip="For a batch, the first image. Crop it first: every model runs on the whole image."
                ),
                target_input(),
                *cells,
                io.Image.Input(
                    "reference", optional=True, tooltip="The ground-truth image to compare with, at the target's size."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The center of each result at 1:1, with its maps."),
                io.String.Output(display_name="report", tooltip="One line per model."),
                io.String.Output(display_name="json", tooltip="All metrics."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: io.Image.Type,
        model_1: str,
        model_2: str,
        model_3: str,
        model_4: str,
        target: dict[str, Any] | None = None,
        reference: io.Image.Type | None = None,
    ) -> io.NodeOutput:
        source = host.to_engine(image)[:1]
        known = host.list_upscale_models()
        chosen = {name: known[name] for name in (model_1, model_2, model_3, model_4) if name != _NONE}
        size = resolve_target((source.shape[2], source.shape[3]), read_target(target), AUTO_SCALE)
        truth = host.to_engine(reference, "reference")[:1] if reference is not None else None
        results = compare_models(
            source, chosen, size, truth, compute=Compute(host.make_room([], source)), progress=host.track_progress()
        )
        figures = json.dumps(report_compared(results), indent=1)
        sheet = host.to_host(draw_sheet(results, truth))
        return io.NodeOutput(sheet, "\n".join(map(describe_compared, results)), figures)
