import itertools
import json
import subprocess
import sys
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch
from PIL import Image

from fidelity.decide.target import Target
from fidelity.errors import RefusedError
from fidelity.files.journal import parts_folder
from fidelity.files.paths import SkippedError
from fidelity.imaging.yuv import PlaneFormat, levels_to_planes, planes_to_rgb
from fidelity.video import source as source_module
from fidelity.video.codecs import Encoding
from fidelity.video.colors import find_dynamic_metadata
from fidelity.video.job import upscale_video
from fidelity.video.options import VideoOptions, Window
from fidelity.video.source import VideoSource
from tests.clips import packets_of, picture, stamps_of

FAST = Encoding("h264", preset="ultrafast")
LOSSLESS = Encoding("ffv1")


def run(path, output, session, **options):
    return upscale_video(path, output, session, VideoOptions(**{"encoding": FAST, **options}))


def test_frames_keep_their_time_stamps_to_the_tick(make_clip, session, tmp_path):
    stamps = [0, 3003, 6006, 7777, 12000, 12001, 30000, 33003]
    path = make_clip(pts=stamps, time_base=Fraction(1, 90000), options={"crf": "12", "bf": "2"})
    run(path, tmp_path / "out.mp4", session, encoding=Encoding("h265", preset="ultrafast"))
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(stamp, 90000) for stamp in stamps] == stamps_of(path)


def test_a_late_start_and_a_rate_of_1001_are_kept(make_clip, session, tmp_path):
    path = make_clip(rate=Fraction(30000, 1001), pts=[5 + index for index in range(6)], time_base=Fraction(1001, 30000))
    run(path, tmp_path / "out.mov", session)
    assert stamps_of(tmp_path / "out.mov") == stamps_of(path)


def test_sound_subtitles_chapters_and_attachments_are_copied(make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", has_sound=True, has_subtitles=True, has_chapters=True, has_attachment=True)
    run(path, tmp_path / "out.mkv", session)
    assert packets_of(tmp_path / "out.mkv", "audio") == packets_of(path, "audio")
    assert packets_of(tmp_path / "out.mkv", "subtitle") == packets_of(path, "subtitle")
    with av.open(str(tmp_path / "out.mkv")) as made, av.open(str(path)) as given:
        assert [chapter["metadata"] for chapter in made.chapters()] == [chapter["metadata"] for chapter in given.chapters()]
        assert made.metadata["title"] == "A clip"
        assert made.streams.subtitles[0].metadata["language"] == "eng"
        assert len(made.streams.attachments) == 1


def test_sound_stays_in_step_in_mp4(make_clip, session, tmp_path):
    path = make_clip(has_sound=True)
    run(path, tmp_path / "out.mp4", session)
    assert packets_of(tmp_path / "out.mp4", "audio") == packets_of(path, "audio")
    assert stamps_of(tmp_path / "out.mp4") == stamps_of(path)


def test_rotation_and_the_shape_of_pixels_are_kept(make_clip, session, tmp_path):
    path = make_clip(rotation=90, aspect=Fraction(16, 15))
    run(path, tmp_path / "out.mp4", session)
    info, given = (VideoSource(one).info for one in (tmp_path / "out.mp4", path))
    assert info.rotation == given.rotation is not None
    assert info.sample_aspect == Fraction(16, 15)


CASES = [
    (PlaneFormat("bt601"), (6, 6, 6), "libx264"),
    (PlaneFormat("bt709"), (1, 1, 1), "libx264"),
    (PlaneFormat("bt709", True), (1, 1, 1), "libx264"),
    (PlaneFormat("bt709", bits=10), (1, 1, 1), "libx264"),
    (PlaneFormat("bt709", subsampling=(1, 2)), (1, 1, 1), "libx264"),
    (PlaneFormat("bt601", True, subsampling=(1, 1), siting="center"), (5, 6, 6), "libx264"),
    (PlaneFormat("bt709", siting="center"), (1, 1, 1), "libx264"),
    (PlaneFormat("bt2020", bits=10, siting="topleft"), (9, 14, 9), "libx264"),
]


@pytest.mark.parametrize(("form", "codes", "encoder"), CASES, ids=str)
def test_colors_come_through_the_whole_chain_and_tags_match(form, codes, encoder, make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", form=form, codes=codes, encoder=encoder, options={"qp": "0"}, still=True, frames=3)
    run(path, tmp_path / "out.mkv", session, encoding=LOSSLESS)
    source = VideoSource(tmp_path / "out.mkv")
    made, given = source.info.colors, VideoSource(path).info.colors
    assert made.codes == given.codes
    assert (made.form.matrix, made.form.is_full, made.form.subsampling) == (form.matrix, form.is_full, form.subsampling)
    assert form.subsampling == (1, 1) or given.form.siting == form.siting
    frame = next(iter(source.frames()))
    placed = replace(made.form, siting=form.siting)
    shown = planes_to_rgb(levels_to_planes(frame.levels, placed), placed)
    truth = picture((96, 128), 0, 0, True)
    inside = (slice(None), slice(None), slice(64, 90), slice(40, 120))  # away from the square, which is scaled otherwise
    assert (shown[inside] - truth[inside]).abs().max() * 255 < 2.5  # the source's own rounding included


def test_missing_tags_are_assumed_told_and_written(make_clip, session, tmp_path):
    path = make_clip(codes=(2, 2, 2))
    report = run(path, tmp_path / "out.mp4", session)
    assert report.details == ("the file does not say its color matrix; BT.601 assumed",)
    assert not any("color" in note for note in report.notes)
    assert VideoSource(tmp_path / "out.mp4").info.colors.codes.matrix == 6


def test_ten_bits_and_the_mastering_display_of_hdr10_are_kept(make_clip, session, tmp_path):
    params = (
        "log-level=none:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    )
    form = PlaneFormat("bt2020", bits=10, siting="topleft")
    options = {"crf": "8", "x265-params": params, "preset": "ultrafast"}
    path = make_clip(form=form, codes=(9, 16, 9), encoder="libx265", options=options)
    run(path, tmp_path / "out.mp4", session, encoding=Encoding("h265", preset="ultrafast"))
    made, given = (VideoSource(one).info for one in (tmp_path / "out.mp4", path))
    assert made.colors.signal and made.colors.signal.transfer == "PQ" and made.form.bits == 10
    assert made.form.siting == "topleft"
    assert made.mastering == given.mastering and made.mastering.light == "1000,400"


def test_hdr_becomes_bt709_if_asked_for(make_clip, session, tmp_path):
    form = PlaneFormat("bt2020", bits=10, siting="topleft")
    path = make_clip(form=form, codes=(9, 18, 9), encoder="libx265", options={"x265-params": "log-level=none"})
    run(path, tmp_path / "out.mp4", session, hdr="sdr")
    made = VideoSource(tmp_path / "out.mp4").info.colors
    assert made.signal is None and (made.codes.primaries, made.codes.transfer, made.form.matrix) == (1, 13, "bt709")


@pytest.mark.parametrize(("light", "white"), [("4000,400", 4000), ("0,0", 1000)])
def test_the_brightest_light_of_a_file_becomes_white(make_clip, session, tmp_path, light, white):
    form = PlaneFormat("bt2020", bits=10, siting="topleft")
    options = {"x265-params": f"log-level=none:hdr10=1:max-cll={light}", "preset": "ultrafast"}
    path = make_clip(form=form, codes=(9, 16, 9), encoder="libx265", options=options, frames=2)
    notes = run(path, tmp_path / "out.mp4", session, hdr="sdr").notes
    assert f"mapped to BT.709: light of {white} nits becomes white" in notes


def test_dynamic_metadata_of_hdr_is_named():
    assert find_dynamic_metadata({"DOVI_METADATA": b"", "DOVI_RPU_BUFFER": b""}) == "Dolby Vision"
    assert find_dynamic_metadata({"DYNAMIC_HDR_PLUS": b"", "DOVI_METADATA": b""}) == "HDR10+ and Dolby Vision"
    assert find_dynamic_metadata({"CONTENT_LIGHT_LEVEL": b""}) is None


def test_the_report_has_every_frame_and_scene(make_clip, session, tmp_path):
    path = make_clip(frames=10, cuts=(6,))
    report = run(path, tmp_path / "out.mp4", session)
    lines = [json.loads(json.dumps(line)) for line in report.lines()]
    assert [line["frame"] for line in lines if line["kind"] == "frame"] == list(range(10))
    assert [line["first"] for line in lines if line["kind"] == "scene"] == [0, 6]
    assert lines[-1]["kind"] == "video" and lines[-1]["frames"] == 10
    assert report.drift.mean <= 0.1 and report.worst
    assert report.drift.mean == pytest.approx(sum(record.drift.mean for record in report.records) / 10)


def test_repeated_frames_are_computed_once(make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", still=True, options={"qp": "0"})
    report = run(path, tmp_path / "out.mkv", session, encoding=LOSSLESS)
    assert report.repeated == 7 and [record.gate for record in report.records[1:]] == ["repeat"] * 7
    frames = [frame.levels for frame in VideoSource(tmp_path / "out.mkv").frames()]
    assert all(torch.equal(frames[0][0], levels[0]) for levels in frames)


def test_a_preview_is_that_part_and_begins_at_0(make_clip, session, tmp_path):
    path = make_clip(frames=20, has_sound=True)
    report = run(path, tmp_path / "out.mp4", session, window=Window(Fraction(1, 5), Fraction(6, 25)), compare=True)
    assert report.frames == 6 and [record.frame for record in report.records] == list(range(5, 11))
    assert stamps_of(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(6)]
    assert VideoSource(tmp_path / "out.mp4").info.size == (96, 256)


def test_a_preview_of_a_broadcast_has_its_sound_and_begins_at_0(make_clip, session, tmp_path):
    path = make_clip(name="clip.ts", frames=30, has_sound=True, container={"output_ts_offset": "40"})
    report = run(path, tmp_path / "out.mp4", session, window=Window(Fraction(2, 5), Fraction(2, 5)))
    assert report.frames == 10 and stamps_of(tmp_path / "out.mp4")[0] < 0.05
    times = [at for at, _ in packets_of(tmp_path / "out.mp4", "audio")]
    assert len(times) > 12 and -0.1 < times[0] < 0.05


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cover_picture_is_copied(suffix, make_clip, session, tmp_path):
    path = tmp_path / "cover.mp4"
    with av.open(str(make_clip(frames=2))) as given, av.open(str(path), "w") as made:
        video = made.add_stream_from_template(given.streams.video[0], opaque=True)
        cover = made.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 8, 8, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        made.mux(cover.encode(av.VideoFrame(8, 8, "rgb24")))
        made.mux(cover.encode(None))
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                made.mux(packet)
    run(path, tmp_path / f"out{suffix}", session)
    pictures = []
    for one in (path, tmp_path / f"out{suffix}"):
        with av.open(str(one)) as container:
            stream = next(stream for stream in container.streams if source_module.is_cover(stream))
            pictures.append(next(bytes(packet) for packet in container.demux(stream) if packet.size))
    assert pictures[0] == pictures[1]


def test_a_long_last_frame_is_no_damage(make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", pts=[0, 40, 80, 120, 4000], time_base=Fraction(1, 1000))
    report = run(path, tmp_path / "out.mkv", session)
    assert report.fault is None and report.frames == 5


def test_a_folder_of_someone_else_is_neither_used_nor_removed(make_clip, session, tmp_path):
    output = tmp_path / "out.mp4"
    parts_folder(output).mkdir()
    (parts_folder(output) / "mine.txt").write_text("mine")
    with pytest.raises(RefusedError, match="holds no journal"):
        run(make_clip(frames=2), output, session)
    assert (parts_folder(output) / "mine.txt").read_text() == "mine"


def test_two_runs_do_not_share_an_output(make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.pipeline._SEGMENT_SECONDS", 0.1)
    path, output = make_clip(frames=12), tmp_path / "out.mp4"
    other = []

    def progress(_stage, done, _total):
        if done == 8:
            with pytest.raises(RefusedError, match="another run works on it"):
                upscale_video(path, output, session, VideoOptions(FAST))
            other.append(done)

    upscale_video(path, output, session, VideoOptions(FAST), progress)
    assert other and len(stamps_of(output)) == 12


def test_what_is_carried_over_and_lost_is_made_again(make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.pipeline._SEGMENT_SECONDS", 0.1)
    path, output = make_clip(frames=12), tmp_path / "out.mp4"
    upscale_video(path, tmp_path / "whole.mp4", session, VideoOptions(FAST))
    with pytest.raises(StopError):
        upscale_video(path, output, session, VideoOptions(FAST), interrupt_after(10))
    states = sorted(parts_folder(output).glob("state-*.npy"))
    assert states
    states[-1].write_bytes(b"")
    upscale_video(path, output, session, VideoOptions(FAST))
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_time_left_is_told_after_some_frames_and_without_what_came_before_the_first(make_clip, session, tmp_path, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("fidelity.video.pipeline.time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    shown = []
    options = VideoOptions(FAST, at_once=1)
    upscale_video(make_clip(frames=40, size=(16, 24)), tmp_path / "out.mp4", session, options, lambda *one: shown.append(one))
    assert shown[0] == ("computing the first frames", 0, 40)
    stages = [stage for stage, *_ in shown[1:]]
    assert stages[:2] == ["computing the first frames (1)", "computing the first frames (2)"]
    assert stages[2].startswith("2.00 fps, 0:00:18 left, drift ")  # two frames after the first in one tick, 37 to go
    assert all("left" in stage for stage in stages[2:]) and len(stages) == 40


def test_ctrl_c_shows_at_once_that_the_work_is_stopping(make_clip, session, tmp_path):
    shown = []

    def progress(stage, done, total):
        shown.append((stage, done, total))
        if done == 3 and stage != "stopping…":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(make_clip(frames=12), tmp_path / "out.mp4", session, VideoOptions(FAST), progress)
    assert shown[-1] == ("stopping…", 3, 12)


class StopError(Exception):
    pass


def interrupt_after(count):
    def progress(_stage, done, _total):
        if done >= count:
            raise StopError

    return progress


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_interrupted_run_resumes_to_the_same_bits(suffix, make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.pipeline._SEGMENT_SECONDS", 0.2)
    path = make_clip(frames=24, cuts=(8,), has_sound=True)
    output = tmp_path / f"out{suffix}"
    options = VideoOptions(Encoding("h265", preset="ultrafast"))
    whole = upscale_video(path, tmp_path / f"whole{suffix}", session, options)
    for count in (7, 15, 20):
        with pytest.raises(StopError):
            upscale_video(path, output, session, options, interrupt_after(count))
        assert not output.exists() and parts_folder(output).is_dir()
    resumed = upscale_video(path, output, session, options)
    assert resumed.resumed_at > 0
    assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert [record.drift for record in resumed.records] == [record.drift for record in whole.records]
    assert resumed.scenes == whole.scenes and len(whole.scenes) == 2
    assert not parts_folder(output).exists()


def test_a_killed_run_resumes_to_the_same_bits(make_clip, tmp_path):
    path = make_clip(frames=40, size=(96, 128))
    command = [sys.executable, "-m", "fidelity", "video", str(path), "--restore", "off", "--encoder-preset", "ultrafast"]
    command += ["--codec", "h264", "--domain", "photo", "-o"]
    script = (
        "import os, sys, fidelity.video.pipeline as pipeline, fidelity.cli as cli\n"
        "pipeline._SEGMENT_SECONDS = 0.4\n"
        "if len(sys.argv) > 1 and sys.argv[1].isdigit():\n"
        "    import fidelity.video.segments as segments\n"
        "    limit, add = int(sys.argv.pop(1)), segments.SegmentJournal.add\n"
        "    def counted(self, segment):\n"
        "        add(self, segment)\n"
        "        if len(self.segments) == limit: os.kill(os.getpid(), 9)\n"
        "    segments.SegmentJournal.add = counted\n"
        "cli.main()\n"
    )
    base = [sys.executable, "-c", script]

    def code_of(*arguments):
        return subprocess.run(arguments, check=False, cwd=Path(__file__).parents[2], capture_output=True).returncode

    assert code_of(*base, *command[3:], str(tmp_path / "whole.mp4")) == 0
    output = tmp_path / "out.mp4"
    for limit in (1, 3):
        assert code_of(*base, str(limit), *command[3:], str(output)) == -9
        assert not output.exists()
    assert code_of(*base, *command[3:], str(output)) == 0
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_other_settings_do_not_resume(make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.pipeline._SEGMENT_SECONDS", 0.1)
    path, output = make_clip(frames=12), tmp_path / "out.mp4"
    with pytest.raises(StopError):
        upscale_video(path, output, session, VideoOptions(FAST), interrupt_after(9))
    with pytest.raises(
        RefusedError,
        match=r"another flicker reduction \(on there, off here\), steady \(auto there, off here\); wanted the same",
    ):
        run(path, output, session, steady="off")
    report = run(path, output, session, steady="off", existing="overwrite")
    assert report.resumed_at == 0 and output.exists()


def test_a_torn_journal_loses_only_what_is_torn(make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.pipeline._SEGMENT_SECONDS", 0.1)
    path, output = make_clip(frames=12), tmp_path / "out.mp4"
    upscale_video(path, tmp_path / "whole.mp4", session, VideoOptions(FAST))
    with pytest.raises(StopError):
        upscale_video(path, output, session, VideoOptions(FAST), interrupt_after(10))
    journal = parts_folder(output) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-7])
    report = upscale_video(path, output, session, VideoOptions(FAST))
    assert report.resumed_at < 10 and output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_truncated_file_gives_what_was_whole(make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", frames=40, has_sound=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    report = run(path, tmp_path / "out.mkv", session)
    assert report.fault and "ended after" in report.fault
    assert 0 < report.frames < 40 and len(stamps_of(tmp_path / "out.mkv")) == report.frames


def test_existing_files_are_refused_skipped_or_numbered(make_clip, session, tmp_path):
    path, output = make_clip(frames=2), tmp_path / "out.mp4"
    output.write_bytes(b"mine")
    with pytest.raises(RefusedError, match="exists"):
        run(path, output, session)
    with pytest.raises(SkippedError):
        run(path, output, session, existing="skip")
    run(path, output, session, existing="rename")
    assert output.read_bytes() == b"mine" and (tmp_path / "out_2.mp4").exists()
    with pytest.raises(RefusedError, match="the source itself"):
        run(path, path, session, existing="overwrite")


def test_what_a_container_cannot_hold_is_refused_or_dropped(make_clip, session, tmp_path):
    path = make_clip(name="clip.mkv", frames=2, has_subtitles=True)
    told = r"\.mp4 cannot hold subtitle track 1 \(SubRip, eng\); use \.mkv, or --drop to leave it out"
    with pytest.raises(RefusedError, match=told):
        run(path, tmp_path / "out.mp4", session)
    report = run(path, tmp_path / "out.mp4", session, drop=True)
    assert any("subtitle track 1 (SubRip, eng) is left out" in note for note in report.notes)
    with pytest.raises(RefusedError, match="wanted a file ending in"):
        run(path, tmp_path / "out.avi", session)
    with pytest.raises(RefusedError, match=r"cannot hold prores"):
        run(path, tmp_path / "out.mp4", session, encoding=Encoding("prores"))


@pytest.mark.parametrize(
    ("codec", "name"), [("h265", "o.mp4"), ("h264", "o.mkv"), ("av1", "o.webm"), ("ffv1", "o.mkv"), ("prores", "o.mov")]
)
def test_every_codec_gives_a_video_of_the_size(codec, name, make_clip, session, tmp_path):
    run(make_clip(size=(64, 64), frames=3), tmp_path / name, session, encoding=Encoding(codec))
    source = VideoSource(tmp_path / name)
    assert source.info.size == (128, 128)
    frame = next(iter(source.frames()))
    shown = planes_to_rgb(levels_to_planes(frame.levels, source.info.form), source.info.form)
    assert (shown - picture((128, 128), 0)).abs()[:, :, 66:120].mean() < 0.02


def test_odd_sizes_are_rounded_up_and_told(make_clip, session, tmp_path):
    path = make_clip(
        name="clip.mkv", size=(45, 61), form=PlaneFormat("bt709", subsampling=(1, 1)), options={"crf": "12"}, frames=2
    )
    session.settings = replace(session.settings, target=Target(size=(67, 91)))
    report = run(path, tmp_path / "out.mkv", session, encoding=Encoding("av1"))
    assert (report.output["width"], report.output["height"]) == (92, 68)
    assert any("92x68" in note for note in report.notes) and any("4:2:0" in note for note in report.notes)


@pytest.mark.parametrize(
    ("size", "wanted", "told"),
    [
        ((48, 64), (90, 160), "the picture is stretched from 4:3 to 16:9; --long-edge keeps its shape"),
        ((48, 64), (144, 64), "the picture is stretched from 4:3 to 0.44:1; --long-edge keeps its shape"),
        ((48, 64), (96, 128), None),
        ((48, 85), (108, 192), None),  # 191.25 would be exact
        ((6, 8), (10, 13), None),  # 13.3 would be exact
    ],
)
def test_a_stretched_picture_is_told_and_rounding_is_not(size, wanted, told, make_clip, session, tmp_path):
    path = make_clip(
        name="clip.mkv", size=size, frames=1, form=PlaneFormat("bt709", subsampling=(1, 1)), encoder="ffv1", options={}
    )
    session.settings = replace(session.settings, target=Target(size=wanted))
    notes = run(path, tmp_path / "out.mkv", session, encoding=LOSSLESS).notes
    assert [note for note in notes if "stretched" in note] == ([told] if told else [])


def test_pixels_that_make_up_for_another_shape_are_no_stretch(make_clip, session, tmp_path):
    path = make_clip(aspect=Fraction(4, 3), frames=1)
    session.settings = replace(session.settings, target=Target(size=(90, 160)))
    assert not any("stretched" in note for note in run(path, tmp_path / "out.mp4", session).notes)


def test_what_became_of_transparency_and_interlacing_is_told(make_clip, session, tmp_path):
    image = Image.new("RGBA", (32, 24), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (4, 4, 12, 12))
    image.save(tmp_path / "clear.gif")
    assert "transparency is left out" in run(tmp_path / "clear.gif", tmp_path / "gif.mp4", session).notes
    path = make_clip(frames=4, options={"crf": "12", "flags": "+ilme+ildct", "x264-params": "tff=1"})
    assert "deinterlaced" in run(path, tmp_path / "out.mp4", session).notes
    assert "deinterlaced" not in run(path, tmp_path / "off.mp4", session, deinterlace="off").notes


def test_without_opencv_a_note_says_how_flicker_is_reduced(make_clip, session, tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.video.job.has_motion", lambda: False)
    told = "flicker reduction is off; install OpenCV to enable it"
    assert told in run(make_clip(frames=1), tmp_path / "out.mp4", session).notes
    assert told not in run(make_clip(frames=1), tmp_path / "off.mp4", session, steady="off").notes


def test_a_part_beyond_the_end_is_refused_with_the_length(make_clip, session, tmp_path):
    with pytest.raises(RefusedError, match="--preview begins at 0:10:00, but the video is 0:00:02 long"):
        run(make_clip(frames=50), tmp_path / "out.mp4", session, window=Window(Fraction(600), Fraction(5)))


def test_frames_from_and_to_a_folder(make_clip, session, tmp_path):
    path = make_clip(frames=3)
    report = run(path, tmp_path / "frames", session)
    names = sorted(one.name for one in (tmp_path / "frames").iterdir())
    assert names == [f"frame-{number:06}.png" for number in (1, 2, 3)] and report.frames == 3
    with pytest.raises(RefusedError, match="holds frames already"):
        run(path, tmp_path / "frames", session)
    back = run(tmp_path / "frames", tmp_path / "back.mkv", session, rate=Fraction(24), encoding=LOSSLESS)
    assert back.frames == 3 and VideoSource(tmp_path / "back.mkv").info.size == (192, 256)
    assert VideoSource(tmp_path / "back.mkv").info.rate == 24


def test_memory_does_not_grow_with_the_length(make_clip, session, tmp_path, monkeypatch):
    alive, most = set(), []
    made = source_module.read_planes

    def counted(frame, colors):
        planes = made(frame, colors)
        for plane in planes:
            alive.add(id(plane))
            weakref.finalize(plane, alive.discard, id(plane))
        most.append(len(alive))
        return planes

    monkeypatch.setattr(source_module, "read_planes", counted)
    run(make_clip(frames=150, size=(32, 48)), tmp_path / "out.mp4", session)
    assert max(most[100:]) <= max(most[:100]) and max(most) < 3 * 60


def test_a_source_in_rgb_or_grey_is_taken(make_clip, session, tmp_path):
    with av.open(str(tmp_path / "rgb.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        image = (picture((48, 64), 0)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    report = run(tmp_path / "rgb.mkv", tmp_path / "out.mkv", session, encoding=LOSSLESS)
    assert any("RGB is stored" in note for note in report.notes) and report.drift.mean < 0.1
    grey = make_clip(name="grey.mkv", frames=2, form=PlaneFormat("bt709", True, subsampling=(1, 1)), encoder="ffv1", options={})
    assert run(grey, tmp_path / "grey-out.mkv", session).frames == 2
