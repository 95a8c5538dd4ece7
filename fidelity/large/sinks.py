"""Joins finished pieces into one file through libvips: TIFF in tiles, PNG, or Deep Zoom with a page that shows it."""

import html
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..files.paths import FileRefusedError
from ..files.tags import Extras
from ..files.vips import load_vips
from ..files.write import Export, quantise
from ..imaging.rows import TensorRows
from ..progress import Progress

DEEP_ZOOM = ".dzi"
"""File name ending of Deep Zoom's description; the tiles are in a folder beside it."""
SUFFIXES = (".tif", ".tiff", ".png", DEEP_ZOOM)
"""What pieces can be joined into."""
TILES_END = "_files"

_MM_PER_INCH = 25.4
_TILE_PX = 256
_FAST, _SMALL = 1, 4
"""Levels of deflate: of pieces, which are read once, and of results."""
_BIG_BYTES = 3 * 2**30
"""Results from here on are BigTIFFs: others end at 4 GiB."""
_SPACES = {(1, 8): "b-w", (1, 16): "grey16", (3, 8): "srgb", (3, 16): "rgb16", (4, 8): "srgb", (4, 16): "rgb16"}


@dataclass(frozen=True)
class Joined:
    """What a result is joined from."""

    files: Sequence[Path]
    """The pieces, row by row."""
    across: int
    """How many there are in a row."""
    size: tuple[int, int]
    """(height, width) of the result."""


def check_suffix(output: Path) -> None:
    """Refuses what pieces cannot be joined into.

    Raises:
        FileRefusedError: If the ending is of another format.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise FileRefusedError(
            f"{output}: is too large for {output.suffix or 'a file without ending'}; wanted {', '.join(SUFFIXES)}"
        )


def write_piece(path: Path, image: Tensor, bits: Literal[8, 16]) -> None:
    """Writes a finished piece, ``(1, C, H, W)`` in [0, 1]: compressed fast, whole or not at all."""
    pyvips = load_vips()
    samples: Any = quantise(TensorRows(image), bits)
    height, width, channels = samples.shape
    picture = pyvips.Image.new_from_memory(samples.tobytes(), width, height, channels, "uchar" if bits == 8 else "ushort")
    picture = picture.copy(interpretation=_SPACES[channels, bits])
    part = path.with_name(f"part-{path.name}")
    try:
        picture.tiffsave(str(part), compression="deflate", predictor="horizontal", level=_FAST, **_TILED)
    except pyvips.Error as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error
    part.replace(path)


_TILED: Mapping[str, Any] = {"tile": True, "tile_width": _TILE_PX, "tile_height": _TILE_PX}


def join(joined: Joined, folder: Path, output: Path, extras: Extras, export: Export, progress: Progress | None = None) -> None:
    """Joins pieces into a file, which appears whole.

    Args:
        joined: The pieces.
        folder: For what is not finished yet; on the disk of the output.
        output: The result.
        extras: Its metadata.
        export: Whether a TIFF gets smaller copies of itself too.
        progress: Called with (percent, 100); raising in it cancels the work.
    """
    pyvips = load_vips()
    height, width = joined.size
    images: Any = [pyvips.Image.new_from_file(str(path)) for path in joined.files]
    image: Any = pyvips.Image.arrayjoin(images, across=joined.across).crop(0, 0, width, height)
    image = _tag(image, extras)
    suffix = output.suffix.lower()
    try:
        if suffix == DEEP_ZOOM:
            _write_deep_zoom(image, folder, output, progress)
            return
        part = folder / f"joined{suffix}"
        if suffix == ".png":
            run(image, lambda: image.pngsave(str(part), compression=_SMALL), progress)
        else:
            is_big = height * width * image.bands * (2 if image.format == "ushort" else 1) > _BIG_BYTES
            options: dict[str, Any] = {**_TILED, "bigtiff": is_big, "pyramid": export.pyramid, "level": _SMALL}
            run(image, lambda: image.tiffsave(str(part), compression="deflate", predictor="horizontal", **options), progress)
        part.replace(output)
    except pyvips.Error as error:
        raise FileRefusedError(f"{output}: cannot be written (libvips: {str(error).strip().splitlines()[-1]})") from error


def _tag(image: Any, extras: Extras) -> Any:
    pyvips = load_vips()
    dpi = extras.dpi
    image = image.copy(xres=dpi / _MM_PER_INCH, yres=dpi / _MM_PER_INCH) if dpi else image.copy()
    tags = {"icc-profile-data": extras.icc_profile, "exif-data": extras.exif, "xmp-data": extras.xmp, "iptc-data": extras.iptc}
    for name in image.get_fields():
        if name in tags or name == "orientation":
            image.remove(name)
    for name, content in tags.items():
        if content:
            image.set_type(pyvips.GValue.blob_type, name, content)
    return image


def _write_deep_zoom(image: Any, folder: Path, output: Path, progress: Progress | None) -> None:
    """Writes tiles and their description, and a page that shows them; the description appears last."""
    name = output.stem
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True)
    if image.format == "ushort":
        image = (image >> 8).cast("uchar")
    image = image.copy(interpretation="b-w" if image.bands == 1 else "srgb")
    suffix = ".png" if image.bands == 4 else ".jpg[Q=92,subsample-mode=off]"
    made, tiles = folder / "zoom", output.with_name(f"{name}{TILES_END}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    run(image, lambda: image.dzsave(str(made / name), suffix=suffix), progress)
    if tiles.exists():
        shutil.rmtree(tiles)
    (made / tiles.name).replace(tiles)
    ending = suffix.partition("[")[0].lstrip(".")
    page = Path(__file__).with_name("zoom.html").read_text(encoding="utf-8")
    filled = {"TITLE": html.escape(name), "TILES": html.escape(tiles.name), "END": ending}
    for key, value in {**filled, "WIDTH": str(image.width), "HEIGHT": str(image.height)}.items():
        page = page.replace(f"{{{key}}}", value)
    output.with_suffix(".html").write_text(page, encoding="utf-8")
    (made / f"{name}{DEEP_ZOOM}").replace(output)
    shutil.rmtree(made)


def run(image: Any, work: Callable[[], object], progress: Progress | None) -> None:
    """Runs what libvips computes, with progress in percent; what is raised in the progress cancels it, Ctrl-C too."""
    pyvips = load_vips()
    raised: list[BaseException] = []

    def tell(_image: Any, state: Any) -> None:
        try:
            if progress:
                progress(int(state.percent), 100)
        except BaseException as error:  # which cannot pass through libvips
            raised.append(error)
            image.set_kill(True)

    image.set_progress(True)
    image.signal_connect("eval", tell)
    try:
        work()
    except pyvips.Error:
        if raised:
            raise raised[0] from None
        raise
    if raised:
        raise raised[0]


def bytes_needed(size: tuple[int, int], channels: int, bits: int, unpacked: int) -> int:
    """About how much room the pieces and the result take at most, with the unpacked source."""
    return round(2 * _COMPRESSED_SHARE * size[0] * size[1] * channels * bits / 8) + unpacked


_COMPRESSED_SHARE = 0.8
"""Of a photograph, losslessly; noise takes more and drawings far less."""
