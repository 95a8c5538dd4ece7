"""`fidelity compare`."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..choices import AUTO_SCALE, DEFAULT_EXISTING, MODEL_SUFFIXES
from ..errors import RefusedError
from . import options
from .terminal import as_usage, open_result, refusing, say, show_progress

_CROP = re.compile(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?")
_Crop = tuple[int, int, int | None, int | None]


def compare_command(
    given: Annotated[list[str], typer.Argument(metavar="INPUT", help="The image to enlarge.")],
    models: Annotated[list[str], typer.Option("--models", metavar="A B ...", help="Models to compare, by name or file.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="SHEET.png", help="Image file for the comparison sheet.")],
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a self-contained page with a slider and a table."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Enlargement factor of all results.", show_default="the reference's, else 4")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(metavar="WxH[+X+Y]", help="Use only this part of the source; without +X+Y, the center."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="The ground truth, for PSNR and similar metrics.")] = None,
    existing: options.Existing = DEFAULT_EXISTING,
    models_dir: options.ModelsDir = None,
    device: options.Device = "auto",
    open_it: options.Open = False,
    as_json: options.Json = False,
) -> None:
    """Enlarge one image with several models; show and measure the raw outputs, unrestored and uncorrected, side by side."""
    from ..decide.target import Target, resolve_target
    from ..files.paths import check_apart, keys_of, settle_output, write_whole
    from ..files.read import read_image
    from ..files.write import check_writable, write_image
    from ..networks.loader import find_model
    from ..report.comparison import check_reference, compare_models, describe_compared, draw_sheet, report_compared
    from ..report.page import build_page

    compute = as_usage(lambda: options.read_compute(device, "auto", "auto", None))
    part = as_usage(lambda: _parse_crop(crop))
    if page and page.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{page} is not an HTML file; wanted a name that ends in .html", param_hint="--page")
    source = as_usage(lambda: _find_input(given))
    names = [*models, *(word for word in given if word != str(source))]
    with refusing(source) as refused, show_progress() as progress:
        read = filter(None, (source, reference, *map(Path, names)))
        check_apart(keys_of(read), [out, page] if page else [out])
        out, page = settle_output(out, existing), settle_output(page, existing) if page else None
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
        known = options.find_models(models_dir)
        chosen = {name: find_model(name, known) for name in names}
        count = partial(progress, "networks") if progress else None
        results = compare_models(image, chosen, size, truth, compute=compute, progress=count)
        write_image(out, draw_sheet(results, truth))
        if page:
            written = build_page(results, source.name, truth).encode()
            write_whole(page, lambda file: file.write(written))
        say(json.dumps(report_compared(results), indent=2) if as_json else "\n".join(map(describe_compared, results)))
        if open_it:
            open_result(page or out)
    if refused:
        raise typer.Exit(1)


def _find_input(words: list[str]) -> Path:
    """Finds the image among the positional arguments: `--models` takes one value, so further models end up here too."""
    images = [word for word in words if Path(word).suffix.lower() not in MODEL_SUFFIXES and Path(word).exists()]
    if len(images) > 1:
        raise RefusedError(f"{' and '.join(images)} are images; wanted only one, and models after --models")
    return Path(images[0] if images else words[0])


def _parse_crop(text: str | None) -> _Crop | None:
    """Parses (width, height, x, y); the last two are None for the center."""
    if text is None:
        return None
    found = _CROP.fullmatch(text)
    if not found or "0" in found.groups()[:2]:
        raise RefusedError(f"--crop is {text!r}; wanted WIDTHxHEIGHT or WIDTHxHEIGHT+X+Y in pixels, as in 256x256+40+0")
    width, height, left, top = found.groups()
    return int(width), int(height), None if left is None else int(left), None if top is None else int(top)


def _place_crop(crop: _Crop, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of a crop within an image.

    Raises:
        RefusedError: If the crop does not lie within the image.
    """
    width, height, left, top = crop
    left = (size[1] - width) // 2 if left is None else left
    top = (size[0] - height) // 2 if top is None else top
    if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
        raise RefusedError(
            f"a crop of {width}x{height} px at {left}, {top} exceeds the image; wanted it within {size[1]}x{size[0]} px"
        )
    return top, left, height, width
