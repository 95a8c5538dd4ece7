"""Metadata of a result: the source's EXIF, corrected for the enlargement, and an XMP record of what was done."""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from xml.sax.saxutils import quoteattr

from PIL import ExifTags, Image, TiffImagePlugin

from .. import __version__
from ..imaging.hdr import WideSignal

SOFTWARE = f"Fidelity Upscale {__version__}"

XMP_NAMESPACE = "https://github.com/fidelity-upscale/ns/1.0/"

_KEPT = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Orientation,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Rating,
    ExifTags.Base.Copyright,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
}
"""Tags of the main directory that describe the picture rather than how the file stores it."""

DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""Tags that point to directories of their own."""
XMP_TAG, IPTC_TAG = 700, 33723
"""Of TIFF."""
_IPTC_BLOCK = 0x0404
_LARGEST_CAPTION = 60_000
"""What a JPEG's segment holds beside other things."""
_RDF_END = b"</rdf:RDF>"
_RDF_NAMESPACE = b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
GAIN_MAP_NAMES = b"hdrgm", b"GContainer", b"HDRGainMap"
"""What an XMP packet that describes a gain map contains: Ultra HDR, its container, Apple."""
_STALE = (
    (re.compile(rb'\s*<rdf:Description[^>]{0,4000}xmlns:fidelity="[^>]{0,8000}/>'), b""),
    (re.compile(rb'(tiff:Orientation=")\d+(?=")|(<tiff:Orientation>)\d+(?=<)'), rb"\g<1>\g<2>1"),
    (re.compile(rb'\s(?:tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension|xmp:CreatorTool)="[^"]{0,200}"'), b""),
    (re.compile(rb"<(tiff:Image(?:Width|Length)|exif:Pixel[XY]Dimension|xmp:CreatorTool)>[^<]{0,200}</\1>"), b""),
)
"""What a packet says about the source's file and not about its picture."""
_GRAPHS = ("prompt:", "workflow:")
_FRONTEND_TAGS = (
    ExifTags.Base.Model,
    ExifTags.Base.Make,
    ExifTags.Base.DocumentName,
    ExifTags.Base.PageName,
    ExifTags.Base.HostComputer,
    ExifTags.Base.ImageDescription,
)
"""Tags that may store graphs: ComfyUI's frontend reads them from any text in the main directory. Its own nodes use the
first two, which may already contain a camera's name."""


@dataclass(frozen=True)
class Captions:
    """What a file says about its picture outside EXIF."""

    xmp: bytes | None = None
    """Its XMP packet."""
    iptc: bytes | None = None
    """Its IPTC records: title, keywords, caption…"""
    comment: bytes | None = None
    """Its comment."""


@dataclass(frozen=True)
class Extras:
    """Metadata to write with the pixels."""

    icc_profile: bytes | None = None
    """Color profile of the samples; None means sRGB."""
    exif: bytes | None = None
    """From `correct_exif`."""
    xmp: bytes | None = None
    """From `describe_in_xmp`."""
    dpi: float | None = None
    """Print resolution in dots per inch; None writes none."""
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """PNG text chunks by keyword; other formats have none."""
    iptc: bytes | None = None
    """IPTC records, which JPEG and TIFF store."""
    comment: bytes | None = None
    """A comment, which JPEG stores; in a PNG it is a text."""
    signal: WideSignal | None = None
    """High dynamic range of the samples, which only PNG stores."""


def collect_exif(opened: Image.Image) -> bytes | None:
    """The EXIF tags of an opened file that describe its picture; None if there are none or they are damaged."""
    try:
        found = list_tags(opened.getexif())
        kept = Image.Exif()
        for tag, value in found.items():
            if tag in DIRECTORIES or (tag in _KEPT and not _starts_graph(value)):
                kept[tag] = value
        return kept.tobytes() if len(kept) else None
    except (ValueError, TypeError, KeyError, OSError, SyntaxError, struct.error, AttributeError, OverflowError):
        return None


def collect_captions(opened: Image.Image) -> Captions:
    """What an opened file says about its picture outside EXIF; parts that are damaged or of unusual size are left out."""
    info: dict[str, Any] = {str(key): value for key, value in opened.info.items()}
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp")
    blocks = info.get("photoshop")
    iptc = cast("dict[int, Any]", blocks).get(_IPTC_BLOCK) if isinstance(blocks, dict) else None
    comment = info.get("comment") or info.get("Comment")
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        packet, iptc = packet or opened.tag_v2.get(XMP_TAG), opened.tag_v2.get(IPTC_TAG)
    found = (value.encode() if isinstance(value, str) else value for value in (packet, iptc, comment))
    return Captions(*(value if isinstance(value, bytes) and 0 < len(value) <= _LARGEST_CAPTION else None for value in found))


def collect_graphs(opened: Image.Image) -> dict[str, str]:
    """The graphs that ComfyUI wrote into EXIF, by name; empty if there are none or the EXIF is damaged."""
    try:
        texts = [value for value in opened.getexif().values() if isinstance(value, str)]
    except (ValueError, TypeError, KeyError, OSError, SyntaxError, struct.error):
        return {}
    graphs = [_from_latin(text).partition(":") for text in texts if text.startswith(_GRAPHS)]
    return {name: text for name, _, text in graphs}


def correct_exif(
    exif: bytes | None,
    size: tuple[int, int],
    keep_gps: bool = True,
    graphs: Mapping[str, str] | None = None,
    max_bytes: int | None = None,
) -> bytes:
    """Corrects the EXIF of a source so that it describes the enlargement.

    Args:
        exif: From `collect_exif`; None if there is none.
        size: (height, width) of the enlargement.
        keep_gps: Whether to keep the GPS position.
        graphs: Texts to add by name, as ComfyUI does with "prompt" and "workflow" in formats without text chunks.
        max_bytes: Size limit of the format; to fit, graphs are dropped, largest first, then the maker note.

    Returns:
        EXIF with upright orientation and the new dimensions and software.
    """
    named = {name: f"{name}:{text}" for name, text in (graphs or {}).items()}
    made = _build_exif(exif, size, keep_gps, named)
    while max_bytes is not None and len(made) > max_bytes and named:
        del named[max(named, key=lambda name: len(named[name]))]
        made = _build_exif(exif, size, keep_gps, named)
    if max_bytes is not None and len(made) > max_bytes:
        made = _build_exif(exif, size, keep_gps, {}, keep_notes=False)
    return made


def _build_exif(
    exif: bytes | None, size: tuple[int, int], keep_gps: bool, texts: Mapping[str, str], keep_notes: bool = True
) -> bytes:
    corrected = Image.Exif()
    for tag, value in load_tags(exif).items() if exif else ():
        corrected[tag] = value
    if ExifTags.Base.Orientation in corrected:
        corrected[ExifTags.Base.Orientation] = 1
    if ExifTags.IFD.Exif in corrected:
        details = corrected[ExifTags.IFD.Exif]
        details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = size[1], size[0]
        if not keep_notes:
            details.pop(ExifTags.Base.MakerNote, None)
    if ExifTags.IFD.GPSInfo in corrected and not keep_gps:
        del corrected[ExifTags.IFD.GPSInfo]
    corrected[ExifTags.Base.Software] = SOFTWARE
    free = [tag for tag in _FRONTEND_TAGS if tag not in corrected]
    for text, tag in zip(texts.values(), free, strict=False):
        corrected[tag] = text if text.isascii() else text.encode()
    return corrected.tobytes()


def load_tags(exif: bytes) -> dict[int, Any]:
    """`list_tags` of encoded EXIF."""
    loaded = Image.Exif()
    loaded.load(exif)
    return list_tags(loaded)


def list_tags(exif: Image.Exif) -> dict[int, Any]:
    """All tags with values that can be written back; non-empty `DIRECTORIES` as dictionaries.

    The pointer to the interoperability directory is left out: where it points to is not written again.
    """
    tags = {tag: _verbatim(value) for tag, value in exif.items() if tag not in DIRECTORIES}
    for directory in DIRECTORIES:
        entries = exif.get_ifd(directory) if directory in exif else None
        if entries:
            tags[directory] = {tag: _verbatim(value) for tag, value in entries.items() if tag != ExifTags.IFD.Interop}
    return tags


def _is_kept(packet: bytes, keep_gps: bool) -> bool:
    is_whole = packet.count(_RDF_END) == 1 and _RDF_NAMESPACE in packet.replace(b"'", b'"')
    return is_whole and not any(name in packet for name in GAIN_MAP_NAMES) and (keep_gps or b"GPS" not in packet)


def _starts_graph(value: Any) -> bool:
    return str(value.decode("latin-1") if isinstance(value, bytes) else value).startswith(_GRAPHS)


def _verbatim(value: Any) -> Any:
    """Text as the file's original bytes: Pillow reads them as Latin-1 and would write non-ASCII as question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _from_latin(text: str) -> str:
    """Decodes UTF-8 text that Pillow read as Latin-1."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def describe_in_xmp(facts: Mapping[str, str | float], packet: bytes | None = None, keep_gps: bool = True) -> bytes:
    """Builds an XMP packet that records what was done.

    Args:
        facts: Facts by name; numbers are written with four significant digits.
        packet: The source's own packet, which the record is added to, if possible; not if it describes a gain map, which
            results have not.
        keep_gps: Whether a packet that contains a position is kept.
    """
    written = {name: value if isinstance(value, str) else f"{value:.4g}" for name, value in facts.items()}
    attributes = "".join(f"\n    fidelity:{name}={quoteattr(value)}" for name, value in written.items())
    record = (
        f'  <rdf:Description rdf:about="" xmlns:fidelity="{XMP_NAMESPACE}" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f"\n    xmp:CreatorTool={quoteattr(SOFTWARE)}{attributes}/>\n"
    ).encode()
    if packet and _is_kept(packet, keep_gps):
        start, end, rest = packet.rpartition(_RDF_END)
        for stale, right in _STALE:
            start = stale.sub(right, start)
        return start + record + end + rest
    return (
        (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
        ).encode()
        + record
        + b'</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
    )
