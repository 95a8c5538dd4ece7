from pathlib import Path

import pytest

from fidelity.video.inputs import find_videos, name_results


def make(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_a_folder_gives_its_videos_in_the_order_of_their_numbers(tmp_path):
    make(tmp_path, "e10.mkv", "e2.MKV", "e1.mp4", "notes.txt", "._e1.mp4")
    (tmp_path / "e3.mkv").mkdir()
    assert [one.name for one in find_videos(tmp_path, to_file=False)] == ["e1.mp4", "e2.MKV", "e10.mkv"]


def test_a_folder_of_frames_and_a_file_are_what_they_are(tmp_path):
    make(tmp_path, "f1.png", "f2.png")
    assert find_videos(tmp_path, to_file=False) == [tmp_path]
    assert find_videos(tmp_path / "f1.png", to_file=False) == [tmp_path / "f1.png"]


def test_of_a_folder_with_both_a_file_gets_the_frames_and_a_folder_the_videos(tmp_path):
    make(tmp_path, "e1.mkv", "poster.png")
    assert find_videos(tmp_path, to_file=True) == [tmp_path]
    assert find_videos(tmp_path, to_file=False) == [tmp_path / "e1.mkv"]


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("h265", ["a.mkv", "b.mp4", "c.mkv", "d.mkv", "e.mov"]),
        ("av1", ["a.mkv", "b.mp4", "c.mkv", "d.webm", "e.mkv"]),
        ("prores", ["a.mkv", "b.mkv", "c.mkv", "d.mkv", "e.mov"]),
    ],
)
def test_results_keep_the_container_that_holds_the_codec_or_become_matroska(codec, names):
    sources = [Path("s") / name for name in ("a.mkv", "b.mp4", "c.avi", "d.webm", "e.MOV")]
    assert name_results(sources, Path("out"), codec) == [Path("out") / name for name in names]


def test_videos_that_differ_in_their_ending_alone_get_two_results():
    named = name_results([Path("a.avi"), Path("a.mkv"), Path("b.mkv")], Path("out"), "h265")
    assert named == [Path("out/a_avi.mkv"), Path("out/a_mkv.mkv"), Path("out/b.mkv")]
