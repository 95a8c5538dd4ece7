"""What is written is read back to the bit, with what belongs beside it; what a format cannot hold is refused early."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.files.paths import FileRefusedError
from fidelity.files.read import read_image
from fidelity.files.tags import Extras, correct_exif, describe_in_xmp
from fidelity.files.write import Export, check_options, check_writable, is_deep, max_exif_bytes, quantise, write_image
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    ("suffix", "export"),
    [
        (".png", Export(8)),
        (".png", Export(16)),
        (".tif", Export(8)),
        (".tif", Export(8, compression="lzw")),
        (".tif", Export(16)),
        (".tif", Export(16, compression="lzw")),
        (".tif", Export(16, compression="raw")),
        (".webp", Export(8)),
    ],
)
def test_what_is_written_is_read_back_to_the_bit(tmp_path, random_image, channels, suffix, export):
    white = 2**export.bits - 1
    image = (random_image(1, channels, 67, 45) * white).round() / white
    write_image(tmp_path / f"x{suffix}", image, export=export)
    source = read_image(tmp_path / f"x{suffix}")
    assert source.bits == export.bits
    assert torch.equal((source.image * white).round(), (image * white).round().expand_as(source.image))


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_come_close_by_quality(tmp_path, photo, suffix, quality):
    write_image(tmp_path / f"x{suffix}", photo, export=Export(quality=quality, lossless=False))
    difference = (read_image(tmp_path / f"x{suffix}").image - photo).abs().mean() * 255
    assert difference < (2.5 if quality == 95 else 6)
    assert difference > 0.1


def test_jpeg_keeps_every_colour_sample_unless_told_otherwise(tmp_path, photo):
    write_image(tmp_path / "full.jpg", photo)
    write_image(tmp_path / "half.jpg", photo, export=Export(subsampling="4:2:0"))
    layers = {name: Image.open(tmp_path / name).layer for name in ("full.jpg", "half.jpg")}
    assert [layer[1:3] for layer in layers["full.jpg"]] == [(1, 1)] * 3
    assert layers["half.jpg"][0][1:3] == (2, 2)


def test_sixteen_bits_are_ignored_where_a_format_has_none(tmp_path, photo):
    write_image(tmp_path / "x.jpg", photo, export=Export(16))
    assert read_image(tmp_path / "x.jpg").bits == 8


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_profile_exif_and_what_was_done_stand_beside_the_pixels(tmp_path, photo, display_p3, suffix, bits):
    camera = Image.Exif()
    camera[0x010F], camera[0x0112] = "Maker", 6
    camera[0x8769] = {0x9003: "2020:02:03 04:05:06", 0xA002: 5}
    exif = correct_exif(camera.tobytes(), (96, 112))
    write_image(tmp_path / f"x{suffix}", photo, Extras(display_p3, exif, describe_in_xmp({"model": "a <b>"})), Export(bits))
    with Image.open(tmp_path / f"x{suffix}") as opened:
        opened.load()
        found = opened.getexif()
        assert opened.info["icc_profile"] == display_p3
        assert (found[0x010F], found.get(0x0112)) == ("Maker", 1)
        assert found.get_ifd(0x8769)[0x9003] == "2020:02:03 04:05:06"
        assert found.get_ifd(0x8769)[0xA002] == 112
        assert 'fidelity:model="a &lt;b&gt;"' in str(opened.info.get("xmp", b""), "utf-8") + opened.info.get(
            "XML:com.adobe.xmp", ""
        )


def test_a_deep_png_says_nothing_of_resolution_unless_it_is_known(tmp_path, photo):
    write_image(tmp_path / "x.png", photo, export=Export(16))
    assert b"pHYs" not in (tmp_path / "x.png").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_text_that_is_not_ascii_reaches_every_format_to_the_byte(tmp_path, photo, suffix):
    camera = Image.Exif()
    camera[0x013B] = "José".encode()
    write_image(tmp_path / f"x{suffix}", photo, Extras(exif=correct_exif(camera.tobytes(), (96, 112))))
    assert Image.open(tmp_path / f"x{suffix}").getexif()[0x013B].encode("latin-1").decode() == "José"


def test_a_tiff_agrees_with_what_pillow_reads(tmp_path, photo):
    write_image(tmp_path / "x.tif", photo)
    with Image.open(tmp_path / "x.tif") as opened:
        assert np.array_equal(np.asarray(opened), quantise(photo, 8))


def test_a_graph_that_jpeg_cannot_hold_is_left_out_and_the_camera_kept(tmp_path, photo):
    camera = Image.Exif()
    camera[0x010F] = "Maker"
    camera[0x8769] = {0x927C: b"n" * 70_000, 0x9003: "2020:02:03 04:05:06"}
    graphs = {"prompt": "{}", "workflow": "x" * 70_000}
    exif = correct_exif(camera.tobytes(), (1, 1), graphs=graphs, max_bytes=max_exif_bytes(".jpg"))
    write_image(tmp_path / "x.jpg", photo, Extras(exif=exif))
    found = Image.open(tmp_path / "x.jpg").getexif()
    assert found[0x010F] == "Maker"
    assert found.get_ifd(0x8769)[0x9003] == "2020:02:03 04:05:06"
    small = correct_exif(None, (1, 1), graphs=graphs, max_bytes=max_exif_bytes(".jpg"))
    assert b"prompt:{}" in small and len(small) < 300


def test_a_grey_profile_is_applied_where_grey_becomes_rgb(tmp_path, grey_profile):
    image = torch.full((1, 1, 4, 4), 128 / 255)
    write_image(tmp_path / "x.webp", image, Extras(icc_profile=grey_profile))
    source = read_image(tmp_path / "x.webp")
    assert source.icc_profile is None
    assert source.image.mean() == pytest.approx(0.574, abs=0.003)


def test_alpha_in_a_tiff_is_marked_as_straight(tmp_path, random_image):
    write_image(tmp_path / "x.tif", random_image(1, 4, 5, 5))
    assert Image.open(tmp_path / "x.tif").tag_v2[338] == (2,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 12}, "bits is 12; wanted 8 or 16"),
        ({"quality": 0}, "quality is 0; wanted 1 to 100"),
    ],
)
def test_an_export_that_no_format_has_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Export(**options)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, photo, monkeypatch):
    import errno
    from pathlib import Path

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full(io.BytesIO):
        write = writelines = refuse

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    for name in ("x.png", "x.tif", "x.jpg"):
        with pytest.raises(FileRefusedError, match="the disk is full"):
            write_image(tmp_path / name, photo, export=Export(16))
    assert list(tmp_path.iterdir()) == []


def test_values_are_rounded_not_cut(tmp_path):
    write_image(tmp_path / "x.png", torch.full((1, 1, 1, 1), 99.6 / 255))
    assert np.asarray(Image.open(tmp_path / "x.png")).item() == 100


@pytest.mark.parametrize(
    ("name", "size", "channels", "message"),
    [
        ("a.txt", (9, 9), 3, "cannot write .txt; wanted .png"),
        ("a", (9, 9), 3, "cannot write a file without ending"),
        ("a.jpg", (9, 9), 4, "JPEG does not support transparency; wanted .png"),
        ("a.webp", (9, 20_000), 3, "WEBP allows at most 16383 px per side, not 20000x9"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_early(tmp_path, name, size, channels, message):
    with pytest.raises(FileRefusedError, match=message):
        check_writable(tmp_path / name, size, channels)


def test_a_name_as_long_as_the_system_allows_is_written(tmp_path):
    path = tmp_path / ("x" * 246 + ".png")
    write_image(path, torch.zeros(1, 3, 2, 2))
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefusedError, match="file is not a writable folder"):
        check_writable(tmp_path / "file" / "out.png", (9, 9), 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("quality", [95, 100])
def test_avif_has_12_bits_where_they_are_asked_for(tmp_path, channels, quality):
    pytest.importorskip("pyvips", reason="no pyvips; pip install 'pyvips[binary]' to run this")
    slope = torch.linspace(0, 1, 64)[None, None, None, :].expand(1, channels, 40, -1).clone()
    slope[:, 0] = slope[:, 0].flip(2)
    write_image(tmp_path / "a.avif", slope, export=Export(16, quality))
    made = read_image(tmp_path / "a.avif")
    assert made.bits > 8
    error = (made.image - slope).abs()  # grey is read as three channels
    assert made.image.shape == (1, max(3, channels), 40, 64)
    assert error.max() <= (0.51 / 4095 + 1e-6 if quality == 100 else 4 / 255)
    assert error.mean() < 0.7 / 255


def test_avif_of_8_bits_keeps_colors(tmp_path, random_image):
    image = resize(random_image(1, 3, 12, 12), (96, 96)).clamp(0, 1)
    write_image(tmp_path / "a.avif", image)
    made = read_image(tmp_path / "a.avif")
    assert made.bits == 8
    assert measure_drift(image, made.image).mean < 0.5


def test_more_bits_than_8_in_avif_need_libvips_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.files.write.can_write_avif", lambda: False)
    with pytest.raises(FileRefusedError, match=r"needs libvips: pip install 'pyvips\[binary\]'"):
        check_options(".avif", 16, None)
    assert not is_deep(".avif")
