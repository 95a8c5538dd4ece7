"""`fidelity upscale`."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..choices import DEFAULT_EXISTING, HdrChoice, Tileable
from ..errors import RefusedError
from . import options
from .terminal import as_usage, open_result, refusing, say, say_line, show_progress

if TYPE_CHECKING:
    from ..job import FileOptions
    from ..report.report import Report
    from ..session import Session


def upscale_command(
    inputs: options.Inputs,
    out: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="A file for one image, otherwise a folder.")],
    scale: options.Scale = None,
    size: options.Size = None,
    fit: options.Fit = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    print_size: options.PrintSheet = None,
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    channels: options.Channels = "auto",
    consistency: options.Consistency = "auto",
    gate: options.Gate = "auto",
    restore: options.Restore = "auto",
    deband: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(help="Smooth banding in gradients; auto: if banding is measured.", rich_help_panel=options.WORK),
    ] = "auto",
    passes: options.Passes = "auto",
    cleanup: Annotated[
        Literal["auto", "bilateral", "guided", "median", "antialias", "unsharp", "off"],
        typer.Option(help="Filter applied to the result at the end.", rich_help_panel=options.WORK),
    ] = "auto",
    grain: options.Grain = "auto",
    tile: options.Tile = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    memory: options.Memory = None,
    format: Annotated[
        options.FileFormat | None,
        typer.Option(help="File format of results in a folder.", show_default="png", rich_help_panel=options.FILES),
    ] = None,
    bits: options.Bits = "auto",
    quality: options.Quality = None,
    color_space: options.SampleSpace = "source",
    strip_gps: options.StripGps = False,
    size_suffix: Annotated[
        bool,
        typer.Option(
            "--size-suffix", help="Add the size to the file name, as in cat_2048x1536.png.", rich_help_panel=options.FILES
        ),
    ] = False,
    tileable: Annotated[
        Tileable,
        typer.Option(
            help="Keep textures that repeat, and panoramas (x), seamless at opposite edges.", rich_help_panel=options.WORK
        ),
    ] = "off",
    recursive: options.Recursive = False,
    existing: options.Existing = DEFAULT_EXISTING,
    hdr: Annotated[
        HdrChoice,
        typer.Option(
            help="High dynamic range (PQ, HLG): keep it, in 16-bit PNG or 12-bit AVIF; sdr, as auto: tone map it to sRGB.",
            rich_help_panel=options.FILES,
        ),
    ] = "auto",
    flatten: options.Flatten = None,
    max_megapixels: options.MaxMegapixels = None,
    pyramid: Annotated[
        bool,
        typer.Option(
            "--pyramid",
            help="Store smaller copies in a TIFF too, for viewers of large pictures.",
            rich_help_panel=options.FILES,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done and where results would go.", rich_help_panel=options.TOLD),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="File for the JSON report.", rich_help_panel=options.TOLD)
    ] = None,
    open_it: options.Open = False,
    quiet: options.Quiet = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Say for each image what was decided, and why.", rich_help_panel=options.TOLD),
    ] = False,
) -> None:
    """Enlarge images, preserve their colors, and report how well they were preserved."""
    detail = "quiet" if quiet else "verbose" if verbose else "short"
    if quiet and verbose:
        raise typer.BadParameter("--verbose was given too; wanted one of them", param_hint="--quiet")
    files, folders, failures = _find(inputs, recursive, out)
    if not failures and not size_suffix:
        options.refuse_own_input(inputs, out, ", or --size-suffix")
    if not files:
        raise typer.Exit(1)  # before the second or two that importing PyTorch takes

    from ..decide.settings import Settings
    from ..files.paths import check_apart, check_folder, check_report, keys_of, name_outputs, refuse_existing
    from ..files.write import Export, check_options
    from ..job import FileOptions
    from ..session import Session

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, print_size, preset, fit))
    compute = as_usage(lambda: options.read_compute(device, precision, tile, memory, backend))
    what, strength = as_usage(lambda: options.read_restore(restore))
    if hdr == "keep" and (color_space == "srgb" or bits == "8"):
        reason = "keep needs 16 bits and the source's color space; wanted no --bits 8 or --color-space srgb"
        raise typer.BadParameter(reason, param_hint="--hdr")
    background = as_usage(lambda: options.read_color(flatten)) if flatten is not None else None
    settings = Settings(
        target, domain, model, channels, consistency, gate, what, deband, passes, cleanup, strength, grain, tileable
    )
    depth = 16 if bits == "16" else 8
    export = as_usage(lambda: Export(depth) if quality is None else Export(depth, quality, lossless=False))
    is_folder = _is_folder(out, inputs, files)
    suffix = options.read_format(format or "png") if is_folder else out.suffix.lower()
    if not is_folder and format:
        raise typer.BadParameter(f"{out} already sets the format; wanted a folder, or no --format", param_hint="--format")
    as_usage(lambda: check_options(suffix, 16 if bits == "16" else None, quality))
    outputs, sources = name_outputs(files, out, is_folder, suffix, folders), keys_of(files)
    with refusing() as refused:
        if report:
            check_folder(report)
            check_apart(sources, [report])
            check_apart({}, [*outputs, report])
            check_report(report)
        if existing == "refuse" and not size_suffix:
            refuse_existing(outputs, sources)
        session = Session(settings, compute, options.find_models(models_dir))
    if refused:
        raise typer.Exit(1)
    file_options = FileOptions(
        replace(export, pyramid=pyramid),
        bits == "auto",
        color_space,
        not strip_gps,
        size_suffix,
        existing,
        hdr,
        sources,
        background,
        max_megapixels,
    )
    pairs = list(zip(files, outputs, strict=True))
    if dry_run:
        failures += _show_jobs(pairs, session, file_options)
    else:
        failures += _run_jobs(pairs, session, file_options, report, detail, open_it)
    if failures:
        raise typer.Exit(1)


def _find(inputs: list[Path], recursive: bool, out: Path) -> tuple[list[Path], list[Path], int]:
    """The images to enlarge, the folder of each within its input, and how many inputs were refused."""
    from ..files.paths import find_images

    files: list[Path] = []
    folders: list[Path] = []
    failures = 0
    for path in inputs:
        with refusing() as refused:
            found = find_images(path, recursive, out)
            files, folders = files + found.files, folders + found.folders
            if found.other_files:
                videos = f", {found.videos} of them videos: fidelity video {path} -o OUT" if found.videos else ""
                say_line(f"{path}: {found.other_files} other file{'s' if found.other_files > 1 else ''} skipped{videos}")
        failures += len(refused)
        for folder in found.unread_folders if not refused else ():
            with refusing() as refused:
                raise RefusedError(f"{folder}: is a folder that cannot be read")
            failures += len(refused)
    return files, folders, failures


def _run_jobs(
    pairs: list[tuple[Path, Path]],
    session: "Session",
    file_options: "FileOptions",
    report: Path | None,
    detail: str,
    opens: bool,
) -> int:
    """Enlarges the files, prints a line for each and writes the report; returns how many failed."""
    from ..files.journal import parts_folder
    from ..files.paths import SkippedError, write_whole
    from ..folder import upscale_files
    from ..report.report import to_json
    from ..report.text import describe_report, summarize_report, summarize_reports

    failures, began = 0, time.perf_counter()
    reports: dict[int, Report] = {}
    with show_progress() as progress:
        try:
            for number, outcome in enumerate(upscale_files(pairs, session, file_options, progress), 1):
                place = f"[{number}/{len(pairs)}] " if len(pairs) > 1 else ""
                if isinstance(outcome.result, SkippedError):
                    say_line(f"{place}{outcome.result}")
                    continue
                with refusing(pairs[outcome.index][0]) as refused:
                    made = outcome.report()
                    reports[outcome.index] = made
                    if detail != "quiet":
                        first, *more = describe_report(made) if detail == "verbose" else [summarize_report(made)]
                        for line in (place + first, *more):
                            say_line(line)
                failures += len(refused)
        except KeyboardInterrupt:
            kept = [parts_folder(output) for _, output in pairs if parts_folder(output).is_dir()]
            resumes = f"; finished pieces are in {kept[0]}, and the same command resumes" if kept else ""
            resumes = resumes or ("; --existing skip goes on with the others" if reports and len(pairs) > 1 else "")
            say_line(f"interrupted; {len(reports)} of {len(pairs)} finished{resumes}")
            raise typer.Exit(130) from None
    if len(pairs) > 1 and detail != "quiet":
        say_line(summarize_reports(list(reports.values()), failures, time.perf_counter() - began))
    if report:
        with refusing() as refused:
            content = json.dumps([to_json(reports[index]) for index in sorted(reports)], indent=2) + "\n"
            write_whole(report, lambda file: file.write(content.encode()))
        failures += len(refused)
    if opens and reports:
        made = reports[min(reports)].output
        assert made
        open_result(
            Path(os.path.commonpath([one.parent for _, one in pairs])) if len(pairs) > 1 else _find_page(Path(made.path))
        )
    return failures


def _find_page(result: Path) -> Path:
    """What shows a result: of tiles for the web, the page beside them."""
    page = result.with_suffix(".html")
    return page if result.suffix == ".dzi" and page.exists() else result


def _show_jobs(pairs: list[tuple[Path, Path]], session: "Session", file_options: "FileOptions") -> int:
    """Prints what would be done to each file; returns how many are refused."""
    from ..files.paths import SkippedError

    failures, ready, total = 0, 0, 0.0
    for source, output in pairs:
        with refusing(source) as refused:
            try:
                line, seconds = _show_job(source, output, session, file_options)
            except SkippedError as error:
                say_line(str(error))
                continue
            say_line(line)
            ready, total = ready + 1, total + seconds
        failures += len(refused)
    time_needed = f"{total:.0f} s one after another" if len(pairs) > 1 else f"{total:.1f} s"
    say(f"dry run: {ready} of {len(pairs)} would be enlarged, in about {time_needed} plus the start; nothing was written")
    return failures


def _show_job(source: Path, output: Path, session: "Session", file_options: "FileOptions") -> tuple[str, float]:
    """What would be done to a file, in a line, and the seconds that it would take."""
    from ..folder import check_megapixels
    from ..forecast import forecast
    from ..job import prepare_file
    from ..large.job import needs_pieces, prepare_large
    from ..large.plan import plan_large

    check_megapixels(source, file_options.max_megapixels)
    if needs_pieces(source, output, session, file_options):
        large = prepare_large(source, output, session, file_options)
        plan = plan_large(large, session)
        sizes = f"{source} {plan.source} -> {large.output} {plan.target}"
        return f"{sizes}  {plan.notes[-1]}  about {plan.seconds or 0:.0f} s", plan.seconds or 0.0
    job = prepare_file(source, output, session, file_options)
    planned = job.decision.planned
    seconds = forecast(job.decision, session.compute, job.file.image.shape[1]).seconds
    (height, width), (new_height, new_width) = job.decision.source, job.decision.target
    sizes = f"{source} {width}x{height} -> {job.output} {new_width}x{new_height}"
    restored = ", restored" if planned.restorer else ""
    return f"{sizes}  {job.decision.recipe.domain}, {planned.choice.path.stem}{restored}  about {seconds:.1f} s", seconds


def _is_folder(out: Path, inputs: list[Path], files: list[Path]) -> bool:
    from ..files.paths import exists

    is_there = as_usage(lambda: exists(out)) and out.is_dir()
    is_folder = is_there or not out.suffix or len(files) > 1 or any(path.is_dir() for path in inputs)
    if is_folder and out.suffix and not is_there:
        raise typer.BadParameter(f"{out} is one file, but there are {len(files)} images; wanted a folder", param_hint="-o")
    return is_folder
