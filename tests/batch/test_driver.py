"""Batches on a real Ray: everything once, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.batch import driver
from fidelity.batch.driver import Cluster, run_batch
from fidelity.batch.items import Item
from fidelity.batch.journal import RESULTS_NAME, read_last_rows
from fidelity.batch.pages import PAGE_NAME, write_page, write_table
from fidelity.batch.results import Results, Tally
from fidelity.batch.sources import find_items
from fidelity.batch.work import Work, Worker, read_options
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.errors import RefusedError
from fidelity.job import FileOptions, upscale_file
from fidelity.networks.compute import Compute
from fidelity.session import Session
from fidelity.video.codecs import Encoding
from fidelity.video.job import upscale_video
from fidelity.video.options import VideoOptions
from fidelity.video.spread import Part
from tests.clips import Clip, write_clip

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install ".[cluster]"')
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One Ray for all tests here."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def pictures(tmp_path):
    folder, draw = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    for number in range(5):
        small = Image.fromarray(draw.integers(0, 255, (6, 8, 3), np.uint8))
        small.resize((48, 36), Image.Resampling.BICUBIC).save(folder / f"p{number}.png")
    return folder


def work_in(tmp_path, **settings):
    chosen = Settings(Target(scale=2), domain="photo", restore="off", **settings)
    return Work(tmp_path / "out", chosen, Compute(torch.device("cpu")), FileOptions(existing="overwrite"))


def items_of(pictures, tmp_path):
    return find_items([str(pictures)], None, ".png", tmp_path / "out").items


def rows_of(work):
    return {Path(row["source"]).name: row for row in read_last_rows(work.out)}


def test_all_are_enlarged_and_a_rerun_does_only_what_is_missing(pictures, tmp_path):
    work, items = work_in(tmp_path), items_of(pictures, tmp_path)
    (pictures / "bad.png").write_bytes(b"no picture")
    items.append(Item(str(pictures / "bad.png"), "bad.png"))
    seen = []
    tally = run_batch(items, work, Cluster(workers=1), lambda told, *_: seen.append(told))
    assert (tally.done, tally.failed, tally.total) == (5, 1, 6) and "6 of 6" in seen[-1]
    assert "not an image" in rows_of(work)["bad.png"]["reason"]
    for item in items[:5]:
        with Image.open(work.out / item.output) as made:
            assert made.size == (96, 72)
    (work.out / "p1.png").unlink()
    os.utime(pictures / "p2.png")
    again = run_batch(items[:5], work, Cluster(workers=1))
    assert (again.done, again.same) == (1, 4)
    other = run_batch(items[:1], work_in(tmp_path, gate="off"), Cluster(workers=1))
    assert (other.done, other.same) == (1, 0)


def test_one_source_may_have_several_results(pictures, tmp_path):
    source, work = str(pictures / "p0.png"), work_in(tmp_path)
    items = [Item(source, "a.png", {"scale": "2"}), Item(source, "b.png", {"scale": "3"}), Item(source, "", refused="is torn")]
    assert (run_batch(items, work, Cluster(workers=1)).done, len(list(read_last_rows(work.out)))) == (2, 3)
    again = run_batch(items, work, Cluster(workers=5))  # more than there are cores
    assert (again.same, again.failed) == (2, 1)


def test_a_picture_of_which_workers_die_is_set_aside_and_the_others_are_done(pictures, tmp_path, monkeypatch):
    flag = tmp_path / "died"

    class Mortal(Worker):
        def run(self, item, known=None, step=None):
            if "p1" in item.source:
                os._exit(1)
            if "p3" in item.source and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().run(item, known, step)

    monkeypatch.setattr(driver, "Worker", Mortal)
    monkeypatch.setattr(driver, "MOST_ATTEMPTS", 2)
    work, items = work_in(tmp_path), items_of(pictures, tmp_path)
    tally = run_batch(items, work, Cluster(workers=2))
    assert (tally.done, tally.failed) == (4, 1) and tally.retried >= 2
    assert "workers died of it" in rows_of(work)["p1.png"]["reason"]
    lines = [json.loads(line) for line in (work.out / RESULTS_NAME).read_text().splitlines()]
    assert sorted(Path(line["source"]).name for line in lines) == [f"p{number}.png" for number in range(5)]  # each once
    assert not list(work.out.glob("*.part*"))


def test_no_picture_waits_behind_one_that_takes_long(pictures, tmp_path, monkeypatch):
    class Slow(Worker):
        def run(self, item, known=None, step=None):
            flags = tmp_path / "flags"
            flags.mkdir(exist_ok=True)
            (flags / Path(item.source).stem).touch()
            end = time.monotonic() + 20
            while "p0" in item.source and len(list(flags.iterdir())) < 5 and time.monotonic() < end:
                time.sleep(0.05)
            missing = 5 - len(list(flags.iterdir())) if "p0" in item.source else 0
            return {
                "source": item.source,
                "output": item.output,
                "status": "failed" if missing else "done",
                "reason": "",
                "seconds": 0,
            }

    monkeypatch.setattr(driver, "Worker", Slow)
    tally = run_batch(items_of(pictures, tmp_path), work_in(tmp_path), Cluster(workers=2))
    assert (tally.done, tally.failed) == (5, 0)  # the others were begun while the first was in work


def test_progress_is_told_while_nothing_is_finished(pictures, tmp_path, monkeypatch):
    class Slow(Worker):
        def run(self, item, known=None, step=None):
            time.sleep(0.6)
            return {"source": item.source, "output": item.output, "status": "done", "seconds": 0}

    monkeypatch.setattr(driver, "Worker", Slow)
    monkeypatch.setattr(driver, "_TICK_SECONDS", 0.05)
    seen = []
    run_batch(items_of(pictures, tmp_path)[:2], work_in(tmp_path), Cluster(workers=1), lambda told, *_: seen.append(told))
    assert sum("1 of 2" in told and "pictures a minute, about" in told for told in seen) > 2


def test_a_batch_that_is_stopped_goes_on(pictures, tmp_path):
    work, items = work_in(tmp_path), items_of(pictures, tmp_path)

    def stop(_told, done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_batch(items, work, Cluster(workers=1), stop)
    with (work.out / RESULTS_NAME).open("ab") as file:
        file.write(b'{"torn')
    tally = run_batch(items, work, Cluster(workers=1))
    assert tally.same == 2 and tally.done == 3
    assert len(rows_of(work)) == 5


def test_a_video_is_spread_by_its_scenes_and_has_the_bits_of_one_run(pictures, tmp_path):
    clip = Clip(frames=50, rate=Fraction(1), cuts=(10, 24, 30), options={"crf": "12"})  # parts have 20 s at least
    path = write_clip(pictures, clip)
    video, compute = VideoOptions(Encoding("h264", preset="ultrafast")), Compute(torch.device("cpu"), "fp32")
    work = replace(work_in(tmp_path), video=video, compute=compute)
    items = find_items([str(pictures)], None, ".png", work.out, "h264").items
    assert [item.output for item in items] == ["clip.mp4", *(f"p{number}.png" for number in range(5))]
    tally = run_batch(items, work, Cluster(workers=2))
    assert (tally.done, tally.failed, tally.total) == (6, 0, 6)
    row = rows_of(work)["clip.mp4"]
    assert (row["frames"], row["width"], row["domain"], row["gate"]) == (50, 128, "photo", "pass")
    upscale_video(path, tmp_path / "whole.mp4", Session(work.settings, work.compute), video)
    assert (work.out / "clip.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not [one for one in work.out.iterdir() if one.is_dir()]
    assert run_batch(items, work, Cluster(workers=2)).same == 6
    assert b"image/jpeg" in write_page(work.out, tally).read_bytes()


def test_a_video_of_which_a_part_fails_fails_once(tmp_path):
    item, other = Item("a.mp4", "a.mp4"), Item("b.png", "b.png")
    queue = driver._Queue([item, other])
    told = {"status": "split", "parts": (Part(0, 0, 5), Part(1, 5, 9), Part(2, 9, 12)), "seconds": 1.0}
    assert queue.take(queue.waiting.popleft(), told) is None
    assert [task.item for task in queue.waiting] == [item, item, item, other]
    tasks = [queue.waiting.popleft(), queue.waiting.popleft()]
    assert queue.take(tasks[1], {"status": "part", "seconds": 2.0, "scenes": []}) is None
    failed = queue.take(tasks[0], {"status": "failed", "reason": "no", "seconds": 3.0})
    assert failed == {"status": "failed", "reason": "no", "seconds": 6.0}
    assert [task.item for task in queue.waiting] == [other]
    assert queue.take(tasks[1], {"status": "failed", "reason": "no", "seconds": 3.0}) is None


def test_a_damaged_video_is_told_with_what_there_is(pictures, tmp_path):
    path = write_clip(pictures, Clip(name="torn.mkv", frames=40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    row = Worker(replace(work_in(tmp_path), video=VideoOptions(Encoding("ffv1")))).run(Item(str(path), "torn.mkv"))
    assert row["status"] == "failed" and "frames before are in" in row["reason"]
    assert (tmp_path / "out" / "torn.mkv").is_file()


def test_a_second_batch_in_the_same_folder_is_refused(tmp_path):
    held = Results(tmp_path)
    with pytest.raises(RefusedError, match="another batch works on it"):
        Results(tmp_path)
    held.close()


def test_rows_have_settings_of_their_own(pictures, tmp_path):
    work = work_in(tmp_path)
    items = [
        Item(str(pictures / "p0.png"), "a.png", {"scale": "3"}),
        Item(str(pictures / "p0.png"), "b.png", {"scale": "many"}),
        Item(str(pictures / "p0.png"), "c.png", {"domain": "sculpture"}),
    ]
    worker = Worker(work)
    made, number, domain = (worker.run(item) for item in items)
    assert (made["status"], made["width"]) == ("done", 144)
    assert number["reason"].endswith("p0.png: scale is 'many'; wanted a number") and "domain is 'sculpture'" in domain["reason"]
    changed = read_options(work.settings, {"size": "640x480", "restore": "0.25"})
    assert changed.target.size == (480, 640) and changed.restore_strength == 0.25


def test_drift_is_told_from_what_colors_were_held_to_and_beside_it_from_the_source(tmp_path):
    noisy = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)  # noise that is restored: far from its source
    source = tmp_path / "noise.png"
    Image.fromarray(noisy).save(source)
    work = work_in(tmp_path)
    work = replace(work, settings=replace(work.settings, restore="denoise", restore_strength=1.0))
    row = Worker(work).run(Item(str(source), "noise.png"))
    session = Session(work.settings, work.compute)
    report = upscale_file(source, tmp_path / "alone.png", session)
    assert row["drift_max"] == round(report.held_drift.max, 4) and row["drift_mean"] == round(report.held_drift.mean, 4)
    assert row["source_drift_max"] == round(report.drift.color.max, 4) != row["drift_max"]
    tally = Tally(1)
    tally.add(row)
    assert f"{row['drift_mean']:.3f} mean, {row['drift_max']:.2f} largest" in tally.summarize()


def test_a_network_that_does_not_exist_is_refused_once(pictures, tmp_path):
    with pytest.raises(RefusedError, match="no-such"):
        run_batch(items_of(pictures, tmp_path), work_in(tmp_path, model="no-such.pth"), Cluster(workers=1))


def test_workers_that_do_not_start_end_the_batch_in_a_line(pictures, tmp_path, monkeypatch):
    class Broken(Worker):
        def __init__(self, work, threads=None, memory_share=1.0):
            if threads:  # not in the process that drives
                raise OSError("no such library")
            super().__init__(work, threads, memory_share)

    monkeypatch.setattr(driver, "Worker", Broken)
    with pytest.raises(RefusedError, match=r"a worker does not start: .*no such library"):
        run_batch(items_of(pictures, tmp_path), work_in(tmp_path), Cluster(workers=1))


def test_the_page_and_the_table_tell_of_all(pictures, tmp_path):
    work = work_in(tmp_path)
    results = Results(work.out)
    (work.out / "<b>.png").parent.mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(work.out / "<b>.png")
    drift = {"drift_mean": 0.5, "drift_p99": 1.0, "drift_max": 2.0, "seconds": 1.0, "width": 32, "notes": ["was odd"]}
    results.add({"source": "x", "output": "<b>.png", "status": "done", **drift})
    results.add({"source": "y", "output": "y.png", "status": "failed", "reason": "y: is <torn>", "seconds": 0.1})
    results.close()
    tally = Tally(2, done=1, failed=1, measured=1, drift_sum=0.5, drift_max=2.0)
    page = write_page(work.out, tally).read_text()
    assert "<th>enlarged</th><td>1</td>" in page and "mean 0.500, largest 2.00" in page
    assert "<th>enlarged</th><td>1</td>" in write_page(work.out, Tally(2, same=1, failed=1)).read_text()  # of all runs
    assert "&lt;b&gt;.png" in page and "y: is &lt;torn&gt;" in page and "data:image/jpeg;base64" in page and "<b>" not in page
    assert (work.out / PAGE_NAME).is_file()
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    table = parquet.read_table(str(write_table(work.out))).to_pylist()
    assert [row["status"] for row in table] == ["done", "failed"] and table[0]["drift_max"] == 2.0
    assert table[0]["notes"] == ["was odd"] and table[1]["notes"] is None


def test_the_command_ends_cleanly_on_ctrl_c(pictures, tmp_path):
    command = [sys.executable, "-m", "fidelity", "batch", str(pictures), "-o", str(tmp_path / "out"), "--scale", "2"]
    command += ["--restore", "off", "--workers", "1", "--domain", "photo"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = tmp_path / "out" / RESULTS_NAME
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (results.is_file() and results.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130), errors
    assert "the same command resumes" in told or "5 enlarged" in told
    assert all((tmp_path / "out" / json.loads(line)["output"]).is_file() for line in results.read_text().splitlines())
