"""The parts of a shipped workflow: nodes with links and settings, groups of nodes, and notes on groups.

A setting that is not given keeps the node's default, which comes from the recipe.
"""

from dataclasses import dataclass, field
from typing import Any

Link = tuple[str, int]
"""An output: the key of its node and the output's index."""


@dataclass(frozen=True)
class Step:
    """A node."""

    kind: str
    """The node's id."""
    inputs: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings that differ from the defaults; linked inputs are given as `Link`."""
    title: str | None = None
    """Title in the graph, if it differs from the node's name."""
    models: tuple[dict[str, str], ...] = ()
    """Files that it needs or can use, as name, url and directory, for the host's missing-models dialog."""


@dataclass(frozen=True)
class Graph:
    """A workflow."""

    groups: dict[str, dict[str, Step]]
    """Groups by title, from left to right; each maps keys to nodes, from top to bottom."""
    notes: dict[str, str]
    """Notes in Markdown, by the title of their group."""
    runs: bool = True
    """Whether it runs with only the pack installed; tests run these workflows."""


def model_file(name: str, url: str, directory: str) -> dict[str, str]:
    return {"name": name, "url": url, "directory": directory}


_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
PHOTO_NETWORK = model_file("RealESRGAN_x4plus.pth", f"{_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth", "upscale_models")
ANIME_NETWORK = model_file(
    "RealESRGAN_x4plus_anime_6B.pth", f"{_ESRGAN}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth", "upscale_models"
)


def source_step(title: str = "Source") -> Step:
    return Step("FidelityLoadImage", {"image": "example.png"}, title)


def video_step() -> Step:
    return Step("FidelityLoadVideo", {"file": "example.mp4"}, "Video")


def frames_step() -> Step:
    return Step("GetVideoComponents", {"video": ("source", 0)}, "Frames and sound")


def save_video_step(video: Link, name: str) -> Step:
    return Step("SaveVideo", {"video": video, "filename_prefix": f"fidelity/{name}"}, "Save")


def save_step(image: Link, name: str, report: Link | None = None) -> Step:
    inputs: dict[str, Any] = {"images": image, "source": ("source", 2), "filename_prefix": f"fidelity/{name}"}
    return Step("FidelitySaveImage", inputs | ({"report": report} if report else {}), "Save")


def compare_step(after: Link, before: Link = ("source", 0)) -> Step:
    return Step("FidelityBeforeAfter", {"before": before, "after": after}, "Before and after")


def finish_steps(name: str, image: Link, source: Link = ("source", 0)) -> dict[str, Step]:
    return {
        "gate": Step("FidelityDeltaEGate", {"image": image, "reference": source}),
        "save": save_step(("gate", 0), name, ("gate", 2)),
        "compare": compare_step(("gate", 0)),
    }
