"""Nodes for videos: what a file holds, and enlarging it as a stream, so that memory does not grow with its length."""

import json
import shutil
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from comfy_api.latest import InputImpl, io

from ..fidelity.choices import DEFAULT_CRF, BackendChoice, HdrChoice, SteadyChoice, VideoCodec
from ..fidelity.decide.settings import Settings
from ..fidelity.networks.compute import Compute
from ..fidelity.session import Session
from ..fidelity.video.codecs import Encoding
from ..fidelity.video.job import VIDEO_SCALE, upscale_video
from ..fidelity.video.options import VideoOptions, Window
from ..fidelity.video.records import describe_info, summarize_video
from ..fidelity.video.source import VideoSource, show_first_frame
from . import host
from .choosing import choosing_inputs
from .restoration import read_strength, restoration_inputs
from .target import read_target, target_input

_SUFFIXES: dict[VideoCodec, str] = {"h265": ".mp4", "h264": ".mp4", "av1": ".mp4", "ffv1": ".mkv", "prores": ".mov"}
_AUTO_CRF = -1
_FOREVER = Fraction(10**9)


class FidelityLoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityLoadVideo",
            display_name="Load Video (Fidelity)",
            category=host.CATEGORY,
            description="Opens a video without reading it into memory, and tells what it holds: size, rate, codec, color tags, "
            "high dynamic range, interlacing. Wire it into Video Upscale (Fidelity) or any node that takes a video.",
            search_aliases=["load video", "open video", "video info", "mp4", "mkv", "mov"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Combo.Input(
                    "file",
                    options=host.list_input_videos(),
                    upload=io.UploadType.video,
                    tooltip="A video in ComfyUI's input folder.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The video; it is read as a stream."),
                io.Image.Output(display_name="first_frame", tooltip="Its first frame, to judge settings on."),
                io.String.Output(display_name="info", tooltip="What the file holds, as JSON."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **_others: object) -> str:
        """See `host.fingerprint_file`."""
        return host.fingerprint_file(file)

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """See `host.check_file`."""
        return host.check_file(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        source = VideoSource(host.input_path(file))
        facts = describe_info(source.info)
        shown = host.show_result(cls, "\n".join(facts.lines()))
        image = host.to_host(show_first_frame(source))
        return io.NodeOutput(InputImpl.VideoFromFile(str(source.path)), image, json.dumps(facts.to_json(), indent=1), ui=shown)


class FidelityVideoUpscale(host.ChoosingNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FidelityVideoUpscale",
            display_name="Video Upscale (Fidelity)",
            category=host.CATEGORY,
            description="Enlarges a video of any length: decodes, enlarges and encodes as a stream, decides domain and "
            "restoration scene by scene, keeps every time stamp, color tag and the sound, and measures the color drift of "
            "every frame.",
            search_aliases=["video", "upscale video", "enlarge video", "anime", "4k", "clip", "hdr", "flicker", "film"],
            hidden=host.WORKFLOW_INPUT,
            inputs=[
                io.Video.Input("video", tooltip="From Load Video or any node; of a trimmed one, the part that is left."),
                target_input(VIDEO_SCALE),
                *choosing_inputs("Type of the pictures, which decides everything else. auto: detected for each scene."),
                *restoration_inputs("with an installed 1x model or else the shipped one", advanced=True),
                io.Combo.Input(
                    "codec",
                    options=list(get_args(VideoCodec)),
                    default="h264",
                    tooltip="What the result is encoded as. h264 plays everywhere; h265 and av1 are smaller and store 10 bits; "
                    "ffv1 is lossless; prores is for editing.",
                ),
                io.Int.Input(
                    "crf",
                    default=_AUTO_CRF,
                    min=_AUTO_CRF,
                    max=63,
                    advanced=True,
                    tooltip="Quality of h264, h265 and av1: lower is better and larger. -1: "
                    + ", ".join(f"{name} {quality}" for name, quality in DEFAULT_CRF.items())
                    + ".",
                ),
                io.Combo.Input(
                    "steady",
                    options=list(get_args(SteadyChoice)),
                    default="auto",
                    advanced=True,
                    tooltip="Steadies added detail along the motion, against flicker. auto: where OpenCV is installed "
                    "(pip install opencv-contrib-python-headless).",
                ),
                io.Combo.Input(
                    "hdr",
                    options=list(get_args(HdrChoice)),
                    default="auto",
                    advanced=True,
                    tooltip="High dynamic range (PQ, HLG): auto and keep preserve it; sdr maps it to BT.709.",
                ),
                io.Boolean.Input(
                    "skip_duplicates",
                    default=False,
                    advanced=True,
                    tooltip="Reuses the result where a frame differs from the last by compression only, as in animation.",
                ),
                host.backend_input(),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The finished video, in ComfyUI's folder for temporary files."),
                io.String.Output(display_name="report", tooltip="A JSON object per line: frames, scenes, a summary."),
            ],
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        domain: Any,
        model_name: str,
        restore: Any,
        restore_strength: float,
        codec: Any,
        crf: int,
        steady: Any,
        hdr: Any,
        skip_duplicates: bool,
        backend: BackendChoice = "auto",
        target: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        strength = read_strength(restore_strength)
        settings = Settings(read_target(target), domain, model_name, restore=restore, restore_strength=strength)
        encoding = Encoding(codec, None if crf == _AUTO_CRF else crf)
        session = Session(settings, Compute(host.compute_device(), backend=backend), host.list_upscale_models())
        folder = host.temporary_folder()
        options = VideoOptions(encoding, hdr, near_repeats=skip_duplicates, steady=steady, window=_window_of(video), drop=True)
        try:
            output = folder / f"upscaled{_SUFFIXES[encoding.codec]}"
            made = upscale_video(_file_of(video, folder), output, session, options, host.track_stages())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        report = "\n".join(json.dumps(line) for line in made.lines())
        return io.NodeOutput(InputImpl.VideoFromFile(str(output)), report, ui=host.show_result(cls, summarize_video(made)))


def _file_of(video: Any, folder: Path) -> Path:
    """The file of a video; one that exists only in memory is written first, at the host's best quality."""
    path = folder / "source.mp4"
    if type(video).__name__ == "VideoFromFile":
        stream = video.get_stream_source()
        if not isinstance(stream, BytesIO):
            return Path(stream)
        path.write_bytes(stream.getvalue())
    else:
        video.save_to(str(path), crf=0)
    return path


def _window_of(video: Any) -> Window | None:
    """The part that a trimmed video stands for."""
    if type(video).__name__ != "VideoFromFile":
        return None
    start, seconds = video.get_active_trim_window()
    if not start and not seconds:
        return None
    length = seconds or max(0.0, video.get_duration())  # of a trimmed video, what is left of it
    return Window(Fraction(start), Fraction(length) or _FOREVER)
