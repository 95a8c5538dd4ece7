"""What is told of a video: one record a frame, one a scene, and a summary."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..imaging.drift import Drift


@dataclass(frozen=True)
class FrameRecord:
    """What was measured of one frame."""

    frame: int
    """Its index in the source, from 0."""
    seconds: float
    """Its time stamp."""
    scene: int
    """Number of its scene, from 0."""
    drift: Drift
    """Its colors against the source's, or the restored source's, before encoding."""
    gate: str
    """What the Delta-E gate did: pass, blend, reject, report or off; "repeat" for a frame that repeats the one before."""

    @staticmethod
    def of(content: dict[str, Any]) -> "FrameRecord":
        """The record that JSON holds."""
        others: dict[str, Any] = {name: value for name, value in content.items() if name != "drift"}
        return FrameRecord(**others, drift=Drift(**content["drift"]))


@dataclass(frozen=True)
class SceneRecord:
    """What was decided for one scene."""

    scene: int
    """Its number, from 0."""
    first: int
    """Index of its first frame."""
    domain: str
    """The domain whose recipe was followed."""
    confidence: float
    """Probability of the domain, in [0, 1]."""
    model: str | None
    """The network that enlarged it."""
    restore: str
    """What was restored: off, denoise or deblock."""
    restore_strength: float
    """Share of the restored source in what was enlarged."""
    steadied: bool
    """Whether added detail was steadied along motion."""
    reasons: tuple[str, ...]
    """Why, as text."""


@dataclass(frozen=True)
class VideoReport:
    """The report of a whole video."""

    input: dict[str, Any]
    """Its source: path, size, codec, rate, color tags and what was assumed."""
    output: dict[str, Any]
    """What was written: path, size, codec, pixel format, streams copied and dropped."""
    frames: int
    scenes: tuple[SceneRecord, ...]
    """Those that this run worked on; those of the run that it resumed are in that one's report."""
    drift: Drift
    """Mean of the frames' means, largest 99th percentile, largest maximum."""
    worst: FrameRecord | None
    """The frame with the largest mean drift."""
    repeated: int
    """Frames that repeat the one before and were not computed again."""
    resumed_at: int
    """Frames that an earlier run had finished."""
    seconds: float
    """Wall time of this run."""
    frames_per_second: float
    """Of this run's frames."""
    notes: tuple[str, ...]
    """What was assumed, converted or left out, as text."""
    fault: str | None
    """Why the source ended early; None if it was whole."""
    records: tuple[FrameRecord, ...] = ()
    """Every frame's record."""

    def lines(self) -> Iterable[dict[str, Any]]:
        """The report as JSON objects: one a frame, one a scene, then the summary."""
        yield from ({"kind": "frame", **asdict(record)} for record in self.records)
        yield from ({"kind": "scene", **asdict(scene)} for scene in self.scenes)
        summary = asdict(self)
        del summary["records"], summary["scenes"]
        yield {"kind": "video", **summary}


def summarize(records: Sequence[FrameRecord]) -> tuple[Drift, FrameRecord | None]:
    """The drift of all frames together, and the frame that drifted most."""
    if not records:
        return Drift(0.0, 0.0, 0.0), None
    mean = sum(record.drift.mean for record in records) / len(records)
    p99, largest = (max(getattr(record.drift, name) for record in records) for name in ("p99", "max"))
    return Drift(mean, p99, largest), max(records, key=lambda record: record.drift.mean)
