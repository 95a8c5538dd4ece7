"""Small generated files, each of a type that once was read wrongly, refused or skipped (failing/ in the test data)."""

import io
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, IptcImagePlugin
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.decide.decision import find_telling
from fidelity.files.paths import find_images
from fidelity.files.read import read_image

READ = {  # (height, width, channels), bits, mean of each channel in [0, 1], and what must be in the notes
    "noeoi.jpg": (None, 8, None, "last bytes of the file are missing"),
    "ztxt3mb.png": (None, 8, None, "text"),
    "icc_big.png": (None, 8, None, ""),
    "photo.heic": ((72, 96, 3), 8, (0.508, 0.543, 0.396), ""),
    "photo.jxl": ((72, 96, 3), 8, (0.507, 0.539, 0.394), ""),
    "t_unspec8.tif": ((72, 96, 3), 8, None, "extra channel, of unspecified meaning, was left out"),
    "t_big16.tif": ((72, 96, 3), 16, (0.508, 0.543, 0.396), ""),
    "t_tiled16.tif": ((72, 96, 3), 16, (0.508, 0.543, 0.396), ""),
    "t_cmyk16.tif": ((72, 96, 3), 16, (0.508, 0.543, 0.396), "by formula"),
    "deep10.avif": ((72, 96, 3), 16, (0.508, 0.543, 0.396), ""),
    "t_la16.tif": ((72, 96, 4), 16, (0.516, 0.516, 0.516, 0.411), ""),
    "t_f32.tif": ((72, 96, 3), 32, (0.508, 0.543, 0.396), ""),
    "t_thumbfirst.tif": ((72, 96, 3), 8, (0.508, 0.543, 0.396), "2 pages: using the largest, number 2"),
    "mpo.jpg": (None, 8, None, "left out"),
    "saved.jfif": (None, 8, None, ""),
    "g2_trns.png": (None, 8, (None, None, None, 0.51), ""),
}


@pytest.fixture
def failing(test_data):
    folder = test_data / "failing/files"
    if not folder.is_dir():
        pytest.skip("no failing inputs in the test data")
    return folder


def upscale(source, output, *options):
    result = CliRunner().invoke(app, ["upscale", str(source), "-o", str(output), *options])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", READ)
def test_it_is_read_as_it_is_meant(failing, name):
    needed = {"heic": "pillow_heif", "jxl": "pillow_jxl", "tif": "pyvips", "avif": "pyvips"}.get(name.rpartition(".")[2])
    if needed:
        pytest.importorskip(needed)
    shape, bits, means, noted = READ[name]
    read = read_image(failing / name)
    assert read.bits == bits
    assert noted in " ".join(read.notes)
    assert shape is None or read.image.shape == (1, shape[2], *shape[:2])
    for index, mean in enumerate(means or ()):
        assert mean is None or abs(float(read.image[:, index].mean()) - mean) < 0.01


COLORED = {"gama_linear8.png": 1, "cicp_p3.png": 1, "cicp_pq.png": 1, "_DSC0001_adobe_r03.jpg": 1.5, "control_icc_p3.png": 1}
UNRESTORED = ("--scale", "2", "--restore", "off")  # the scene has noise, which restoration removes


@pytest.mark.parametrize(("name", "limit"), COLORED.items())
def test_colors_are_shown_as_they_were(failing, tmp_path, name, limit):
    upscale(failing / name, tmp_path / "o.png", *UNRESTORED)
    assert miss(tmp_path / "o.png", failing) < limit


def test_a_phones_pq_profile_is_neither_black_nor_clipped(failing, tmp_path):
    upscale(failing / "icc_p3_pq.jpg", tmp_path / "o.png", *UNRESTORED, "--color-space", "srgb")
    assert miss(tmp_path / "o.png", failing) < 2  # 1.8 of it from 8 bits of PQ in the source


def miss(path, folder):
    """CIEDE2000 of a result as a color-managed viewer shows it, at the size of the scene."""
    color = pytest.importorskip("skimage.color")
    with Image.open(path) as made, Image.open(folder / "reference_srgb.png") as scene:
        profile, srgb = made.info.get("icc_profile"), ImageCms.createProfile("sRGB")
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else srgb
        shown = ImageCms.profileToProfile(made.convert("RGB"), given, srgb)
        small = shown.resize(scene.size, Image.Resampling.BOX)
        pair = [color.rgb2lab(np.asarray(picture.convert("RGB")) / 255) for picture in (small, scene)]
    return float(color.deltaE_ciede2000(*pair).mean())


@pytest.mark.parametrize("name", ["sprite_disc.png", "sprite_foliage.png", "control_sprite_aa.png"])
def test_transparency_has_no_specks_and_no_holes(failing, tmp_path, name):
    upscale(failing / name, tmp_path / "o.png")
    given, made = (np.round(read_image(path).image[0, 3].numpy() * 255) for path in (failing / name, tmp_path / "o.png"))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(given, 1, mode="edge"), (3, 3))
    scale = made.shape[0] // given.shape[0]
    for outside, level in ((around.max(axis=(2, 3)) == 0, 0), (around.min(axis=(2, 3)) == 255, 255)):
        assert (made[outside.repeat(scale, 0).repeat(scale, 1)] == level).all()


HOSTILE = ("redos_checkpoint", "deep_prompt", "wf_unhashable_id", "wf_unhashable_link", "escape", "bomb_100MP_pal")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_and_sizes_take_no_time_and_say_nothing_of_their_own(failing, name):
    started = time.perf_counter()
    result = CliRunner().invoke(app, ["classify", str(failing / f"{name}.png")])
    assert result.exit_code == 0, result.output
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|Warning", result.output)
    assert time.perf_counter() - started < 60  # hangs, not speed


@pytest.mark.parametrize(
    ("name", "message"), [("eps_loop.png", "PostScript"), ("jpg_lie_20k.jpg", "cannot hold the 20000x20000 px")]
)
def test_what_is_not_the_picture_it_claims_to_be_is_refused(failing, name, message):
    result = CliRunner().invoke(app, ["classify", str(failing / name)])
    assert result.exit_code == 1
    assert message in result.output


def test_a_fade_in_is_judged_by_the_frame_that_shows_something(failing):
    frames = [read_image(failing / name).image for name in ("fblack.png", "f0.png", "f1.png")]
    assert find_telling(torch.cat(frames)) > 0


def test_every_picture_in_the_folder_is_found(failing):
    found = {path.name for path in find_images(failing).files}
    assert found >= {"saved.jfif", "photo.heic", "photo.jxl", *READ}


def test_what_a_camera_says_of_a_picture_is_carried(failing, tmp_path):
    made = tmp_path / "o.jpg"
    upscale(failing / "meta_iptc_xmp.jpg", made, "--scale", "2")
    with Image.open(failing / "meta_iptc_xmp.jpg") as given, Image.open(made) as written:
        assert IptcImagePlugin.getiptcinfo(written) == IptcImagePlugin.getiptcinfo(given)
        assert written.info["comment"] == given.info["comment"]
        assert b"dc:subject" in written.info["xmp"]
