"""Folders give their images; names keep apart; files appear whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from fidelity.choices import ExistingChoice
from fidelity.files.paths import (
    FileRefusedError,
    SkippedError,
    check_apart,
    check_folder,
    find_images,
    keys_of,
    name_outputs,
    settle_output,
    write_whole,
)
from fidelity.files.read import read_image


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
    assert ([path.name for path in alone.files], alone.other_files) == (["a.png"], 1)
    found = find_images(source, recursive=True, excluded=source / "out")
    assert [str(path.relative_to(source)) for path in found.files] == ["a.png", "b/a.png", "b/c/x.jpg"]
    assert found.other_files == 2
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
    with pytest.raises(SkippedError, match="exists, skipped"):
        settle_output(path, "skip")
    with pytest.raises(FileRefusedError, match="already exists; choose another name, or --existing overwrite, skip or rename"):
        settle_output(path, "refuse")


@pytest.mark.parametrize(
    "inputs",
    [
        ["p/x.png", "q/x.png", "r/x_png_2.png"],
        ["x/a.png", "x/a_png_2.png", "y/a.png"],
        ["r/x_png_2.png", "p/x.png", "q/x.png", "s/x.png", "s/x.jpg"],
        ["A.png", "a.png", "b.png"],
        ["e\u0301.png", "\u00e9.png"],
        ["a .png", "a.png", "a..png"],
    ],
)
def test_no_two_results_have_one_name(tmp_path, inputs):
    outputs = name_outputs([Path(name) for name in inputs], tmp_path, is_folder=True)
    check_apart({}, outputs)
    assert len({output.name.casefold() for output in outputs}) == len(inputs)


def test_names_from_before_are_kept_and_new_ones_avoid_them(tmp_path):
    inputs = [Path("x/a.jpg"), Path("x/a.png"), Path("x/b.png"), Path("y/c.png")]
    outputs = name_outputs(inputs, tmp_path, True, ".tif", kept={0: Path("a")}, others=[Path("b"), Path("deep/c")])
    assert [path.name for path in outputs] == ["a.tif", "a_png.tif", "b_png.tif", "c.tif"]
    outputs = name_outputs(inputs, tmp_path, True, kept={3: Path("a_png")}, others=[Path("b_png")])
    assert [path.name for path in outputs] == ["a_jpg.png", "a_png_2.png", "b.png", "a_png.png"]


def test_results_are_never_written_over_inputs_or_each_other(tmp_path):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("x")
    inputs = [tmp_path / "a.jpg", tmp_path / "b.png"]
    check_apart(keys_of(inputs), [tmp_path / "c.png", tmp_path / "d.png"])
    with pytest.raises(FileRefusedError, match="is the source itself"):
        check_apart(keys_of(inputs), [tmp_path / "sub/../b.png"])
    with pytest.raises(FileRefusedError, match=r"is one name with the source .*b\.png"):
        check_apart(keys_of(inputs), [tmp_path / "B.png"])
    with pytest.raises(FileRefusedError, match="would be written twice"):
        check_apart(keys_of(inputs), [tmp_path / "c.png", tmp_path / "C.PNG"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are for other systems")
def test_pipes_devices_and_folders_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read_or_write in (read_image, check_folder):
        with pytest.raises(FileRefusedError, match="is a pipe; wanted a file"):
            read_or_write(tmp_path / "pipe.png")
    with pytest.raises(FileRefusedError, match="is a device"):
        check_folder(Path("/dev/null"))
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(FileRefusedError, match=r"loop\.png"):
        read_image(tmp_path / "loop.png")


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")
def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_written_now_is_not(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom fidelity.files.paths import write_whole\n"
        "def write(file):\n    file.write(b'half'); file.flush(); print('open', flush=True); time.sleep(60)\n"
        "write_whole(Path(sys.argv[1]), write)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / f"{index}.png")], stdout=subprocess.PIPE)
        for index in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"open\n"
    parts = sorted(tmp_path.glob(".*.fidelity-part"))
    for part in parts:
        os.utime(part, (1, 1))
    writers[0].kill(), writers[0].wait()
    write_whole(tmp_path / "new.png", lambda file: file.write(b"x"))
    left = list(tmp_path.glob(".*.fidelity-part"))
    writers[1].kill(), writers[1].wait()
    assert (len(parts), len(left)) == (2, 1)


def test_a_folder_that_cannot_be_read_is_told(image_file, tmp_path, monkeypatch):
    image_file("a.png"), (tmp_path / "closed").mkdir()
    real = os.scandir

    def scan(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert find_images(tmp_path, recursive=True).unread_folders == [tmp_path / "closed"]
    with pytest.raises(FileRefusedError, match="is a folder that cannot be read"):
        find_images(tmp_path / "closed")


def test_what_a_linked_input_points_to_is_an_input_too(image_file, tmp_path):
    original = image_file("orig/b.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").symlink_to(original)
    with pytest.raises(FileRefusedError, match="is the source itself"):
        check_apart(keys_of([tmp_path / "in/a.png"]), [original])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(FileRefusedError, match="exists"):
        settle_output(tmp_path / "gone.png", "refuse")


def test_a_name_that_was_not_used_is_given_again_to_the_same_image_alone(tmp_path):
    first = settle_output(tmp_path / "free.png", "rename", "one")
    assert settle_output(tmp_path / "free.png", "rename", "other") == tmp_path / "free_2.png"
    assert settle_output(tmp_path / "free.png", "rename", "one") == first
    first.write_text("made")
    assert settle_output(tmp_path / "free.png", "rename", "one") == tmp_path / "free_3.png"
