"""Refuses what FFmpeg opens as a video and is none: text, single pictures, and what it cannot decode."""

from pathlib import Path
from typing import Any

from ..errors import RefusedError

_TEXT = {"tty", "bin", "xbin", "idf", "adf"}
"""Demuxers of art for text terminals, which take any text file and any binary one for a film."""
_PICTURE = {"image2", "image2pipe", "ico", "fits", "txd", "alias_pix", "brender_pix", "pictor_pipe"}
"""Demuxers of single pictures, besides those whose names end in "_pipe"."""
_WEBP_HEADER_BYTES = 21
_WEBP_ANIMATED = 2


def check_format(path: Path, container: Any) -> None:
    """Refuses a file by what FFmpeg has opened it as.

    Args:
        path: The file.
        container: PyAV's.

    Raises:
        RefusedError: If it is no video.
    """
    names = set(container.format.name.split(","))
    if names & _TEXT:
        raise RefusedError("is not a video; wanted a file such as .mp4, .mkv or .mov")
    if names & _PICTURE or any(name.endswith("_pipe") for name in names):
        if is_animated_webp(path):
            raise RefusedError("animated WebP cannot be decoded here; convert it to GIF or to PNG frames first")
        raise RefusedError(f"is a picture, not a video; wanted fidelity upscale {path.name}")


def is_animated_webp(path: Path) -> bool:
    """Whether a file is a WebP of several frames, by its header (RFC 9649)."""
    with path.open("rb") as file:
        header = file.read(_WEBP_HEADER_BYTES)
    is_extended = header[:4] == b"RIFF" and header[8:16] == b"WEBPVP8X"
    return is_extended and len(header) == _WEBP_HEADER_BYTES and bool(header[20] & _WEBP_ANIMATED)
