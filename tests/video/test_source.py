from fractions import Fraction

import av
import pytest
import torch
from PIL import Image

from fidelity.imaging.yuv import PlaneFormat
from fidelity.video.codecs import Encoding, fit_size
from fidelity.video.join import choose_copied
from fidelity.video.source import VideoRefusedError, VideoSource, read_side_data
from tests.clips import Clip, levels_of, stamps_of


def test_lossless_planes_are_read_as_they_were_written(make_clip):
    form = PlaneFormat("bt709", bits=10, subsampling=(1, 2))
    source = VideoSource(make_clip(name="c.mkv", encoder="ffv1", form=form, options={}))
    assert source.info.form.subsampling == (1, 2) and source.info.form.bits == 10
    clip = Clip(form=form)
    for frame in source.frames():
        expected = levels_of(clip, frame.index, 0)
        assert all(torch.equal(*pair) for pair in zip(frame.levels, expected, strict=True))
    assert frame.index == 7 and source.fault is None


def test_frames_that_a_decoder_holds_back_come_too(make_clip):
    path = make_clip(frames=11, options={"crf": "20", "bf": "3"})
    frames = list(VideoSource(path).frames())
    assert [frame.pts * VideoSource(path).info.time_base for frame in frames] == stamps_of(path)
    assert len(frames) == 11


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_chroma_siting_is_read_from_the_stream(siting, encoder, make_clip):
    options = {"crf": "20"} | ({"x265-params": "log-level=none"} if encoder == "libx265" else {})
    path = make_clip(encoder=encoder, form=PlaneFormat("bt709", siting=siting), options=options)
    assert VideoSource(path).info.form.siting == siting


def test_an_interlaced_stream_is_told_and_made_progressive(make_clip):
    path = make_clip(options={"crf": "12", "flags": "+ilme+ildct", "x264-params": "tff=1"})
    source = VideoSource(path)
    assert source.info.is_interlaced
    frames = list(source.frames())
    assert len(frames) == 8 and [frame.pts * source.info.time_base for frame in frames] == stamps_of(path)
    assert source.was_deinterlaced
    kept = VideoSource(path, "off")
    assert len(list(kept.frames())) == 8 and not kept.was_deinterlaced


def test_frames_that_turn_interlaced_later_are_made_progressive_too(tmp_path, make_clip):
    interlaced = {"crf": "12", "flags": "+ilme+ildct", "x264-params": "tff=1"}
    parts = [make_clip(name="a.h264", frames=6), make_clip(name="b.h264", frames=6, options=interlaced)]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    planes = {}
    for wanted in ("auto", "off"):
        source = VideoSource(path, wanted)
        planes[wanted] = [frame.levels[0] for frame in source.frames()]
        assert not source.info.is_interlaced and len(planes[wanted]) == 12
    assert all(torch.equal(*pair) for pair in zip(planes["auto"][:6], planes["off"][:6], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(planes["auto"][7:], planes["off"][7:], strict=True))


def test_a_gif_is_a_video_and_tells_whether_it_is_transparent(tmp_path):
    images = [Image.new("RGB", (32, 24), (80 * index, 40, 200)) for index in range(3)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=80)
    clear = [Image.new("RGBA", (32, 24), (0, 0, 0, 0)) for _ in range(2)]
    for index, image in enumerate(clear):
        image.paste((255, 0, 0, 255), (index, 4, index + 8, 12))
    clear[0].save(tmp_path / "clear.gif", save_all=True, append_images=clear[1:], duration=80, disposal=2)
    for name, count, see_through in (("a.gif", 3, False), ("clear.gif", 2, True)):
        source = VideoSource(tmp_path / name)
        assert not source.info.has_alpha and source.info.is_see_through == see_through
        assert len(list(source.frames())) == count


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"Buy milk.\n" * 50, "is not a video"),
        ("art.ans", b"\x1b[31mred\n" * 50, "is not a video"),
        ("one.dat", "PNG", "is a picture, not a video; wanted fidelity upscale one.dat"),
        ("one.jpg", "JPEG", "is a picture, not a video"),
        ("one.webp", "WEBP", "is a picture, not a video"),
        ("film.webp", "animated WEBP", "animated WebP cannot be decoded here; convert it to GIF or to PNG frames first"),
    ],
)
def test_text_and_pictures_are_refused(name, content, told, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        frames = [Image.new("RGB", (32, 24), (80 * index, 40, 200)) for index in range(3)]
        animated = {"save_all": True, "append_images": frames[1:]} if content.startswith("animated") else {}
        frames[0].save(path, content.removeprefix("animated "), **animated)
    with pytest.raises(VideoRefusedError, match=f"{name}: {told}"):
        VideoSource(path)


@pytest.mark.parametrize(
    ("size", "codes", "encoder", "note", "detail"),
    [
        ((48, 64), (2, 2, 2), "libx264", "", "the file does not say its color matrix; BT.601 assumed"),
        ((48, 64), (2, 6, 6), "libx264", "", "the file does not say its color primaries; those of BT.601 (525 lines) assumed"),
        ((48, 64), (6, 6, 6), "libx264", "", ""),
        ((720, 1280), (2, 2, 2), "libx264", "", "the file does not say its color matrix; BT.709 assumed"),
        ((600, 1000), (2, 2, 2), "libx264", "color matrix; BT.709 assumed, which is often wrong for 1000x600", ""),
    ],
)
def test_a_guess_is_told_in_one_line_and_as_a_note_where_it_is_risky(size, codes, encoder, note, detail, make_clip):
    colors = VideoSource(make_clip(size=size, codes=codes, encoder=encoder, frames=1)).info.colors
    assert (note in "".join(colors.notes)) and bool(colors.notes) == bool(note)
    assert colors.details == ((detail,) if detail else ())


def test_a_cover_picture_is_no_video(tmp_path, make_clip):
    path = tmp_path / "cover.mp4"
    with av.open(str(make_clip(frames=2))) as given, av.open(str(path), "w") as made:
        cover = made.add_stream("png", rate=1)
        cover.height, cover.width, cover.pix_fmt = 8, 8, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        video = made.add_stream_from_template(given.streams.video[0], opaque=True)
        made.mux(cover.encode(av.VideoFrame(8, 8, "rgb24")))
        made.mux(cover.encode(None))
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                made.mux(packet)
    assert VideoSource(path).info.codec == "h264"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.mp4", b"", "not a video, or of no known format"),
        ("text.mp4", b"hello " * 100, "not a video, or of no known format"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(name, content, told, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoRefusedError, match=told) as refused:
        VideoSource(tmp_path / name)
    assert "\n" not in str(refused.value) and name in str(refused.value)


def test_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 48000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoRefusedError, match="has no video, only audio"):
        VideoSource(tmp_path / "sound.mp4")


def test_a_missing_file_and_a_folder_without_frames_are_refused(tmp_path):
    with pytest.raises(VideoRefusedError, match="no such file"):
        VideoSource(tmp_path / "none.mp4")
    with pytest.raises(VideoRefusedError, match="no videos and no PNG or TIFF frames in this folder"):
        VideoSource(tmp_path)


def test_a_size_that_changes_ends_the_frames_and_is_told(tmp_path, make_clip):
    parts = [make_clip(name=f"{size[0]}.ts", size=size, frames=4) for size in ((48, 64), (32, 64))]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    source = VideoSource(path)
    assert len(list(source.frames())) == 4
    assert source.fault == "frame 5 is 64x32; wanted 64x48, as the frames before it"


def test_time_that_jumps_back_ends_the_frames_and_is_told(tmp_path, make_clip):
    part = make_clip(name="part.ts", frames=30).read_bytes()
    (tmp_path / "both.ts").write_bytes(part + part)
    source = VideoSource(tmp_path / "both.ts")
    assert len(list(source.frames())) == 30
    assert source.fault and "jumps back by 1.1" in source.fault


def test_a_broadcasts_clock_is_left_out(make_clip):
    source = VideoSource(make_clip(name="clip.ts", container={"output_ts_offset": "100"}))
    assert source.late_start > 99
    first = next(iter(source.frames()))
    assert first.pts * source.info.time_base == pytest.approx(float(source.late_start), abs=0.05)


def test_a_folders_frames_have_the_given_rate(tmp_path):
    for number in (1, 2, 3):
        image = av.VideoFrame(16, 16, "rgb24").to_image()
        image.save(tmp_path / f"a%{number:02}.png")
    source = VideoSource(tmp_path, rate=Fraction(24))
    assert source.info.rate == 24 and source.info.frames == 3
    assert [frame.pts * source.info.time_base for frame in source.frames()] == [0, Fraction(1, 24), Fraction(2, 24)]


def test_a_folders_frames_come_in_the_order_of_their_numbers(tmp_path):
    for number, name in enumerate(["shot-1.PNG", "shot-2.png", "Shot-10.png", "shot-11.Png"]):
        Image.new("L", (20, 16), 40 * number).save(tmp_path / name, "PNG")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = VideoSource(tmp_path)
    assert [int(frame.levels[0][0, 0]) for frame in source.frames()] == [0, 40, 80, 120]
    (tmp_path / "shot-3.png").write_bytes(b"no picture")
    assert len(list(source.frames())) == 4
    source = VideoSource(tmp_path)
    assert (
        len(list(source.frames())) == 2
        and source.fault == "reading failed after 2 frames (shot-3.png cannot be read as an image)"
    )


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.ts"])
def test_a_later_part_is_found_without_decoding_all_before(make_clip, name):
    source = VideoSource(make_clip(name=name, frames=200, options={"crf": "30", "g": "20"}))
    whole = {frame.index: frame.pts for frame in source.frames()}
    part = list(source.frames(Fraction(6)))
    assert part[0].index == (0 if name == "long.ts" else 100)
    assert part[-1].index == 199 and source.fault is None
    assert all(whole[frame.index] == frame.pts for frame in part)


@pytest.mark.parametrize(
    "values", [("vp8",), ("h265", 60), ("ffv1", 10), ("h264", None, "brisk"), ("prores", None, None, "nvenc")]
)
def test_settings_that_a_codec_lacks_are_refused(values):
    with pytest.raises(ValueError, match="wanted"):
        Encoding(*values)


@pytest.mark.parametrize(
    ("codec", "form", "bits", "subsampling"),
    [
        ("h265", PlaneFormat(), 10, (2, 2)),
        ("h265", PlaneFormat(bits=12, subsampling=(1, 2)), 12, (1, 2)),
        ("h264", PlaneFormat(), 8, (2, 2)),
        ("h264", PlaneFormat(bits=12), 10, (2, 2)),
        ("av1", PlaneFormat(subsampling=(1, 1)), 10, (2, 2)),
        ("ffv1", PlaneFormat(bits=9), 10, (2, 2)),
        ("prores", PlaneFormat(), 10, (1, 2)),
        ("prores", PlaneFormat(subsampling=(1, 1)), 10, (1, 1)),
        ("h265", PlaneFormat(subsampling=(1, 4)), 10, (1, 2)),
    ],
)
def test_codecs_store_what_they_can_of_a_format(codec, form, bits, subsampling):
    fitting, notes = Encoding(codec).fit(form)
    assert (fitting.bits, fitting.subsampling) == (bits, subsampling)
    notes = [note for note in notes if "many devices" not in note]
    assert bool(notes) == (fitting.bits < form.bits or subsampling > form.subsampling)


@pytest.mark.parametrize(
    ("codec", "form", "told"),
    [
        ("h264", PlaneFormat(), None),
        ("h264", PlaneFormat(bits=10), "the result is 10-bit 4:2:0 H.264; many devices play only 8-bit 4:2:0"),
        (
            "h264",
            PlaneFormat(subsampling=(1, 1)),
            "the result is 8-bit 4:4:4 H.264; many devices play only 8-bit 4:2:0",
        ),
        ("h265", PlaneFormat(bits=10), None),
    ],
)
def test_h264_that_many_devices_do_not_play_is_told(codec, form, told):
    assert [note for note in Encoding(codec).fit(form)[1] if "devices" in note] == ([told] if told else [])


def test_sizes_fit_subsampled_chroma():
    assert fit_size((45, 61), PlaneFormat(), "h265") == (46, 62)
    assert fit_size((45, 61), PlaneFormat(subsampling=(1, 2)), "h265") == (45, 62)
    assert fit_size((45, 61), PlaneFormat(), "ffv1") == (45, 61)


def test_containers_know_their_codecs(make_clip, tmp_path):
    source = VideoSource(make_clip(name="c.mkv", frames=2, has_sound=True, has_subtitles=True))
    held = {name: choose_copied(source, tmp_path / f"out.{name}") for name in ("mp4", "mkv")}
    assert [one for one in held["mp4"].dropped if "SubRip" in one] and len(held["mp4"].kept) == 1
    assert len(held["mkv"].kept) == 2 and held["mkv"].dropped == ()


def test_frames_of_several_sizes_are_refused_before_any_work(tmp_path):
    for number, size in enumerate(((8, 6), (8, 6), (9, 6))):
        Image.new("RGB", size).save(tmp_path / f"f{number}.png")
    with pytest.raises(VideoRefusedError, match=r"has frames of several sizes \(9x6 in f2.png, 8x6 before\)"):
        VideoSource(tmp_path)


def test_side_data_that_pyav_has_no_name_for_is_done_without():
    class Frame:
        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    assert read_side_data(Frame()) == {}
