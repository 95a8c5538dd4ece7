"""Options that several subcommands share, and their parsers. Nothing here imports the engine at load time."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from ..choices import (
    DEFAULT_CRF,
    MIN_TILE_PX,
    BackendChoice,
    ColorSpace,
    DeviceName,
    DomainChoice,
    ExistingChoice,
    GrainChoice,
    PrecisionChoice,
    RestoreChoice,
    SizePreset,
    VideoCodec,
)
from ..errors import RefusedError

if TYPE_CHECKING:
    from ..decide.target import Target
    from ..networks.compute import Compute

_RESTORE: tuple[RestoreChoice, ...] = get_args(RestoreChoice)

SIZE, MODEL, WORK, MACHINE = "Size", "Type and model", "Restoration, colors and cleanup", "Device, speed and memory"
FILES, TOLD = "Files", "Reports and messages"
"""Titles of groups of options in the help."""

Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files or folders.")]
Recursive = Annotated[
    bool,
    typer.Option("--recursive", "-r", help="Also search subfolders; results keep the folder structure.", rich_help_panel=FILES),
]
Existing = Annotated[
    ExistingChoice,
    typer.Option(
        help="If a result exists already: stop, skip the image, number the new file, or overwrite.", rich_help_panel=FILES
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelsDir = Annotated[
    Path | None,
    typer.Option(
        help="A folder of models, in addition to the shipped ones and those in ~/.fidelity/models.",
        exists=True,
        file_okay=False,
        rich_help_panel=MODEL,
    ),
]
NewModelsDir = Annotated[
    Path | None,
    typer.Option("--models-dir", help="Folder to store them in.", show_default="~/.fidelity/models", file_okay=False),
]
Scale = Annotated[
    float | None,
    typer.Option(help="Enlargement factor of both sides.", show_default="the model's own, 4 for auto", rich_help_panel=SIZE),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH", help="Exact size in pixels; other proportions than the source's stretch it.", rich_help_panel=SIZE
    ),
]
Fit = Annotated[
    str | None, typer.Option(metavar="WxH", help="The largest size that fits into this box, in pixels.", rich_help_panel=SIZE)
]
LongEdge = Annotated[int | None, typer.Option(metavar="PX", help="Length of the longer side in pixels.", rich_help_panel=SIZE)]
Megapixels = Annotated[float | None, typer.Option(metavar="MP", help="Total size in megapixels.", rich_help_panel=SIZE)]
PrintSheet = Annotated[
    str | None,
    typer.Option(
        metavar="SHEET",
        help="The largest size that fits on a sheet, such as a3@300 or 30x20cm@300 (dots per inch).",
        rich_help_panel=SIZE,
    ),
]
Preset = Annotated[
    SizePreset | None,
    typer.Option(
        help="A size by name: fits a 720p to 8k screen, has a long edge of 2048 px (web-2k), or fits a printed A4 or A3 sheet.",
        rich_help_panel=SIZE,
    ),
]
DomainOption = Annotated[
    DomainChoice,
    typer.Option(
        help="Type of the image; sets the other defaults. anime_sd, or anime for short, suits TV anime too.",
        rich_help_panel=MODEL,
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        metavar="NAME_OR_FILE",
        help="The model; auto uses the best installed one for the domain and the scale.",
        rich_help_panel=MODEL,
    ),
]
Restore = Annotated[
    str,
    typer.Option(
        metavar="|".join((*_RESTORE, "0..1")),
        help="Repair before enlarging: noise, JPEG damage, or any damage by a strength from 0 to 1.",
        rich_help_panel=WORK,
    ),
]
Passes = Annotated[
    Literal["auto", "direct", "stepwise"],
    typer.Option(help="The fewest passes, or doubling with cleanup in between.", rich_help_panel=WORK),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory limit for images and tiles, such as 8GB; the program itself needs about 0.6 GB more.",
        show_default="free memory",
        rich_help_panel=MACHINE,
    ),
]
WorkerMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory limit of each worker, such as 8GB, without its program of about 0.6 GB.",
        show_default="an equal share of the free memory",
        rich_help_panel=MACHINE,
    ),
]
Device = Annotated[DeviceName, typer.Option(help="Device that runs the models.", rich_help_panel=MACHINE)]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option(
        help="Numeric precision of the models; int8 is fastest on CPUs and less exact: auto never takes it.",
        rich_help_panel=MACHINE,
    ),
]
Backend = Annotated[
    BackendChoice,
    typer.Option(
        help="Library that runs the models; auto: the fastest that `fidelity accelerate` measured, else PyTorch.",
        rich_help_panel=MACHINE,
    ),
]
Codec = Annotated[
    VideoCodec,
    typer.Option(
        help="What the video is encoded as; h264 plays everywhere, ffv1 is lossless, prores is for editing.",
        rich_help_panel=FILES,
    ),
]
Crf = Annotated[
    int | None,
    typer.Option(
        help="Quality of the encoding; lower is better.",
        show_default=", ".join(f"{codec} {crf}" for codec, crf in DEFAULT_CRF.items()),
        rich_help_panel=FILES,
    ),
]
Grain = Annotated[
    GrainChoice,
    typer.Option(help="Add back film or paper grain that restoration removed; auto: where it is found.", rich_help_panel=WORK),
]
Channels = Annotated[
    Literal["auto", "luma", "rgb"],
    typer.Option(
        help="luma: the model enlarges brightness only, colors are resampled; rgb: the model enlarges everything.",
        rich_help_panel=WORK,
    ),
]
Consistency = Annotated[
    Literal["auto", "off", "color", "full"],
    typer.Option(
        help="color: preserve colors and tones; full: preserve every pixel, for pristine sources only; off: no correction.",
        rich_help_panel=WORK,
    ),
]
Gate = Annotated[
    Literal["auto", "blend", "reject", "report", "off"],
    typer.Option(
        help="If colors still drift: mix in a bicubic enlargement there (blend), use it instead (reject), or only say so.",
        rich_help_panel=WORK,
    ),
]
Bits = Annotated[
    Literal["auto", "8", "16"],
    typer.Option(
        help="Bits per channel in PNG and TIFF; 16 gives AVIF its maximum, 12; auto: as the source.", rich_help_panel=FILES
    ),
]
Flatten = Annotated[
    str | None,
    typer.Option(metavar="COLOR", help="Lay transparent images on a color, such as white or #ffffff.", rich_help_panel=FILES),
]
MaxMegapixels = Annotated[
    float | None,
    typer.Option(
        metavar="MP",
        help="Refuse larger sources, judged by their header alone.",
        show_default="no limit",
        min=0.01,
        rich_help_panel=FILES,
    ),
]
Open = Annotated[
    bool, typer.Option("--open", help="Open the result with the system's program for it when done.", rich_help_panel=TOLD)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print refusals only.", rich_help_panel=TOLD)]
FileFormat = Literal["png", "jpg", "jpeg", "webp", "avif", "tif", "tiff"]
Quality = Annotated[
    int | None,
    typer.Option(
        metavar="1..100", help="Quality of JPEG, AVIF and WebP.", show_default="95, WebP lossless", rich_help_panel=FILES
    ),
]
SampleSpace = Annotated[
    ColorSpace,
    typer.Option(help="Keep the source's color profile and pixel values, or convert to sRGB.", rich_help_panel=FILES),
]
StripGps = Annotated[
    bool, typer.Option("--strip-gps", help="Remove the GPS location from the metadata.", rich_help_panel=FILES)
]
Tile = Annotated[str, typer.Option(metavar="auto|PX", help="Tile size in source pixels.", rich_help_panel=MACHINE)]


def read_target(
    scale: float | None,
    size: str | None,
    long_edge: int | None,
    megapixels: float | None,
    print_size: str | None = None,
    preset: SizePreset | None = None,
    fit: str | None = None,
) -> "Target":
    """Reads the target size.

    Raises:
        RefusedError: If an option cannot be read, or several contradict each other.
    """
    from ..decide.target import PRESETS, Target, parse_print_size

    sheet = parse_print_size(print_size) if print_size else None
    target = Target(scale, _parse_size(size), long_edge, megapixels, sheet, _parse_size(fit, "--fit"))
    if preset and target != Target():
        raise RefusedError(f"preset {preset} and another size were given; wanted only one of them")
    return PRESETS[preset] if preset else target


def read_compute(
    device: DeviceName, precision: PrecisionChoice, tile: str, memory: str | None, backend: BackendChoice = "auto"
) -> "Compute":
    """Reads where and how to compute.

    Raises:
        RefusedError: If an option cannot be read, or the device is not present.
    """
    from ..decide.target import parse_memory
    from ..networks.compute import Compute
    from ..networks.device import choose_device

    return Compute(choose_device(device), precision, _parse_tile(tile), parse_memory(memory) if memory else None, backend)


def read_restore(text: str) -> tuple[RestoreChoice, float | None]:
    """Reads what is restored, and how strongly; None lets the measured damage decide.

    Raises:
        RefusedError: If it is neither a choice nor a number from 0 to 1.
    """
    for choice in _RESTORE:
        if text == choice:
            return choice, None
    try:
        strength = float(text)
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= 1:
        raise RefusedError(f"--restore is {text!r}; wanted {', '.join(_RESTORE)} or a strength from 0 to 1")
    return "auto", strength


def refuse_own_input(inputs: Iterable[Path], out: Path, otherwise: str = "") -> None:
    """Refuses, as a usage error, to write results into a folder that is searched for images.

    Args:
        inputs: Files and folders.
        out: The folder of results.
        otherwise: What could be wanted besides another folder.
    """
    if any(path.is_dir() and path.resolve() == out.resolve() for path in inputs):
        reason = f"is the input folder: results would be enlarged again next time; wanted another one{otherwise}"
        raise typer.BadParameter(f"{out} {reason}", param_hint="-o")


def read_format(name: FileFormat) -> str:
    """The ending of files of a format: both names of JPEG and TIFF give the shorter one."""
    return {"jpeg": ".jpg", "tiff": ".tif"}.get(name, f".{name}")


def read_color(text: str) -> tuple[float, float, float]:
    """Reads a color, by its name in CSS or as in #ffffff; in [0, 1].

    Raises:
        RefusedError: If there is no such color.
    """
    from PIL import ImageColor

    try:
        levels = ImageColor.getrgb(text)
    except ValueError:
        levels = ()
    if len(levels) != 3 or max(levels) > 255:
        raise RefusedError(f"--flatten is {text!r}; wanted a color, as in white or #ffffff")
    red, green, blue = (level / 255 for level in levels)
    return red, green, blue


_MOST_DIGITS = 9


def _parse_size(text: str | None, option: str = "--size") -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not all(side.isdecimal() and len(side) <= _MOST_DIGITS for side in (width, height)):
        raise RefusedError(f"{option} is {text!r}; wanted WIDTHxHEIGHT in pixels, as in 1920x1080; --preset has 1080p and 4k")
    return int(height), int(width)


def _parse_tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < MIN_TILE_PX:
        raise RefusedError(f"--tile is {text!r}; wanted auto or at least {MIN_TILE_PX} pixels")
    return int(text)


def find_models(models_dir: Path | None) -> dict[str, Path]:
    """Lists the networks in a folder, those that `fidelity models get` stored, and the shipped ones."""
    from ..networks.loader import find_installed

    return find_installed(models_dir)
