"""Figures and sheets: how an image compares with its reference, and networks with each other."""

import json
from typing import Any

from comfy_api.latest import io

from ..fidelity.choices import AUTO_SCALE
from ..fidelity.decide.target import resolve_target
from ..fidelity.imaging.drift import drift_map
from ..fidelity.networks.compute import Compute
from ..fidelity.report.comparison import compare_models, describe_compared, draw_sheet, report_compared
from ..fidelity.report.measure import measure_images
from ..fidelity.report.summary import summarize_figures
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
            description="Compares an image with a reference: PSNR, SSIM and CIEDE2000 where both are of one size, the drift of "
            "colours at the smaller size where they are not, with a heat map.",
            search_aliases=["psnr", "ssim", "ciede2000", "delta e", "metrics", "image difference"],
            hidden=host.TELLING,
            inputs=[
                io.Image.Input("image", tooltip="What is judged. Of a batch, the first image."),
                io.Image.Input("reference", tooltip="What it is judged by: the source of an enlargement, or the true image."),
            ],
            outputs=[
                io.Float.Output(display_name="drift_mean", tooltip="Mean CIEDE2000 of the colour band; 1 is just visible."),
                io.Float.Output(display_name="drift_max", tooltip="The largest of any pixel."),
                io.Float.Output(display_name="psnr_y", tooltip="Of luma, in dB; 0 where sizes differ, 999 where nothing does."),
                io.Float.Output(display_name="ssim", tooltip="1 for equal images; 0 where sizes differ."),
                io.Image.Output(display_name="heat_map", tooltip="Drift by place: black none, red 3 CIEDE2000 and more."),
                io.String.Output(display_name="report", tooltip="All figures, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, image: io.Image.Type, reference: io.Image.Type) -> io.NodeOutput:
        candidate, truth = host.to_engine(image)[:1], host.to_engine(reference)[:1]
        figures = measure_images(truth, candidate)
        decibels = 999.0 if figures.get("identical") else figures.get("psnr_y") or 0.0
        heat = host.to_host(paint_heat_map(drift_map(truth, candidate)))
        drift = figures["color"]
        numbers = (drift["mean"], drift["max"], decibels, figures.get("ssim") or 0.0)
        shown = host.show_result(cls, summarize_figures(figures), heat)
        return io.NodeOutput(*numbers, heat, json.dumps(figures, indent=1), ui=shown)


class FidelityCompareModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list(host.list_upscale_models())
        cells = [
            io.Combo.Input(
                f"model_{index}",
                options=[_NONE, *names],
                default=names[min(index - 1, len(names) - 1)] if index <= 2 else _NONE,
                tooltip="A network; none leaves the place out. One that fails is told on the sheet.",
            )
            for index in range(1, _CELLS + 1)
        ]
        return io.Schema(
            node_id="FidelityCompareModels",
            display_name="Compare Models (Fidelity)",
            category=host.CATEGORY,
            description="One image through several networks as they are, side by side at equal zoom, with heat maps of how far "
            "each moved its colours, differences from the true image if there is one, and figures.",
            search_aliases=["compare upscalers", "model comparison", "contact sheet", "benchmark"],
            inputs=[
                io.Image.Input("image", tooltip="Of a batch, the first image. Crop it first: every network runs on all of it."),
                target_input(),
                *cells,
                io.Image.Input("reference", optional=True, tooltip="The true image, to compare with; of the target's size."),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The middle of each at its own pixels, and its maps."),
                io.String.Output(display_name="report", tooltip="A line for each."),
                io.String.Output(display_name="json", tooltip="All figures."),
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
        truth = host.to_engine(reference)[:1] if reference is not None else None
        results = compare_models(
            source, chosen, size, truth, compute=Compute(host.make_room([], source)), progress=host.track_progress()
        )
        figures = json.dumps(report_compared(results), indent=1)
        sheet = host.to_host(draw_sheet(results, truth))
        return io.NodeOutput(sheet, "\n".join(map(describe_compared, results)), figures)
