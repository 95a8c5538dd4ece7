from fractions import Fraction

import pytest

from fidelity.errors import RefusedError
from fidelity.video.codecs import Encoding
from fidelity.video.forecast import forecast_video
from fidelity.video.job import prepare_video
from fidelity.video.options import VideoOptions, Window

FAST = Encoding("h264", preset="ultrafast")


def test_a_forecast_tells_frames_scene_and_time_and_writes_nothing(make_clip, session, tmp_path):
    path = make_clip(frames=40)
    before = sorted(tmp_path.iterdir())
    found = forecast_video(prepare_video(path, tmp_path / "out.mp4", session, VideoOptions(FAST)))
    assert (found.frames, found.scene.domain, found.scene.model) == (40, "photo", "natural-x2.safetensors")
    assert found.seconds_per_frame > 0 and found.seconds == 40 * found.seconds_per_frame
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("start", "seconds", "frames"), [(0, 1, 25), (1, 10, 15), (0, 100, 40)])
def test_of_a_part_only_its_frames_count(start, seconds, frames, make_clip, session, tmp_path):
    options = VideoOptions(FAST, window=Window(Fraction(start), Fraction(seconds)))
    job = prepare_video(make_clip(frames=40), tmp_path / "out.mp4", session, options)
    assert forecast_video(job).frames == frames


def test_more_frames_at_a_time_than_there_are_can_be_tried(make_clip, session, tmp_path):
    job = prepare_video(make_clip(frames=2), tmp_path / "out.mp4", session, VideoOptions(FAST, at_once=5))
    assert forecast_video(job).frames == 2


def test_what_has_no_frame_is_refused(make_clip, session, tmp_path):
    job = prepare_video(make_clip(frames=4), tmp_path / "out.mp4", session, VideoOptions(FAST))
    job.source.frames = lambda _start: (frame for frame in ())
    with pytest.raises(RefusedError, match="no frame can be read"):
        forecast_video(job)
