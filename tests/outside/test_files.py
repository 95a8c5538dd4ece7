"""Files of every mode are read as what they show; bad ones are refused in one line; results appear whole."""

import errno
import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fidelity.outside import files
from fidelity.outside.files import (
    FileRefusedError,
    check_writable,
    expand_input,
    name_outputs,
    read_image,
    write_image,
    write_whole,
)


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


def test_what_is_written_is_read_back_to_the_bit(tmp_path, random_image):
    for channels in (1, 3, 4):
        image = (random_image(1, channels, 9, 7) * 255).round() / 255
        for suffix in (".png", ".tif", ".webp"):
            if channels == 1 and suffix == ".webp":
                continue  # WebP holds no grey
            write_image(tmp_path / f"x{suffix}", image)
            assert torch.allclose(read_image(tmp_path / f"x{suffix}").image, image, atol=1e-7)


def test_values_are_rounded_not_cut(tmp_path):
    write_image(tmp_path / "x.png", torch.full((1, 1, 1, 1), 99.6 / 255))
    assert np.asarray(Image.open(tmp_path / "x.png")).item() == 100


def test_orientation_is_applied(image_file):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(image_file("turned.jpg", exif=exif)).image.shape == (1, 3, 24, 18)


def test_the_colour_profile_is_carried_over(image_file, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = read_image(image_file("p.png", icc_profile=profile))
    write_image(tmp_path / "out.png", source.image, source.icc_profile)
    assert Image.open(tmp_path / "out.png").info["icc_profile"] == profile


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
    assert source.notes == ("animated: the first of 2 frames is taken",)
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
        ("text.png", b"just some words\n", "text.png: not an image, or of no known format"),
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
    with pytest.raises(FileRefusedError, match="cannot be read"):
        read_image(tmp_path)


def test_an_image_beyond_the_memory_is_refused_before_it_is_decoded(image_file, monkeypatch):
    monkeypatch.setattr(files, "max_source_pixels", lambda: 100)
    with pytest.raises(FileRefusedError, match="more than 0 megapixels, too large for the memory"):
        read_image(image_file())


def test_pillows_own_limit_is_put_back(image_file):
    before = Image.MAX_IMAGE_PIXELS
    read_image(image_file())
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("name", "size", "channels", "message"),
    [
        ("a.txt", (9, 9), 3, "cannot write .txt; wanted .png"),
        ("a", (9, 9), 3, "cannot write a file without ending"),
        ("a.jpg", (9, 9), 4, "JPEG holds no transparency; wanted .png"),
        ("a.webp", (9, 20_000), 3, "WEBP holds at most 16383 px a side, not 20000x9"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_early(tmp_path, name, size, channels, message):
    with pytest.raises(FileRefusedError, match=message):
        check_writable(tmp_path / name, size, channels)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FileRefusedError, match=r"x\.png: cannot be written \(the disk is full\)"):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_is_cancelled_leaves_nothing(tmp_path):
    def write(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x.png", write)
    assert list(tmp_path.iterdir()) == []


def test_folders_give_their_images_in_order(image_file, tmp_path):
    image_file("b.png"), image_file("a.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in expand_input(tmp_path)] == ["a.jpg", "b.png"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileRefusedError, match="no images in this folder"):
        expand_input(tmp_path)


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path):
    from pathlib import Path

    inputs = [Path("a/x.png"), Path("a/x.jpg"), Path("b/x.png"), Path("b/y.png")]
    names = [path.name for path in name_outputs(inputs, tmp_path, is_folder=True)]
    assert names == ["x_png.png", "x_jpg.png", "x_png_2.png", "y.png"]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.array([[0.0, 1.5]], dtype=np.float32), "holds samples from 0 to 1.5; wanted 0 to 1"),
        (np.array([[0, 70_000]], dtype=np.int32), "holds samples from 0 to 70000; wanted 0 to 65535"),
        (np.array([[0.0, np.nan]], dtype=np.float32), "not finite"),
    ],
)
def test_deep_samples_of_unknown_meaning_are_refused_not_clipped(tmp_path, samples, message):
    Image.fromarray(samples).save(tmp_path / "deep.tif")
    with pytest.raises(FileRefusedError, match=message):
        read_image(tmp_path / "deep.tif")


def test_float_samples_within_range_are_read(tmp_path):
    Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif").image.flatten().tolist() == [0, 0.25, 1]


def test_a_name_as_long_as_the_system_allows_is_written(tmp_path):
    path = tmp_path / ("x" * 246 + ".png")
    write_image(path, torch.zeros(1, 3, 2, 2))
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileRefusedError, match="file is not a folder that can be written to"):
        check_writable(tmp_path / "file" / "out.png", (9, 9), 3)
