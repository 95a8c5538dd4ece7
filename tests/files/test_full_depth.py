"""Pictures of more than 8 bits per channel, written by other programs than this one."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from fidelity.files import full_depth
from fidelity.files.jxl import find_jxl_depth
from fidelity.files.paths import FileRefusedError
from fidelity.files.read import read_image

tifffile = pytest.importorskip("tifffile")
pyvips = pytest.importorskip("pyvips")

STRAIGHT, ASSOCIATED, UNSPECIFIED = "unassalpha", "assocalpha", "unspecified"


@pytest.fixture
def scene():
    """Smooth colors (48, 64, 3) in [0, 1]."""
    down, across = np.mgrid[0:48, 0:64] / np.array([47.0, 63.0]).reshape(2, 1, 1)
    return np.stack((down, across, 0.3 + 0.4 * down * across), axis=2)


def deep(scene, kind=np.uint16):
    return (scene if np.dtype(kind).kind == "f" else np.round(scene * np.iinfo(kind).max)).astype(kind)


def save(path, samples, **options):
    tifffile.imwrite(path, samples, **{"photometric": "rgb", **options})
    return path


def same(path, scene, within=1e-4):
    read = read_image(path)
    assert read.image.shape == (1, scene.shape[2], *scene.shape[:2])
    assert np.abs(read.image[0].movedim(0, -1).numpy() - scene).max() < within
    return read


LAYOUTS = {
    "bigtiff": {"bigtiff": True},
    "tiles": {"tile": (16, 16)},
    "planes": {"planarconfig": "separate"},
    "big-endian": {"byteorder": ">"},
    "compressed": {"compression": "zlib"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kind", "bits"), [(np.uint16, 16), (np.float32, 32), (np.uint32, 32), (np.float16, 16)])
def test_a_tiff_of_any_layout_and_depth(tmp_path, scene, layout, kind, bits):
    samples, options = deep(scene, kind), LAYOUTS[layout]
    if layout == "planes":
        samples = np.ascontiguousarray(np.moveaxis(samples, 2, 0))
    if layout == "planes" and kind == np.float16:
        with pytest.raises(FileRefusedError, match="16 bits in separate planes"):
            read_image(save(tmp_path / "a.tif", samples, **options))
        return
    read = same(save(tmp_path / "a.tif", samples, **options), scene, 1e-3 if kind == np.float16 else 1e-4)
    assert (read.bits, read.notes) == (bits, ())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_alpha_means_the_same_at_every_depth(tmp_path, scene, kind, tile):
    alpha = scene[..., :1] * 0.5 + 0.5
    straight = np.concatenate((scene, alpha), axis=2)
    associated = np.concatenate((scene * alpha, alpha), axis=2)
    within = 2 / 255 if kind == np.uint8 else 1e-4
    same(save(tmp_path / "a.tif", deep(straight, kind), extrasamples=[STRAIGHT], tile=tile), straight, within)
    same(save(tmp_path / "b.tif", deep(associated, kind), extrasamples=[ASSOCIATED], tile=tile), straight, 2 * within)
    read = same(save(tmp_path / "c.tif", deep(straight, kind), extrasamples=[UNSPECIFIED], tile=tile), scene, within)
    assert read.notes == ("its extra channel, of unspecified meaning, was left out",)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_the_extra_channel_that_is_alpha_is_found_among_several(tmp_path, scene, kind):
    samples = np.concatenate((scene, scene[..., :2]), axis=2)
    wanted = np.concatenate((scene, scene[..., 1:2]), axis=2)
    same(save(tmp_path / "a.tif", deep(samples, kind), extrasamples=[UNSPECIFIED, STRAIGHT]), wanted)


@pytest.mark.parametrize("layout", ["bigtiff", "tiles", "compressed"])
@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.float32])
def test_grey_of_any_depth(tmp_path, scene, layout, kind):
    read = same(
        save(tmp_path / "a.tif", deep(scene[..., 0], kind), photometric="minisblack", **LAYOUTS[layout]), scene[..., :1]
    )
    assert (read.bits, read.notes) == (16 if kind == np.uint16 else 32, ())


def test_a_channel_that_is_left_out_may_have_any_values_and_rounding_is_no_fault(tmp_path, scene):
    depth = np.concatenate((scene * 1.00001, 50 * scene[..., :1]), axis=2)
    read = same(save(tmp_path / "a.tif", deep(depth, np.float32), extrasamples=[UNSPECIFIED]), scene)
    assert "extra channel" in read.notes[0]


def test_the_largest_page_is_read_although_pillow_does_not_know_its_layout(tmp_path, scene):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(deep(scene[::2, ::2], np.uint8), photometric="rgb")
        file.write(deep(scene, np.float32), photometric="rgb")
    assert same(tmp_path / "a.tif", scene).notes == ("2 pages: using the largest, number 2",)


def test_what_libvips_cannot_read_is_left_to_pillow_where_it_can(tmp_path, scene, monkeypatch):
    def refuse(*given):
        raise full_depth.VipsError("libvips: no")

    monkeypatch.setattr(full_depth, "decode_with_vips", refuse)
    read = same(save(tmp_path / "a.tif", deep(scene), tile=(16, 16)), scene, 1 / 255)
    assert read.notes == ("16 bits per channel, read at 8",)


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_grey_with_alpha(tmp_path, scene, tile):
    samples = deep(scene[..., :2])
    path = save(
        tmp_path / "a.tif", samples, photometric="minisblack", extrasamples=[STRAIGHT], planarconfig="contig", tile=tile
    )
    same(path, np.concatenate((scene[..., :1],) * 3 + (scene[..., 1:2],), axis=2))


def test_cmyk_keeps_16_bits(tmp_path, scene):
    inks = np.concatenate((1 - scene, 0 * scene[..., :1]), axis=2)
    read = same(save(tmp_path / "a.tif", deep(inks), photometric="separated"), scene)
    assert read.bits == 16
    assert read.notes == ("CMYK without a profile: converted to RGB by formula, colors are approximate",)


def test_tags_of_a_layout_that_pillow_does_not_know(tmp_path, scene):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = [(274, "H", 1, 6, True), (34675, "B", len(profile), profile, True)]
    path = save(tmp_path / "a.tif", deep(scene, np.float32), resolution=(300, 300), resolutionunit="INCH", extratags=tags)
    read = same(path, np.rot90(scene, -1))
    assert (read.icc_profile, read.dpi) == (profile, 300)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full((4, 4, 3), 1.5, np.float32), "has samples from 1.5 to 1.5; wanted 0 to 1"),
        (np.full((4, 4, 3), np.nan, np.float32), "NaN or infinite"),
        (np.full((4, 4, 3), 7, np.int16), "signed integers"),
        (np.full((4, 4, 3), 7, np.int8), "signed integers"),
        (np.full((4, 4, 3), 0.5, np.float64), "libvips: tiff2vips"),
    ],
)
def test_samples_of_unknown_meaning_are_refused(tmp_path, samples, message):
    with pytest.raises(FileRefusedError, match=message):
        read_image(save(tmp_path / "a.tif", samples))


def test_without_libvips_the_command_that_installs_it_is_told(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(full_depth, "has_vips", lambda: False)
    with pytest.raises(FileRefusedError, match=r'only pyvips reads; pip install "pyvips\[binary\]"'):
        read_image(save(tmp_path / "a.tif", deep(scene, np.float32)))
    read = same(save(tmp_path / "b.tif", deep(scene), tile=(16, 16)), scene, 1 / 255)
    assert read.notes == ('16 bits per channel, read at 8; for all, pip install "pyvips[binary]"',)


def test_a_damaged_tiff_is_refused_and_nothing_is_printed(tmp_path, scene, capfd):
    content = save(tmp_path / "a.tif", deep(scene, np.float32), compression="zlib").read_bytes()
    for cut in (len(content) // 2, 200, 40):
        (tmp_path / "b.tif").write_bytes(content[:cut])
        with pytest.raises(FileRefusedError):
            read_image(tmp_path / "b.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_at_its_own_depth(tmp_path, scene, bits):
    read = same(save_avif(tmp_path / "a.avif", scene, bits), scene, 0.01)
    assert (read.bits, read.notes) == (16, ())
    levels = np.round(read.image.numpy() * (2**bits - 1), 3)
    assert np.array_equal(levels, np.round(levels))
    assert len(np.unique(levels)) > 256


def test_white_of_a_deep_avif_is_white(tmp_path):
    assert read_image(save_avif(tmp_path / "a.avif", np.ones((48, 64, 3)), 10)).image.min() > 0.9999


def test_an_avif_that_another_encoder_wrote(tmp_path, scene):
    with av.open(str(tmp_path / "a.avif"), "w", format="avif") as file:
        stream = file.add_stream("libsvtav1", options={"crf": "5", "preset": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p10le"
        scene = np.concatenate((scene, scene[:16]))
        frame = av.VideoFrame.from_ndarray(deep(scene), format="rgb48le").reformat(format="yuv420p10le", dst_colorspace=1)
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    read = read_image(tmp_path / "a.avif")
    error = np.abs(read.image[0].movedim(0, -1).numpy() - scene)[:40]
    assert (read.bits, error.max() < 0.05) == (16, True)


def save_avif(path, scene, bits):
    picture = pyvips.Image.new_from_array(deep(scene), interpretation="rgb16")
    path.write_bytes(picture.heifsave_buffer(compression="av1", bitdepth=bits, lossless=True))
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_deep_heic_is_turned_once(tmp_path, scene, orientation):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    heif = pillow_heif.from_bytes("RGB;16", (64, 48), deep(scene).tobytes())
    heif.info["exif"] = exif.tobytes()
    heif.save(tmp_path / "a.heic", quality=-1, chroma=444)
    turned = np.rot90(scene, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    read = same(tmp_path / "a.heic", turned, 0.02)
    assert read.bits == 16
    assert len(np.unique(read.image.numpy())) > 256


def test_the_depth_of_a_jpeg_xl(tmp_path):
    pytest.importorskip("pillow_jxl")
    for size in ((64, 48), (33, 57), (300, 200)):
        buffer = io.BytesIO()
        Image.new("RGB", size).save(buffer, "JXL")
        assert find_jxl_depth(buffer.getvalue()) == 8
    # the header of 64x48 px of 16 bits, as libjxl writes it: small sides 6 and (ratio 0) 8, no default, no extra fields
    bits = "1" + "10100" + "000" + "11100" + "0" + "0" + "0" + "11" + "111100"
    packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits) // 8 * 8, 8))
    assert find_jxl_depth(b"\xff\x0a" + packed + bytes(8)) == 16
