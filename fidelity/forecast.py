"""What an enlargement will take on this machine: seconds and memory, measured rather than believed."""

import math
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from .decide.decision import Decision
from .decide.model_choice import estimate_seconds, shipped_model
from .decide.settings import Settings
from .job import upscale_file
from .networks.compute import Compute
from .networks.measurements import read_speeds, write_speeds
from .networks.threads import on_free_cores
from .report.report import Forecast
from .session import Session

_SIDE_PX, _WARM_UP_PX = 384, 64
_SCALES = (2, 4)
_TIMES = 4.0


@on_free_cores()
def forecast(decision: Decision, compute: Compute, channels: int = 3, starts: bool = False) -> Forecast:
    """Estimates what a decision will take, from small test runs on this machine.

    Args:
        decision: What will be done to an image that this process has read.
        compute: Where and how it will run.
        channels: The image's.
        starts: Whether the time that this process has taken so far counts, since another one will do the same.
    """
    began, process = time.time(), psutil.Process()
    held = process.memory_info().rss - 4 * channels * math.prod(decision.source)  # without the image, which the plan counts
    pixels, result = (height * width for height, width in (decision.source, decision.target))
    networks = estimate_seconds(decision.planned, compute)
    per_source, per_result = measure_steps(compute.device or torch.device("cpu"))
    started = began - process.create_time() if starts else 0.0
    return Forecast(tuple(networks), per_source * pixels + per_result * result, max(0.0, started), max(0, held))


@cache
def measure_steps(device: torch.device) -> tuple[float, float]:
    """Measures what surrounds the networks of a photograph without damage, files included.

    A small picture is enlarged by 2 and by 4; what the networks took is subtracted. The figures are stored in the user's cache
    folder by device, thread count and PyTorch version. The first few processes measure again and the lowest counts, so that a
    figure from a busy moment does not last.

    Returns:
        Seconds per pixel of the source, and per pixel of the result.
    """
    compute = Compute(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    key = f"steps | {where} | {torch.get_num_threads()} threads | {torch.__version__}"
    known, names = read_speeds(), [f"{key} | x{scale}" for scale in _SCALES]
    times = known.get(f"{key} | times", 0.0)
    seconds = [known.get(name, math.inf) for name in names]
    if times < _TIMES or math.inf in seconds:
        with tempfile.TemporaryDirectory() as folder:
            _enlarge(Path(folder), _WARM_UP_PX, 2, compute)
            now = [_enlarge(Path(folder), _SIDE_PX, scale, compute) / _SIDE_PX**2 for scale in _SCALES]
        seconds = list(map(min, seconds, now))
        write_speeds({**dict(zip(names, seconds, strict=True)), f"{key} | times": times + 1})
    per_result = max(0.0, (seconds[1] - seconds[0]) / (_SCALES[1] ** 2 - _SCALES[0] ** 2))
    return max(0.0, seconds[0] - _SCALES[0] ** 2 * per_result), per_result


def _enlarge(folder: Path, side_px: int, scale: int, compute: Compute) -> float:
    """Enlarges a picture of noise that is coarse and fine; returns the seconds beside the networks'."""
    source = folder / f"{side_px}.png"
    draw = np.random.default_rng(0)
    coarse = Image.fromarray(draw.integers(0, 256, (side_px // 16, side_px // 16, 3), np.uint8))
    picture = np.asarray(coarse.resize((side_px, side_px), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(picture + draw.integers(-3, 4, picture.shape), 0, 255)
    Image.fromarray(noisy.astype(np.uint8)).save(source)
    path = shipped_model("natural", scale)
    session = Session(Settings(domain="photo", model=path.name, restore="off"), compute, {path.name: path})
    began = time.perf_counter()
    report = upscale_file(source, folder / f"{side_px}-x{scale}.png", session)
    networks = sum(one.seconds for one in report.passes if one.kind == "network")
    return max(1e-9, time.perf_counter() - began - networks)
