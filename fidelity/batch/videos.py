"""What workers do with a video: cut it into scenes, enlarge some of them each, and join them."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import RefusedError
from ..session import Session
from ..video.job import upscale_video
from ..video.options import VideoOptions
from ..video.records import VideoReport
from ..video.source import VideoSource
from ..video.spread import Part, enlarge_part, find_parts, join_parts
from .journal import Row
from .results import describe_drift

SPLIT, PART = "split", "part"
"""What has become of a video that others go on with, and of a part of it."""


@dataclass(frozen=True)
class Step:
    """What is to be done next of a video that was split."""

    row: Row
    """What was told when it was split."""
    part: Part | None
    """What to enlarge; None if all parts are done and are to be joined."""
    done: tuple[Row, ...] = ()
    """What was told of the parts, if they are to be joined."""


def enlarge_or_split(path: Path, output: Path, session: Session, options: VideoOptions, may_split: bool) -> Row:
    """Enlarges a video, or cuts it into parts if it has several.

    Args:
        path: The video.
        output: The file to write.
        session: Settings, networks and compute.
        options: How to read, process and write.
        may_split: Whether other workers can read it.

    Raises:
        RefusedError: If the video, a setting or a network is refused.
    """
    options = replace(options, existing="overwrite")
    options.encoding.check(output)
    if may_split:
        source = VideoSource(path, options.deinterlace)
        parts = find_parts(source, options)
        if len(parts) > 1:
            return {"status": SPLIT, "parts": parts, "fault": source.fault}
    made = upscale_video(path, output, session, options)
    return _describe(made, output, made.fault, [(scene.domain, scene.model) for scene in made.scenes])


def do_step(path: Path, output: Path, session: Session, options: VideoOptions, step: Step) -> Row:
    """Enlarges a part, or joins all; see `enlarge_or_split`."""
    options = replace(options, existing="overwrite")
    source = VideoSource(path, options.deinterlace)
    if step.part:
        made = enlarge_part(source, output, session, options, step.part)
        return {"status": PART, "scenes": [(scene.domain, scene.model) for scene in made.scenes], "notes": list(made.notes)}
    made = join_parts(source, output, session, options, step.row["parts"])
    kept = {name: step.row[name] for name in ("sha256", "source_bytes", "source_time")}
    told = dict.fromkeys(note for row in step.done for note in row["notes"])
    made = replace(made, notes=tuple(told | dict.fromkeys(made.notes)))
    return kept | _describe(made, output, step.row["fault"], [scene for row in step.done for scene in row["scenes"]])


def _describe(made: VideoReport, output: Path, fault: str | None, scenes: list[tuple[str, str | None]]) -> Row:
    """The row of a finished video; its domain and network are those of most scenes.

    Raises:
        RefusedError: If its source is damaged: what comes before the damage is there, but it is no success.
    """
    if fault:
        raise RefusedError(f"{made.input['path']}: {fault}; the {made.frames} frames before are in {output}")
    gates = Counter(record.gate for record in made.records if record.gate not in ("pass", "repeat"))
    row: dict[str, Any] = {
        "status": "done",
        "width": made.output["width"],
        "height": made.output["height"],
        "bytes": output.stat().st_size,
        "frames": made.frames,
        **describe_drift(made.drift),
        "gate": gates.most_common(1)[0][0] if gates else "pass",
    }
    if made.notes:
        row["notes"] = list(made.notes)
    if scenes:
        row["domain"], row["model"] = Counter(scenes).most_common(1)[0][0]
    return row
