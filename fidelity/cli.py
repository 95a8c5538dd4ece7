"""The `fidelity` command. Exit 0 done, 1 something was refused, 2 wrong usage."""

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

try:
    import typer

    from .commands.terminal import as_usage, refusing, show_progress
except ModuleNotFoundError as error:  # the pack inside ComfyUI installs none of these
    raise SystemExit(f"{error.name} is missing; the command wants: pip install 'fidelity-upscale[standalone]'") from error


from . import __version__
from .commands.inspect import JsonOption, ModelsDirOption, compare_command, doctor_command, measure_command, models_command
from .commands.queue import queue_command
from .decide.damage import measure_conditions
from .decide.domain import classify
from .decide.model_choice import AUTO_SCALE, ModelChooser, estimate_seconds
from .decide.recipes import RECIPES, settle
from .decide.target import Target, parse_memory, parse_print_size
from .files.metadata import read_provenance
from .files.paths import check_folder, expand_input, free_memory_bytes, name_outputs, write_whole
from .files.read import ColorSpace, read_image
from .files.write import Export
from .job import Job, upscale_file
from .networks.device import DeviceName, Precision, choose_device
from .networks.loader import list_models
from .networks.runner import MIN_TILE_PX
from .pipeline import Order, decide
from .report.report import describe, describe_plan, describe_verdict, report_plan

app = typer.Typer(
    help="Enlarge images so that they stay themselves: colours held, and proven.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

DomainChoice = Literal["auto", "photo", "anime_flux", "anime_sd", "line_art", "painting"]

_PrintOption = Annotated[
    str | None, typer.Option(metavar="SHEET", help="The largest that fits on a sheet, as in 30x20cm@300 (dots to an inch).")
]
_RestoreOption = Annotated[
    Literal["auto", "denoise", "deblock", "off"],
    typer.Option(help="What is mended first, by a network at x1 if one is installed, else by a filter."),
]
_PassesOption = Annotated[
    Literal["auto", "direct", "stepwise"], typer.Option(help="As few passes as possible, or doubling and cleaning in between.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fidelity {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("upscale")
def upscale_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="A file for one image, else a folder.")],
    scale: Annotated[
        float | None, typer.Option(help="Factor on both sides.", show_default="the model's own, 4 for auto")
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Exact size in pixels.")] = None,
    long_edge: Annotated[int | None, typer.Option(metavar="PX", help="Pixels along the longer side.")] = None,
    megapixels: Annotated[float | None, typer.Option(metavar="MP", help="Millions of pixels.")] = None,
    print_size: _PrintOption = None,
    domain: Annotated[DomainChoice, typer.Option(help="What kind of image it is; decides the other defaults.")] = "auto",
    model: Annotated[
        str, typer.Option(metavar="NAME_OR_FILE", help="The network; auto takes the best one for the domain and the scale.")
    ] = "auto",
    models_dir: ModelsDirOption = None,
    channels: Annotated[
        Literal["auto", "luma", "rgb"], typer.Option(help="Luma alone through the network, or all colours.")
    ] = "auto",
    consistency: Annotated[
        Literal["auto", "off", "color", "full"],
        typer.Option(help="Holds the source's colours and tones, or every pixel (for pristine sources)."),
    ] = "auto",
    gate: Annotated[
        Literal["blend", "reject", "report", "off"] | None,
        typer.Option(help="Where colours drifted all the same: blend back, refuse, only tell.", show_default="blend"),
    ] = None,
    restore: _RestoreOption = "auto",
    deband: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="Evens out the stairs of gradients; auto where they are measured.")
    ] = "auto",
    passes: _PassesOption = "auto",
    cleanup: Annotated[
        Literal["auto", "bilateral", "guided", "median", "antialias", "unsharp", "off"],
        typer.Option(help="What is done to the result at the end."),
    ] = "auto",
    tile: Annotated[str, typer.Option(metavar="auto|PX", help="Side of a tile in pixels of the source.")] = "auto",
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = "auto",
    format: Annotated[Literal["png", "jpg", "webp", "tif"], typer.Option(help="Of results that go into a folder.")] = "png",
    bits: Annotated[
        Literal["auto", "8", "16"], typer.Option(help="A channel, in PNG and TIFF; auto is as deep as the source.")
    ] = "auto",
    quality: Annotated[
        int | None, typer.Option(metavar="1..100", help="Of JPEG, and of WebP.", show_default="JPEG 95, WebP lossless")
    ] = None,
    color_space: Annotated[
        ColorSpace, typer.Option(help="Keep the source's colour profile and its samples, or convert to sRGB.")
    ] = "source",
    strip_gps: Annotated[bool, typer.Option("--strip-gps", help="Leave out where the source was taken.")] = False,
    size_suffix: Annotated[
        bool, typer.Option("--size-suffix", help="Add the size to the name, as in cat_2048x1536.png.")
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Where to write the figures.")] = None,
) -> None:
    """Enlarge images, hold their colours, and report how well they were held."""
    target = as_usage(lambda: _read_target(scale, size, long_edge, megapixels, print_size))
    tile_px = as_usage(lambda: _parse_tile(tile))
    place = as_usage(lambda: choose_device(device))
    changes = {
        "channels": channels,
        "consistency": consistency,
        "gate": gate,
        "restore": restore,
        "deband": deband,
        "passes": passes,
        "cleanup": cleanup,
    }
    files: list[Path] = []
    failures = 0
    for path in inputs:
        with refusing() as refused:
            files += expand_input(path)
        failures += len(refused)
    with refusing() as refused:
        if report:
            check_folder(report)
        chooser = ModelChooser(model, list_models([models_dir] if models_dir else []))
    if refused or not files:
        raise typer.Exit(1)
    job = Job(
        chooser,
        Order(target, domain, changes),
        place,
        precision,
        tile_px,
        as_usage(lambda: _make_export(bits, quality)),
        keeps_depth=bits == "auto",
        color_space=color_space,
        keep_gps=not strip_gps,
        size_suffix=size_suffix,
    )
    outputs = _place_outputs(inputs, files, out, f".{format}")
    reports: list[dict[str, Any]] = []
    with show_progress() as progress:
        for source, output in zip(files, outputs, strict=True):
            with refusing(source) as refused:
                made = upscale_file(source, output, job, progress)
                reports.append(made)
                print(describe(made), flush=True)
            failures += len(refused)
    if report:
        with refusing() as refused:
            write_whole(report, lambda file: file.write((json.dumps(reports, indent=2) + "\n").encode()))
        failures += len(refused)
    if failures:
        raise typer.Exit(1)


@app.command("classify")
def classify_command(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files, or folders of them.")],
    ignore_metadata: Annotated[bool, typer.Option(help="Judge by the pixels alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, the recipe included.")] = False,
) -> None:
    """Tell what kind of image each one is, how sure that is, why, and which recipe follows."""
    verdicts: list[dict[str, Any]] = []
    failures = 0
    for path in inputs:
        files: list[Path] = []
        with refusing() as refused:
            files = expand_input(path)
        failures += len(refused)
        for source in files:
            with refusing(source) as refused:
                image = read_image(source).image
                verdict = classify(image, None if ignore_metadata else read_provenance(source))
                conditions = measure_conditions(image)
                recipe, reasons = settle(RECIPES[verdict.recipe_domain], conditions)
                details = {"conditions": asdict(conditions), "recipe": asdict(recipe), "switched": list(reasons)}
                verdicts.append({"path": str(source)} | describe_verdict(verdict) | details)
                if not as_json:
                    unsure = "" if verdict.is_sure else f"  (unsure: recipe {verdict.recipe_domain})"
                    why = "; ".join((*verdict.evidence, *reasons))
                    print(f"{source}  {verdict.label} {verdict.confidence:.2f}{unsure}  {why}", flush=True)
            failures += len(refused)
    if as_json:
        print(json.dumps(verdicts, indent=2))
    if failures:
        raise typer.Exit(1)


@app.command("plan")
def plan_command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image file.")],
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Exact size in pixels.")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor on both sides.", show_default=str(AUTO_SCALE))] = None,
    long_edge: Annotated[int | None, typer.Option(metavar="PX", help="Pixels along the longer side.")] = None,
    megapixels: Annotated[float | None, typer.Option(metavar="MP", help="Millions of pixels.")] = None,
    print_size: _PrintOption = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What may be used, as in 8GB.", show_default="what is free")
    ] = None,
    domain: Annotated[DomainChoice, typer.Option(help="What kind of image it is.")] = "auto",
    model: Annotated[str, typer.Option(metavar="NAME_OR_FILE", help="The network.")] = "auto",
    models_dir: ModelsDirOption = None,
    restore: _RestoreOption = "auto",
    passes: _PassesOption = "auto",
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Say how an image would be enlarged: passes, networks, memory and time, before any of it is done."""
    target = as_usage(lambda: _read_target(scale, size, long_edge, megapixels, print_size))
    memory_bytes = as_usage(lambda: parse_memory(memory)) if memory else free_memory_bytes()
    place = as_usage(lambda: choose_device(device))
    with refusing(source) as refused:
        chooser = ModelChooser(model, list_models([models_dir] if models_dir else []))
        order = Order(target, domain, {"restore": restore, "passes": passes})
        planned = decide(read_image(source).image, chooser, order, memory_bytes, read_provenance(source)).planned
        seconds = estimate_seconds(planned, place, precision)
        print(json.dumps(report_plan(planned, seconds), indent=2) if as_json else describe_plan(planned, seconds))
    if refused:
        raise typer.Exit(1)


app.command("compare")(compare_command)
app.command("models")(models_command)
app.command("doctor")(doctor_command)
app.command("measure")(measure_command)
app.command("queue")(queue_command)


def main() -> None:
    """Runs the command; names that the terminal cannot show are shown escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


def _place_outputs(inputs: list[Path], files: list[Path], out: Path, suffix: str) -> list[Path]:
    is_folder = out.is_dir() or not out.suffix or len(files) > 1 or any(path.is_dir() for path in inputs)
    if is_folder and out.suffix and not out.is_dir():
        raise typer.BadParameter(f"{out} is one file, but there are {len(files)} images; wanted a folder", param_hint="-o")
    return name_outputs(files, out, is_folder, suffix)


def _read_target(
    scale: float | None, size: str | None, long_edge: int | None, megapixels: float | None, print_size: str | None
) -> Target:
    sheet = parse_print_size(print_size) if print_size else None
    return Target(scale, _parse_size(size), long_edge, megapixels, sheet)


def _make_export(bits: str, quality: int | None) -> Export:
    depth = 16 if bits == "16" else 8
    return Export(depth) if quality is None else Export(depth, quality, lossless=False)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdigit() or not height.isdigit():
        raise ValueError(f"--size is {text!r}; wanted WIDTHxHEIGHT in pixels, as in 1920x1080")
    return int(height), int(width)


def _parse_tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < MIN_TILE_PX:
        raise ValueError(f"--tile is {text!r}; wanted auto or at least {MIN_TILE_PX} pixels")
    return int(text)
