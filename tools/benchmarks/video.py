"""Times whole videos: this pack's pipeline, its network alone, and a plain loop of the same network; and memory by length.

    python -m tools.benchmarks.video [--frames 1000] [--size 640x360] [--codec h265] [--steady off]

A generated scene pans and turns. The plain loop decodes a frame to 8-bit RGB, runs the same network through spandrel in
float32, and encodes, one after another, with the same encoder and settings. It and the network alone are timed on the first 40
frames. Memory is the most that the command had, for 100 frames and for all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import psutil
import torch
from spandrel import ModelLoader

from fidelity.decide.model_choice import shipped_model
from fidelity.imaging.yuv import PlaneFormat, levels_to_planes
from fidelity.networks.compute import Compute
from fidelity.networks.loader import load_model
from fidelity.steps.upscale import upscale
from fidelity.video.codecs import Encoding
from fidelity.video.segments import to_video_frame
from fidelity.video.source import VideoSource
from tools.benchmarks import flicker

MIB = 2**20
TIMED = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--codec", default="h265")
    parser.add_argument("--preset", default=None)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--steady", default="auto")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "source.mp4", (height, width), options.frames)
        encoding = Encoding(options.codec, preset=options.preset)
        network = time_network(path, (2 * height, 2 * width), Compute(precision=options.precision, backend=options.backend))
        print(f"network alone            {network:7.2f} fps", flush=True)
        plain = time_plain_loop(path, Path(folder) / "plain.mp4", encoding)
        print(f"plain loop of it         {plain:7.2f} fps", flush=True)
        short = write(Path(folder) / "short.mp4", (height, width), min(100, options.frames))
        peaks: list[int] = []
        for one in (short, path):
            report = Path(folder) / "report.jsonl"
            report.unlink(missing_ok=True)
            command = [sys.executable, "-m", "fidelity", "video", str(one), "-o", str(one.with_suffix(".out.mp4"))]
            command += ["--domain", "photo", "--restore", "off", "--codec", options.codec, "--steady", options.steady]
            command += ["--precision", options.precision, "--backend", options.backend, "--report", str(report)]
            command += ["--encoder-preset", options.preset] if options.preset else []
            peaks.append(peak_of(command))
        made = json.loads(report.read_text().splitlines()[-1])
        fps, drift = made["frames_per_second"], made["drift"]
        print(
            f"fidelity video           {fps:7.2f} fps: {fps / network:.2f} of the network alone, {fps / plain:.2f} of the loop"
        )
        print(f"peak memory              {peaks[0] / MIB:.0f} MiB of 100 frames, {peaks[1] / MIB:.0f} MiB of {options.frames}")
        print(f"color drift              mean {drift['mean']:.3f}, largest {drift['max']:.2f} CIEDE2000")


def peak_of(command: list[str]) -> int:
    """Runs a command and returns the most memory that it had, in bytes."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, process.memory_info().rss)
        time.sleep(0.1)
    return peak


def write(path: Path, size: tuple[int, int], count: int) -> Path:
    """A generated scene whose motion turns back every 48 frames, so that it stays in view."""
    form = PlaneFormat("bt709")
    frames = list(flicker.generate("natural", "pan", 0, min(48, count), size))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "14"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1
        for index in range(count):
            place = index % (2 * len(frames))
            frame = to_video_frame(frames[min(place, 2 * len(frames) - 1 - place)], form)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def time_network(path: Path, target: tuple[int, int], compute: Compute) -> float:
    """Frames per second of the network on decoded luma."""
    source = VideoSource(path)
    lumas = []
    for frame in source.frames():
        lumas.append(levels_to_planes(frame.levels, source.info.form).luma.clamp(0, 1))
        if len(lumas) == TIMED:
            break
    network = load_model(shipped_model("natural", 2))
    upscale(lumas[0], network, target, "luma", compute)
    started = time.perf_counter()
    for luma in lumas:
        upscale(luma, network, target, "luma", compute)
    return len(lumas) / (time.perf_counter() - started)


def time_plain_loop(path: Path, output: Path, encoding: Encoding) -> float:
    """Frames per second of a loop that does one thing after another."""
    network = ModelLoader().load_from_file(shipped_model("natural", 2)).model.eval()
    with av.open(str(path)) as given, av.open(str(output), "w") as made, torch.inference_mode():
        video = given.streams.video[0]
        stream = made.add_stream(encoding.encoder_name, rate=25, options={"crf": "18", "preset": encoding.preset or "medium"})
        stream.height, stream.width, stream.pix_fmt = 2 * video.height, 2 * video.width, "yuv420p10le"
        started, count = time.perf_counter(), 0
        for frame in given.decode(video):
            image = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0)[None].float() / 255
            result = (network(image)[0].clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous().numpy()
            made.mux(stream.encode(av.VideoFrame.from_ndarray(result, format="rgb24")))
            count += 1
            if count == TIMED:
                break
        made.mux(stream.encode(None))
        return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
