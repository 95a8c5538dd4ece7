"""The commands that change nothing and tell: compare, measure, models, doctor."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..decide.model_choice import AUTO_SCALE
from ..decide.target import Target, resolve_target
from ..files.paths import FileRefusedError, write_whole
from ..files.read import read_image
from ..files.write import check_writable, write_image
from ..imaging.drift import Drift
from ..networks.device import DeviceName, choose_device
from ..networks.loader import find_model, list_models
from ..report.comparison import check_reference, compare_models, describe_compared, draw_sheet, report_compared
from ..report.inventory import describe_machine, describe_model, describe_models, examine_machine, report_models
from ..report.measure import measure_images
from ..report.page import build_page
from ..report.report import describe_drift
from .terminal import as_usage, refusing, show_progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelsDirOption = Annotated[
    Path | None, typer.Option(help="A folder of networks beside the shipped ones.", exists=True, file_okay=False)
]

_CROP = re.compile(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?")
_Crop = tuple[int, int, int | None, int | None]


def compare_command(
    given: Annotated[list[str], typer.Argument(metavar="INPUT", help="The image to enlarge.")],
    models: Annotated[list[str], typer.Option("--models", metavar="A B ...", help="Networks by name or file.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="SHEET.png", help="Where the sheet goes.")],
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also a page with a slider and a table, all in one file."),
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Of all results.", show_default="the reference's, else 4")] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="WxH[+X+Y]", help="Only this part of the source; without +X+Y the middle."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="The true image, for PSNR and the like.")] = None,
    models_dir: ModelsDirOption = None,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Enlarge one image by several networks as they are, and show and measure them side by side."""
    place = as_usage(lambda: choose_device(device))
    part = as_usage(lambda: _parse_crop(crop))
    if page and page.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{page} is not an HTML file; wanted a name that ends in .html", param_hint="--page")
    source, names = Path(given[0]), [*models, *given[1:]]  # an option takes one word; those after it arrive as arguments
    with refusing(source) as refused, show_progress() as progress:
        image, truth = read_image(source, "srgb").image, read_image(reference, "srgb").image if reference else None
        whole = (image.shape[2], image.shape[3])
        size = resolve_target(whole, Target(scale), AUTO_SCALE)
        size = (truth.shape[2], truth.shape[3]) if truth is not None and scale is None else size
        check_writable(out, (1, 1), 3)
        check_reference(truth, size)
        if part:
            top, left, height, width = _place_crop(part, whole)
            enlarged = [round(edge * size[0] / whole[0]) for edge in (top, top + height)]
            enlarged += [round(edge * size[1] / whole[1]) for edge in (left, left + width)]
            image = image[:, :, top : top + height, left : left + width]
            size = (enlarged[1] - enlarged[0], enlarged[3] - enlarged[2])
            truth = None if truth is None else truth[:, :, enlarged[0] : enlarged[1], enlarged[2] : enlarged[3]]
        known = list_models([models_dir] if models_dir else [])
        chosen = {name: find_model(name, known) for name in names}
        count = partial(progress, "networks") if progress else None
        results = compare_models(image, chosen, size, truth, device=place, progress=count)
        write_image(out, draw_sheet(results, truth))
        if page:
            written = build_page(results, source.name, truth).encode()
            write_whole(page, lambda file: file.write(written))
        print(json.dumps(report_compared(results), indent=2) if as_json else "\n".join(map(describe_compared, results)))
    if refused:
        raise typer.Exit(1)


def models_command(models_dir: ModelsDirOption = None, as_json: JsonOption = False) -> None:
    """Tell what networks there are, what each is, and which kinds of image take it by themselves."""
    found = describe_models(list_models([models_dir] if models_dir else []))
    if as_json:
        print(json.dumps(report_models(found), indent=2))
        return
    for model in found:
        print(describe_model(model), flush=True)


def doctor_command(as_json: JsonOption = False) -> None:
    """Tell what this machine has, what is used of it, and why."""
    report = examine_machine()
    print(json.dumps(report, indent=2) if as_json else describe_machine(report))


def measure_command(
    reference: Annotated[Path, typer.Argument(help="The source or ground truth.")],
    candidate: Annotated[Path, typer.Argument(help="The image to judge.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two images: PSNR, SSIM, CIEDE2000 and more at one size, else the drift at the smaller size."""
    with refusing() as refused:
        figures = measure_images(read_image(reference, "srgb").image, read_image(candidate, "srgb").image)
    if refused:
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            print(f"{name:<17} {describe_drift(Drift(**value))}")
        else:
            print(f"{name:<17} {value:.4f}" if isinstance(value, float) else f"{name:<17} {value}")


def _parse_crop(text: str | None) -> _Crop | None:
    """(width, height, x, y) of what was written; the last two None for the middle."""
    if text is None:
        return None
    found = _CROP.fullmatch(text)
    if not found or "0" in found.groups()[:2]:
        raise ValueError(f"--crop is {text!r}; wanted WIDTHxHEIGHT or WIDTHxHEIGHT+X+Y in pixels, as in 256x256+40+0")
    width, height, left, top = found.groups()
    return int(width), int(height), None if left is None else int(left), None if top is None else int(top)


def _place_crop(crop: _Crop, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) within an image.

    Raises:
        FileRefusedError: If it does not lie within.
    """
    width, height, left, top = crop
    left = (size[1] - width) // 2 if left is None else left
    top = (size[0] - height) // 2 if top is None else top
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise FileRefusedError(f"a crop of {width}x{height} px at {left}, {top} does not lie within {size[1]}x{size[0]} px")
    return top, left, height, width
