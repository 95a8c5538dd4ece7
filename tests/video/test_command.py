import json
import re
import subprocess
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest

from fidelity.commands.video import _read_rate, _read_window
from fidelity.commands.video_jobs import _count_videos
from fidelity.errors import RefusedError
from fidelity.files.journal import JOURNAL_NAME, parts_folder
from fidelity.video.segments import count_kept
from fidelity.video.source import VideoSource
from tests.clips import stamps_of

ROOT = Path(__file__).parents[2]


def fidelity(*arguments, data=None):
    command = [sys.executable, "-m", "fidelity", "video", *map(str, arguments)]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, input=data)


def test_a_video_is_enlarged_and_reported(make_clip, tmp_path):
    path, output, report = make_clip(has_sound=True), tmp_path / "out.mp4", tmp_path / "report.jsonl"
    done = fidelity(path, "-o", output, "--codec", "h264", "--restore", "off", "--report", report)
    assert done.returncode == 0 and done.stderr == b""
    lines = done.stdout.decode().splitlines()
    assert "64x48 ->" in lines[0] and "128x96" in lines[0] and "8 frames" in lines[0]
    scene = json.loads(report.read_text().splitlines()[8])
    assert f"  {scene['domain']}, {Path(scene['model']).stem}  8 frames" in lines[0]
    assert lines[1].startswith("color drift mean 0.0")
    kinds = [json.loads(line)["kind"] for line in report.read_text().splitlines()]
    assert kinds == ["frame"] * 8 + ["scene", "video"]
    assert stamps_of(output) == stamps_of(path)
    assert fidelity(path, "-o", output).returncode == 1


def test_a_truncated_video_is_delivered_with_exit_1(make_clip, tmp_path):
    path, output = make_clip(name="clip.mkv", frames=30), tmp_path / "out.mkv"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    done = fidelity(path, "-o", output, "--codec", "h264", "--restore", "off")
    error = done.stderr.decode()
    assert done.returncode == 1 and error.count("\n") == 1
    assert "ended after" in error and f"are in {output}" in error and VideoSource(output).fault is None


@pytest.mark.parametrize(("siting", "tag"), [("left", b"C420mpeg2"), ("center", b"C420jpeg"), ("topleft", b"C420paldv")])
def test_frames_pass_through_pipes(make_clip, tmp_path, siting, tag):
    path = tmp_path / "clip.y4m"
    with av.open(str(make_clip(frames=3))) as given, av.open(str(path), "w", format="yuv4mpegpipe") as made:
        stream = made.add_stream("wrapped_avframe", rate=25, options={"chroma_sample_location": siting})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in given.decode(video=0):
            made.mux(stream.encode(frame))
    done = fidelity("-", "-o", "-", "--restore", "off", "--codec", "h264", data=path.read_bytes())
    header = done.stdout.partition(b"\n")[0]
    assert done.returncode == 0 and header.startswith(b"YUV4MPEG2 W128 H96 F25:1") and tag in header
    (tmp_path / "out.y4m").write_bytes(done.stdout)
    assert len(stamps_of(tmp_path / "out.y4m")) == 3
    assert b"3 frames" in done.stderr
    source = VideoSource(Path("-"), stream=BytesIO(done.stdout))
    assert source.info.form.siting == siting and len(list(source.frames())) == 3


_INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from fidelity.video import frames, pipeline
pipeline._SEGMENT_SECONDS = 0.2
limit, finish, calls = int(sys.argv.pop(1)), frames.FrameMaker.finish, []
def counted(self, *arguments):
    calls.append(None)
    if len(calls) == limit:
        os.kill(os.getpid(), signal.SIGINT)
    return finish(self, *arguments)
frames.FrameMaker.finish = counted
from fidelity.cli import main
main()
"""


@pytest.mark.parametrize(("limit", "told"), [(2, "nothing is kept"), (18, r"\d+ frames in whole parts are kept in")])
def test_an_interrupted_run_tells_what_is_kept_and_exits_with_130(limit, told, make_clip, tmp_path):
    arguments = [make_clip(frames=24), "-o", tmp_path / "out.mp4", "--codec", "h264", "--restore", "off", "-b", "1"]
    command = [sys.executable, "-c", _INTERRUPTED, str(limit), "video", *map(str, arguments)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "")
    assert re.fullmatch(rf"interrupted; {told}.*\n", done.stdout)


@pytest.fixture
def season(make_clip, tmp_path):
    """A folder of two videos and a damaged one."""
    folder = tmp_path / "season"
    folder.mkdir()
    for name, encoder in (("e1.mkv", "libx264"), ("e3.avi", "mpeg4")):
        make_clip(name=name, frames=2, encoder=encoder, options={}).rename(folder / name)
    (folder / "e2.mkv").write_bytes((folder / "e1.mkv").read_bytes()[:900])
    return folder


def test_a_folder_of_videos_is_enlarged_although_one_is_damaged(season, tmp_path):
    out, report = tmp_path / "new" / "out", tmp_path / "report.jsonl"
    arguments = [season, "-o", out, "--codec", "h264", "--restore", "off", "--encoder-preset", "ultrafast"]
    done = fidelity(*arguments, "--report", report)
    assert done.returncode == 1 and done.stderr.decode().startswith(f"{season / 'e2.mkv'}: ")
    assert sorted(one.name for one in out.iterdir()) == ["e1.mkv", "e3.mkv"]
    lines = done.stdout.decode().splitlines()
    assert [line[:6] for line in lines if line.startswith("[")] == ["[1/3] ", "[3/3] "]
    assert lines[-4].startswith("e1.mkv  128x96, 2 frames, ") and lines[-2].startswith("e3.avi  128x96, 2 frames, ")
    assert lines[-3].startswith("e2.mkv  failed: ") and lines[-1].startswith("2 of 3 enlarged, 1 failed, in 0:00:")
    told = [json.loads(line) for line in report.read_text().splitlines()]
    assert [Path(one["input"]["path"]).name for one in told if one["kind"] == "video"] == ["e1.mkv", "e3.avi"]
    (out / "e3.mkv").unlink()
    again = fidelity(*arguments)
    assert again.returncode == 1 and not (out / "e3.mkv").exists()
    assert b"e1.mkv already exists; choose another folder, or --existing" in again.stderr
    skipping = fidelity(*arguments, "--existing", "skip")
    assert skipping.returncode == 1 and (out / "e3.mkv").exists()
    assert skipping.stdout.decode().splitlines()[-1].startswith("1 of 3 enlarged, 1 skipped, 1 failed, in ")


def test_an_interrupted_run_of_several_videos_tells_how_many_are_finished(make_clip, tmp_path):
    paths = [make_clip(name=name, frames=2) for name in ("e1.mp4", "e2.mp4")]
    arguments = [*paths, "-o", tmp_path / "out", "--codec", "h264", "--restore", "off", "-b", "1"]
    command = [sys.executable, "-c", _INTERRUPTED, "3", "video", *map(str, arguments)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "") and [one.name for one in (tmp_path / "out").iterdir()] == ["e1.mp4"]
    told = done.stdout.splitlines()[-1]
    assert told.startswith("interrupted; 1 of 2 videos finished; nothing is kept (")
    assert told.endswith("; the same command with --existing skip does the rest")


def test_progress_counts_videos_and_shows_no_share_before_it_is_known():
    shown = []
    progress = _count_videos(lambda *one: shown.append(one), "3 of 12: ")
    progress("computing the first frames (1)", 1, 100)
    progress("2.00 fps, 0:00:49 left, drift 0.01", 2, 100)
    progress("stopping…", 2, 100)
    assert shown == [
        ("3 of 12: computing the first frames (1)", 1, 0),
        ("3 of 12: 2.00 fps, 0:00:49 left, drift 0.01", 2, 100),
        ("3 of 12: stopping…", 2, 0),
    ]
    assert _count_videos(None, "") is None


def test_several_videos_need_a_folder(season):
    done = fidelity(season / "e1.mkv", season / "e3.avi", "-o", "out.mkv")
    told = " ".join(done.stderr.decode().replace("│", " ").split())
    assert done.returncode == 2 and "out.mkv is one file, but there are 2 videos; wanted a folder" in told


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    done = fidelity(tmp_path, "-o", tmp_path / "out.mkv")
    assert done.returncode == 1
    assert done.stderr.decode() == f"{tmp_path}: no videos and no PNG or TIFF frames in this folder\n"


def test_a_dry_run_tells_size_model_frames_and_time_and_writes_nothing(season, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    done = fidelity(season / "e1.mkv", "-o", tmp_path / "out.mkv", "--codec", "h264", "--domain", "photo", "--dry-run")
    first, *_, last = done.stdout.decode().splitlines()
    assert done.returncode == 0 and last == "dry run: nothing was written"
    assert re.search(r"64x48 -> .*out.mkv 128x96  photo, natural-x2.*  about 2 frames in 0:00:\d\d \([\d.]+ s a frame\)", first)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_of_a_video_names_the_dry_run(season):
    command = [sys.executable, "-m", "fidelity", "plan", str(season / "e1.mkv")]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"is a video; its size, model and time are told by: fidelity video {season / 'e1.mkv'} -o OUT --dry-run\n"
    )


def test_what_was_assumed_is_told_on_request_alone(make_clip, tmp_path):
    arguments = [make_clip(frames=2, codes=(2, 2, 2)), "--codec", "h264", "--restore", "off", "-o"]
    short, long = fidelity(*arguments, tmp_path / "a.mp4"), fidelity(*arguments, tmp_path / "b.mp4", "--verbose")
    assert b"color matrix" not in short.stdout
    assert b"note: the file does not say its color matrix; BT.601 assumed\n" in long.stdout
    assert b"scene 1 from frame 1: " in long.stdout


def test_an_existing_result_is_skipped_without_an_error(make_clip, tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"mine")
    done = fidelity(make_clip(frames=2), "-o", tmp_path / "out.mp4", "--existing", "skip")
    assert done.returncode == 0 and b"skipped" in done.stdout and (tmp_path / "out.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["none.mp4", "-o", "out.mp4"], "no such file", 1),
        (["README.md", "-o", "out.mp4"], "not a video, or of no known format", 1),
        (["README.md", "-o", "out.mp4", "--preview", "soon"], "wanted LENGTH or LENGTH@START", 2),
    ],
)
def test_refusals_are_one_line(arguments, told, code):
    done = fidelity(*arguments)
    assert done.returncode == code and told in " ".join(done.stderr.decode().replace("│", " ").split())
    assert code == 2 or done.stderr.decode().count("\n") == 1


def test_parts_are_read_as_people_write_them():
    window = _read_window("5s@1:00")
    assert (window.start, window.seconds, window.end) == (60, 5, 65)
    window = _read_window("5s")
    assert (window.start, window.seconds) == (0, 5)
    assert _read_window("1:30").seconds == 90
    assert _read_window("0.5@1:02:03.25").start == Fraction("3723.25")
    for text in ("", "s", "5s@", "@3", "0s@1", "5s@-1", "x@y"):
        with pytest.raises(RefusedError):
            _read_window(text)
    assert _read_rate("24000/1001") == Fraction(24000, 1001)
    with pytest.raises(RefusedError):
        _read_rate("1/0")


def test_frames_before_a_torn_line_of_the_journal_are_counted(tmp_path):
    folder = parts_folder(tmp_path / "a.mkv")
    folder.mkdir()
    lines = ('{"identity": {}}', '{"pts": [0, 1, 2]}', '{"pts": [3, 4')
    (folder / JOURNAL_NAME).write_text("\n".join(lines))
    assert (count_kept(tmp_path / "a.mkv"), count_kept(tmp_path / "b.mkv")) == (3, 0)


def test_a_pipe_beside_other_videos_is_refused(make_clip, tmp_path):
    done = fidelity("-", make_clip(), "-o", tmp_path / "out")
    assert done.returncode == 2 and b"- is a pipe; wanted it alone" in done.stderr
