"""What a loaded file says about itself, as a wire between nodes."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..fidelity.decide.provenance import Provenance
from ..fidelity.files.read import SourceFile

Source = io.Custom("FIDELITY_SOURCE")


@dataclass(frozen=True)
class SourceInfo:
    """What the wire carries."""

    file: SourceFile
    """How the file was stored; its image is the one that was loaded."""
    provenance: Provenance
    """What the file says about its origin."""


def source_input() -> io.Input:
    """The optional input of a node that uses it."""
    return Source.Input(
        "source",
        optional=True,
        tooltip="From Load Image (Fidelity): what the file says about its camera, generator, depth and colors.",
    )


def provenance_of(source: SourceInfo | None) -> Provenance | None:
    """The origin that a wired source states; None if none is wired."""
    return source.provenance if source else None
