"""What enlarging a video will take, from a few of its frames."""

import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import torch

from ..decide.decision import Decision
from ..errors import RefusedError
from .frames import Enlarged, FrameResult, Picture
from .job import VideoJob
from .motion import find_motion
from .pipeline import describe_scene, plan_threads
from .records import SceneRecord
from .scenes import LOOKAHEAD, FramePlace
from .segments import SegmentWriter
from .source import SourceFrame
from .steady import Steadier

_START_SHARE = Fraction(1, 3)
"""Where in a video frames are taken: films begin black, and with titles."""
_QUICK_SECONDS = 3.0
"""A first trial that is faster is done again, since the first one loads and warms up what runs."""
_ENCODED_FRAMES = 8
"""How many frames are encoded at least, as encoders look ahead."""


@dataclass(frozen=True)
class VideoForecast:
    """What enlarging a video will take."""

    scene: SceneRecord
    """What is decided for the frames that were tried; other scenes may differ."""
    frames: int | None
    """About how many there are; None if the file does not tell."""
    seconds_per_frame: float
    """Wall time, everything included."""

    @property
    def seconds(self) -> float | None:
        """Wall time of all frames; None if their number is unknown."""
        return None if self.frames is None else self.frames * self.seconds_per_frame


def forecast_video(job: VideoJob) -> VideoForecast:
    """Decodes, enlarges and encodes a few frames from the middle, and writes nothing but a temporary file.

    Args:
        job: What is to be done.

    Raises:
        RefusedError: If no frame can be read there, or a setting or a network is refused.
    """
    _check_part(job)
    frames, decode_seconds = _read_some(job)
    device, maker = job.session.compute.device, job.maker
    workers, inner_threads = plan_threads(device, job.options.at_once)
    steps = [round(index * (len(frames) - 1) / 2) for index in range(3)]
    decision = maker.decide([maker.read(frames[step].levels) for step in dict.fromkeys(steps)])
    pictures = [maker.read(frames[place % len(frames)].levels) for place in range(workers)]  # as many as run at a time
    before = torch.get_num_threads()
    with ThreadPoolExecutor(workers, "fidelity-forecast", torch.set_num_threads, (inner_threads,)) as pool:
        torch.set_num_threads(inner_threads)
        try:
            made, seconds = _time_frames(job, decision, pictures, pool)
            if seconds * len(pictures) < _QUICK_SECONDS:
                made, again = _time_frames(job, decision, pictures, pool)
                seconds = min(seconds, again)
        finally:
            torch.set_num_threads(before)
    beside = decode_seconds + _time_encoding(job, made)
    is_cpu = device is None or device.type == "cpu"  # whose cores decode and encode too
    scene = describe_scene(FramePlace(frames[0], 0, True, False), decision, job.steadies)
    return VideoForecast(scene, _count_frames(job), seconds + beside if is_cpu else max(seconds, beside))


def _check_part(job: VideoJob) -> None:
    """Refuses a part of the video in which no frame lies."""
    if _count_frames(job) == 0:
        raise RefusedError(f"{job.source.path}: {job.tell_beyond()}")


def _read_some(job: VideoJob) -> tuple[list[SourceFrame], float]:
    """Frames from about a third of the video or of the part that is wanted, and the seconds that decoding one takes."""
    info, window = job.info, job.options.window
    if window:
        start = window.start + _START_SHARE * min(window.seconds, Fraction(info.frames or 0) / info.rate)
    else:
        start = _START_SHARE * (info.frames or 0) / info.rate
    frames: list[SourceFrame] = []
    for wanted in dict.fromkeys((start, Fraction(0))):
        with closing(cast(Generator[SourceFrame, None, None], job.source.frames(wanted))) as reading:
            frames = list(islice(reading, 1))
            began = time.perf_counter()
            frames += islice(reading, LOOKAHEAD - 1)
            seconds = (time.perf_counter() - began) / max(1, len(frames) - 1)
        if frames:
            return frames, seconds
    raise RefusedError(f"{info.path}: {job.source.fault or 'no frame can be read'}")


def _time_frames(
    job: VideoJob, decision: Decision, pictures: list[Picture], pool: ThreadPoolExecutor
) -> tuple[list[FrameResult], float]:
    """Makes frames as the pipeline does; returns them and the seconds of each."""
    maker, steadies = job.maker, job.steadies
    began = time.perf_counter()

    def enlarge(index: int) -> Enlarged:
        motion = find_motion(pictures[index - 1].planes.luma, pictures[index].planes.luma) if steadies and index else None
        return maker.enlarge(pictures[index], decision, steadies, motion)

    made = list(pool.map(enlarge, range(len(pictures))))
    steadier, lumas = Steadier(), [one.planes.luma for one in made]
    for index, one in enumerate(made):
        if one.base is not None:
            earlier = pictures[index - 1].planes.luma if index else None
            lumas[index] = steadier.run(lumas[index], one.base, one.picture.planes.luma, earlier, one.motion)
    results = list(pool.map(maker.finish, made, lumas, [decision] * len(made)))
    return results, (time.perf_counter() - began) / len(results)


def _time_encoding(job: VideoJob, made: list[FrameResult]) -> float:
    """The seconds that encoding a frame takes; 0 where frames go elsewhere than into a video file."""
    if not job.copied:
        return 0.0
    with tempfile.TemporaryDirectory() as folder:
        writer = SegmentWriter(Path(folder) / "trial.mkv", job.format)
        began = time.perf_counter()
        try:
            for place in range(max(_ENCODED_FRAMES, len(made))):
                writer.add(made[place % len(made)].levels, place, 1)
            writer.close(0, ())
        finally:
            writer.discard()
        return (time.perf_counter() - began) / max(_ENCODED_FRAMES, len(made))


def _count_frames(job: VideoJob) -> int | None:
    window, info = job.options.window, job.info
    if window is None or info.frames is None:
        return info.frames if window is None else round(window.seconds * info.rate)
    left = info.frames - round(window.start * info.rate)
    return max(0, min(left, round(window.seconds * info.rate)))
