"""Joins segments into the finished video, with their true time stamps and everything else the source holds."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import av.error
from av.video.stream import VideoStream

from ..errors import RefusedError
from .codecs import CONTAINERS
from .segments import STEP_MS, Segment, sync
from .source import VideoSource, is_cover

_INVISIBLE = ("data", "unknown", None)
"""Types of streams that are neither seen nor heard: timecode, sensors."""
_LONGEST_TIMESCALE = 2**31 - 1


@dataclass(frozen=True)
class Copied:
    """Which of the source's other streams go into the result."""

    kept: tuple[int, ...]
    """Indices of those that are copied."""
    dropped: tuple[str, ...]
    """Those that the container cannot hold, as text."""
    left_out: tuple[str, ...]
    """Those without a picture or sound that are not copied, as text."""


def choose_copied(source: VideoSource, output: Path) -> Copied:
    """Finds out which streams a container can hold besides the video.

    Args:
        source: The video.
        output: The file to write.
    """
    if source.stream is not None or source.path.is_dir():
        return Copied((), (), ())
    name = CONTAINERS[output.suffix.lower()]
    kept: list[int] = []
    dropped: list[str] = []
    left_out: list[str] = []
    with source.open() as container:
        for stream in container.streams:
            if stream.index == source.stream_index:
                continue
            codec = _codec_of(stream)
            what = f"{stream.type or 'unknown'} track {stream.index}{_describe_track(stream, codec)}"
            if stream.type in _INVISIBLE:
                left_out.append(what)
            elif stream.type == "video" and not is_cover(stream):
                dropped.append(f"second video track {stream.index}{_describe_track(stream, codec)}")
            elif _is_held(stream, codec, name):
                kept.append(stream.index)
            else:
                dropped.append(what)
    return Copied(tuple(kept), tuple(dropped), tuple(left_out))


def _is_held(stream: Any, codec: str | None, container: str) -> bool:
    """Whether a container holds a stream; its muxer is asked, as it may refuse even what it lists as supported."""
    if stream.type == "attachment":
        return container == "matroska"
    if is_cover(stream) and container == "matroska":
        return codec in _COVERS
    if codec is None or (is_cover(stream) and container == "webm"):
        return False
    try:
        with av.open(BytesIO(), "w", format=container) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _describe_track(stream: Any, codec: str | None) -> str:
    """The codec and the language of a track in parentheses, as far as they are told."""
    told = [_TRACK_NAMES.get(codec, codec)] if codec else []
    language = stream.metadata.get("language", "und")
    told += [language] if language != "und" else []
    return f" ({', '.join(told)})" if told else ""


_TRACK_NAMES = {
    "subrip": "SubRip",
    "ass": "ASS",
    "hdmv_pgs_subtitle": "PGS",
    "dvd_subtitle": "VobSub",
    "dvb_subtitle": "DVB",
    "webvtt": "WebVTT",
    "mov_text": "timed text",
}
"""Codecs of subtitles as people know them."""


def refuse_dropped(source: Path, output: Path, copied: Copied) -> None:
    """Refuses an output that cannot hold all of the source's tracks.

    Args:
        source: The video, for the message.
        output: The file to write.
        copied: From `choose_copied`.

    Raises:
        RefusedError: If there are such tracks.
    """
    if not copied.dropped:
        return
    suffix, them = output.suffix.lower(), "it" if len(copied.dropped) == 1 else "them"
    other = "" if suffix == ".mkv" else "use .mkv, or "
    raise RefusedError(f"{source}: {suffix} cannot hold {', '.join(copied.dropped)}; {other}--drop to leave {them} out")


def _codec_of(stream: Any) -> str | None:
    context = getattr(stream, "codec_context", None)
    return context.codec.canonical_name if context is not None else None


def join(
    target: Path,
    suffix: str,
    folder: Path,
    segments: Sequence[Segment],
    source: VideoSource,
    copied: Copied,
    window: tuple[Fraction, Fraction] | None = None,
) -> None:
    """Writes the finished video.

    Args:
        target: File to write; its name may have any ending.
        suffix: The ending that chooses the container.
        folder: Folder of the segments.
        segments: In order.
        source: Where everything but the picture comes from.
        copied: Its streams to copy.
        window: Start and end in seconds, if only a part is made; it begins at 0 then.

    Raises:
        RefusedError: If there is no segment.
    """
    if not segments:
        raise RefusedError("no frame was encoded; wanted at least one")
    info, name = source.info, CONTAINERS[suffix]
    late = source.late_start
    window = (window[0] + late, window[1] + late) if window else None
    shift = -(window[0] if window else late)
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled" if name in ("mp4", "mov") else "auto"}
    if name in ("mp4", "mov"):
        options["movflags"] = "+faststart"
        if name == "mov":
            options["movflags"] += "+use_metadata_tags"  # a phone's own names
        if info.time_base.denominator <= _LONGEST_TIMESCALE:
            options["video_track_timescale"] = str(info.time_base.denominator)
    skips = name not in ("mp4", "mov")  # only these say by an edit list what is not to be shown
    with av.open(str(target), "w", format=name, options=options) as output, av.open(str(folder / segments[0].file)) as first:
        video = output.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = info.time_base
        video.codec_context.framerate = info.rate
        if name in ("mp4", "mov") and video.codec_context.name == "hevc":
            video.codec_context.codec_tag = "hvc1"  # by which Apple's players know it
        if info.rotation:
            video.set_display_matrix(info.rotation)
        iterators = [_video_packets(video, folder, segments, info.time_base, info.rate, shift)]
        if source.stream is None and not source.path.is_dir():
            given = source.open()
            try:
                original = given.streams[source.stream_index]
                video.metadata.update(_lasting(original.metadata))
                output.metadata.update({key: text for key, text in given.metadata.items() if key not in _OWN_METADATA})
                if not window:
                    output.set_chapters(given.chapters())
                attached = [index for index in copied.kept if name == "matroska" and is_cover(given.streams[index])]
                for index in attached:
                    _attach_cover(output, source, index)
                places = {index: _add_copy(output, given.streams[index]) for index in copied.kept if index not in attached}
                iterators.append(_other_packets(given, places, window, shift, skips))
                _mux(output, iterators)
            finally:
                given.close()
        else:
            _mux(output, iterators)
    sync(target)


_OWN_METADATA = ("encoder", "major_brand", "minor_version", "compatible_brands")
"""What a container says of itself."""


def _lasting(metadata: dict[str, str]) -> dict[str, str]:
    """What is said of a stream, without what a muxer has counted in it."""
    return {key: text for key, text in metadata.items() if not key.upper().startswith(_COUNTED)}


_COUNTED = ("DURATION", "BPS", "NUMBER_OF", "_STATISTICS", "ENCODER")


def _mux(output: Any, iterators: list[Iterator[tuple[Fraction, Any]]]) -> None:
    for _, packet in heapq.merge(*iterators, key=lambda pair: pair[0]):
        output.mux_one(packet)


def check_rotation(rotation: tuple[int, ...] | None) -> None:
    """Refuses a rotated video where the installed PyAV cannot store that it is.

    Raises:
        RefusedError: If so.
    """
    if rotation and not hasattr(VideoStream, "set_display_matrix"):
        raise RefusedError(f"this PyAV ({av.__version__}) cannot store that a video is rotated; wanted 18 or newer")


_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


def _attach_cover(output: Any, source: VideoSource, index: int) -> None:
    """Matroska holds cover pictures as attached files."""
    with source.open() as container:
        stream = container.streams[index]
        data = next((bytes(packet) for packet in container.demux(stream) if packet.size), b"")
        output.add_attachment(*_COVERS[stream.codec_context.codec.canonical_name], data)


def _add_copy(output: Any, stream: Any) -> Any:
    added = output.add_stream_from_template(stream, opaque=True)
    added.metadata.update(stream.metadata)
    added.disposition = stream.disposition
    return added


def _video_packets(
    stream: VideoStream, folder: Path, segments: Sequence[Segment], time_base: Fraction, rate: Fraction, shift: Fraction
) -> Iterator[tuple[Fraction, Any]]:
    """All packets in the order of decoding, each at the time stamp that as many frames before it have as are held back."""
    pts = [stamp for segment in segments for stamp in segment.pts]
    durations = [ticks for segment in segments for ticks in segment.durations]
    delay, moved = max(segment.delay for segment in segments), round(shift / time_base)
    step = max(1, round(1 / (rate * time_base)))
    count, before = 0, 0
    for segment in segments:
        with av.open(str(folder / segment.file)) as container:
            start = min(packet.pts or 0 for packet in container.demux(video=0) if packet.size)
        with av.open(str(folder / segment.file)) as container:
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                place = before + round(((packet.pts or 0) - start) * packet.time_base * 1000 / STEP_MS)
                packet.stream = stream
                packet.time_base = time_base
                packet.pts = pts[place] + moved
                early = count - delay
                packet.dts = (pts[early] if early >= 0 else pts[0] + early * step) + moved
                follower = pts[place + 1] - pts[place] if place + 1 < len(pts) else durations[place] or step
                packet.duration = follower
                count += 1
                yield packet.dts * time_base, packet
        before += len(segment.pts)


def _other_packets(
    container: Any, places: dict[int, Any], window: tuple[Fraction, Fraction] | None, shift: Fraction, skips: bool
) -> Iterator[tuple[Fraction, Any]]:
    if not places:
        return
    streams = [container.streams[index] for index in places]
    last, decoded = Fraction(-(10**9)), dict[int, int]()
    for packet in container.demux(streams):
        if not packet.size or (skips and packet.is_discard):
            continue
        if packet.dts is None and packet.pts is None:
            if not is_cover(packet.stream):
                continue
            packet.pts = packet.dts = -round(shift / packet.time_base)  # a cover picture is shown at the start
        stamp = packet.dts if packet.dts is not None else packet.pts
        at = stamp * packet.time_base
        if window and not window[0] <= at < window[1] and not is_cover(packet.stream):
            continue
        if stamp <= decoded.get(packet.stream.index, stamp - 1) and packet.stream.type == "audio":
            continue  # time that runs backwards cannot be stored
        decoded[packet.stream.index] = stamp
        moved = round(shift / packet.time_base)
        packet.stream = places[packet.stream.index]
        packet.dts = None if packet.dts is None else packet.dts + moved
        packet.pts = None if packet.pts is None else packet.pts + moved
        last = max(last, at + shift)  # so that what is merged is in order
        yield last, packet
