"""Times networks with every backend and precision on one device, with their parity and their share of the device's peak.

    python -m tools.benchmarks.accelerate MODEL... [--sizes 512x512 1920x1080] [--rounds 5] [--device cuda]

A row is a network, a size, a backend and a precision: the best seconds of some rounds in turns, megapixels of output a second,
the share of what a matrix product of the same precision reached just before, and the largest and the mean difference from
PyTorch in float32. "compiled" is PyTorch with torch.compile, which the pack does not use. What refuses is listed below the
table. Everything but the device is the same on a CPU, where small sizes show that it works.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fidelity.choices import BackendChoice, Precision
from fidelity.errors import RefusedError
from fidelity.networks.backend import ENGINES
from fidelity.networks.backends.torch import DTYPES, TorchNetwork
from fidelity.networks.loader import load_model
from fidelity.networks.runner import Runner

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
_BACKENDS: tuple[BackendChoice, ...] = ("torch", *ENGINES)
_COUNTED_PX = 64
_PRODUCT_SIDE = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Row:
    """What one network did in one way at one size."""

    way: str
    precision: Precision
    seconds: float
    largest: float
    """The largest difference from PyTorch in float32."""
    mean: float
    """The mean difference."""


def wait(device: torch.device) -> None:
    """Waits until a device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_peak(device: torch.device, precision: Precision) -> float:
    """Floating-point operations a second of a large matrix product; without TF32 in float32."""
    side = _PRODUCT_SIDE.get(device.type, 1024)
    left, right = (torch.rand(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        torch.mm(left, right)
        wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def count_operations(network: TorchNetwork) -> float:
    """Floating-point operations an input pixel."""
    side = max(_COUNTED_PX, network.minimum)
    with FlopCounterMode(display=False) as counter:
        network.to(torch.device("cpu"), "fp32").run(torch.rand(1, network.channels_in, side, side))
    return counter.get_total_flops() / side**2


def list_ways(
    network: TorchNetwork, device: torch.device, image: Tensor, refusals: list[str]
) -> dict[tuple[str, Precision], Callable[[], Tensor]]:
    """What can run a network on a device, by way and precision; why others cannot is added to the refusals."""
    ways: dict[tuple[str, Precision], Callable[[], Tensor]] = {}
    for backend in _BACKENDS:
        for precision in PRECISIONS:
            try:
                runner = Runner(network, device, precision, backend=backend)
                if runner.network.backend != backend or runner.precision != precision:
                    continue  # this library does not compute there, or not in this precision
                runner.run(image[:, :, :_COUNTED_PX, :_COUNTED_PX])
            except RefusedError as error:
                refusals.append(str(error))
                continue
            ways[backend, precision] = lambda runner=runner: runner.run(image)[0]
    for precision in PRECISIONS[:3]:
        if ("torch", precision) in ways:
            module = network.to(device, precision).descriptor.model
            compiled = torch.compile(module)
            given = image.to(DTYPES[precision]).contiguous(memory_format=torch.channels_last)
            try:
                compiled(given)
            except Exception as error:  # a compiler is missing, or breaks
                refusals.append(f"compiled {precision}: {' '.join(str(error).split())[:160]}")
                continue
            ways["compiled", precision] = lambda compiled=compiled, given=given: compiled(given).float().clamp(0, 1)
    return ways


def compare(network: TorchNetwork, device: torch.device, image: Tensor, rounds: int, refusals: list[str]) -> list[Row]:
    """Times all ways in turns after a first turn that warms up, and measures their differences."""
    ways = list_ways(network, device, image, refusals)
    exact = Runner(network, device, "fp32", backend="torch").run(image)[0]
    best, differences = dict.fromkeys(ways, float("inf")), dict[tuple[str, Precision], Tensor]()
    for turn in range(1 + rounds):
        for key, run in ways.items():
            wait(device)
            started = time.perf_counter()
            result = run()
            wait(device)
            if turn:
                best[key] = min(best[key], time.perf_counter() - started)
            else:
                differences[key] = (result.to(exact) - exact).abs()
    return [Row(*key, best[key], differences[key].max().item(), differences[key].mean().item()) for key in ways]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1920x1080"], help="WIDTHxHEIGHT of sources")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}\n")
    peaks = {precision: measure_peak(device, precision) for precision in PRECISIONS[:3]}
    print("matrix product: " + ", ".join(f"{one} {peak / 1e12:.2f} TFLOPS" for one, peak in peaks.items()) + "\n")
    print("| network | source | backend | precision | seconds | MP out/s | share of peak | largest | mean difference |")
    print("|---|---|---|---|---|---|---|---|---|")
    refusals: list[str] = []
    for path in options.models:
        network = load_model(path)
        if not isinstance(network, TorchNetwork):
            refusals.append(f"{path.name}: runs with {network.backend} only")
            continue
        operations = count_operations(network)
        for size in options.sizes:
            width, height = (int(part) for part in size.split("x"))
            image = torch.rand(1, network.channels_in, height, width, generator=torch.Generator().manual_seed(0)).to(device)
            for row in compare(network, device, image, options.rounds, refusals):
                output = height * width * network.scale**2 / 1e6 / row.seconds
                peak = peaks.get(row.precision)
                share = f"{operations * height * width / row.seconds / peak:.2f}" if peak else "–"
                print(
                    f"| {path.stem} | {size} | {row.way} | {row.precision} | {row.seconds:.4f} | {output:.1f} | {share} "
                    f"| {row.largest:.1e} | {row.mean:.1e} |",
                    flush=True,
                )
    for refusal in dict.fromkeys(refusals):
        print(f"\n{refusal}")


if __name__ == "__main__":
    main()
