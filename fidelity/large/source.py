"""A picture that is read in rectangles, through libvips."""

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from ..files.formats import DECODING_ERRORS, count_pixels, open_picture
from ..files.paths import FileRefusedError, check_regular
from ..files.read import SourceFile, read_dpi
from ..files.tags import Captions, collect_captions, collect_exif, collect_graphs
from ..files.vips import has_vips, load_vips, run_vips
from ..progress import Progress

UNPACKED_NAME = "source.v"
"""The unpacked source in the folder of parts."""

_FORMATS = {"uchar": (8, 255.0), "ushort": (16, 65535.0)}
_GREY_AND_ALPHA = 2
_MOST_DECODED_PIXELS = 5 * 10**8
"""Pixels that are decoded for a small copy; about 10 s."""
_RANDOM_LOADERS = ("openslideload", "vipsload")


class LargeSource:
    """A picture of any size; what is read of it is the only part in memory."""

    def __init__(self, path: Path) -> None:
        """Opens a file without decoding it.

        Raises:
            FileRefusedError: If libvips is not installed or does not read the file, or its samples are of another type.
        """
        if not has_vips():
            raise FileRefusedError(
                f"{path}: does not fit in memory; wanted libvips, to work in pieces: pip install 'pyvips[binary]'"
            )
        check_regular(path)
        self.path = path
        self._image = _open(path)
        if self._image.format not in _FORMATS or self._image.interpretation in ("cmyk", "lab", "labs", "xyz"):
            kind = f"{self._image.interpretation} of {self._image.format} samples"
            raise FileRefusedError(f"{path}: is {kind}; wanted RGB or grey of 8 or 16 bits in a picture of this size")
        if self._image.bands not in (1, 2, 3, 4):
            raise FileRefusedError(f"{path}: has {self._image.bands} channels; wanted 1 to 4 in a picture of this size")
        self._is_unpacked, self._unpacked = self._can_be_searched(), cast(Path | None, None)
        turned = _orientation(self._image)
        self.size: tuple[int, int] = (self._image.height, self._image.width)[:: -1 if turned >= _TURNED_SIDEWAYS else 1]
        self.channels = 4 if self._image.bands in (_GREY_AND_ALPHA, 4) else self._image.bands
        self.bits: int = _FORMATS[self._image.format][0]

    @property
    def unpacked_bytes(self) -> int:
        """Size of the file that `unpack` writes; 0 if the file itself can be read anywhere."""
        return 0 if self._is_unpacked else self.size[0] * self.size[1] * self._image.bands * self.bits // 8

    def unpack(self, folder: Path, progress: Progress | None = None) -> None:
        """Decodes a file that can only be read from its start, such as a PNG, into one that can be read anywhere.

        Args:
            folder: Where it is written; one that is there already is used.
            progress: Called with (percent, 100).
        """
        if self._is_unpacked:
            return
        pyvips = load_vips()
        path = folder / UNPACKED_NAME
        if not path.is_file():
            part = folder / f"part-{UNPACKED_NAME}"
            image = _open(self.path, "sequential")
            if _orientation(image) > 1:
                image = image.autorot()
            try:
                run_vips(image, lambda: image.write_to_file(str(part)), progress)
            except pyvips.Error as error:
                raise FileRefusedError(f"{self.path}: damaged or truncated (libvips: {_last_line(error)})") from error
            part.replace(path)
        self._image, self._is_unpacked, self._unpacked = pyvips.Image.new_from_file(str(path)), True, path

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Returns a rectangle, ``(1, C, h, w)`` float32 in [0, 1].

        Raises:
            FileRefusedError: If the file is damaged there.
        """
        pyvips = load_vips()
        width, height = columns.stop - columns.start, rows.stop - rows.start
        try:
            samples: Any = self._image.crop(columns.start, rows.start, width, height).numpy()
        except pyvips.Error as error:
            raise FileRefusedError(f"{self.path}: damaged or truncated (libvips: {_last_line(error)})") from error
        samples = samples.reshape(height, width, -1).astype(np.float32) / _FORMATS[self._image.format][1]
        image = torch.from_numpy(samples).movedim(-1, 0)[None]
        if image.shape[1] == _GREY_AND_ALPHA:
            image = torch.cat((image[:, :1].expand(-1, 3, -1, -1), image[:, 1:]), dim=1)
        return image.contiguous()

    def shrink(self, long_edge_px: int) -> Tensor | None:
        """A small copy of the whole, ``(1, C, h, w)``; None if all of a very large file would have to be decoded for it."""
        pages = int(self._image.get("n-pages")) if self._image.get_typeof("n-pages") else 1
        is_pyramid = pages > 1 or bool(self._image.get_typeof("n-subifds"))
        if self.size[0] * self.size[1] > _MOST_DECODED_PIXELS and not is_pyramid:
            return None
        path = str(self._unpacked or self.path)
        pyvips = load_vips()
        try:
            small: Any = pyvips.Image.thumbnail(path, long_edge_px, height=long_edge_px, no_rotate=True, size="down")
            samples = small.cast("uchar").numpy().reshape(small.height, small.width, -1)
        except pyvips.Error as error:
            raise FileRefusedError(f"{self.path}: damaged or truncated (libvips: {_last_line(error)})") from error
        image = torch.from_numpy(samples.astype(np.float32) / 255).movedim(-1, 0)[None]
        return image[:, : 3 if image.shape[1] >= 3 else 1].contiguous()

    def describe(self, sample: Tensor) -> SourceFile:
        """What the file says about its picture, to be carried over; with a part of its pixels."""
        profile = self._image.get("icc-profile-data") if self._image.get_typeof("icc-profile-data") else None
        exif, captions, texts, dpi = None, Captions(), dict[str, str](), None
        with suppress(*DECODING_ERRORS, UnidentifiedImageError), self.path.open("rb") as file, open_picture(file) as opened:
            exif, captions, texts = collect_exif(opened), collect_captions(opened), collect_graphs(opened)
            dpi = read_dpi({str(key): value for key, value in opened.info.items()})
        return SourceFile(self.path, sample, profile, profile, self.bits, dpi, exif, texts, captions, ())

    def _can_be_searched(self) -> bool:
        loader = self._image.get("vips-loader") if self._image.get_typeof("vips-loader") else ""
        is_tiled = bool(self._image.get_typeof("tile-width"))
        return _orientation(self._image) == 1 and (is_tiled or loader in _RANDOM_LOADERS)


_TURNED_SIDEWAYS = 5
"""EXIF orientations from here on swap height and width."""


def _open(path: Path, access: str = "random") -> Any:
    pyvips = load_vips()
    try:
        return pyvips.Image.new_from_file(str(path), access=access, fail_on="error")
    except pyvips.Error as error:
        raise FileRefusedError(f"{path}: cannot be read in pieces (libvips: {_last_line(error)})") from error


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if image.get_typeof("orientation") else 1


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()


def count_readable_pixels(path: Path) -> int:
    """Pixels of a file by its header; 0 if neither Pillow nor libvips can read it."""
    pixels = count_pixels(path)
    if pixels or not has_vips():
        return pixels
    try:
        image = _open(path)
    except FileRefusedError:
        return 0
    return image.width * image.height
