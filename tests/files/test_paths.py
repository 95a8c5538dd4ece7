"""Folders give their images; names keep apart; files appear whole or not at all."""

import errno
from typing import get_args

import pytest

from fidelity.choices import ExistingChoice
from fidelity.files.paths import FileRefusedError, KeptError, find_images, name_outputs, settle_output, write_whole


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
    assert [path.name for path in find_images(tmp_path).files] == ["a.jpg", "b.png"]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileRefusedError, match="no images in this folder"):
        find_images(tmp_path)


def test_inputs_of_one_name_do_not_overwrite_each_other(tmp_path):
    from pathlib import Path

    inputs = [Path("a/x.png"), Path("a/x.jpg"), Path("b/x.png"), Path("b/y.png")]
    names = [path.name for path in name_outputs(inputs, tmp_path, is_folder=True)]
    assert names == ["x_png.png", "x_jpg.png", "x_png_2.png", "y.png"]


def test_subfolders_are_searched_if_asked_for_and_what_systems_leave_is_not_counted(image_file, tmp_path):
    source = tmp_path / "in"
    for name in ("b/c", ".hidden", "__MACOSX", "out"):
        (source / name).mkdir(parents=True)
    for name in ("a.png", "b/a.png", "b/c/x.jpg", ".hidden/h.png", "__MACOSX/m.png", "out/a.png"):
        image_file("seed.png").rename(source / name)
    for name in ("Thumbs.db", ".DS_Store", "b/desktop.ini", "b/._a.png", "b/notes.txt", "movie.mp4"):
        (source / name).write_text("x")
    alone = find_images(source)
    assert ([path.name for path in alone.files], alone.others) == (["a.png"], 1)
    found = find_images(source, recursive=True, apart=source / "out")
    assert [str(path.relative_to(source)) for path in found.files] == ["a.png", "b/a.png", "b/c/x.jpg"]
    assert found.others == 2
    outputs = name_outputs(found.files, source / "out", True, ".png", found.folders)
    assert [str(path.relative_to(source / "out")) for path in outputs] == ["a.png", "b/a.png", "b/c/x.png"]


def test_links_in_a_circle_are_not_followed(image_file, tmp_path):
    image_file("a.png")
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(find_images(tmp_path, recursive=True).files) == 1


def test_what_is_done_with_a_file_that_exists(tmp_path):
    path = tmp_path / "a.b.png"
    assert {settle_output(path, choice) for choice in get_args(ExistingChoice)} == {path}
    path.write_text("old"), (tmp_path / "a.b_2.png").write_text("older")
    assert settle_output(path, "overwrite") == path
    assert settle_output(path, "rename") == tmp_path / "a.b_3.png"
    with pytest.raises(KeptError, match="exists, skipped"):
        settle_output(path, "skip")
    with pytest.raises(FileRefusedError, match="exists; wanted another name, or --existing overwrite, skip or rename"):
        settle_output(path, "refuse")
