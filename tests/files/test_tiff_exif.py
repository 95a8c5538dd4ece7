"""EXIF is added to finished TIFFs of both kinds and byte orders, and the picture stays what it was."""

import struct

import numpy as np
import pytest
from PIL import ExifTags, Image

from fidelity.files.tiff_exif import add_exif

pyvips = pytest.importorskip("pyvips", reason="no pyvips found: pip install 'pyvips[binary]'")


def exif(order="<"):
    made = Image.Exif()
    made.endian = order
    made[ExifTags.Base.Artist] = "A. Painter"
    made[ExifTags.Base.Make] = "M"
    camera = made.get_ifd(ExifTags.IFD.Exif)
    camera[ExifTags.Base.ExposureTime] = 1 / 250
    camera[ExifTags.Base.ISOSpeedRatings] = 200
    camera[ExifTags.Base.LensModel] = "a lens with a long name"
    place = made.get_ifd(ExifTags.IFD.GPSInfo)
    place[ExifTags.GPS.GPSLatitudeRef] = "N"
    place[ExifTags.GPS.GPSLatitude] = (48.0, 12.0, 30.5)
    return made.tobytes()


def check(path, samples):
    with Image.open(path) as made:
        told = made.getexif()
        assert (told[ExifTags.Base.Artist], told[ExifTags.Base.Make]) == ("A. Painter", "M")
        camera = told.get_ifd(ExifTags.IFD.Exif)
        assert float(camera[ExifTags.Base.ExposureTime]) == pytest.approx(0.004)
        assert camera[ExifTags.Base.ISOSpeedRatings] == 200
        assert camera[ExifTags.Base.LensModel] == "a lens with a long name"
        place = told.get_ifd(ExifTags.IFD.GPSInfo)
        assert [float(one) for one in place[ExifTags.GPS.GPSLatitude]] == [48.0, 12.0, 30.5]
        assert np.array_equal(np.asarray(made), samples)
    assert np.array_equal(pyvips.Image.new_from_file(str(path)).numpy(), samples)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("is_big", [False, True])
@pytest.mark.parametrize("pyramid", [False, True])
def test_a_tiff_of_libvips_gets_it(tmp_path, order, is_big, pyramid):
    samples = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    path = tmp_path / "a.tif"
    options = {"tile": True, "pyramid": pyramid, "bigtiff": is_big, "compression": "deflate"}
    pyvips.Image.new_from_array(samples).copy(interpretation="srgb").tiffsave(str(path), **options)
    pages = Image.open(path).n_frames
    add_exif(path, exif(order))
    check(path, samples)
    assert Image.open(path).n_frames == pages


def test_a_file_of_the_other_byte_order_gets_it(tmp_path):
    """Written by hand: four grey pixels, big endian."""
    path = tmp_path / "b.tif"
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]
    entries += [(278, 3, 1, 2), (279, 4, 1, 4)]
    packed = [
        struct.pack(">HHIHH" if kind == 3 else ">HHII", tag, kind, count, value, *((0,) if kind == 3 else ()))
        for tag, kind, count, value in entries
    ]
    directory = struct.pack(">H", len(packed)) + b"".join(packed) + b"\0\0\0\0"
    path.write_bytes(b"MM\0*" + struct.pack(">I", 12) + bytes([1, 2, 3, 4]) + directory)
    add_exif(path, exif())
    check(path, np.array([[1, 2], [3, 4]], np.uint8))


def test_what_the_file_says_itself_is_kept(tmp_path):
    path = tmp_path / "c.tif"
    Image.new("L", (8, 8)).save(path, tiffinfo={ExifTags.Base.Artist: "its own"})
    add_exif(path, exif())
    with Image.open(path) as made:
        assert made.getexif()[ExifTags.Base.Artist] == "its own"
        assert made.getexif()[ExifTags.Base.Make] == "M"


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no TIFF at all, but long enough"])
def test_no_tiff_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "d.tif"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no TIFF header"):
        add_exif(path, exif())
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [20, 40, 100, -8])
def test_damaged_exif_is_refused_and_the_file_stays(tmp_path, cut):
    path = tmp_path / "e.tif"
    Image.new("L", (8, 8)).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="damaged EXIF"):
        add_exif(path, exif()[:cut])
    assert path.read_bytes() == before
