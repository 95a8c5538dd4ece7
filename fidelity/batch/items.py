"""One picture or video of a batch, and what tells it from all others."""

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..choices import VideoCodec
from ..files.paths import VIDEO_SUFFIXES
from ..video.codecs import result_suffix

MEMBER = "::"
"""Between an archive and the name of a picture in it."""


@dataclass(frozen=True)
class Item:
    """One picture or video to enlarge."""

    source: str
    """A path; an archive and a member, joined by `MEMBER`; or a URL."""
    output: str
    """Path of its result, relative to the folder of results; empty if there will be none."""
    options: dict[str, str] = field(default_factory=dict[str, str])
    """What its row of a manifest sets, of `fidelity.batch.manifest.ROW_OPTIONS`."""
    refused: str = ""
    """Why it cannot be done, if its row or its source cannot be read."""

    @property
    def key(self) -> str:
        """Tells it from all others of a batch."""
        return key_of(self.source, self.output)

    @property
    def reason(self) -> str:
        """Why it cannot be done, with its name."""
        return f"{self.source}: {self.refused}"

    @property
    def is_video(self) -> bool:
        """Whether it is one, by its ending."""
        return is_video(self.source)

    @property
    def is_file(self) -> bool:
        """Whether its source is a file by itself, which every worker can open."""
        return is_file(self.source)


def is_remote(source: str) -> bool:
    """Whether a source is a URL."""
    return "://" in source


def is_file(source: str) -> bool:
    """Whether a source is a file by itself, in no archive and no storage."""
    return not is_remote(source) and MEMBER not in source


def is_video(name: str) -> bool:
    """Whether a file is a video, by its ending."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def place_of(source: str) -> str:
    """A source by its absolute path, so that the same file is known by whatever path it is given."""
    return source if is_remote(source) else os.path.abspath(source)  # noqa: PTH100  which pathlib does not have without following links


def is_there(source: str) -> bool:
    """Whether a source, or the archive that it is in, still exists, if only as a link; what is remote is taken to exist."""
    return is_remote(source) or os.path.lexists(source.partition(MEMBER)[0])


def key_of(source: str, output: str) -> str:
    """What tells pictures of a batch apart: one source may have several results."""
    return f"{place_of(source)}\n{output}"


@dataclass(frozen=True)
class Endings:
    """Which endings results get."""

    image: str
    codec: VideoCodec | None

    def of(self, source: str) -> str:
        """The ending of a source's result."""
        if self.codec is None or not is_video(source):
            return self.image
        return result_suffix(PurePosixPath(source).suffix, self.codec)
