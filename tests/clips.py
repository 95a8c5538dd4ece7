"""Small videos made on the spot."""

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import torch

from fidelity.imaging.yuv import PlaneFormat, planes_to_levels, rgb_to_planes
from fidelity.video.segments import to_video_frame

SUBTITLES = "1\n00:00:00,000 --> 00:00:00,200\nHello\n\n2\n00:00:00,240 --> 00:00:00,400\nWorld\n"


@dataclass
class Clip:
    """What a video is made of; the defaults are a plain one."""

    name: str = "clip.mp4"
    encoder: str = "libx264"
    form: PlaneFormat = field(default_factory=lambda: PlaneFormat("bt709"))
    codes: tuple[int, int, int] = (1, 1, 1)
    """Primaries, transfer and matrix; 2 is unspecified."""
    size: tuple[int, int] = (48, 64)
    frames: int = 8
    rate: Fraction = Fraction(25)
    time_base: Fraction | None = None
    pts: list[int] | None = None
    options: dict = field(default_factory=lambda: {"crf": "12"})
    aspect: Fraction | None = None
    rotation: int = 0
    has_sound: bool = False
    has_subtitles: bool = False
    has_chapters: bool = False
    has_attachment: bool = False
    cuts: tuple[int, ...] = ()
    """Frames at which another scene begins."""
    still: bool = False
    """Whether all frames of a scene are the same."""
    container: dict = field(default_factory=dict)


def picture(size, index, scene=0, still=False):
    """An RGB frame, (1, 3, h, w): soft colors and a square that moves."""
    height, width = size
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    channels = (0.2 + 0.5 * columns, 0.3 + 0.3 * rows, 0.6 - 0.3 * columns)
    image = torch.stack([channels[(scene + place) % 3] for place in range(3)])
    image = [image, 1 - image, image.flip(1, 2)][scene % 3].clone()
    left = (0 if still else 2 * index) % (width - 12)
    image[:, 12:28, left : left + 12] = torch.tensor([0.75, 0.3, 0.3])[:, None, None]
    return image[None]


def write_clip(folder, clip):
    """Writes a clip and returns its path."""
    path = folder / clip.name
    base = clip.time_base or 1 / clip.rate
    step = round(1 / (clip.rate * base))
    stamps = clip.pts or [index * step for index in range(clip.frames)]
    with av.open(str(path), "w", options=clip.container) as container:
        options = dict(clip.options)
        if clip.form.subsampling != (1, 1):
            options["chroma_sample_location"] = clip.form.siting
        video = container.add_stream(clip.encoder, rate=clip.rate, options=options)
        video.height, video.width = clip.size
        name = to_video_frame(levels_of(clip, 0, 0), clip.form).format.name
        video.pix_fmt = name
        video.codec_context.time_base = base
        tag(video, clip)
        sound = container.add_stream("aac", rate=48000, layout="mono") if clip.has_sound else None
        titles = None
        if clip.has_subtitles:
            (folder / "titles.srt").write_text(SUBTITLES)
            titles = av.open(str(folder / "titles.srt"))
            text = container.add_stream_from_template(titles.streams[0])
            text.metadata["language"] = "eng"
        if clip.has_attachment:
            container.add_attachment("font.ttf", "font/ttf", b"not a font")
        container.metadata["title"] = "A clip"
        if clip.has_chapters:
            chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
            container.set_chapters([chapter])
        scene = 0
        for index, stamp in enumerate(stamps):
            scene += index in clip.cuts
            frame = to_video_frame(levels_of(clip, index, scene), clip.form)
            frame.pts, frame.time_base = stamp, base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            add_sound(container, sound, float((stamps[-1] + step) * base))
        if titles:
            for packet in titles.demux():
                if packet.size:
                    packet.stream = text
                    container.mux(packet)
            titles.close()
    return path


def tag(video, clip):
    context = video.codec_context
    context.color_primaries, context.color_trc, context.colorspace = clip.codes
    context.color_range = 2 if clip.form.is_full else 1
    if clip.aspect:
        context.sample_aspect_ratio = clip.aspect
    if clip.rotation:
        video.set_display_rotation(clip.rotation)


def add_sound(container, stream, seconds):
    wave = np.sin(np.arange(int(48000 * seconds)) / 20)[None].astype(np.float32)
    for start in range(0, wave.shape[1], 1024):
        part = av.AudioFrame.from_ndarray(wave[:, start : start + 1024], format="fltp", layout="mono")
        part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def levels_of(clip, index, scene):
    image = picture(clip.size, index, scene, clip.still)
    return planes_to_levels(rgb_to_planes(image, clip.form), clip.form)


def stamps_of(path):
    """Time stamps of all frames of a video, in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


def packets_of(path, kind):
    """Time stamps and bytes of a stream's packets, by the type of the stream."""
    with av.open(str(path)) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]
