"""Compares time and peak memory of a super-resolution pass with the host's tiled path, alternating in one process.

Run it with the Python that runs ComfyUI:

    COMFYUI_PATH=/path/to/ComfyUI python -m tools.benchmarks.speed MODEL.safetensors --size 960x540 --rounds 3

Options: --precisions fp32 bf16 int8, --backends torch openvino onnxruntime, --channels rgb luma.

"host" is what ComfyUI's "Upscale Image (using Model)" does: tiles of 512 px with 32 px overlap in float32.
"ours" is the same network on the same image, without the other steps: "rgb" runs it on all three channels, "luma" runs it on
luma only and adds the color differences. Ratios are medians over the rounds. Memory is the peak growth of the process. TF32 is
off, so fp32 means full float32 for all. The time of "ours" includes copying the network to the device; the host's network is
already there.
"""

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch

from fidelity.networks.compute import Compute
from fidelity.networks.loader import load_model
from fidelity.networks.runner import Runner
from fidelity.report.memory import MemoryWatch
from fidelity.steps.upscale import upscale


def keep_fp32_exact() -> None:
    """Switches TF32 off, which cuDNN otherwise uses for float32 by default."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def measure(work: Callable[[], torch.Tensor], device: torch.device) -> tuple[float, int]:
    """Measures seconds and peak memory growth in bytes, including the result."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
    with MemoryWatch(device) as watch:
        started = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    del result
    return seconds, watch.peak_bytes


def load_host(device: torch.device) -> None:
    """Makes `comfy` importable and sets its device."""
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    arguments, sys.argv = sys.argv, [sys.argv[0], *([] if device.type == "cuda" else ["--cpu"])]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_management

    sys.argv = arguments


def host_path(image: torch.Tensor, model: Path, device: torch.device) -> Callable[[], torch.Tensor]:
    """ComfyUI's tiled upscale, called as its node does, using only public functions."""
    load_host(device)
    import comfy.model_management
    import comfy.utils
    from spandrel import ImageModelDescriptor, ModelLoader

    network = ModelLoader().load_from_file(model).eval().to(device)
    assert isinstance(network, ImageModelDescriptor)

    def work() -> torch.Tensor:
        result = comfy.utils.tiled_scale(
            image.to(device),
            lambda tile: network(tile.float()),
            tile_x=512,
            tile_y=512,
            overlap=32,
            upscale_amount=network.scale,
            output_device=comfy.model_management.intermediate_device(),
        )
        return torch.clamp(result.movedim(-3, -1), min=0, max=1.0)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--size", default="960x540", help="WIDTHxHEIGHT of the source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tile", type=int, default=None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--backends", nargs="+", default=["torch"])
    parser.add_argument("--channels", nargs="+", default=["rgb", "luma"])
    options = parser.parse_args()
    keep_fp32_exact()
    device = torch.device(options.device)
    width, height = (int(part) for part in options.size.split("x"))
    torch.manual_seed(0)
    # The host stores images as (B, H, W, C); permuted, they are channels_last, as in a node.
    image = torch.rand(1, height, width, 3).movedim(-1, 1)
    model = load_model(options.model)
    with torch.inference_mode():
        contenders = {"host fp32": host_path(image, options.model, device)}
        for backend, precision, channels in product(options.backends, options.precisions, options.channels):

            def work(backend: Any = backend, precision: Any = precision, channels: Any = channels) -> torch.Tensor:
                compute = Compute(device, precision, options.tile, backend=backend)
                return upscale(image, model, None, channels, compute).image

            used = Runner(model, device, precision, backend=backend).precision
            if used == precision:  # not every library computes in each
                contenders[f"ours {backend} {precision} {channels}"] = work
        rows: dict[str, list[tuple[float, int]]] = {name: [] for name in contenders}
        for turn in range(options.rounds + 1):
            for name, work in contenders.items():
                figures = measure(work, device)
                if turn:  # the first turn is a warm-up
                    rows[name].append(figures)
    base = next(iter(rows.values()))
    print(f"{model.name}, {width}x{height} x{model.scale}, {device}, {options.rounds} rounds, torch {torch.__version__}")
    print(f"{'':<30}{'seconds':>9}{'ratio':>8}{'MiB':>9}{'ratio':>8}")
    for name, row in rows.items():
        seconds = statistics.median(figure[0] for figure in row)
        peak = statistics.median(figure[1] for figure in row)
        time_ratio = statistics.median(own[0] / other[0] for own, other in zip(row, base, strict=True))
        memory_ratio = statistics.median(own[1] / other[1] for own, other in zip(row, base, strict=True))
        print(f"{name:<30}{seconds:>9.2f}{time_ratio:>8.2f}{peak / 2**20:>9.0f}{memory_ratio:>8.2f}")


if __name__ == "__main__":
    main()
