"""Joins finished pieces into one result through libvips: TIFF in tiles, PNG, or tiles for browsers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..files.paths import FileRefusedError
from ..files.tags import Extras
from ..files.tiff_exif import add_exif
from ..files.vips import load_vips, run_vips
from ..files.write import Export, quantise
from ..imaging.rows import TensorRows
from ..progress import Progress
from .web import DEEP_ZOOM, IIIF_NAME, is_web, write_web

_SUFFIXES = (".tif", ".tiff", ".png", DEEP_ZOOM)

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
    if not can_join(output):
        raise FileRefusedError(
            f"{output}: is too large for {output.suffix or 'a file without ending'}; "
            f"wanted {', '.join(_SUFFIXES)} or {IIIF_NAME}"
        )


def can_join(output: Path) -> bool:
    """Whether pieces can be joined into a file of that name."""
    return output.suffix.lower() in _SUFFIXES or is_web(output)


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
        if is_web(output):
            write_web(image, folder, output, progress)
            return
        part = folder / f"joined{suffix}"
        if suffix == ".png":
            run_vips(image, lambda: image.pngsave(str(part), compression=_SMALL), progress)
        else:
            is_big = height * width * image.bands * (2 if image.format == "ushort" else 1) > _BIG_BYTES
            options: dict[str, Any] = {**_TILED, "bigtiff": is_big, "pyramid": export.pyramid, "level": _SMALL}
            run_vips(
                image, lambda: image.tiffsave(str(part), compression="deflate", predictor="horizontal", **options), progress
            )
            if extras.exif:
                add_exif(part, extras.exif)
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


def bytes_needed(size: tuple[int, int], channels: int, bits: int, unpacked: int) -> int:
    """About how much room the pieces and the result take at most, with the unpacked source."""
    return round(2 * _COMPRESSED_SHARE * size[0] * size[1] * channels * bits / 8) + unpacked


_COMPRESSED_SHARE = 0.8
"""Of a photograph, losslessly; noise takes more and drawings far less."""
