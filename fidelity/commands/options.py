"""Options that several sub-commands share, and how their values are read. Nothing here imports the engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..choices import MIN_TILE_PX, DeviceName, DomainChoice, PrecisionChoice
from ..errors import RefusedError

if TYPE_CHECKING:
    from ..decide.target import Target
    from ..networks.compute import Compute

Inputs = Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files, or folders of them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelsDir = Annotated[
    Path | None, typer.Option(help="A folder of networks beside the shipped ones.", exists=True, file_okay=False)
]
Scale = Annotated[float | None, typer.Option(help="Factor on both sides.", show_default="the model's own, 4 for auto")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Exact size in pixels.")]
LongEdge = Annotated[int | None, typer.Option(metavar="PX", help="Pixels along the longer side.")]
Megapixels = Annotated[float | None, typer.Option(metavar="MP", help="Millions of pixels.")]
PrintSheet = Annotated[
    str | None, typer.Option(metavar="SHEET", help="The largest that fits on a sheet, as in 30x20cm@300 (dots per inch).")
]
DomainOption = Annotated[DomainChoice, typer.Option(help="Type of image; decides the other defaults.")]
ModelName = Annotated[
    str, typer.Option(metavar="NAME_OR_FILE", help="The network; auto takes the best one for the domain and the scale.")
]
Restore = Annotated[
    Literal["auto", "denoise", "deblock", "off"],
    typer.Option(help="What is restored first, by a x1 network if one is installed, else by a filter."),
]
Passes = Annotated[
    Literal["auto", "direct", "stepwise"], typer.Option(help="As few passes as possible, or doubling with cleanup in between.")
]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="What may be used, as in 8GB.", show_default="what is free")]
Device = Annotated[DeviceName, typer.Option(help="Where to compute.")]
PrecisionOption = Annotated[PrecisionChoice, typer.Option(help="Arithmetic of the network.")]
Tile = Annotated[str, typer.Option(metavar="auto|PX", help="Side of a tile in pixels of the source.")]


def read_target(
    scale: float | None, size: str | None, long_edge: int | None, megapixels: float | None, print_size: str | None
) -> "Target":
    """The size that was asked for.

    Raises:
        RefusedError: If an option cannot be read, or several contradict each other.
    """
    from ..decide.target import Target, parse_print_size

    sheet = parse_print_size(print_size) if print_size else None
    return Target(scale, _parse_size(size), long_edge, megapixels, sheet)


def read_compute(device: DeviceName, precision: PrecisionChoice, tile: str, memory: str | None) -> "Compute":
    """Where and how to compute.

    Raises:
        RefusedError: If an option cannot be read, or the device is not present.
    """
    from ..decide.target import parse_memory
    from ..networks.compute import Compute
    from ..networks.device import choose_device

    return Compute(choose_device(device), precision, _parse_tile(tile), parse_memory(memory) if memory else None)


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, cross, height = text.lower().partition("x")
    if not cross or not width.isdigit() or not height.isdigit():
        raise RefusedError(f"--size is {text!r}; wanted WIDTHxHEIGHT in pixels, as in 1920x1080")
    return int(height), int(width)


def _parse_tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < MIN_TILE_PX:
        raise RefusedError(f"--tile is {text!r}; wanted auto or at least {MIN_TILE_PX} pixels")
    return int(text)
