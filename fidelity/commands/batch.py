"""`fidelity batch`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..choices import DEFAULT_VIDEO_CODEC
from ..errors import RefusedError
from . import options
from .terminal import as_usage, refusing, say_line, show_progress

if TYPE_CHECKING:
    from ..batch.driver import Cluster
    from ..batch.items import Item
    from ..batch.journal import Row
    from ..batch.results import Tally
    from ..batch.work import Work


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
        typer.Option(metavar="FILE", help="A CSV or JSONL file: a picture a row, with settings of its own.", dir_okay=False),
    ] = None,
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
            help="How many work at a time.",
            show_default="one a GPU, or a core",
            min=1,
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    scale: options.Scale = None,
    size: options.Size = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    restore: options.Restore = "auto",
    grain: options.Grain = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    memory: options.Memory = None,
    format: Annotated[
        Literal["png", "jpg", "webp", "avif", "tif"],
        typer.Option(help="File format of results.", rich_help_panel=options.FILES),
    ] = "png",
    quality: options.Quality = None,
    codec: options.Codec = DEFAULT_VIDEO_CODEC,
    crf: options.Crf = None,
    color_space: options.SampleSpace = "source",
    strip_gps: options.StripGps = False,
) -> None:
    """Enlarge many images and videos on all cores and GPUs of this machine, or of a Ray cluster; an interrupted run resumes."""
    if not sources and not manifest:
        raise typer.BadParameter("no pictures; wanted files, folders, or --manifest", param_hint="SOURCE")
    if "://" in str(out):
        raise typer.BadParameter(f"{out} is no folder; wanted one that all workers can write to", param_hint="-o")

    from ..batch.driver import Cluster
    from ..batch.sources import find_items
    from ..batch.work import Work
    from ..decide.settings import Settings
    from ..files.paths import check_folder
    from ..files.write import Export, check_options
    from ..job import FileOptions
    from ..video.codecs import Encoding
    from ..video.options import VideoOptions

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, None, preset))
    compute = as_usage(lambda: options.read_compute(device, precision, "auto", memory, backend))
    compute = replace(compute, device=None) if device == "auto" else compute  # each worker's machine has its own
    what, strength = as_usage(lambda: options.read_restore(restore))
    settings = Settings(target, domain, model, restore=what, restore_strength=strength, grain=grain)
    export = as_usage(lambda: Export() if quality is None else Export(8, quality, lossless=False))
    as_usage(lambda: check_options(f".{format}", None, quality))
    video = as_usage(lambda: VideoOptions(Encoding(codec, crf)))
    failures: int | None = 0
    with refusing() as refused:
        check_folder(out / "batch.jsonl")
        items = find_items(sources or [], manifest, f".{format}", out, codec).items
        file_options = FileOptions(export, color_space=color_space, keep_gps=not strip_gps, existing="overwrite")
        models = tuple((name, path.stat().st_size) for name, path in sorted(options.find_models(models_dir).items()))
        folder = models_dir and models_dir.absolute()
        work = Work(out.absolute(), settings, compute, file_options, folder, video, models=models)
        failures = _run(items, work, Cluster(address, workers))
    if failures is None:
        say_line(f"interrupted; what is finished is in {out}, and the same command resumes")
        raise typer.Exit(130)
    if refused or failures:
        raise typer.Exit(1)


def _run(items: "list[Item]", work: "Work", cluster: "Cluster") -> int | None:
    """Runs the batch, prints failures as they come and a summary, and writes table and page.

    Returns:
        How many failed; None if it was interrupted.
    """
    from ..batch.driver import run_batch
    from ..batch.journal import RESULTS_NAME
    from ..batch.pages import write_page, write_table

    with show_progress() as progress:
        try:
            tally = run_batch(items, work, cluster, progress, tell_failure)
        except KeyboardInterrupt:
            return None
    page, table = write_page(work.out, tally), write_table(work.out)
    say_line(summarize(tally))
    tables = f"{RESULTS_NAME}, {table.name}" if table else f"{RESULTS_NAME} (a Parquet table needs pyarrow)"
    say_line(f"report: {page}, with {tables} beside it")
    return tally.failed


def tell_failure(row: "Row") -> None:
    """Prints why a picture failed."""
    if row["status"] == "failed":
        with refusing():
            raise RefusedError(row["reason"])


def summarize(tally: "Tally") -> str:
    """What became of a batch, in a line."""
    parts = [f"{tally.done} enlarged"]
    parts += [f"{tally.same} done before"] if tally.same else []
    parts += [f"{tally.failed} failed"] if tally.failed else []
    parts += [f"{tally.retried} taken over from workers that died"] if tally.retried else []
    drift = (
        f"; color drift {tally.drift_sum / tally.measured:.3f} mean, {tally.drift_max:.2f} largest" if tally.measured else ""
    )
    return f"{', '.join(parts)} of {tally.total} in {tally.elapsed:.1f} s{drift}"
