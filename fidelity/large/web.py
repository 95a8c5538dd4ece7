"""Results for browsers: Deep Zoom and IIIF tiles through libvips, with a page that shows them."""

import html
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

from ..files.vips import run_vips
from ..progress import Progress

DEEP_ZOOM = ".dzi"
"""File name ending of Deep Zoom's description; the tiles are in a folder beside it."""
IIIF_NAME = "info.json"
"""File name of an IIIF image's description; the tiles are in its folder, whose name is the image's."""

_DEEP_TILE_PX, _DEEP_OVERLAP_PX = 254, 1
_IIIF_TILE_PX = 256
_IIIF_TILES = re.compile(r"\d+,\d+,\d+,\d+|full")
_WITH_ALPHA = 4
_SUFFIXES = {"jpg": ".jpg[Q=92,subsample-mode=off]", "png": ".png"}


def is_web(output: Path) -> bool:
    """Whether a result is a description of tiles."""
    return output.suffix.lower() == DEEP_ZOOM or output.name.lower() == IIIF_NAME


def write_web(image: Any, folder: Path, output: Path, progress: Progress | None) -> None:
    """Writes tiles, a page that shows them, and last their description.

    Args:
        image: libvips's.
        folder: For what is not finished yet; on the disk of the output.
        output: The description, "NAME.dzi" or "NAME/info.json"; the page is NAME.html.
        progress: Called with (percent, 100); raising in it cancels the work.
    """
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb", embedded=True)
    if image.format == "ushort":
        image = (image >> 8).cast("uchar")
    image = image.copy(interpretation="b-w" if image.bands == 1 else "srgb")
    ending = "png" if image.bands == _WITH_ALPHA else "jpg"
    made = folder / "zoom"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    write = _write_deep_zoom if output.suffix.lower() == DEEP_ZOOM else _write_iiif
    write(image, made, output, ending, progress)
    shutil.rmtree(made)


def _write_deep_zoom(image: Any, made: Path, output: Path, ending: str, progress: Progress | None) -> None:
    name = output.stem
    sizes = {"tile_size": _DEEP_TILE_PX, "overlap": _DEEP_OVERLAP_PX}
    run_vips(image, lambda: image.dzsave(str(made / name), suffix=_SUFFIXES[ending], **sizes), progress)
    tiles = output.with_name(f"{name}_files")
    if tiles.exists():
        shutil.rmtree(tiles)
    (made / tiles.name).replace(tiles)
    top = math.ceil(math.log2(max(image.width, image.height)))
    layout = {"tiles": tiles.name, "top": top, "tile": _DEEP_TILE_PX, "overlap": _DEEP_OVERLAP_PX, "iiif": False}
    _write_page(output.with_suffix(".html"), image, layout | {"end": ending})
    (made / output.with_suffix(DEEP_ZOOM).name).replace(output)


def _write_iiif(image: Any, made: Path, output: Path, ending: str, progress: Progress | None) -> None:
    home = output.parent.resolve()
    name = home.name
    sizes = {"layout": "iiif3", "tile_size": _IIIF_TILE_PX}
    run_vips(image, lambda: image.dzsave(str(made / name), suffix=_SUFFIXES[ending], **sizes), progress)
    info = json.loads((made / name / IIIF_NAME).read_text(encoding="utf-8")) | {"id": name}
    if ending != "jpg":
        info |= {"preferredFormats": [ending], "extraFormats": [ending]}
    for old in home.iterdir():
        if old.is_dir() and _IIIF_TILES.fullmatch(old.name):
            shutil.rmtree(old)
    for new in (made / name).iterdir():
        if new.is_dir():
            new.replace(home / new.name)
    top = len(info["tiles"][0]["scaleFactors"]) - 1
    layout = {"tiles": name, "top": top, "tile": _IIIF_TILE_PX, "overlap": 0, "iiif": True}
    _write_page(home.with_name(f"{name}.html"), image, layout | {"end": ending})
    described = made / IIIF_NAME
    described.write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    described.replace(output)


def _write_page(path: Path, image: Any, layout: dict[str, Any]) -> None:
    picture = {"width": image.width, "height": image.height} | layout
    values = {"TITLE": html.escape(path.stem), "WIDTH": str(image.width), "HEIGHT": str(image.height)}
    values["PICTURE"] = json.dumps(picture).replace("</", "<\\/")
    page = Path(__file__).with_name("zoom.html").read_text(encoding="utf-8")
    path.write_text(re.sub(r"\{([A-Z]+)\}", lambda found: values[found[1]], page), encoding="utf-8")
