"""Which videos are given by files and folders, and how their results are named."""

from collections.abc import Sequence
from pathlib import Path

from ..choices import VideoCodec
from ..files.paths import VIDEO_SUFFIXES, name_outputs, number_key
from .codecs import result_suffix
from .source import SEQUENCE_SUFFIXES


def find_videos(path: Path, to_file: bool) -> list[Path]:
    """The videos in a folder, in the order of the numbers in their names; or the path itself if it is a file or holds frames.

    Args:
        path: A file or a folder.
        to_file: Whether one file is to be written, so that the frames of a folder that holds both are meant.
    """
    if not path.is_dir():
        return [path]
    files = [one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")]
    videos = [one for one in files if one.suffix.lower() in VIDEO_SUFFIXES]
    has_frames = any(one.suffix.lower() in SEQUENCE_SUFFIXES for one in files)
    if not videos or (has_frames and to_file):
        return [path]
    return sorted(videos, key=number_key)


def name_results(sources: Sequence[Path], folder: Path, codec: VideoCodec) -> list[Path]:
    """A file in a folder for the result of each video, named like it, in its own container if that holds the codec.

    Args:
        sources: The videos.
        folder: The folder for results.
        codec: What they are encoded as.
    """
    names = name_outputs(sources, folder, True, "")
    ends = [result_suffix(source.suffix, codec) for source in sources]
    return [name.with_name(f"{name.name}{end}") for name, end in zip(names, ends, strict=True)]
