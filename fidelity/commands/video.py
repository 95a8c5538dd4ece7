"""`fidelity video`."""

import json
import sys
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
    VideoEncoder,
)
from ..errors import RefusedError
from . import options
from .terminal import StageProgress, as_usage, refusing, say_line, show_progress

if TYPE_CHECKING:
    from fractions import Fraction

    from ..session import Session
    from ..video.options import VideoOptions, Window
    from ..video.records import VideoReport

_PIPE = Path("-")


def video_command(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A video, a folder of frames, or - for YUV4MPEG2 from a pipe.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="A video, a folder for frames as PNG, or - for YUV4MPEG2 to a pipe."
        ),
    ],
    scale: Annotated[float | None, typer.Option(help="Enlargement factor of both sides.", show_default="2")] = None,
    size: options.Size = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    codec: options.Codec = DEFAULT_VIDEO_CODEC,
    crf: options.Crf = None,
    encoder_preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How hard the encoder tries, as in slow.", show_default="h265 and h264 medium, av1 6"
        ),
    ] = None,
    encoder: Annotated[VideoEncoder, typer.Option(help="What encodes: the CPU, or hardware.")] = "cpu",
    hdr: Annotated[
        HdrChoice, typer.Option(help="High dynamic range (PQ, HLG): keep it, as auto does, or tone map it to BT.709.")
    ] = "auto",
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    restore: options.Restore = "auto",
    steady: Annotated[
        SteadyChoice,
        typer.Option(help="Steady added detail along the motion, against flicker; auto: where OpenCV is installed."),
    ] = "auto",
    deinterlace: Annotated[
        Deinterlace, typer.Option(help="Make interlaced frames progressive; auto: those tagged as interlaced.")
    ] = "auto",
    skip_duplicates: Annotated[
        bool,
        typer.Option("--skip-duplicates", help="Reuse the result where a frame differs from the last by compression only."),
    ] = False,
    preview: Annotated[str | None, typer.Option(metavar="LENGTH@START", help="Make only a part, as in 5s@1:00.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the source, enlarged bicubically, to the left of the result.")
    ] = False,
    fps: Annotated[
        str | None, typer.Option(metavar="RATE", help="Frame rate of a folder of frames, as in 24000/1001.", show_default="25")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "-b", "--batch", min=1, max=64, help="Frames computed at a time.", show_default="one per core, 2 on a GPU"
        ),
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out streams that the output cannot hold, and transparency.")
    ] = False,
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    tile: options.Tile = "auto",
    memory: options.Memory = None,
    existing: Annotated[
        ExistingChoice,
        typer.Option(help="If OUT exists already: stop, skip, number the new file, or overwrite. Interrupted work is resumed."),
    ] = DEFAULT_EXISTING,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="File for the report: a JSON object per frame, per scene, and in all."),
    ] = None,
) -> None:
    """Enlarge a video: colors, time stamps, sound and subtitles are kept, and an interrupted run resumes."""
    if source != _PIPE and not source.exists():
        with refusing():
            raise RefusedError(f"{source}: no such file or folder")
        raise typer.Exit(1)  # before the second or two that importing PyTorch takes

    from ..decide.settings import Settings
    from ..files.paths import SkippedError, check_apart, check_folder, check_report, keys_of
    from ..session import Session
    from ..video.codecs import Encoding
    from ..video.options import VideoOptions

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, None, preset))
    compute = as_usage(lambda: options.read_compute(device, precision, tile, memory, backend))
    what, strength = as_usage(lambda: options.read_restore(restore))
    encoding = as_usage(lambda: Encoding(codec, crf, encoder_preset, encoder))
    window = as_usage(lambda: _read_window(preview)) if preview else None
    rate = as_usage(lambda: _read_rate(fps)) if fps else None
    video_options = VideoOptions(
        encoding, hdr, deinterlace, skip_duplicates, steady, window, compare, batch, existing, drop, rate
    )
    settings = Settings(target, domain, model, restore=what, restore_strength=strength)
    with refusing() as refused:
        if report:
            check_folder(report)
            check_apart(keys_of([source]), [out, report])
            check_report(report, b"{")
        session = Session(settings, compute, options.find_models(models_dir))
        try:
            made = _run(source, out, session, video_options)
        except SkippedError as error:
            say_line(str(error))
            return
        except BrokenPipeError:
            raise RefusedError("standard output: its reader has ended") from None
        except KeyboardInterrupt:
            if out == _PIPE:
                print(_tell_interruption(out), file=sys.stderr)
            else:
                say_line(_tell_interruption(out))
            raise typer.Exit(130) from None
        if report:
            _write_report(report, made)
        for line in _describe(made):
            say_line(line) if out != _PIPE else print(line, file=sys.stderr)
        if made.fault:
            raise RefusedError(f"{source}: {made.fault}; the {made.frames} frames before are in {made.output['path']}")
    if refused:
        raise typer.Exit(1)


def _run(source: Path, out: Path, session: "Session", video_options: "VideoOptions") -> "VideoReport":
    from ..video.job import upscale_video
    from ..video.source import VideoSource

    opened = VideoSource(source, video_options.deinterlace, stream=sys.stdin.buffer) if source == _PIPE else None
    with show_progress("opening the video") as progress:
        output = sys.stdout.buffer if out == _PIPE else out
        return upscale_video(source, output, session, video_options, _show_start(progress), opened)


def _show_start(progress: StageProgress | None) -> StageProgress | None:
    """Shows neither a share nor the time left while the first frames are computed, as nothing tells them yet."""
    if progress is None:
        return None
    from ..video.pipeline import FIRST_FRAMES, STOPPING

    unknown = (FIRST_FRAMES, STOPPING)
    return lambda stage, done, total: progress(stage, done, 0 if stage.startswith(unknown) else total)


def _tell_interruption(out: Path) -> str:
    from ..files.journal import parts_folder
    from ..video.segments import count_kept

    if out == _PIPE:
        return "interrupted"
    if not out.suffix:
        return f"interrupted; the frames so far are in {out}; a folder of frames is not resumed"
    parts = "a part ends with a scene, or after 10 s of video"
    kept = count_kept(out)
    if kept:
        frames = f"{kept} frame{'s' if kept > 1 else ''}"
        return f"interrupted; {frames} in whole parts are kept in {parts_folder(out)} ({parts}), and the same command resumes"
    return f"interrupted; nothing is kept ({parts})"


def _write_report(path: Path, made: "VideoReport") -> None:
    from ..files.paths import write_whole

    content = "".join(json.dumps(line) + "\n" for line in made.lines())
    write_whole(path, lambda file: file.write(content.encode()))


def _describe(made: "VideoReport") -> list[str]:
    from ..video.records import describe_scenes

    given, result = made.input, made.output
    sizes = f"{given['path']} {given['width']}x{given['height']} -> {result['path']} {result['width']}x{result['height']}"
    frames = f"{made.frames} frames in {made.seconds:.1f} s ({made.frames_per_second:.2f} fps)"
    resumed = f", {made.resumed_at} of them by an earlier run" if made.resumed_at else ""
    drift = f"color drift mean {made.drift.mean:.2f}, largest {made.drift.max:.2f} {made.output['difference']}"
    worst = f", most in frame {made.worst.frame} at {made.worst.seconds:.2f} s" if made.worst else ""
    decided = f"  {describe_scenes(made.scenes)}" if made.scenes else ""
    return [f"{sizes}{decided}  {frames}{resumed}", f"{drift}{worst}", *(f"note: {note}" for note in made.notes)]


def _read_window(text: str) -> "Window":
    """Reads the part to make, as in 5s@1:00."""
    from ..video.options import Window

    length, at, start = text.partition("@")
    try:
        if not at:
            raise ValueError
        window = Window(_read_seconds(start), _read_seconds(length.removesuffix("s")))
    except (ValueError, ZeroDivisionError):
        window = None
    if window is None or window.seconds <= 0 or window.start < 0:
        raise RefusedError(f"--preview is {text!r}; wanted LENGTH@START, as in 5s@1:00")
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
