"""Every tag that a format of sources has and a format of results stores goes through an enlargement unharmed."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files.tags import IPTC_TAG, XMP_TAG
from fidelity.job import FileOptions, upscale_file
from fidelity.session import Session

SOURCES, RESULTS = ("png", "jpg", "webp", "tif", "avif"), ("png", "jpg", "webp", "tif", "avif")
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="harbor"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x05" + struct.pack(">H", 6) + b"harbor"  # the object's name
NOT_STORED = {  # by source and by result
    "dpi": {"webp", "avif"},
    "iptc": {"png", "webp", "avif"},
    "comment": {"webp", "tif", "avif"},
}


@pytest.fixture
def made(tmp_path, display_p3):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist], exif[ExifTags.Base.Make] = "Ada", "Camera"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ExposureTime: 0.01, ExifTags.Base.LensModel: "50 mm"}
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 30.0, 0.0)}
    picture = Image.fromarray(np.random.default_rng(0).integers(60, 190, (20, 24, 3), np.uint8))

    def make(kind):
        path = tmp_path / f"s.{kind}"
        options = {"icc_profile": display_p3, "exif": exif, "dpi": (240, 240), "xmp": XMP}
        if kind == "jpg":
            block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
            segment = b"Photoshop 3.0\0" + block
            options |= {"comment": b"by the sea", "quality": 95}
            options["extra"] = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
        elif kind == "png":
            texts = PngImagePlugin.PngInfo()
            texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
            texts.add_text("Comment", "by the sea")
            options |= {"pnginfo": texts}
            del options["xmp"]
        elif kind == "tif":
            del options["xmp"]
            exif[XMP_TAG], exif[IPTC_TAG] = XMP, IPTC
            options["exif"] = exif.tobytes()
        elif kind == "webp":
            options |= {"lossless": True}
        picture.save(path, **options)
        return path

    return make


def found(path):
    """What a file says, read by Pillow alone."""
    with Image.open(path) as opened:
        exif = opened.getexif()
        details, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        tags = getattr(opened, "tag_v2", {})
        packet = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp") or tags.get(XMP_TAG, b"")
        comment = opened.info.get("comment") or opened.info.get("Comment") or b""
        return {
            "icc": opened.info.get("icc_profile"),
            "artist": exif.get(ExifTags.Base.Artist),
            "lens": details.get(ExifTags.Base.LensModel),
            "gps": str(place.get(1)),
            "dpi": tuple(round(float(dots)) for dots in opened.info.get("dpi", ())),
            "xmp": b"harbor" in (packet if isinstance(packet, bytes) else str(packet).encode()),
            "iptc": IptcImagePlugin.getiptcinfo(opened),
            "comment": comment if isinstance(comment, bytes) else comment.encode(),
        }


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("source", SOURCES)
def test_tags_go_through(made, tmp_path, source, result):
    path, output = made(source), tmp_path / f"o.{result}"
    session = Session(Settings(Target(scale=2), "photo", restore="off"), models={})
    upscale_file(path, output, session)
    given, kept = found(path), found(output)
    for tag in given:
        if not {source, result} & NOT_STORED.get(tag, set()):
            assert given[tag], tag
            assert kept[tag] == given[tag], tag
    upscale_file(path, output, session, FileOptions(keep_gps=False, existing="overwrite"))
    assert found(output)["gps"] == "None"
