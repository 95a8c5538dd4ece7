"""`fidelity batch`."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import DEFAULT_VIDEO_CODEC
from ..errors import RefusedError
from . import options
from .terminal import StageProgress, as_usage, open_result, refusing, say_line, show_progress

if TYPE_CHECKING:
    from ..batch.driver import Cluster
    from ..batch.journal import Row
    from ..batch.sources import Found
    from ..batch.work import Work

_SECONDS_BETWEEN_LINES = 60.0


def _refuse_existing(value: str | None) -> None:
    if value is not None:
        reason = "batch resumes by itself: it keeps results that are up to date and replaces the others; wanted no --existing"
        raise typer.BadParameter(reason)


def batch_command(
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for results, report and page.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Images and videos: files, folders, 'scans/**/*.png', zip or tar archives, URLs as in s3://.",
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A CSV or JSONL file with one picture per row. Columns: source, output, scale, size, fit, long_edge, "
            "megapixels, domain, model, restore, channels, consistency, gate. Rows of batch.jsonl are read too.",
            dir_okay=False,
        ),
    ] = None,
    skip_failed: Annotated[
        bool,
        typer.Option("--skip-failed", help="Leave files alone that failed before and have not changed since."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="RAY", help="Address of a Ray cluster.", show_default="this machine", rich_help_panel=options.MACHINE
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of parallel workers.",
            show_default="one per GPU, or one per CPU core",
            min=1,
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    scale: options.Scale = None,
    size: options.Size = None,
    fit: options.Fit = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    channels: options.Channels = "auto",
    consistency: options.Consistency = "auto",
    gate: options.Gate = "auto",
    restore: options.Restore = "auto",
    grain: options.Grain = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    memory: options.WorkerMemory = None,
    format: Annotated[options.FileFormat, typer.Option(help="File format of results.", rich_help_panel=options.FILES)] = "png",
    bits: options.Bits = "auto",
    quality: options.Quality = None,
    codec: options.Codec = DEFAULT_VIDEO_CODEC,
    crf: options.Crf = None,
    color_space: options.SampleSpace = "source",
    strip_gps: options.StripGps = False,
    flatten: options.Flatten = None,
    max_megapixels: options.MaxMegapixels = None,
    open_it: options.Open = False,
    quiet: options.Quiet = False,
    existing: Annotated[str | None, typer.Option(hidden=True, callback=_refuse_existing)] = None,
) -> None:
    """Enlarge many images and videos on all cores and GPUs of this machine, or of a Ray cluster; an interrupted run resumes."""
    if not sources and not manifest:
        raise typer.BadParameter("no pictures; wanted files, folders, or --manifest", param_hint="SOURCE")
    if "://" in str(out):
        raise typer.BadParameter(f"{out} is no folder; wanted one that all workers can write to", param_hint="-o")
    del existing
    options.refuse_own_input(map(Path, sources or []), out)

    from ..batch.driver import Cluster
    from ..batch.sources import find_items
    from ..batch.work import Work
    from ..decide.settings import Settings
    from ..files.paths import check_folder
    from ..files.write import Export, check_options
    from ..job import FileOptions
    from ..video.codecs import Encoding
    from ..video.options import VideoOptions

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, None, preset, fit))
    compute = as_usage(lambda: options.read_compute(device, precision, "auto", memory, backend))
    compute = replace(compute, device=None) if device == "auto" else compute  # each worker's machine has its own
    what, strength = as_usage(lambda: options.read_restore(restore))
    background = as_usage(lambda: options.read_color(flatten)) if flatten is not None else None
    settings = Settings(
        target, domain, model, channels, consistency, gate, restore=what, restore_strength=strength, grain=grain
    )
    depth, suffix = 16 if bits == "16" else 8, options.read_format(format)
    export = as_usage(lambda: Export(depth) if quality is None else Export(depth, quality, lossless=False))
    as_usage(lambda: check_options(suffix, 16 if bits == "16" else None, quality))
    video = as_usage(lambda: VideoOptions(Encoding(codec, crf)))
    failures: int | None = 0
    with refusing() as refused:
        check_folder(out / "batch.jsonl")
        found = find_items(sources or [], manifest, suffix, out, codec)
        file_options = FileOptions(
            export,
            bits == "auto",
            color_space,
            keep_gps=not strip_gps,
            existing="overwrite",
            flatten=background,
            max_megapixels=max_megapixels,
        )
        models = tuple((name, path.stat().st_size) for name, path in sorted(options.find_models(models_dir).items()))
        folder = models_dir and models_dir.absolute()
        work = Work(out.absolute(), settings, compute, file_options, folder, video, models=models)
        failures = _run(found, work, Cluster(address, workers), skip_failed, quiet)
    if failures is None:
        say_line(f"interrupted; what is finished is in {out}, and the same command resumes")
        raise typer.Exit(130)
    if open_it and not refused:
        from ..batch.pages import PAGE_NAME

        open_result(out / PAGE_NAME)
    if refused or failures:
        raise typer.Exit(1)


def _run(found: "Found", work: "Work", cluster: "Cluster", skip_failed: bool, quiet: bool) -> int | None:
    """Runs the batch, prints failures as they come and a summary, and writes table and page.

    Returns:
        How many failed; None if it was interrupted.
    """
    from ..batch.driver import run_batch
    from ..batch.journal import RESULTS_NAME
    from ..batch.pages import write_page, write_table

    with show_progress() as bar, tell_each_minute(quiet) as line:
        try:
            tally = run_batch(found.items, work, cluster, bar or line, tell_failure, skip_failed)
        except KeyboardInterrupt:
            return None
    tally.other_files = found.other_files
    page, table = write_page(work.out, tally), write_table(work.out)
    if not quiet:
        say_line(tally.summarize())
        tables = f"{RESULTS_NAME}, {table.name}" if table else f"{RESULTS_NAME} (a Parquet table needs pyarrow)"
        say_line(f"report: {page}, with {tables} beside it")
    return tally.failed


@contextmanager
def tell_each_minute(quiet: bool) -> Generator[StageProgress | None, None, None]:
    """Progress as a plain line on stderr once a minute, for logs; none if quiet."""
    told = time.monotonic()

    def tell(text: str, _done: int, _total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            with suppress(OSError):  # what reads it has ended; the work goes on
                print(text, file=sys.stderr, flush=True)

    yield None if quiet else tell


def tell_failure(row: "Row") -> None:
    """Prints why a picture failed."""
    if row["status"] == "failed":
        with refusing():
            raise RefusedError(row["reason"])
