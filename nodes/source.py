"""What a loaded file says of itself, on its way through the graph."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..fidelity.decide.provenance import Provenance
from ..fidelity.files.read import SourceFile

Source = io.Custom("FIDELITY_SOURCE")


@dataclass(frozen=True)
class SourceInfo:
    """What goes along the wire."""

    file: SourceFile
    """How it was stored; its image is the one that was loaded."""
    provenance: Provenance
    """What it says of where it comes from."""


def source_input() -> io.Input:
    """The input of a node that listens to it."""
    return Source.Input(
        "source",
        optional=True,
        tooltip="From Load Image (Fidelity): what the file says of camera, generator, depth and colours.",
    )


def provenance_of(source: SourceInfo | None) -> Provenance | None:
    """What a wired source says; None if none is wired."""
    return source.provenance if source else None
