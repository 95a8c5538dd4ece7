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
from fidelity.errors import RefusedError
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


def test_an_existing_result_is_skipped_without_an_error(make_clip, tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"mine")
    done = fidelity(make_clip(frames=2), "-o", tmp_path / "out.mp4", "--existing", "skip")
    assert done.returncode == 0 and b"skipped" in done.stdout and (tmp_path / "out.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["none.mp4", "-o", "out.mp4"], "no such file", 1),
        (["README.md", "-o", "out.mp4"], "cannot be read as a video", 1),
        (["README.md", "-o", "out.mp4", "--preview", "soon"], "wanted LENGTH@START", 2),
    ],
)
def test_refusals_are_one_line(arguments, told, code):
    done = fidelity(*arguments)
    assert done.returncode == code and told in " ".join(done.stderr.decode().replace("│", " ").split())
    assert code == 2 or done.stderr.decode().count("\n") == 1


def test_parts_are_read_as_people_write_them():
    window = _read_window("5s@1:00")
    assert (window.start, window.seconds, window.end) == (60, 5, 65)
    assert _read_window("0.5@1:02:03.25").start == Fraction("3723.25")
    for text in ("5s", "5s@", "@3", "0s@1", "5s@-1", "x@y"):
        with pytest.raises(RefusedError):
            _read_window(text)
    assert _read_rate("24000/1001") == Fraction(24000, 1001)
    with pytest.raises(RefusedError):
        _read_rate("1/0")
