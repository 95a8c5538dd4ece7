"""Compares ways of running every architecture at its real size: time, memory and throughput, measured alternately.

    COMFYUI_PATH=/path/to/ComfyUI python -m tools.benchmarks.architectures --size 160x120 [--names RCAN HAT] [--device cuda]
        [--precisions fp32 bf16] [--compile] [--all-ways] [--output tools/benchmarks/results/cpu.md]

Weights are random; they cost as much as trained ones. "host" is what ComfyUI's node does (tiles of 512 px with 32 px overlap,
fp32); "plain" calls the network on the whole image through spandrel; "tiles" uses fixed tiles of 256 px with 16 px of context,
as upscaling programs do; "compiled" is plain after torch.compile. All of these get the image in the host's layout, which is
channels_last. On CUDA, or with --all-ways, plain also runs in the requested half precisions, with channels_last weights and
with a contiguous image. On CUDA it also runs in TF32, which is off everywhere else, so fp32 means full float32.

The time of "ours" includes copying the network to the device; for the others it is already there. Ratios are medians against
plain fp32 within the same turn. TFLOP/s counts every multiplication and addition of the network on an image of that size once,
even if tiles compute some of them twice. "of peak" is the share of the rate that a matrix product reaches in the same precision
on the same device.
"""

import argparse
import copy
import math
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
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

from fidelity.files.paths import one_line
from fidelity.networks.architectures.edsr import EDSR
from fidelity.networks.architectures.espcn import ESPCN
from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.architectures.fsrcnn import FSRCNN
from fidelity.networks.architectures.lapsrn import LapSRN
from fidelity.networks.architectures.waifu2x import VGG7, CUNet, UpConv7
from fidelity.networks.backends.torch import DTYPES, TorchNetwork
from fidelity.networks.compute import Compute
from fidelity.networks.descriptors import accept_rgb
from fidelity.networks.device import list_precisions
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.steps.upscale import upscale
from tools.benchmarks.speed import host_path, keep_fp32_exact, measure

Figures = tuple[float, int]
"""Seconds and bytes of one run."""


def fsrcnn() -> FSRCNN:
    """FSRCNN at x4. The loader infers the scale on flat images, which must stay flat: last features of 1, a tent kernel."""
    network = FSRCNN(4, 1, 56, 12, 4)
    tent = 1 - (torch.arange(9.0) - 4).abs() / 4
    with torch.no_grad():
        network.expand[0].weight.zero_()
        network.expand[0].bias.fill_(1)
        network.deconv.weight.copy_(torch.outer(tent, tent) * 0.5 / 56)
        network.deconv.bias.zero_()
    return network


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
    "waifu2x vgg_7": lambda: VGG7(3),
    "waifu2x cunet": lambda: CUNet(3),
    "LapSRN": lambda: LapSRN(2, 64, [10, 10]),
    "ESPCN": lambda: ESPCN(4, 1, (64, 32), (5, 3, 3)),
    "FSRCNN": fsrcnn,
    "SCUNet": lambda: SCUNet(config=[4] * 7, dim=64),
    "DnCNN": lambda: DnCNN(in_nc=1, out_nc=1, nc=64, nb=17, act_mode="R"),
    "FFDNet": lambda: FFDNet(3, 96, 12),
}
"""Networks by name, with the size in their papers or of their best-known weights."""

_PUBLISHED = {
    "FSRCNN": (("extract.", "feature_extraction."),),
    "ESPCN": (("layers.0", "first_part.0"), ("layers.2", "first_part.2"), ("layers.4", "last_part.0")),
    "LapSRN": tuple(
        (f"{ours}.{level}.", f"{theirs}{level + 1}.{inner}")
        for ours, theirs, inner in (("features", "convt_F", "0."), ("residuals", "convt_R", ""), ("images", "convt_I", ""))
        for level in range(2)
    ),
}
"""Parameter names that differ in published files: (ours, theirs)."""
_LONG_S = 20
"""For runs longer than this, in seconds, the extra cost of the first call is negligible."""
_PEAK_SIDE = {"cpu": 2048, "cuda": 8192}


def build(name: str, folder: Path) -> TorchNetwork:
    """Builds a network with random weights and loads it from a file, as users do."""
    if name == "shipped":
        return _load(SHIPPED_WEIGHTS / "natural-x4.safetensors")
    torch.manual_seed(0)
    state = NETWORKS[name]().state_dict()
    for ours, theirs in _PUBLISHED.get(name, ()):
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    path = folder / f"{name.replace(' ', '-')}.safetensors"
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    return _load(path)


def _load(path: Path) -> TorchNetwork:
    network = load_model(path)
    assert isinstance(network, TorchNetwork)
    return network


def in_tiles(network: Callable[[Tensor], Tensor], image: Tensor, scale: int, tile: int = 256, context: int = 16) -> Tensor:
    """Runs a network on fixed tiles, each with some context that is cropped off."""
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
    """Multiplications and additions per second of a large matrix product.

    Measured in two ways, since on some processors the linear algebra library is half as fast as the convolution library.
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
            if times[-1] > 1:  # such as float16 on most processors
                break
    return 2 * side**3 / min(times)


@contextmanager
def allowing_tf32() -> Generator[None, None, None]:
    """Allows float32 products in TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        keep_fp32_exact()


def measure_peaks(device: torch.device, names: list[str]) -> dict[str, float]:
    """Measures `peak_flops` for each precision by name."""
    peaks: dict[str, float] = {}
    for name in names:
        with allowing_tf32() if name == "tf32" else nullcontext():
            peaks[name] = peak_flops(device, DTYPES.get(name, torch.float32))
    return peaks


def copy_network(model: TorchNetwork, **kind: Any) -> Any:
    """Copies a model's descriptor and network to another device, dtype or memory format."""
    whole = accept_rgb(model)
    descriptor = copy.copy(whole)
    descriptor._model = copy.deepcopy(whole.model).to(**kind)  # spandrel has no public API for this
    return descriptor


def count_flops(model: TorchNetwork, size: tuple[int, int]) -> float:
    """Counts the network's multiplications and additions for an image of (height, width), including padding.

    Nothing is computed. Only a network that needs actual values runs, on 64x64 px, and its count is scaled by the area.
    """
    network, channels = model.descriptor.model, model.channels_in
    padding = model.descriptor.size_requirements.get_padding(size[1], size[0])
    whole = (size[0] + padding[1], size[1] + padding[0])
    with torch.no_grad():
        try:
            with FlopCounterMode(display=False) as counter:
                copy.deepcopy(network).to("meta")(torch.empty(1, channels, *whole, device="meta"))
            return counter.get_total_flops()
        except (RuntimeError, NotImplementedError):
            with FlopCounterMode(display=False) as counter:
                network(torch.rand(1, channels, 64, 64))
            return counter.get_total_flops() / 64**2 * size[0] * size[1]


def contenders(model: TorchNetwork, image: Tensor, device: torch.device, options: Any) -> Mapping[str, Callable[[], Tensor]]:
    """Ways of running a network by name; the second word of a name is the precision. The baseline comes first."""
    whole = accept_rgb(model).to(device)
    found: dict[str, Callable[[], Tensor]] = {
        "plain fp32": lambda: whole(image.to(device)).cpu(),
        "tiles fp32": lambda: in_tiles(lambda part: whole(part.to(device)), image, model.scale),
    }
    if options.all_ways:
        found |= more_plain_ways(model, image, device, options.precisions)
    if options.host:
        found["host fp32"] = host_path(image, whole, device)
    for precision in options.precisions:
        compute = Compute(device, precision)
        found[f"ours {precision}"] = lambda compute=compute: upscale(image, model, None, "rgb", compute).image.cpu()
    if options.compile:
        compiled = torch.compile(whole.model)
        found["compiled fp32"] = lambda: compiled(image.to(device)).cpu()
    return found


def more_plain_ways(
    model: TorchNetwork, image: Tensor, device: torch.device, precisions: list[str]
) -> dict[str, Callable[[], Tensor]]:
    """The plain call in other PyTorch modes that the network and the device support."""
    whole, last = accept_rgb(model), copy_network(model, memory_format=torch.channels_last)
    found: dict[str, Callable[[], Tensor]] = {
        "plain fp32 contiguous": lambda: whole(image.contiguous().to(device)).cpu(),
        "plain fp32 channels_last": lambda: last(image.to(device, memory_format=torch.channels_last)).cpu(),
    }
    can = {"fp16": whole.supports_half, "bf16": whole.supports_bfloat16}
    for name in precisions:
        if can.get(name) and name in list_precisions(device):
            half = copy_network(model, dtype=DTYPES[name])
            found[f"plain {name}"] = lambda half=half, dtype=DTYPES[name]: half(image.to(device, dtype)).cpu()
    if device.type == "cuda":

        def plain_tf32() -> Tensor:
            with allowing_tf32():
                return whole(image.to(device)).cpu()

        found["plain tf32"] = plain_tf32
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="160x120", help="WIDTHxHEIGHT of the source")
    known = ["shipped", *NETWORKS]
    parser.add_argument("--names", nargs="+", default=known, choices=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", choices=list(DTYPES), help="default: fp32 and bf16, on CUDA also fp16")
    parser.add_argument("--no-host", dest="host", action="store_false")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--all-ways", action="store_true", help="run plain in more modes; the default on CUDA")
    parser.add_argument("--output", type=Path, help="Markdown file for the table, rewritten after each network")
    options = parser.parse_args()
    keep_fp32_exact()
    device = torch.device(options.device)
    options.all_ways = options.all_ways or device.type == "cuda"
    options.precisions = options.precisions or (["fp32", "fp16", "bf16"] if device.type == "cuda" else ["fp32", "bf16"])
    width, height = (int(part) for part in options.size.split("x"))
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0)).movedim(-1, 1)
    wanted = ["fp32", *options.precisions, *(["tf32"] if device.type == "cuda" else [])]
    peaks = measure_peaks(device, list(dict.fromkeys(wanted)))
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
        + ". The time of ours includes copying the network to the device; for the others it is already there.",
        "",
        f"`python -m tools.benchmarks.architectures {shlex.join(sys.argv[1:])}`",
        "",
        "| network | parameters, M | FLOP per pixel, M | way | seconds | ratio | MiB | TFLOP/s | of peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            rows = run(name, image, device, options, peaks, Path(folder))
            print("\n".join(rows), flush=True)
            lines += rows
            if options.output:  # after each network, since some take hours
                options.output.write_text("\n".join(lines) + "\n")


def time_ways(
    ways: Mapping[str, Callable[[], Tensor]], rounds: int, device: torch.device
) -> tuple[dict[str, dict[int, Figures]], dict[str, str]]:
    """Measures every way turn by turn; returns the measurements and the errors of ways that failed.

    The first turn is a warm-up. It counts for a slow way, unless that is compiled, since its first call includes compilation.
    """
    seen: dict[str, dict[int, Figures]] = {}
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):
        for way, work in ways.items():
            if way in failed or len(seen.get(way, ())) == rounds:
                continue
            try:
                figures = measure(work, device)
            except Exception as error:  # if one way fails, the others may still work
                failed[way] = one_line(error)[:80]
                continue
            if turn or (figures[0] > _LONG_S and not way.startswith("compiled")):
                seen.setdefault(way, {})[turn] = figures
    return {way: figures for way, figures in seen.items() if way not in failed}, failed


def median_ratio(own: Mapping[int, Figures], base: Mapping[int, Figures]) -> float:
    """Median ratio of seconds within each turn; the ratio of medians if no turn has both."""
    if not base:
        return math.nan
    shared = own.keys() & base.keys()
    if shared:
        return statistics.median(own[turn][0] / base[turn][0] for turn in shared)
    return median_of(own, 0) / median_of(base, 0)


def median_of(figures: Mapping[int, Figures], index: int) -> float:
    """The median over all turns of the seconds (index 0) or the bytes (index 1)."""
    return statistics.median(one[index] for one in figures.values())


def run(name: str, image: Tensor, device: torch.device, options: Any, peaks: Mapping[str, float], folder: Path) -> list[str]:
    """Measures one network; returns its table rows, including failures."""
    try:
        model = build(name, folder)
        flops = count_flops(model, (image.shape[2], image.shape[3]))
        with torch.inference_mode():
            seen, failed = time_ways(contenders(model, image, device, options), options.rounds, device)
    except Exception as error:  # the other networks are still worth measuring
        return [f"| {name} | | | | {one_line(error)[:80]} | | | | |"]
    parameters = model.parameters / 1e6
    rows: list[str] = []
    for way, figures in seen.items():
        seconds, memory = median_of(figures, 0), median_of(figures, 1)
        ratio = median_ratio(figures, seen.get("plain fp32", {}))
        rate, peak = flops / seconds, peaks[way.split()[1]]
        head = f"| {name} | {parameters:.2f} | {flops / image[0, 0].numel() / 1e6:.2f} |" if not rows else "| | | |"
        cells = f"{seconds:.3g} | {ratio:.2f} | {memory / 2**20:.0f} | {rate / 1e12:.2f} | {100 * rate / peak:.0f} %"
        rows.append(f"{head} {way} | {cells} |")
    return rows + [f"| | | | {way} | {words} | | | | |" for way, words in failed.items()]


if __name__ == "__main__":
    main()
