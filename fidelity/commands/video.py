"""`fidelity video`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import (
    DEFAULT_EXISTING,
    DEFAULT_VIDEO_CODEC,
    Deinterlace,
    ExistingChoice,
    HdrChoice,
    SteadyChoice,
    VideoCodec,
    VideoEncoder,
)
from ..errors import RefusedError
from . import options
from .terminal import as_usage, open_result, refusing
from .video_jobs import PIPE, VideoJobs

if TYPE_CHECKING:
    from fractions import Fraction

    from ..video.options import Window


def video_command(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Videos, folders of videos, a folder of frames, or - for YUV4MPEG2 from a pipe."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="A video; for several, a folder. Of one video, a folder gets its frames as PNG, and - YUV4MPEG2 to a pipe.",
        ),
    ],
    scale: Annotated[
        float | None,
        typer.Option(
            help="Enlargement factor of both sides.", show_default="2, or the model's own scale", rich_help_panel=options.SIZE
        ),
    ] = None,
    size: options.Size = None,
    fit: options.Fit = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    codec: options.Codec = DEFAULT_VIDEO_CODEC,
    crf: options.Crf = None,
    encoder_preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Encoder preset, such as slow.",
            show_default="h265 and h264 medium, av1 6",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    encoder: Annotated[
        VideoEncoder, typer.Option(help="What encodes: the CPU, or hardware.", rich_help_panel=options.FILES)
    ] = "cpu",
    hdr: Annotated[
        HdrChoice,
        typer.Option(
            help="High dynamic range (PQ, HLG): keep it, as auto does, or tone map it to BT.709.", rich_help_panel=options.WORK
        ),
    ] = "auto",
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    restore: options.Restore = "auto",
    steady: Annotated[
        SteadyChoice,
        typer.Option(
            help="Reduce flicker by averaging added detail along the motion; auto: where OpenCV is installed.",
            rich_help_panel=options.WORK,
        ),
    ] = "auto",
    deinterlace: Annotated[
        Deinterlace,
        typer.Option(
            help="Make interlaced frames progressive; auto: those tagged as interlaced.", rich_help_panel=options.WORK
        ),
    ] = "auto",
    skip_duplicates: Annotated[
        bool,
        typer.Option(
            "--skip-duplicates",
            help="Reuse the result where a frame differs from the last by compression only.",
            rich_help_panel=options.WORK,
        ),
    ] = False,
    preview: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH[@START]",
            help="Make only a part, as in 5s, from the beginning, or 5s@1:00.",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Show the source, enlarged bicubically, to the left of the result.", rich_help_panel=options.FILES
        ),
    ] = False,
    fps: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="Frame rate of a folder of frames, as in 24000/1001.",
            show_default="25",
            rich_help_panel=options.FILES,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "-b",
            "--batch",
            min=1,
            max=64,
            help="Frames computed at a time.",
            show_default="one per core, 2 on a GPU",
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option(
            "--drop",
            help="Leave out transparency and any streams that the output format cannot hold.",
            rich_help_panel=options.FILES,
        ),
    ] = False,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    tile: options.Tile = "auto",
    memory: options.Memory = None,
    existing: Annotated[
        ExistingChoice,
        typer.Option(
            help="If OUT exists: stop, skip, number the new file, or overwrite. An interrupted run resumes unless overwritten.",
            rich_help_panel=options.FILES,
        ),
    ] = DEFAULT_EXISTING,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Try a few frames, and tell what would be done and how long it would take.",
            rich_help_panel=options.TOLD,
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="File for the report: a JSON object per frame, per scene, and in all.",
            rich_help_panel=options.TOLD,
        ),
    ] = None,
    open_it: options.Open = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Say what was assumed, and for each scene what was decided and why.",
            rich_help_panel=options.TOLD,
        ),
    ] = False,
) -> None:
    """Enlarge videos: colors, time stamps, sound and subtitles are kept, and an interrupted run resumes."""
    missing = [path for path in inputs if path != PIPE and not path.exists()]
    for path in missing:
        with refusing():
            raise RefusedError(f"{path}: no such file or folder")
    if missing:
        raise typer.Exit(1)  # before the second or two that importing PyTorch takes

    from ..decide.settings import Settings
    from ..files.paths import check_apart, check_folder, check_report, keys_of, refuse_existing
    from ..session import Session
    from ..video.codecs import Encoding
    from ..video.options import VideoOptions

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, None, preset, fit))
    compute = as_usage(lambda: options.read_compute(device, precision, tile, memory, backend))
    what, strength = as_usage(lambda: options.read_restore(restore))
    encoding = as_usage(lambda: Encoding(codec, crf, encoder_preset, encoder))
    window = as_usage(lambda: _read_window(preview)) if preview else None
    rate = as_usage(lambda: _read_rate(fps)) if fps else None
    video_options = VideoOptions(
        encoding, hdr, deinterlace, skip_duplicates, steady, window, compare, batch, existing, drop, rate
    )
    settings = Settings(target, domain, model, restore=what, restore_strength=strength)
    failures = 0
    with refusing() as refused:
        pairs = _name_outputs(inputs, out, codec)
        if len(pairs) > 1 and existing == "refuse":
            refuse_existing([output for _, output in pairs], keys_of(source for source, _ in pairs))
        if report:
            check_folder(report)
            check_apart(keys_of(source for source, _ in pairs), [*(output for _, output in pairs), report])
            check_report(report, b"{")
        session = Session(settings, compute, options.find_models(models_dir))
        jobs = VideoJobs(pairs, session, video_options, report, verbose)
        failures = jobs.forecast() if dry_run else jobs.run()
        if open_it and not dry_run and out != PIPE and out.exists():
            open_result(out)
    if refused or failures:
        raise typer.Exit(1)


def _name_outputs(inputs: list[Path], out: Path, codec: VideoCodec) -> list[tuple[Path, Path]]:
    """The videos to enlarge, each with the file or folder to write.

    Raises:
        RefusedError: If an input does not exist, or results would replace each other or a source.
    """
    from ..files.paths import check_apart, keys_of
    from ..video.inputs import find_videos, name_results

    if PIPE in inputs and len(inputs) > 1:
        raise typer.BadParameter("- is a pipe; wanted it alone", param_hint="INPUT")
    if len(inputs) == 1 and not inputs[0].is_dir():
        return [(inputs[0], out)]
    to_file = bool(out.suffix) and not out.is_dir()
    sources = [video for path in inputs for video in find_videos(path, to_file)]
    if sources == inputs and len(inputs) == 1:  # a folder of frames
        return [(inputs[0], out)]
    if to_file or out == PIPE:
        if len(sources) == 1:
            return [(sources[0], out)]
        reason = f"{out} is one file, but there are {len(sources)} videos; wanted a folder"
        raise typer.BadParameter(reason, param_hint="--output")
    outputs = name_results(sources, out, codec)
    check_apart(keys_of(sources), outputs)
    return list(zip(sources, outputs, strict=True))


def _read_window(text: str) -> "Window":
    """Reads the part to make, as in 5s@1:00; without a start, from the beginning."""
    from ..video.options import Window

    length, at, start = text.partition("@")
    try:
        window = Window(_read_seconds(start if at else "0"), _read_seconds(length.removesuffix("s")))
    except (ValueError, ZeroDivisionError):
        window = None
    if window is None or window.seconds <= 0 or window.start < 0:
        raise RefusedError(f"--preview is {text!r}; wanted LENGTH or LENGTH@START, as in 5s or 5s@1:00")
    return window


def _read_seconds(text: str) -> "Fraction":
    from fractions import Fraction

    seconds = Fraction(0)
    for part in text.split(":"):
        seconds = 60 * seconds + Fraction(part)
    return seconds


def _read_rate(text: str) -> "Fraction":
    from fractions import Fraction

    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise RefusedError(f"--fps is {text!r}; wanted a rate from 0 to 1000, as in 25 or 24000/1001")
    return rate
