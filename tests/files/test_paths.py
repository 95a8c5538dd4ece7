"""Folders give their images; names keep apart; files appear whole or not at all."""

import errno

import pytest

from fidelity.files.paths import FileRefusedError, expand_input, name_outputs, write_whole


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
    (tmp_path / "._a.jpg").write_text("what a file system keeps beside an image")
    assert [path.name for path in expand_input(tmp_path)] == ["a.jpg", "b.png"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileRefusedError, match="no images in this folder"):
        expand_input(tmp_path)


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path):
    from pathlib import Path

    inputs = [Path("a/x.png"), Path("a/x.jpg"), Path("b/x.png"), Path("b/y.png")]
    names = [path.name for path in name_outputs(inputs, tmp_path, is_folder=True)]
    assert names == ["x_png.png", "x_jpg.png", "x_png_2.png", "y.png"]
