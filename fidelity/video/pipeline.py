"""Threads that read, enlarge and encode a video at the same time, with bounded queues between them."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, cast

import torch
from torch import Tensor

from ..decide.decision import Decision
from ..progress import describe_left
from ..session import StageProgress
from .frames import Enlarged, FrameMaker, FrameResult, Picture
from .motion import find_motion
from .options import VideoOptions
from .records import FrameRecord, SceneRecord
from .scenes import LOOKAHEAD, FramePlace, SceneFinder, with_samples
from .sinks import Sink
from .source import SourceFrame, VideoSource
from .steady import Steadier

FIRST_FRAMES, STOPPING = "computing the first frames", "stopping…"
"""Stages, as they are shown."""
_SETTLED_FRAMES, _SETTLED_SHARE = 10, 0.05
"""How many frames, or which share of all, tell how long the others take."""
_SEGMENT_SECONDS = 10
_WAIT_SECONDS = 0.2
_PIPE_SECONDS = 5
"""How long a thread is waited for that may be reading from a pipe in which nothing comes."""


class _Stopped(Exception):
    """Raised in a thread whose work nobody waits for any more."""


class _Mailbox:
    """A bounded queue between two threads that ends when either side stops."""

    def __init__(self, size: int, stopped: Event) -> None:
        self._queue: Queue[Any] = Queue(size)
        self._stopped = stopped

    def put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=_WAIT_SECONDS)
            except Full:
                continue
        raise _Stopped

    def get(self) -> Any:
        while True:
            try:
                return self._queue.get(timeout=_WAIT_SECONDS)
            except Empty:
                if self._stopped.is_set():
                    raise _Stopped from None


@dataclass
class _InWork:
    """A frame on its way, in order."""

    place: FramePlace
    decision: Decision | None
    made: "Future[Enlarged] | None"
    """None for a repeated frame."""
    starts_segment: bool
    finished: "Future[FrameResult] | None" = None
    carried_detail: Tensor | None = None
    """The steadied detail of the frame before, if this one begins a segment within a scene."""


@dataclass(frozen=True)
class Task:
    """What a pipeline works on."""

    source: VideoSource
    maker: FrameMaker
    """Enlarges one frame."""
    sink: Sink
    """Where finished frames go; those that it has already are read and not computed."""
    options: VideoOptions
    device: torch.device | None
    """What computes."""
    steadies: bool
    """Whether added detail is steadied."""
    progress: StageProgress | None
    end: int | None = None
    """How many frames of the source are enough; all if not given."""


def plan_threads(device: torch.device | None, at_once: int | None) -> tuple[int, int]:
    """How many frames are computed at a time, and the threads of each.

    Args:
        device: What computes; None for the CPU.
        at_once: How many frames the user wants at a time; None takes one per thread, or two on a GPU.
    """
    threads = torch.get_num_threads()
    is_cpu = device is None or device.type == "cpu"
    workers = max(1, at_once or (threads if is_cpu else 2))
    return workers, max(1, threads // workers) if is_cpu else threads


class Pipeline:
    """Reads, enlarges and encodes at the same time."""

    def __init__(self, task: Task) -> None:
        """Prepares the threads, whose number follows from the device."""
        self._task, self._done = task, task.sink.done
        self._stopped = Event()
        self._read = _Mailbox(LOOKAHEAD, self._stopped)
        self._workers, self._inner_threads = plan_threads(task.device, task.options.at_once)
        self._encode = _Mailbox(2 * self._workers, self._stopped)
        self._errors: list[BaseException] = []
        self._steadier = Steadier()
        self._decided: tuple[int, Decision] | None = None
        self._last_read: tuple[int, Picture] | None = None
        self._segment_frames = max(1, round(_SEGMENT_SECONDS * task.source.info.rate))
        self._made = 0
        self._first_made_at = 0.0
        self._last_drift = 0.0

    def run(self) -> None:
        """Runs until the source ends.

        Raises:
            RefusedError: If a frame or the output is refused.
        """
        before = torch.get_num_threads()
        helpers = [Thread(target=self._guarded, args=(one,), daemon=True) for one in (self._read_frames, self._encode_frames)]
        with ThreadPoolExecutor(self._workers, "fidelity-video", torch.set_num_threads, (self._inner_threads,)) as pool:
            torch.set_num_threads(self._inner_threads)  # several threads of one step would wait for busy cores
            try:
                for helper in helpers:
                    helper.start()
                if self._task.progress:
                    self._task.progress(FIRST_FRAMES, self._done, max(1, self._total()))
                self._make_frames(pool)
                self._encode.put(None)
                helpers[1].join()
            except _Stopped:
                pass
            except KeyboardInterrupt:
                if self._task.progress:  # frames that are being computed are waited for
                    self._task.progress(STOPPING, self._done + self._made, max(1, self._total(), self._done + self._made))
                raise
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                for helper in helpers:
                    helper.join(None if self._task.source.stream is None else _PIPE_SECONDS)
                torch.set_num_threads(before)
        if self._errors:
            raise self._errors[0]

    def _guarded(self, work: Any) -> None:
        try:
            torch.set_num_threads(self._inner_threads)
            work()
        except _Stopped:
            pass
        except BaseException as error:  # raised again by `run`
            self._errors.append(error)
            self._stopped.set()

    def _read_frames(self) -> None:
        task = self._task
        finder = SceneFinder(task.source.info.form, task.options.near_repeats)
        window = task.options.window
        late = task.source.late_start
        for frame in task.source.frames(window.start if window else Fraction(0)):
            if window:
                at = frame.pts * task.source.info.time_base - late
                if at >= window.end:
                    break
                place = finder.place(frame)
                if at < window.start:
                    continue
                self._read.put(place)
            else:
                self._read.put(finder.place(frame))
        self._read.put(None)

    def _places(self) -> Iterator[FramePlace]:
        while (place := self._read.get()) is not None:
            yield place

    def _make_frames(self, pool: ThreadPoolExecutor) -> None:
        making: deque[_InWork] = deque()
        finishing: deque[_InWork] = deque()
        before: SourceFrame | None = None
        filled, position = 0, 0
        for place, samples in with_samples(self._places()):
            if position == self._task.end:
                break
            frame = place.frame
            if position >= self._done:
                starts = position == self._done or place.starts_scene or filled >= self._segment_frames
                filled = 1 if starts else filled + 1
                work = self._begin(pool, place, samples, starts, before)
                making.append(work)
                while len(making) > self._workers:
                    self._steady(pool, making.popleft(), finishing)
                while len(finishing) > self._workers:
                    self._deliver(finishing.popleft())
            before, position = frame, position + 1
        while making:
            self._steady(pool, making.popleft(), finishing)
        while finishing:
            self._deliver(finishing.popleft())

    def _begin(
        self,
        pool: ThreadPoolExecutor,
        place: FramePlace,
        samples: Sequence[SourceFrame],
        starts: bool,
        before: SourceFrame | None,
    ) -> _InWork:
        if place.is_repeat and not starts:
            return _InWork(place, None, None, starts)
        decision = self._decide(place, samples)
        earlier = before if self._task.steadies and not place.starts_scene else None
        picture, known = self._task.maker.read(place.frame.levels), self._last_read
        self._last_read = (place.frame.index, picture)
        luma = None
        if earlier is not None:
            before_it = known[1] if known and known[0] == earlier.index else self._task.maker.read(earlier.levels)
            luma = before_it.planes.luma
        return _InWork(place, decision, pool.submit(self._enlarge, picture, decision, luma), starts)

    def _decide(self, place: FramePlace, samples: Sequence[SourceFrame]) -> Decision:
        if self._decided is None or self._decided[0] != place.scene:
            pictures = [self._task.maker.read(frame.levels) for frame in samples]
            decision = self._task.maker.decide(pictures)
            self._decided = (place.scene, decision)
            self._task.sink.note_scene(describe_scene(place, decision, self._task.steadies))
        return self._decided[1]

    def _enlarge(self, picture: Picture, decision: Decision, before: Tensor | None) -> Enlarged:
        motion = None if before is None else find_motion(before, picture.planes.luma)
        return replace(self._task.maker.enlarge(picture, decision, self._task.steadies, motion), before=before)

    def _steady(self, pool: ThreadPoolExecutor, work: _InWork, finishing: deque[_InWork]) -> None:
        if work.starts_segment:
            if work.place.frame.index and self._steadier.detail is None and not work.place.starts_scene:
                carried = self._task.sink.load_state()
                self._steadier.detail = carried.to(self._task.device) if carried is not None else None
            work.carried_detail = None if work.place.starts_scene else self._steadier.detail
        if work.made is not None and work.decision is not None:
            made = work.made.result()
            work.made = None
            luma = made.planes.luma
            if made.base is not None:
                luma = self._steadier.run(luma, made.base, made.picture.planes.luma, made.before, made.motion)
            work.finished = pool.submit(self._task.maker.finish, made, luma, work.decision)
        finishing.append(work)

    def _deliver(self, work: _InWork) -> None:
        result = work.finished.result() if work.finished else None
        self._encode.put((work.place, result, work.starts_segment, work.carried_detail))
        self._made += 1
        if self._made == 1:
            self._first_made_at = time.perf_counter()
        if result:
            self._last_drift = result.drift.mean
        self._show()

    def _show(self) -> None:
        progress = self._task.progress
        if progress is None:
            return
        done, total = self._done + self._made, self._total()
        since_first = self._made - 1  # what comes before the first one, such as loading networks, comes once
        settled = min(_SETTLED_FRAMES, max(2, round(_SETTLED_SHARE * total))) if total else _SETTLED_FRAMES
        if since_first < settled and (done < total or not total):
            progress(f"{FIRST_FRAMES} ({self._made})", done, max(total, done))
            return
        speed = since_first / max(1e-6, time.perf_counter() - self._first_made_at)
        left = max(0.0, (total - done) / max(1e-6, speed))
        time_left = f", {describe_left(left)}" if total else ""
        progress(f"{speed:.2f} fps{time_left}, drift {self._last_drift:.2f}", done, max(total, done))

    def _total(self) -> int:
        """About how many frames the result will have; 0 if that is unknown."""
        window, info = self._task.options.window, self._task.source.info
        return round(window.seconds * info.rate) if window else info.frames or 0

    def _encode_frames(self) -> None:
        task, last = self._task, cast(FrameResult | None, None)
        while (item := self._encode.get()) is not None:
            place, result, starts, state = item
            if starts:
                task.sink.begin(state)
            repeats, last = result is None, result or last
            assert last is not None  # a segment begins with a frame of its own
            frame = place.frame
            seconds = float(frame.pts * task.source.info.time_base - task.source.late_start)
            record = FrameRecord(frame.index, seconds, place.scene, last.drift, "repeat" if repeats else last.action)
            task.sink.add(last.levels, frame, record)


def describe_scene(place: FramePlace, decision: Decision, steadies: bool) -> SceneRecord:
    """The record of a scene that begins with a frame."""
    planned, verdict = decision.planned, decision.verdict
    return SceneRecord(
        scene=place.scene,
        first=place.frame.index,
        domain=decision.recipe.domain,
        confidence=round(verdict.confidence, 4),
        model=planned.models[-1].name if planned.models else None,
        restore=decision.recipe.restore,
        restore_strength=round(decision.restore_strength, 4) if planned.restorer else 0.0,
        steadied=steadies,
        reasons=decision.reasons,
    )
