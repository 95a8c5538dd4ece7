"""A video that is made in parts has the bits of one that is made at once."""

from fractions import Fraction

import pytest

from fidelity.errors import RefusedError
from fidelity.video import spread
from fidelity.video.codecs import Encoding
from fidelity.video.job import upscale_video
from fidelity.video.options import VideoOptions
from fidelity.video.source import VideoSource
from fidelity.video.spread import Part, enlarge_part, find_parts, join_parts

OPTIONS = VideoOptions(Encoding("h264", preset="ultrafast"), existing="overwrite")


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(spread, "_PART_SECONDS", 0.4)


@pytest.fixture
def path(make_clip):
    """Scenes of 4, 8, 6 and 6 frames; parts have at least 10."""
    return make_clip(frames=24, cuts=(4, 12, 18), has_sound=True, options={"crf": "12", "bf": "2"})


def test_parts_begin_with_scenes_and_have_a_least_length(path):
    assert find_parts(VideoSource(path), OPTIONS) == (Part(0, 0, 12), Part(1, 12, 24))


def test_one_scene_is_one_part(make_clip):
    assert find_parts(VideoSource(make_clip(frames=30)), OPTIONS) == (Part(0, 0, 30),)


def test_there_are_not_too_many_parts(path, monkeypatch):
    monkeypatch.setattr(spread, "_PART_SECONDS", 0)
    assert len(find_parts(VideoSource(path), OPTIONS)) == 4
    monkeypatch.setattr(spread, "MOST_PARTS", 2)
    assert len(find_parts(VideoSource(path), OPTIONS)) == 2


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_joined_parts_are_the_video_that_one_run_makes(path, session, tmp_path, ending):
    whole, output = tmp_path / f"whole{ending}", tmp_path / f"out{ending}"
    at_once = upscale_video(path, whole, session, OPTIONS)
    parts = find_parts(VideoSource(path), OPTIONS)
    for part in reversed(parts):
        made = enlarge_part(VideoSource(path), output, session, OPTIONS, part)
        assert made.frames == part.end - part.first
    assert not output.exists()
    joined = join_parts(VideoSource(path), output, session, OPTIONS, parts)
    assert output.read_bytes() == whole.read_bytes()
    assert joined.records == at_once.records
    assert sorted(one.name for one in tmp_path.glob("out*")) == [output.name]


def test_an_interrupted_part_resumes_and_what_is_missing_is_told(path, session, tmp_path):
    output, parts = tmp_path / "out.mkv", find_parts(VideoSource(path), OPTIONS)

    def stop(_told, done, _total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enlarge_part(VideoSource(path), output, session, OPTIONS, parts[0], stop)
    enlarge_part(VideoSource(path), output, session, OPTIONS, parts[1])
    with pytest.raises(RefusedError, match="part 1 of 2 is not finished"):
        join_parts(VideoSource(path), output, session, OPTIONS, parts)
    resumed = enlarge_part(VideoSource(path), output, session, OPTIONS, parts[0])
    assert resumed.frames == 12 and 0 < resumed.resumed_at < 12
    join_parts(VideoSource(path), output, session, OPTIONS, parts)
    upscale_video(path, tmp_path / "whole.mkv", session, OPTIONS)
    assert output.read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def test_a_finished_part_is_not_made_again(path, session, tmp_path):
    output, parts = tmp_path / "out.mkv", find_parts(VideoSource(path), OPTIONS)
    enlarge_part(VideoSource(path), output, session, OPTIONS, parts[1])
    assert enlarge_part(VideoSource(path), output, session, OPTIONS, parts[1]).resumed_at == 12


def test_another_rate_of_frames_is_the_streams_own(make_clip):
    source = VideoSource(make_clip(frames=9, rate=Fraction(10), cuts=(5,)))
    assert find_parts(source, OPTIONS) == (Part(0, 0, 5), Part(1, 5, 9))
