"""Files of every mode and depth are read as what they show; bad ones are refused in one line."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from fidelity.files import read as reading
from fidelity.files.metadata import read_provenance
from fidelity.files.paths import FileRefusedError
from fidelity.files.read import read_image
from tests.deep import encode_deep


@pytest.mark.parametrize(
    ("mode", "name", "channels"),
    [
        ("RGB", "a.png", 3),
        ("RGB", "a.jpg", 3),
        ("RGB", "a.webp", 3),
        ("RGB", "a.tif", 3),
        ("RGB", "a.bmp", 3),
        ("RGBA", "a.png", 4),
        ("L", "a.png", 1),
        ("1", "a.png", 1),
        ("P", "a.png", 3),
        ("P", "a.gif", 3),
        ("LA", "a.png", 4),
        ("CMYK", "a.jpg", 3),
        ("I;16", "a.png", 1),
    ],
)
def test_every_mode_becomes_an_image(image_file, mode, name, channels):
    source = read_image(image_file(name, mode))
    assert source.image.shape == (1, channels, 18, 24)
    assert source.image.dtype == torch.float32


def test_orientation_is_applied(image_file):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(image_file("turned.jpg", exif=exif)).image.shape == (1, 3, 24, 18)


def test_a_profile_of_another_colour_space_is_not_carried(image_file):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_image(image_file("grey.png", "L", icc_profile=profile)).icc_profile is None


def test_sixteen_bit_grey_keeps_its_depth(tmp_path):
    Image.fromarray(np.array([[0, 1000, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    expected = torch.tensor([0, 1000 / 65535, 1])
    assert torch.allclose(read_image(tmp_path / "deep.png").image.flatten(), expected)


def test_the_first_frame_of_an_animation_is_taken_and_said(tmp_path):
    frames = [Image.new("RGB", (5, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    source = read_image(tmp_path / "moving.gif")
    assert source.notes == ("animated: using the first of 2 frames",)
    assert source.image[0, :, 0, 0].tolist() == [1, 0, 0]


def test_cmyk_is_converted_and_said(image_file):
    assert "CMYK" in read_image(image_file("c.jpg", "CMYK")).notes[0]


def test_a_wrong_ending_is_no_matter(image_file, tmp_path):
    path = image_file("really.png").rename(tmp_path / "named.jpg")
    assert read_image(path).image.shape == (1, 3, 18, 24)


def as_bytes(picture, kind):
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "empty.png: is empty; wanted an image"),
        ("text.png", b"just some words\n", "text.png: not an image, or an unknown format"),
        ("cut.png", as_bytes(Image.effect_noise((90, 90), 50), "PNG")[:2000], "cut.png: damaged or truncated"),
        ("cut.jpg", as_bytes(Image.effect_noise((90, 90), 50), "JPEG")[:900], "cut.jpg: damaged or truncated"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileRefusedError, match=message) as refusal:
        read_image(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(FileRefusedError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileRefusedError, match="is a folder; wanted a file"):
        read_image(tmp_path)


def test_an_image_beyond_the_memory_is_refused_before_it_is_decoded(image_file, monkeypatch):
    monkeypatch.setattr(reading, "max_source_pixels", lambda: 100)
    with pytest.raises(FileRefusedError, match="too large for this machine's memory; wanted at most 0 megapixels"):
        read_image(image_file())


def test_pillows_own_limit_is_put_back(image_file):
    before = Image.MAX_IMAGE_PIXELS
    read_image(image_file())
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([[0.0, 1.5]], dtype=np.float32), "has samples from 0 to 1.5; wanted 0 to 1"),
        (np.array([[0, 70_000]], dtype=np.int32), "has samples from 0 to 70000; wanted 0 to 65535"),
        (np.array([[0.0, np.nan]], dtype=np.float32), "NaN or infinite"),
    ],
)
def test_deep_samples_of_unknown_meaning_are_refused_not_clipped(tmp_path, samples, message):
    Image.fromarray(samples).save(tmp_path / "deep.tif")
    with pytest.raises(FileRefusedError, match=message):
        read_image(tmp_path / "deep.tif")


def test_float_samples_within_range_are_read(tmp_path):
    Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif").image.flatten().tolist() == [0, 0.25, 1]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("kind", "name"), [("png", "deep.png"), ("tiff", "deep.tif")])
def test_sixteen_bits_a_channel_are_kept(tmp_path, channels, kind, name):
    samples = np.random.default_rng(0).integers(0, 65536, (9, 7, channels), np.uint16)
    (tmp_path / name).write_bytes(encode_deep(samples, kind))
    source = read_image(tmp_path / name)
    assert source.bits == 16
    assert torch.equal((source.image * 65535).round().int()[0].movedim(0, -1), torch.from_numpy(samples.astype(np.int32)))


def test_eight_bits_are_told_from_sixteen(image_file):
    assert {read_image(image_file(name)).bits for name in ("a.png", "a.tif", "a.jpg")} == {8}


def test_real_sixteen_bit_files_agree_with_what_pillow_reads_at_eight(test_data):
    checked = 0
    for path in sorted((test_data / "images/formats").iterdir()):
        source = read_image(path)
        if source.bits == 16:
            shown = np.asarray(Image.open(path).convert("RGBA")) / 255
            assert np.abs(source.image[0].movedim(0, -1).numpy() - shown).max() < 1.1 / 255
            assert (source.image * 255 % 1).gt(0.01).any()
            checked += 1
    assert checked


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["turned.png", "turned.jpg", "turned.tif", "deep.png", "deep.tif"])
def test_every_orientation_is_applied_as_pillow_applies_it(tmp_path, orientation, name):
    from PIL import ImageOps

    from fidelity.files.tags import Extras
    from fidelity.files.write import Export, write_image

    exif = Image.Exif()
    exif[0x0112] = orientation
    image = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / name, image, Extras(exif=exif.tobytes()), Export(16 if name.startswith("deep") else 8))
    with Image.open(tmp_path / name) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened)).astype(np.float32) / 255
    assert np.abs(read_image(tmp_path / name).image[0].movedim(0, -1).numpy() - expected).max() < 1.01 / 255


def tiff(samples, tags):
    """A TIFF of 16-bit samples, (H, W, C), in one uncompressed strip, or in one tile if its tags say so."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    height, width, channels = samples.shape
    data = samples.astype("<u2").tobytes()
    base = {256: width, 257: height, 258: (16,) * channels, 259: 1, 262: 1 if channels == 1 else 2, 277: channels}
    place = {322: width, 323: height, 325: len(data)} if 322 in tags else {278: height, 279: len(data), 273: 0}
    for tag, value in (base | place | tags).items():
        directory[tag] = value
    if 322 in tags:
        directory[324] = 0
        del directory[324]
        probe = io.BytesIO()
        directory[324] = 1
        directory.save(probe)
        directory[324] = len(probe.getvalue())
    head = io.BytesIO()
    directory.save(head)
    return head.getvalue() + data


def test_white_at_zero_is_turned_round(tmp_path):
    samples = np.array([[0, 1000, 40000, 65535]], np.uint16)[..., None]
    (tmp_path / "inverse.tif").write_bytes(tiff(samples, {262: 0}))
    read = (read_image(tmp_path / "inverse.tif").image * 65535).round().int().flatten().tolist()
    assert read == [65535, 64535, 25535, 0]


def test_colours_weighed_by_transparency_are_freed_of_it(tmp_path):
    samples = np.array([[[10000, 20000, 30000, 32768]]], np.uint16)
    (tmp_path / "weighed.tif").write_bytes(tiff(samples, {338: 1}))
    read = read_image(tmp_path / "weighed.tif").image.flatten() * 65535
    assert read.tolist() == pytest.approx([20000, 40000, 60000, 32768], abs=2)


def test_grey_with_transparency_is_converted_by_its_profile(tmp_path, grey_profile):
    Image.new("LA", (3, 2), (128, 200)).save(tmp_path / "la.png", icc_profile=grey_profile)
    source = read_image(tmp_path / "la.png")
    assert source.image[0, 0, 0, 0] == pytest.approx(0.574, abs=0.002)
    assert source.notes == ("grey with transparency: converted to sRGB by its color profile",)


def test_lab_becomes_srgb_and_says_so(tmp_path):
    Image.new("LAB", (3, 2), (128, 128, 128)).save(tmp_path / "lab.tif")
    source = read_image(tmp_path / "lab.tif")
    assert source.notes == ("Lab: converted to sRGB",)
    assert torch.allclose(source.image, torch.full((1, 3, 2, 3), 119 / 255), atol=2 / 255)


def test_a_display_profile_is_kept_or_converted_as_asked(image_file, display_p3):
    path = image_file("wide.png", icc_profile=display_p3)
    kept, converted = read_image(path), read_image(path, "srgb")
    assert kept.icc_profile == kept.embedded_profile == converted.embedded_profile == display_p3
    assert converted.icc_profile is None
    assert not torch.allclose(kept.image, converted.image, atol=0.02)


def test_a_profile_of_srgb_changes_nothing(image_file):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = image_file("s.png", icc_profile=profile)
    assert torch.equal(read_image(path, "srgb").image, read_image(path).image)


def test_a_damaged_profile_is_left_out_and_said(image_file):
    path = image_file("bad.png", icc_profile=b"\0" * 16 + b"RGB " + b"\0" * 200)
    assert "color profile is damaged" in read_image(path, "srgb").notes[0]


def test_what_generated_an_image_is_found_again(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("prompt", "{}")
    texts.add_text("Comment", "no")
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png", pnginfo=texts)
    exif = Image.Exif()
    exif[0x0110] = 'workflow:{"a": 1}'
    Image.new("RGB", (3, 3)).save(tmp_path / "a.webp", exif=exif)
    assert read_image(tmp_path / "a.png").texts == {"prompt": "{}"}
    assert read_image(tmp_path / "a.webp").texts == {"workflow": '{"a": 1}'}


def mutate(content, generator):
    """Bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 8))):
        place = int(generator.integers(0, max(1, len(data))))
        choice = generator.integers(0, 5)
        if choice == 0 and data:
            data[place] = int(generator.integers(0, 256))
        elif choice == 1:
            del data[place : place + int(generator.integers(1, 64))]
        elif choice == 2:
            data[place:place] = data[place : place + int(generator.integers(1, 64))]
        elif choice == 3:
            data = data[: max(1, place)]
        elif data:
            data[min(place, 200 + place % 50) % len(data)] ^= 1 << int(generator.integers(0, 8))
    return bytes(data)


MUTATED = ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.gif", "a.avif", "a.heic", "a.jxl", "deep.png", "deep.tif"]
PLUGINS = {".heic": "pillow_heif", ".jxl": "pillow_jxl"}


@pytest.mark.parametrize("name", MUTATED)
def test_mutated_files_are_read_or_refused_in_one_line(image_file, tmp_path, display_p3, name, monkeypatch):
    monkeypatch.setattr(reading, "max_source_pixels", lambda: 1_000_000)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "maker", {0xA002: 24, 0x9286: b"ASCII\0\0\0words"}
    if name.startswith("deep"):
        samples = np.random.default_rng(0).integers(0, 65536, (18, 24, 3), np.uint16)
        content = encode_deep(samples, "png" if name.endswith("png") else "tiff")
    elif Path(name).suffix in PLUGINS:
        plugin = pytest.importorskip(PLUGINS[Path(name).suffix])
        picture, path = Image.open(image_file("a.png", icc_profile=display_p3)), tmp_path / name
        if name.endswith("heic"):
            plugin.from_pillow(picture).save(path, quality=90)
        else:
            picture.save(path)
        content = path.read_bytes()
    else:
        path = (
            image_file(name, exif=exif.tobytes(), icc_profile=display_p3)
            if name[2:] not in ("bmp", "gif")
            else image_file(name)
        )
        content = path.read_bytes()
    generator, read = np.random.default_rng(7), 0
    for _ in range(150):
        (tmp_path / "mutant").write_bytes(mutate(content, generator))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_provenance(tmp_path / "mutant") is not None
        try:
            source = read_image(tmp_path / "mutant", "srgb")
        except FileRefusedError as refusal:
            assert "\n" not in str(refusal)
        else:
            read += 1
            assert source.image.isfinite().all() and source.image.min() >= 0 and source.image.max() <= 1
    assert read < 150


def test_pillows_own_pixel_limit_neither_counts_nor_changes_and_metadata_is_read_beyond_it(tmp_path, monkeypatch):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "1girl\nNegative prompt: x\nSteps: 20, Model: animagine-xl, Version: v1.10")
    Image.new("RGB", (40, 30)).save(tmp_path / "large.png", pnginfo=info)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert reading.read_image(tmp_path / "large.png").image.shape == (1, 3, 30, 40)
    assert read_provenance(tmp_path / "large.png").family == "sd"
    assert Image.MAX_IMAGE_PIXELS == 100


def test_only_documented_formats_are_opened_whatever_a_file_is_called(tmp_path):
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n{} loop\n")
    with pytest.raises(FileRefusedError, match="which is not read; wanted PNG"):
        reading.read_image(tmp_path / "script.png")
