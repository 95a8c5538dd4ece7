"""Joins segments into the finished video, with their true time stamps and everything else the source holds."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from ..errors import RefusedError
from .codecs import CONTAINERS, codecs_of
from .segments import STEP_MS, Segment, sync
from .source import VideoSource, is_cover

_INVISIBLE = ("data", "unknown", None)
"""Types of streams that are neither seen nor heard: timecode, sensors."""
_LONGEST_TIMESCALE = 2**31 - 1
_BITEXACT = "+bitexact"


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
    able = codecs_of(name)
    kept: list[int] = []
    dropped: list[str] = []
    left_out: list[str] = []
    with source.open() as container:
        for stream in container.streams:
            if stream.index == source.stream_index:
                continue
            codec = _codec_of(stream)
            what = f"{stream.type or 'unknown'} stream {stream.index}{f' ({codec})' if codec else ''}"
            if stream.type in _INVISIBLE:
                left_out.append(what)
            elif stream.type == "attachment":
                (kept if name == "matroska" else dropped).append(stream.index if name == "matroska" else what)  # pyright: ignore
            elif stream.type == "video" and not is_cover(stream):
                dropped.append(f"second video stream {stream.index} ({codec})")
            elif codec in able:
                kept.append(stream.index)
            else:
                dropped.append(what)
    return Copied(tuple(kept), tuple(dropped), tuple(left_out))


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
    shift = -(window[0] if window else source.late_start)
    options = {"fflags": _BITEXACT, "avoid_negative_ts": "disabled" if name in ("mp4", "mov") else "auto"}
    if name in ("mp4", "mov"):
        options["movflags"] = "+faststart"
        if info.time_base.denominator <= _LONGEST_TIMESCALE:
            options["video_track_timescale"] = str(info.time_base.denominator)
    with av.open(str(target), "w", format=name, options=options) as output, av.open(str(folder / segments[0].file)) as first:
        video = output.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = info.time_base
        video.codec_context.framerate = info.rate
        if name in ("mp4", "mov") and video.codec_context.name == "hevc":
            video.codec_context.codec_tag = "hvc1"  # by which Apple's players know it
        if info.rotation:
            _rotate(video, info.rotation)
        iterators = [_video_packets(video, folder, segments, info.time_base, info.rate, shift)]
        if source.stream is None and not source.path.is_dir():
            given = source.open()
            try:
                original = given.streams[source.stream_index]
                video.metadata.update(_lasting(original.metadata))
                output.metadata.update({key: text for key, text in given.metadata.items() if key not in _OWN_METADATA})
                if not window:
                    output.set_chapters(given.chapters())
                places = {index: _add_copy(output, given.streams[index]) for index in copied.kept}
                iterators.append(_other_packets(given, places, window, shift))
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


def _rotate(stream: VideoStream, matrix: tuple[int, ...]) -> None:
    if not hasattr(stream, "set_display_matrix"):
        raise RefusedError(f"this PyAV ({av.__version__}) cannot store that a video is rotated; wanted 18 or newer")
    stream.set_display_matrix(matrix)


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
            packets = [packet for packet in container.demux(video=0) if packet.size]
            shown = [packet.pts or 0 for packet in packets]
            for packet, at in zip(packets, shown, strict=True):
                place = before + round((at - min(shown)) * packet.time_base * 1000 / STEP_MS)
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
    container: Any, places: dict[int, Any], window: tuple[Fraction, Fraction] | None, shift: Fraction
) -> Iterator[tuple[Fraction, Any]]:
    if not places:
        return
    streams = [container.streams[index] for index in places]
    last = Fraction(-(10**9))
    for packet in container.demux(streams):
        if not packet.size or (packet.dts is None and packet.pts is None):
            continue
        stamp = packet.dts if packet.dts is not None else packet.pts
        at = stamp * packet.time_base
        if window and not window[0] <= at < window[1] and not is_cover(packet.stream):
            continue
        moved = round(shift / packet.time_base)
        packet.stream = places[packet.stream.index]
        packet.dts = None if packet.dts is None else packet.dts + moved
        packet.pts = None if packet.pts is None else packet.pts + moved
        last = max(last, at + shift)  # so that what is merged is in order
        yield last, packet
