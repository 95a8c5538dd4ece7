"""Time, memory and arithmetic of every architecture at its real size, ours against others' ways of running it, in turns.

    COMFYUI_PATH=/path/to/ComfyUI python -m benchmarks.architectures --size 160x120 [--names RCAN HAT] [--device cuda]
        [--precisions fp32 bf16] [--compile] [--output benchmarks/results/cpu.md]

Weights are random: they cost what trained ones do. "host" is what ComfyUI's node does (tiles of 512, 32 overlapping, fp32);
"plain" the network called on the whole image through spandrel; "tiles" fixed tiles of 256 with 16 pixels of context, as
upscaling programs do; "compiled" is plain after torch.compile. Ratios are medians against plain fp32. TFLOP/s count the
network's own multiplications and additions, once each, also where tiles compute some twice; "peak" is their share of a matrix
product in the same precision on the same device.
"""

import argparse
import math
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import spandrel
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DAT import DAT
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.RealCUGAN import UpCunet4x
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import host_path, measure
from fidelity.models.architectures.edsr import EDSR
from fidelity.models.architectures.espcn import ESPCN
from fidelity.models.architectures.ffdnet import FFDNet
from fidelity.models.architectures.lapsrn import LapSRN
from fidelity.models.architectures.waifu2x import CUNet, UpConv7
from fidelity.models.loader import SHIPPED_WEIGHTS, Model, accept_rgb, load_model
from fidelity.steps.upscale import upscale

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "Compact": lambda: Compact(num_feat=64, num_conv=16, upscale=4),
    "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=4),
    "PLKSR": lambda: PLKSR(dim=64, n_blocks=28, upscaling_factor=4),
    "RealPLKSR": lambda: RealPLKSR(dim=64, n_blocks=28, upscaling_factor=4),
    "EDSR baseline": lambda: EDSR(4, 64, 16, 1.0),
    "EDSR": lambda: EDSR(4, 256, 32, 0.1),
    "RCAN": lambda: RCAN(scale=4),
    "RealESRGAN": lambda: ESRGAN(num_filters=64, num_blocks=23, scale=4),
    "SwinIR-M": lambda: SwinIR(
        img_size=64,
        embed_dim=180,
        depths=[6] * 6,
        num_heads=[6] * 6,
        window_size=8,
        upscale=4,
        upsampler="pixelshuffle",
        mlp_ratio=2,
    ),
    "HAT": lambda: HAT(
        img_size=64, embed_dim=180, depths=(6,) * 6, num_heads=(6,) * 6, window_size=16, upscale=4, mlp_ratio=2.0
    ),
    "DAT": lambda: DAT(
        img_size=64, embed_dim=180, depth=[6] * 6, num_heads=[6] * 6, split_size=[8, 32], expansion_factor=4.0, upscale=4
    ),
    "RealCUGAN": UpCunet4x,
    "waifu2x upconv_7": lambda: UpConv7(3, (16, 32, 64, 128, 128, 256)),
    "waifu2x cunet": lambda: CUNet(3),
    "LapSRN": lambda: LapSRN(2, 64, [10, 10]),
    "ESPCN": lambda: ESPCN(4, 1, (64, 32), (5, 3, 3)),
    "SCUNet": lambda: SCUNet(config=[4] * 7, dim=64),
    "DnCNN": lambda: DnCNN(in_nc=1, out_nc=1, nc=64, nb=17, act_mode="R"),
    "FFDNet": lambda: FFDNet(3, 96, 12),
}
"""By name, at the size that their papers or best known weights have; the shipped one comes first by itself."""

_PUBLISHED = {
    "ESPCN": (("layers.0", "first_part.0"), ("layers.2", "first_part.2"), ("layers.4", "last_part.0")),
    "LapSRN": tuple(
        (f"{ours}.{level}.", f"{theirs}{level + 1}.")
        for ours, theirs in (("features", "convt_F"), ("residuals", "convt_R"), ("images", "convt_I"))
        for level in range(2)
    ),
}
"""Parameter names that differ in published files, ours first."""
_LONG_S = 20
"""Beside so many seconds, what a first call costs more than the next is nothing."""
_PEAK_SIDE = {"cpu": 2048, "cuda": 8192}
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(name: str, folder: Path) -> Model:
    """A network of random weights, by way of a file, as users have it."""
    if name == "shipped":
        return load_model(SHIPPED_WEIGHTS / "natural-x4.safetensors")
    torch.manual_seed(0)
    state = NETWORKS[name]().state_dict()
    for ours, theirs in _PUBLISHED.get(name, ()):
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    return accept_rgb(load_model(path))


def in_tiles(network: Callable[[Tensor], Tensor], image: Tensor, scale: int, tile: int = 256, context: int = 16) -> Tensor:
    """Fixed tiles, each with some context that is cut off."""
    height, width = image.shape[2:]
    result = torch.empty(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            start = max(0, top - context), max(0, left - context)
            part = image[:, :, start[0] : top + tile + context, start[1] : left + tile + context]
            made = network(part)
            inner = made[:, :, (top - start[0]) * scale :, (left - start[1]) * scale :][:, :, : tile * scale, : tile * scale]
            area = (slice(top * scale, top * scale + inner.shape[2]), slice(left * scale, left * scale + inner.shape[3]))
            result[:, :, area[0], area[1]] = inner.cpu()
    return result


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications and additions a second of a large matrix product.

    Computed in two ways: on some processors the linear algebra library has half the speed of the convolutions' library.
    """
    side = _PEAK_SIDE.get(device.type, 2048)
    first, second = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    pixels = first.reshape(1, 32, side // 32, side).movedim(-1, 1)  # channels last
    kernels = second.reshape(side, side, 1, 1)
    ways: tuple[Callable[[], Tensor], ...] = (lambda: first @ second, lambda: torch.conv2d(pixels, kernels))
    times: list[float] = []
    for way in ways:
        for _ in range(12):
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return 2 * side**3 / min(times)


def count_flops(model: Model) -> float:
    """Multiplications and additions for each pixel of an input of 64 x 64."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.descriptor(torch.rand(1, 3, 64, 64))
    return counter.get_total_flops() / 64**2


def contenders(model: Model, image: Tensor, device: torch.device, options: Any) -> Mapping[str, Callable[[], Tensor]]:
    """Ways of running a network, by name, the one that all are compared with first."""
    whole = model.descriptor.to(device)
    found: dict[str, Callable[[], Tensor]] = {
        "plain fp32": lambda: whole(image.to(device)).cpu(),
        "tiles fp32": lambda: in_tiles(lambda part: whole(part.to(device)), image, model.scale),
    }
    if options.host:
        found["host fp32"] = host_path(image, whole, device)
    for precision in options.precisions:
        found[f"ours {precision}"] = lambda precision=precision: upscale(
            image, model, None, "rgb", device, precision
        ).image.cpu()
    if options.compile:
        compiled = torch.compile(whole.model)
        found["compiled fp32"] = lambda: compiled(image.to(device)).cpu()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="160x120", help="WIDTHxHEIGHT of the source")
    parser.add_argument("--names", nargs="+", default=["shipped", *NETWORKS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--no-host", dest="host", action="store_false")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", type=Path, help="a Markdown file for the table")
    options = parser.parse_args()
    device = torch.device(options.device)
    width, height = (int(part) for part in options.size.split("x"))
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0)).movedim(-1, 1)
    peaks = {name: peak_flops(device, dtype) for name, dtype in _TYPES.items() if name in ("fp32", *options.precisions)}
    machine = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    lines = [
        f"# {width}x{height}, {device.type}",
        "",
        f"{machine}; Python {platform.python_version()}, torch {torch.__version__}, spandrel {spandrel.__version__}; median of "
        f"{options.rounds} rounds; matrix products reach "
        + ", ".join(f"{rate / 1e12:.2f} TFLOP/s ({name})" for name, rate in peaks.items())
        + ".",
        "",
        f"`python -m benchmarks.architectures {' '.join(sys.argv[1:])}`",
        "",
        "| network | parameters, M | FLOP a pixel, M | way | seconds | ratio | MiB | TFLOP/s | of peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            rows = run(name, image, device, options, peaks, Path(folder))
            print("\n".join(rows), flush=True)
            lines += rows
    if options.output:
        options.output.write_text("\n".join(lines) + "\n")


def run(name: str, image: Tensor, device: torch.device, options: Any, peaks: Mapping[str, float], folder: Path) -> list[str]:
    """The lines of the table for one network; what fails is told."""
    try:
        model = build(name, folder)
        flops = count_flops(model) * image.shape[2] * image.shape[3]
        seen: dict[str, list[tuple[float, int]]] = {}
        failed: dict[str, str] = {}
        with torch.inference_mode():
            ways = contenders(model, image, device, options)
            for turn in range(options.rounds + 1):  # the first warms up, and counts where it took long
                for way, work in ways.items():
                    if way in failed or len(seen.get(way, ())) == options.rounds:
                        continue
                    try:
                        figures = measure(work, device)
                    except (RuntimeError, ValueError) as error:
                        failed[way] = str(error).splitlines()[0][:80]
                        continue
                    if turn or figures[0] > _LONG_S:
                        seen.setdefault(way, []).append(figures)
    except (RuntimeError, ValueError) as error:
        return [f"| {name} | | | | {str(error).splitlines()[0][:80]} | | | | |"]
    parameters = sum(parameter.numel() for parameter in model.descriptor.model.parameters()) / 1e6
    base = seen.get("plain fp32", [])
    rows: list[str] = []
    for way, figures in seen.items():
        seconds, memory = (statistics.median(figure[index] for figure in figures) for index in (0, 1))
        pairs = zip(figures, base, strict=False)
        ratio = statistics.median(own[0] / other[0] for own, other in pairs) if base else math.nan
        rate, peak = flops / seconds, peaks[way.split()[-1]]
        head = f"| {name} | {parameters:.2f} | {flops / image[0, 0].numel() / 1e6:.2f} |" if not rows else "| | | |"
        told = f"{seconds:.3g} | {ratio:.2f} | {memory / 2**20:.0f} | {rate / 1e12:.2f} | {100 * rate / peak:.0f} %"
        rows.append(f"{head} {way} | {told} |")
    return rows + [f"| | | | {way} | {words} | | | | |" for way, words in failed.items()]


if __name__ == "__main__":
    main()
