"""Compares the whole job, from file to file, with the host's own, alternating in one process.

Run it with the Python that runs ComfyUI:

    COMFYUI_PATH=/path/to/ComfyUI python -m tools.benchmarks.whole PHOTO [--megapixels 1 12] [--scales 2 4] [--rounds 3]

"host" reads a PNG, upscales it with the host's tiled path and saves a PNG, as its nodes do, with the shipped network for
photographs in float32. "ours" does what the command does by default, for a photograph that is not damaged: it also measures,
holds the colors, checks them and reports. Seconds are the least of the rounds, without the start of Python.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fidelity.choices import PrecisionChoice
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.job import FileOptions, upscale_file
from fidelity.networks.compute import Compute
from fidelity.networks.loader import list_models
from fidelity.report.report import Report
from fidelity.session import Session
from tools.benchmarks.speed import host_path, keep_fp32_exact

_PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "fp32")


def mirror(photo: np.ndarray, megapixels: float) -> Image.Image:
    """Enlarges a photograph to a number of megapixels by mirroring it, 4:3."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(width * 3 / 4)
    missing = [(0, max(0, side - own)) for side, own in zip((height, width), photo.shape, strict=False)]
    return Image.fromarray(np.pad(photo, [*missing, (0, 0)], mode="symmetric")[:height, :width])


def run_host(source: Path, output: Path, network: Path) -> None:
    """Reads, upscales and saves as the host's nodes do."""
    pixels = torch.from_numpy(np.array(Image.open(source).convert("RGB")).astype(np.float32) / 255)[None]
    result = host_path(pixels.movedim(-1, 1), network, torch.device("cpu"))()
    Image.fromarray((255 * result[0].numpy()).clip(0, 255).astype(np.uint8)).save(output, compress_level=4)


def describe(report: Report, whole: float) -> str:
    """The seconds of every step, and of all but the network and the files relative to the network."""
    steps: dict[str, float] = {}
    for one in report.passes:
        steps[one.kind] = steps.get(one.kind, 0.0) + one.seconds
    network = steps.pop("network")
    others = report.seconds - network
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items())
    return f"network {network:.2f}, {parts}, files and decisions {whole - report.seconds:.2f} | {others / network:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, help="an undamaged photograph, which is enlarged by mirroring")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0, 12.0])
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keep_fp32_exact()
    photo = np.array(Image.open(options.photo).convert("RGB"))
    shipped = list_models([])
    print("| source | | seconds | of the host's | steps | others / network |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        source, output = Path(name) / "source.png", Path(name) / "result.png"
        for megapixels in options.megapixels:
            mirror(photo, megapixels).save(source)
            for scale in options.scales:
                network = shipped[f"natural-x{scale}.safetensors"]
                sessions = {
                    precision: Session(
                        Settings(Target(scale=scale), domain="photo", restore="off"), Compute(precision=precision), shipped
                    )
                    for precision in _PRECISIONS
                }
                best: dict[str, tuple[float, str]] = {}
                for _ in range(options.rounds):
                    started = time.perf_counter()
                    run_host(source, output, network)
                    seconds = time.perf_counter() - started
                    best["host, fp32"] = min(best.get("host, fp32", (seconds, "| ")), (seconds, "| "))
                    for precision, session in sessions.items():
                        started = time.perf_counter()
                        report = upscale_file(source, output, session, FileOptions(existing="overwrite"))
                        seconds = time.perf_counter() - started
                        found = seconds, describe(report, seconds)
                        best[f"ours, {precision}"] = min(best.get(f"ours, {precision}", found), found)
                base = best["host, fp32"][0]
                for who, (seconds, steps) in best.items():
                    what = f"{megapixels:g} MP ×{scale}"
                    print(f"| {what} | {who} | {seconds:.2f} | {seconds / base:.2f} | {steps} |", flush=True)


if __name__ == "__main__":
    main()
