"""What is noted of a batch and read again: one row per picture, failures that are left alone, notes, limits. Without Ray."""

import json
import os
import shutil
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.batch import videos
from fidelity.batch.items import Item
from fidelity.batch.journal import RESULTS_NAME, read_last_rows, rewrite
from fidelity.batch.pages import write_page, write_table
from fidelity.batch.results import Results, Tally, describe_time
from fidelity.batch.sources import find_items
from fidelity.batch.work import Work, Worker, would_fail_again
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.errors import RefusedError
from fidelity.files.formats import SIGNATURE
from fidelity.imaging.drift import Drift
from fidelity.job import FileOptions
from fidelity.networks.compute import Compute
from fidelity.networks.loader import SHIPPED_WEIGHTS
from fidelity.video.options import VideoOptions
from fidelity.video.records import VideoReport
from fidelity.video.spread import Part


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(place / "a.png")
    (place / "bad.png").write_bytes(b"no picture")
    return place


def work_in(tmp_path, **options):
    settings = Settings(Target(scale=2), domain="photo", restore="off")
    return Work(tmp_path / "out", settings, Compute(torch.device("cpu")), FileOptions(existing="overwrite", **options))


def fill(work, items, skip_failed=False, rows=None):
    """A run in this process."""
    worker = Worker(work)

    def run(left, _tally):
        for item in left:
            yield worker.run(item)

    fails = (lambda item, known: would_fail_again(work, item, known)) if skip_failed else None
    return Results(work.out).fill(items, lambda *_: True, rows or run, fails=fails)


def lines_of(work):
    return [json.loads(line) for line in (work.out / RESULTS_NAME).read_text().splitlines()]


def test_a_finished_run_leaves_one_row_per_picture_and_the_last_one_counts(folder, tmp_path):
    work, items = work_in(tmp_path), find_items([str(folder)], None, ".png", tmp_path / "out").items
    fill(work, items)
    fill(work, items)
    assert [row["status"] for row in lines_of(work)] == ["done", "failed"]
    Image.new("RGB", (8, 8)).save(folder / "bad.png")
    with (work.out / RESULTS_NAME).open("ab") as file:
        file.write(b'{"torn')
    fill(work, items)
    assert [(row["output"], row["status"]) for row in lines_of(work)] == [("a.png", "done"), ("bad.png", "done")]


def test_failures_of_sources_that_are_gone_leave_the_rows_and_results_of_others_stay(folder, tmp_path):
    work, other = work_in(tmp_path), tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "c.png")
    fill(work, find_items([str(folder)], None, ".png", work.out).items)
    fill(work, find_items([str(other)], None, ".png", work.out).items)
    assert sorted(row["output"] for row in lines_of(work)) == ["a.png", "bad.png", "c.png"]
    for name in ("a.png", "bad.png"):
        (folder / name).unlink()
    fill(work, find_items([str(other)], None, ".png", work.out).items)
    assert sorted(row["output"] for row in lines_of(work)) == ["a.png", "c.png"]


def test_an_interrupted_run_rewrites_nothing_and_a_failed_rewrite_loses_nothing(folder, tmp_path, monkeypatch):
    work, items = work_in(tmp_path), find_items([str(folder)], None, ".png", tmp_path / "out").items
    fill(work, items)

    def stop(left, _tally):
        yield Worker(work).run(left[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(work, items, rows=stop)
    before = (work.out / RESULTS_NAME).read_bytes()
    assert before.count(b"\n") == 3

    def fail(_row):
        raise OSError("no space")

    with pytest.raises(RefusedError):
        rewrite(work.out, fail)
    assert (work.out / RESULTS_NAME).read_bytes() == before and len(list(read_last_rows(work.out))) == 2
    assert [path.name for path in work.out.iterdir() if path.name.startswith(".")] == []


def test_a_picture_that_failed_is_left_alone_until_it_or_a_setting_changes(folder, tmp_path):
    work = work_in(tmp_path)
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    items = find_items([str(folder)], None, ".png", work.out).items
    assert fill(work, items).failed == 2
    again = fill(work, items, skip_failed=True)
    assert (again.same, again.failed, again.failed_before, again.finished) == (1, 0, 2, 3)
    assert "1 done before, 2 failed before of 3" in again.summarize()
    assert fill(work, items).failed == 2  # all are tried again unless it is said
    assert fill(work_in(tmp_path, flatten=(1.0, 1.0, 1.0)), items, skip_failed=True).failed == 1
    fill(work, items)
    os.utime(folder / "bad.png", ns=(1, 1))
    assert fill(work, items, skip_failed=True).failed == 1
    Image.new("RGB", (8, 8)).save(folder / "nothing.png")
    assert fill(work, find_items([str(folder)], None, ".png", work.out).items, skip_failed=True).done == 2  # the link, too
    assert [row["output"] for row in lines_of(work) if row["status"] == "failed"] == ["bad.png"]


def test_rows_of_the_journal_are_a_manifest(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    work = replace(work_in(tmp_path), base=tmp_path)
    items = [Item("in/bad.png", "own/name.png", {"scale": "3"}), Item("in/a.png", "a.png")]
    fill(work, items)
    failed = [line for line in (work.out / RESULTS_NAME).read_text().splitlines() if '"failed"' in line]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/fails.jsonl").write_text("\n".join(failed), encoding="utf-8")
    assert find_items([], tmp_path / "elsewhere/fails.jsonl", ".png", work.out).items == items[:1]
    everything = find_items([], work.out / RESULTS_NAME, ".png", work.out).items
    assert sorted(everything, key=lambda item: item.output) == items[1:] + items[:1]  # no domain, model or gate is set


def test_unknown_columns_are_told_once_with_the_known_ones(folder, tmp_path):
    (folder / "list.csv").write_text("source,quality,foo\na.png,90,\nbad.png,90,x\n", encoding="utf-8")
    with pytest.raises(
        RefusedError, match=r"list\.csv: unknown columns foo, quality; known: source, path, file, output, scale, "
    ):
        find_items([], folder / "list.csv", ".png", tmp_path / "out")


def test_other_files_are_counted_and_links_to_nothing_fail_with_a_reason(folder, tmp_path):
    (folder / "notes.txt").write_text("mine")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    for source in (folder, f"{folder}/*"):
        found = find_items([str(source)], None, ".png", tmp_path / "out")
        assert found.other_files == 1
        assert sorted(item.source.rpartition("/")[2] for item in found.items if item.refused) == ["gone.png", "loop.png"]
    work = work_in(tmp_path)
    tally = fill(work, found.items)
    rows = {row["source"].rpartition("/")[2]: row for row in lines_of(work)}
    assert rows["gone.png"]["reason"].endswith("gone.png: is a link to a file that does not exist")
    assert tally.failed == 3
    tally.other_files = found.other_files
    assert tally.summarize().endswith("; 1 other file skipped")


def test_rows_have_the_notes_that_upscale_prints(folder, tmp_path):
    Image.new("CMYK", (8, 8)).save(folder / "ink.tif")
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(folder / "moves.gif", save_all=True, append_images=frames[1:])
    worker = Worker(work_in(tmp_path))
    ink, moves, plain = (worker.run(Item(str(folder / name), f"{name}.png")) for name in ("ink.tif", "moves.gif", "a.png"))
    assert "CMYK" in ink["notes"][0] and "using the first of 2 frames" in moves["notes"][0] and "notes" not in plain


def claim(path, width, height):
    """A PNG that claims a size and holds no pixels."""
    path.write_bytes(SIGNATURE + struct.pack(">I4s2I5BI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0))


def test_sources_of_too_many_pixels_are_refused_by_their_header(folder, tmp_path):
    claim(folder / "huge.png", 30_000, 30_000)
    page = Image.new("L", (16, 16))
    page.save(folder / "pages.tif", save_all=True, append_images=[Image.new("L", (2000, 1000))])
    worker = Worker(work_in(tmp_path, max_megapixels=1.5))
    rows = {name: worker.run(Item(str(folder / name), "x.png")) for name in ("huge.png", "pages.tif", "a.png")}
    assert rows["huge.png"]["reason"].endswith("huge.png: has 900 megapixels; wanted at most 1.5, as --max-megapixels says")
    assert "has 2 megapixels" in rows["pages.tif"]["reason"] and rows["a.png"]["status"] == "done"
    unlimited, limited = work_in(tmp_path), work_in(tmp_path, max_megapixels=1.5)
    assert unlimited.identity == limited.identity  # the results are the same
    item = Item(str(folder / "huge.png"), "x.png")
    assert would_fail_again(limited, item, rows["huge.png"]) and not would_fail_again(unlimited, item, rows["huge.png"])


def test_a_name_that_is_not_utf_8_is_done_and_told_as_any_other(folder, tmp_path):
    odd = os.fsdecode(b"o\xff#.png")
    try:
        (folder / "a.png").rename(folder / odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    work = work_in(tmp_path)
    for _ in range(2):
        items = find_items([str(folder)], None, ".png", work.out).items
        tally = fill(work, items)
        assert (tally.done + tally.same, tally.failed) == (1, 1)
    assert (work.out / odd).is_file() and odd in [row["output"] for row in read_last_rows(work.out)]
    assert odd in [item.output for item in find_items([], work.out / RESULTS_NAME, ".png", work.out).items]
    assert b'href="o%FF%23.png"' in write_page(work.out, tally).read_bytes()
    write_table(work.out)


def test_progress_is_told_in_words():
    assert [describe_time(seconds) for seconds in (40, 130, 7300)] == ["40 s", "2 min", "2 h"]
    tally = Tally(209, done=100, same=18, failed=2)
    tally.began -= 150.0
    assert tally.describe() == "120 of 209, 2 failed, 40 pictures a minute, about 2 min left"
    fast, slow = Tally(9000, done=5000), Tally(9, done=1)
    for tally in (fast, slow):
        tally.began -= 60.0
    assert fast.describe().startswith("5000 of 9000, 5000 pictures") and slow.describe().startswith("1 of 9, 1.0 pictures a")


def test_workers_see_the_networks_that_the_command_has_stored(folder, tmp_path, monkeypatch):
    stored = tmp_path / "stored"
    stored.mkdir()
    shutil.copy(SHIPPED_WEIGHTS / "natural-x2.safetensors", stored / "mine.safetensors")
    monkeypatch.setenv("FIDELITY_MODELS", str(stored))
    work = work_in(tmp_path)
    row = Worker(replace(work, settings=replace(work.settings, model="mine"))).run(Item(str(folder / "a.png"), "a.png"))
    assert (row["status"], row["model"]) == ("done", "mine.safetensors")


def test_a_video_made_in_parts_has_the_notes_of_all(monkeypatch, tmp_path):
    made = SimpleNamespace(scenes=(), notes=("one",))
    monkeypatch.setattr(videos, "VideoSource", lambda *_: None)
    monkeypatch.setattr(videos, "enlarge_part", lambda *_: made)
    rows = [videos.do_step(tmp_path, tmp_path, None, VideoOptions(), videos.Step({}, Part(0, 0, 5))) for _ in range(2)]
    assert [row["notes"] for row in rows] == [["one"], ["one"]]
    told = {"parts": (), "fault": None, "sha256": "", "source_bytes": 0, "source_time": 0}
    joined = VideoReport(
        input={},
        output={"width": 2, "height": 2},
        frames=1,
        scenes=(),
        drift=Drift(0, 0, 0),
        worst=None,
        repeated=0,
        resumed_at=0,
        seconds=1.0,
        frames_per_second=1.0,
        notes=("two",),
        fault=None,
        details=(),
        records=(),
    )
    monkeypatch.setattr(videos, "join_parts", lambda *_: joined)
    (tmp_path / "out.mkv").write_bytes(b"video")
    step = videos.Step(told, None, tuple(rows))
    assert videos.do_step(tmp_path, tmp_path / "out.mkv", None, VideoOptions(), step)["notes"] == ["one", "two"]
