"""Makes an example picture for every node's help page from generated scenes.

python -m tools.showcase.help js/docs/pictures
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fidelity.decide.domain import DOMAINS, classify
from fidelity.decide.model_choice import shipped_model
from fidelity.decide.settings import Settings
from fidelity.imaging.clip_iqa import CROP_PX, place_crops
from fidelity.imaging.color import rgb_to_ycbcr
from fidelity.imaging.drift import drift_map
from fidelity.imaging.resample import resize
from fidelity.imaging.tiling import fade_at_ends
from fidelity.networks.loader import load_model
from fidelity.report.comparison import compare_models, draw_sheet
from fidelity.report.measure import measure_images
from fidelity.report.summary import summarize_enlargement, summarize_metrics, summarize_plan, summarize_verdict
from fidelity.session import Session
from fidelity.steps.diffusion import pass_denoise, plan_pass_sizes
from fidelity.steps.faces import FACE_PX, FADE_SHARE
from fidelity.steps.gate import paint_heat_map
from fidelity.steps.upscale import upscale
from fidelity.video.codecs import Encoding
from fidelity.video.job import upscale_video
from fidelity.video.options import VideoOptions
from fidelity.video.records import describe_info, summarize_video
from fidelity.video.source import VideoSource, show_first_frame
from tools.showcase.hero import draw_scene as draw_harbor
from tools.showcase.ideas import (
    beside,
    chart,
    draw_consistency,
    draw_gate,
    drawn_scene,
    drift_away,
    enlarge_map,
    pull_chart,
    row,
    share_chart,
    times_chart,
)
from tools.showcase.pipeline import generate
from tools.showcase.steps import make_cases
from tools.showcase.thumbnail import draw_source, to_pillow
from tools.showcase.workflows import make_clip

SIDE_PX = 300


def large(image: Tensor) -> Tensor:
    """Resizes an image to the pictures' size."""
    return resize(image, (SIDE_PX, SIDE_PX)).clamp(0, 1)


def middle(image: Tensor) -> Tensor:
    """Magnifies the detail where trees stand in front of the sun."""
    height, width = image.shape[2:]
    piece = image[..., height * 3 // 8 : height * 3 // 4, width * 3 // 8 : width * 3 // 4]
    return piece.repeat_interleave(max(1, SIDE_PX // piece.shape[2]), 2).repeat_interleave(max(1, SIDE_PX // piece.shape[3]), 3)


def text(lines: str, title: str = "") -> Image.Image:
    """Draws lines of text as a node shows them."""
    sheet = Image.new("RGB", (2 * SIDE_PX, 40 + 20 * (lines.count("\n") + 1)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((4, 4), title, fill="dimgray", font=font)
    draw.text((4, 26), lines.replace("→", ">").replace("✓", "").replace("≈", ""), fill="black", font=font, spacing=5)
    return sheet


def case(*names: str) -> Image.Image:
    """Draws cases of `tools.showcase.steps`, each before and after."""
    cases, cells = make_cases(), []
    for name in names:
        image, step = cases[name]
        cells += [(name, large(image)), ("after", large(step(image)))]
    return row(cells)


def auto() -> Image.Image:
    source = draw_source()
    made = Session(Settings(domain="line_art")).run(source)
    summary = text(summarize_enlargement(made).split("\nbetter")[0], "what the node shows")
    return beside([row([("bicubic", middle(resize(source, (400, 400)).clamp(0, 1))), ("result", middle(made.image))]), summary])


def plan() -> Image.Image:
    source = resize(generate("natural", 8), (400, 500)).clamp(0, 1)
    decision = Session(Settings(domain="photo")).decide(source)
    return text(summarize_plan(decision), "a photograph of 500x400, enlarged four times")


def verdict() -> Image.Image:
    picture = generate("drawn", 7)
    result = classify(picture)
    bars = "\n".join(f"{kind:<12}{'=' * round(40 * result.scores[kind])} {result.scores[kind]:.2f}" for kind in DOMAINS)
    return beside(
        [row([("a generated drawing", large(picture))]), text(f"{summarize_verdict(result)}\n\n{bars}", "its verdict")]
    )


def networks() -> Image.Image:
    source = draw_source()
    cells = [("bicubic", middle(resize(source, (400, 400)).clamp(0, 1)))]
    for kind in ("natural", "drawn"):
        cells.append((f"{kind}-x4", middle(upscale(source, load_model(shipped_model(kind, 4)), (400, 400)).image)))
    return row(cells)


def alpha() -> Image.Image:
    scene = large(draw_source())
    ramp = torch.linspace(0, 1, SIDE_PX).expand(1, 1, SIDE_PX, SIDE_PX)
    cells = (torch.arange(SIDE_PX) // 15 % 2).float()
    board = 0.75 + 0.2 * (cells[:, None] != cells).float()
    return row([("a file with transparency", scene * ramp + board * (1 - ramp)), ("mask", 1 - ramp.expand(1, 3, -1, -1))])


def rounding() -> Image.Image:
    """Compares truncation of a soft gradient to 8 bits with rounding; errors are amplified a hundred times."""
    soft = resize(draw_source(), (SIDE_PX, SIDE_PX)).clamp(0, 1)
    cut, rounded = (soft * 255).floor() / 255, (soft * 255).round() / 255
    images = [
        (f"{name}: {drift_map(soft, image, 'full').mean():.2f} mean", image)
        for name, image in (("truncated", cut), ("rounded", rounded))
    ]
    return row([(f"{title}, error x100", (0.5 + 100 * (image - soft)).clamp(0, 1)) for title, image in images])


def measured() -> Image.Image:
    source = draw_source()
    image = drift_away(drawn_scene())
    metrics = text(summarize_metrics(measure_images(source, image)), "measurements")
    heat = enlarge_map(paint_heat_map(drift_map(source, image)), SIDE_PX)
    return beside([row([("an enlargement", large(image)), ("heat map", heat)]), metrics])


def crops() -> Image.Image:
    """The squares that CLIP sees of a picture."""
    seen = to_pillow(draw_harbor())
    draw = ImageDraw.Draw(seen)
    for top, left in place_crops((seen.height, seen.width)):
        draw.rectangle((left, top, left + CROP_PX - 1, top + CROP_PX - 1), outline="white", width=2)
    return seen


def sheet() -> Image.Image:
    models = {f"{kind}-x4": shipped_model(kind, 4) for kind in ("natural", "drawn")}
    drawn = to_pillow(draw_sheet(compare_models(draw_source(), models, (400, 400))))
    drawn.thumbnail((900, 900))
    return drawn


def planes() -> Image.Image:
    scene = rgb_to_ycbcr(large(draw_source()))
    return row([(name, scene[:, index : index + 1].expand(-1, 3, -1, -1)) for index, name in enumerate(("Y", "Cb", "Cr"))])


def passes() -> Image.Image:
    sizes = plan_pass_sizes((768, 768), (4096, 4096))
    lines = [f"{index + 1}. to {size[1]}x{size[0]}, denoise {pass_denoise(index):.2f}" for index, size in enumerate(sizes)]
    return text("\n".join(lines), "an image of 768x768 to 4096x4096")


def faces() -> Image.Image:
    """Draws how a restored square is blended into the image."""
    share = fade_at_ends(FACE_PX, round(FADE_SHARE * FACE_PX))
    return chart([share.tolist()], "weight of the restored face, across its square", "left to right")


def clip() -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        source = VideoSource(make_clip(resize(draw_source(), (200, 200)).clamp(0, 1), Path(folder)))
        facts = text("\n".join(describe_info(source.info).lines()), "what the node shows")
        return beside([row([("first frame", large(show_first_frame(source)))]), facts])


def video() -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        path, output = make_clip(resize(draw_source(), (200, 200)).clamp(0, 1), Path(folder)), Path(folder) / "out.mp4"
        made = upscale_video(path, output, Session(Settings(domain="line_art")), VideoOptions(Encoding("h264")))
        frames = [show_first_frame(VideoSource(one)) for one in (path, output)]
        cells = [("bicubic", middle(resize(frames[0], (400, 384)).clamp(0, 1))), ("result", middle(frames[1]))]
        return beside([row(cells), text(summarize_video(made), "what the node shows")])


DRAWINGS: dict[str, Callable[[], Image.Image]] = {
    "FidelityAutoUpscale": auto,
    "FidelityBeforeAfter": lambda: row(
        [
            ("before", middle(resize(draw_source(), (400, 400)).clamp(0, 1))),
            ("after", middle(drawn_scene())),
        ]
    ),
    "FidelityClassifyDomain": verdict,
    "FidelityCleanup": lambda: case("bilateral", "stairs, antialias"),
    "FidelityClipQuality": crops,
    "FidelityCompareModels": sheet,
    "FidelityConsistency": draw_consistency,
    "FidelityDeltaEGate": draw_gate,
    "FidelityDiffusionPass": passes,
    "FidelityEnhance": lambda: case("enhance"),
    "FidelityGrade": lambda: case("contrast 1.4, saturation 1.3"),
    "FidelityLoadImage": alpha,
    "FidelityLoadUpscaleModel": networks,
    "FidelityLoadVideo": clip,
    "FidelityMeasure": measured,
    "FidelityMergeYCbCr": planes,
    "FidelityPlanPasses": plan,
    "FidelityPrepare": lambda: case("noise, restored", "JPEG 30, restored"),
    "FidelityRestorationGuidance": pull_chart,
    "FidelityRestoreFaces": faces,
    "FidelityRunPasses": lambda: row(
        [
            ("bicubic", middle(resize(draw_source(), (400, 400)).clamp(0, 1))),
            ("raw output of the network", middle(drawn_scene())),
        ]
    ),
    "FidelitySaveImage": rounding,
    "FidelitySplitYCbCr": planes,
    "FidelityTiledDiffusion": share_chart,
    "FidelityTruncatedSampling": times_chart,
    "FidelityUpscale": lambda: row([("source, 100 px", middle(draw_source())), ("400 px", middle(drawn_scene()))]),
    "FidelityVideoUpscale": video,
}
"""Drawing functions by node id."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        picture = draw()
        picture.thumbnail((900, 900), Image.Resampling.LANCZOS)
        picture.save(folder / f"{name}.jpg", quality=82)


if __name__ == "__main__":
    main()
