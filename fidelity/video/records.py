"""What is told of a video: one record a frame, one a scene, and a summary."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..imaging.drift import Drift
from .source import VideoInfo


@dataclass(frozen=True)
class VideoFacts:
    """What a video file holds, for readers."""

    path: str
    width: int
    """In pixels, as stored: before rotation and sample aspect."""
    height: int
    """In pixels."""
    codec: str
    frames: int | None
    """About how many; None if the file does not tell."""
    frames_per_second: float
    """On average."""
    time_base: str
    """Seconds per tick of the time stamps, as a fraction."""
    matrix: str
    """Of its luma and chroma, as rgb, bt601, bt709 or bt2020."""
    range: str
    """full or limited."""
    bits: int
    """Per sample."""
    chroma: str
    """As 4:2:0, with where its samples lie."""
    codes: dict[str, int]
    """Its color tags by the code points of H.273."""
    hdr: str | None
    """PQ or HLG."""
    interlaced: bool
    """Whether its first frame is tagged so."""
    notes: tuple[str, ...]
    """What was assumed."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    def lines(self) -> list[str]:
        """As lines of text."""
        count = f", about {self.frames} frames" if self.frames else ""
        stored = [self.codec, f"{self.bits} bits", self.chroma, f"{self.matrix} {self.range}"]
        stored += [self.hdr] if self.hdr else []
        stored += ["interlaced"] if self.interlaced else []
        return [
            f"· {self.width}x{self.height}, {self.frames_per_second:.3f} fps{count}",
            ", ".join(stored),
            *self.notes,
        ]


_SAMPLINGS = {(1, 1): "4:4:4", (1, 2): "4:2:2", (2, 2): "4:2:0", (2, 1): "4:4:0", (1, 4): "4:1:1", (4, 4): "4:1:0"}


def describe_info(info: VideoInfo) -> VideoFacts:
    """What a video file holds."""
    form, signal = info.form, info.colors.signal
    sampling = "grey" if form.is_grey else _SAMPLINGS[form.subsampling]
    placed = f"{sampling} {form.siting}" if form.subsampling != (1, 1) else sampling
    return VideoFacts(
        path=str(info.path),
        width=info.size[1],
        height=info.size[0],
        codec=info.codec,
        frames=info.frames,
        frames_per_second=float(info.rate),
        time_base=str(info.time_base),
        matrix=form.matrix,
        range="full" if form.is_full else "limited",
        bits=form.bits,
        chroma=placed,
        codes=asdict(info.colors.codes),
        hdr=signal.transfer if signal else None,
        interlaced=info.is_interlaced,
        notes=(*info.colors.notes, *info.colors.details),
    )


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

    @staticmethod
    def of(content: dict[str, Any]) -> "SceneRecord":
        """The record that JSON holds."""
        others: dict[str, Any] = {name: value for name, value in content.items() if name != "reasons"}
        return SceneRecord(**others, reasons=tuple(content["reasons"]))


@dataclass(frozen=True)
class VideoReport:
    """The report of a whole video."""

    input: dict[str, Any]
    """Its source: path, size, codec, rate, color tags and what was assumed."""
    output: dict[str, Any]
    """What was written: path, size, codec, bits, how drift was measured, streams copied and dropped."""
    frames: int
    scenes: tuple[SceneRecord, ...]
    """All of them, also those of a run that this one resumed."""
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
    """What was converted or left out, or may be wrong, as text."""
    fault: str | None
    """Why the source ended early; None if it was whole."""
    details: tuple[str, ...] = ()
    """What was assumed as players do, as text."""
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


def describe_scenes(scenes: Sequence[SceneRecord]) -> str:
    """The domain and the model of most scenes, and how many others there are, as in "anime_flux, drawn-x2 (and 2 others)"."""
    chosen = Counter((scene.domain, scene.model) for scene in scenes)
    if not chosen:
        return ""
    domain, model = chosen.most_common(1)[0][0]
    others = f" (and {len(chosen) - 1} other{'s' if len(chosen) > 2 else ''})" if len(chosen) > 1 else ""
    restored = ", restored" if any(scene.restore_strength for scene in scenes) else ""
    return f"{domain}, {Path(model).stem if model else 'resized only'}{restored}{others}"


def summarize_video(made: VideoReport) -> str:
    """A finished video in a few lines for its node."""
    repeated = f", {made.repeated} of them repeats" if made.repeated else ""
    domains = ", ".join(dict.fromkeys(scene.domain for scene in made.scenes))
    scenes = f"{len(made.scenes)} scene{'s' if len(made.scenes) != 1 else ''}: {domains}"
    worst = f", most at {made.worst.seconds:.2f} s" if made.worst else ""
    return "\n".join(
        (
            f"{'≈' if made.fault else '✓'} {made.output['width']}x{made.output['height']}, {made.frames} frames{repeated}",
            scenes,
            f"color drift {made.drift.mean:.2f} {made.output['difference']} on average{worst}",
            f"{made.frames_per_second:.2f} frames per second",
            *made.notes,
            *((made.fault,) if made.fault else ()),
        )
    )
