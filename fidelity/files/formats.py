"""Opening pictures of the documented formats, and no others, whatever their size."""

import logging
import struct
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from ..quiet import no_warnings

READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""Pillow's names of the formats that are read."""
_PLUGINS = {
    "HEIC": ("pillow_heif", "HeifImageFile", "pillow-heif"),
    "JPEG XL": ("pillow_jxl.JpegXLImagePlugin", "JXLImageFile", "pillow-jxl-plugin"),
}
"""Formats that other packages read: the module, its class of opened files, and the package's name."""

INSTALL = {
    "pillow-heif": "pip install pillow-heif",
    "pillow-jxl-plugin": "pip install pillow-jxl-plugin",
    "pyvips": 'pip install "pyvips[binary]"',
}
"""The command that installs each package of the extra `formats`."""

DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, MemoryError, RuntimeError, Image.DecompressionBombError),
    *(KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error),
)
"""All exceptions that Pillow's decoders raise on damaged files."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG."""
_HEAD_BYTES = 16
_PNG_HEAD_BYTES, _PNG_SIZE_AT = 24, 16

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its remarks on damaged files reach the terminal


def open_picture(file: IO[bytes]) -> Image.Image:
    """Opens a picture without decoding it, as `PIL.Image.open` does.

    Two things differ. Only `READ_FORMATS` are tried, since other readers of Pillow can be made to run for ever. And Pillow's
    own limit on pixels does not apply: it is one number for the whole process, which others in it rely on and which must not
    be changed for a moment. Callers check the size against the memory there is.

    Args:
        file: The content, open for reading.

    Raises:
        UnidentifiedImageError: If it is none of these formats.
        OSError, SyntaxError, ValueError and others: Whatever Pillow raises on a damaged file.
    """
    Image.init()
    head = file.read(_HEAD_BYTES)
    with no_warnings():
        for name in READ_FORMATS:
            if name not in Image.OPEN:
                continue
            factory, accept = Image.OPEN[name]
            accepted = accept(head) if accept else True
            if not accepted or isinstance(accepted, str):  # a sentence says which library is missing
                continue
            file.seek(0)
            try:
                if name == "TIFF":
                    return TiffOfAnyLayout(file, "")
                return cast(Callable[[IO[bytes], str], Any], factory)(file, "")
            except (SyntaxError, IndexError, TypeError, KeyError):
                continue  # not of this format after all
        module, factory, _ = _PLUGINS.get(name_unread(head) or "", ("", "", ""))
        if module and find_spec(module.partition(".")[0]):
            file.seek(0)
            return getattr(import_module(module), factory)(file, "")
    raise UnidentifiedImageError("of none of the formats that are read")


def count_pixels(path: Path) -> int:
    """Pixels of an image file by its header; 0 if that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_HEAD_BYTES)
            if head.startswith(SIGNATURE):  # whose other chunks may be damaged
                width, height = struct.unpack_from(">2I", head, _PNG_SIZE_AT)
            else:
                file.seek(0)
                width, height = open_picture(file).size
            return width * height
    except (*DECODING_ERRORS, UnidentifiedImageError):
        return 0


class TiffOfAnyLayout(TiffImagePlugin.TiffImageFile):
    """A TIFF, each page of which may have samples that Pillow cannot decode, such as RGB in floats.

    Of such a page only the size and the tags can be used.
    """

    is_undecodable = False
    """Whether the page is such a one."""

    def _setup(self) -> None:
        self.is_undecodable = False
        try:
            super()._setup()
        except SyntaxError:  # an unknown layout of samples
            width, height = (self.tag_v2[tag] for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength))
            if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
                raise
            self.is_undecodable = True
            self._size, self._mode, self.tile = (width, height), "RGB", []
            profile = self.tag_v2.get(TiffImagePlugin.ICCPROFILE)
            if profile:
                self.info["icc_profile"] = profile
            across = self.tag_v2.get(TiffImagePlugin.X_RESOLUTION)
            unit = {2: 1.0, 3: 2.54}.get(self.tag_v2.get(TiffImagePlugin.RESOLUTION_UNIT, 2))
            if across and unit:
                self.info["dpi"] = (across * unit, across * unit)


def explain_unread(content: bytes) -> str | None:
    """Says which well-known format of pictures a file has that cannot be read, and what can; None if it is none of these."""
    name = name_unread(content)
    if name in _PLUGINS:
        package = _PLUGINS[name][2]
        return f"is {name}, which {package} reads; {INSTALL[package]}"
    return name and f"is {name}, which is not read; wanted {', '.join((*READ_FORMATS, *_PLUGINS))}"


def name_unread(content: bytes) -> str | None:
    """The name of a well-known format that Pillow does not read, from the start of a file; None if it is none of these."""
    brand = content[8:12] if content[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        return "HEIC"
    if brand == b"crx ":
        return "a camera's raw file"
    return next((name for start, name in _UNREAD.items() if content.startswith(start)), None)


_UNREAD = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "a Photoshop file",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"gimp xcf": "a GIMP file",
    b"FUJIFILMCCD-RAW": "a camera's raw file",
}
