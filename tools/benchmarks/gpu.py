"""Runs in ten minutes on a GPU whatever only a GPU can show, and writes one table and one JSON file.

    COMFYUI_PATH=/path/to/ComfyUI python -m tools.benchmarks.gpu OUT [--only parity memory …] [--toy]

Every part is a process of its own with a limit of its own, so that one that fails, or hangs, is a row and no more:

- parity: every architecture at its real size in each precision against float32 on the CPU;
- memory: a network on a picture while nearly all of the device's memory is taken, against the same with all of it free;
- accelerate: every backend and precision (tools/benchmarks/accelerate.py);
- host: a real-sized RRDB at 1080p, ours and the host's tiles, with the share of the peak (tools/benchmarks/architectures.py);
- diffusion: SDXL with a ControlNet and its decoder at 2048 and 4096, and SUPIR, random weights (tools/benchmarks/diffusion.py);
- video and batch: throughput from file to file (tools/benchmarks/video.py, batch.py).

--toy takes sizes with which a CPU is done in minutes, so that nothing fails on a GPU for a typo. Parts that need the host run
with its Python (COMFYUI_PYTHON, or .venv in its folder) and are skipped without it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.device import list_precisions
from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
from fidelity.networks.memory import free_memory_bytes, release_memory
from fidelity.networks.runner import Runner
from tools.benchmarks.architectures import NETWORKS, build

_ROOT = Path(__file__).parents[2]
_KEPT_FREE = 2**28
"""Bytes that are left free on the device while memory is short."""


@dataclass(frozen=True)
class Part:
    """A part of the whole, as arguments of Python."""

    arguments: tuple[str, ...]
    toy: tuple[str, ...]
    seconds: int
    """Its limit."""
    needs_host: bool = False


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return ("-m", f"tools.benchmarks.{name}", *arguments)


_NATURAL, _DRAWN = (str(SHIPPED_WEIGHTS / f"{name}.safetensors") for name in ("natural-x2", "drawn-x4"))
_ONE = ("--sizes", "64x48", "--rounds", "1")
PARTS: dict[str, Part] = {
    "parity": Part(_module("gpu", "--part", "parity"), _module("gpu", "--part", "parity", "--toy"), 90),
    "memory": Part(_module("gpu", "--part", "memory"), _module("gpu", "--part", "memory", "--toy"), 60),
    "accelerate": Part(_module("accelerate", _NATURAL, _DRAWN), _module("accelerate", _NATURAL, *_ONE), 120),
    "host": Part(
        _module("architectures", "--size", "1920x1080", "--names", "RealESRGAN", "--rounds", "1"),
        _module("architectures", "--size", "64x48", "--names", "Compact", "--rounds", "1", "--no-host"),
        90,
        needs_host=True,
    ),
    "diffusion": Part(
        _module("diffusion", "--control"),
        _module("diffusion", "--control", "--channels", "32", "--sizes", "512", "--tile", "256", "--steps", "1"),
        120,
        needs_host=True,
    ),
    "supir": Part(
        _module("diffusion", "--supir", "--sizes", "2048", "--steps", "2"),
        (),  # SUPIR has only one size, too large for a CPU
        60,
        needs_host=True,
    ),
    "video": Part(_module("video", "--frames", "300"), _module("video", "--frames", "6", "--size", "64x48"), 60),
    "batch": Part(
        _module("batch", "--pictures", "20", "--skip", "loop", "two", "kills"),
        _module("batch", "--pictures", "2", "--megapixels", "0.01", "--skip", "loop", "two", "kills"),
        60,
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a part."""

    part: str
    command: str
    seconds: float
    status: int | str
    """The exit status, or why there is none."""
    output: str


def run_part(name: str, toy: bool) -> Outcome:
    """Runs a part; its output is kept whether it fails or not."""
    part = PARTS[name]
    arguments = part.toy if toy else part.arguments
    if not arguments:
        return Outcome(name, " ".join(part.arguments), 0.0, "skipped: has no small size", "")
    python, environment = sys.executable, dict(os.environ)
    if part.needs_host:
        host = Path(environment.get("COMFYUI_PATH") or Path.home() / "comfy/ComfyUI")
        if not (host / "main.py").is_file():
            return Outcome(name, " ".join(arguments), 0.0, "skipped: no ComfyUI at COMFYUI_PATH", "")
        own = environment.get("COMFYUI_PYTHON") or str(host / ".venv/bin/python")
        python = own if Path(own).is_file() else python
        environment |= {"COMFYUI_PATH": str(host)}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [python, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=_ROOT,
            env=environment,
            timeout=part.seconds * (5 if toy else 1),
        )
        status, output = done.returncode, done.stdout + ("" if done.returncode == 0 else done.stderr[-2000:])
    except subprocess.TimeoutExpired as error:
        status, output = f"stopped after {part.seconds} s", (error.stdout or b"").decode(errors="replace")
    return Outcome(name, " ".join(arguments), round(time.perf_counter() - started, 1), status, output)


@torch.inference_mode()
def measure_parity(device: torch.device, toy: bool) -> None:
    """Prints how far each architecture's output in each precision is from float32 on the CPU."""
    print("| network | precision | largest | mean difference |\n|---|---|---|---|")
    names = ["Compact", "ESPCN"] if toy else list(NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            network = build(name, Path(folder))
            image = torch.rand(1, network.channels_in, 64, 64, generator=torch.Generator().manual_seed(0))
            exact = Runner(network, torch.device("cpu"), "fp32", backend="torch").run(image)[0]
            for precision in list_precisions(device):
                if precision not in network.precisions:
                    continue
                off = _difference(network, image, exact, device, precision)
                print(f"| {name} | {precision} | {off} |", flush=True)


def _difference(network: TorchNetwork, image: Tensor, exact: Tensor, device: torch.device, precision: str) -> str:
    runner = Runner(network, device, precision, backend="torch")  # type: ignore[arg-type]
    try:
        made = runner.run(image.to(device))[0].cpu().float()
    except Exception as error:  # a row tells it, and the other networks follow
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]} | –"
    fallback = "" if runner.precision == precision else f" ({runner.precision} in place of it)"
    return f"{(made - exact).abs().max():.1e}{fallback} | {(made - exact).abs().mean():.1e}"


@torch.inference_mode()
def measure_memory(device: torch.device, toy: bool) -> None:
    """Enlarges a picture while memory is short, and compares with the result and the tiles of plenty."""
    network = load_model(SHIPPED_WEIGHTS / "natural-x4.safetensors")
    side = 64 if toy else 1024
    image = torch.rand(1, network.channels_in, side, side, generator=torch.Generator().manual_seed(0))
    exact, plenty = Runner(network, device, "fp32", backend="torch").run(image)
    print(f"all memory free: {plenty.tiles} tiles, the smallest of {plenty.tile_px[1]}x{plenty.tile_px[0]} px")
    release_memory(device)
    free = free_memory_bytes(device)
    taken = [torch.empty(max(0, free - _KEPT_FREE), dtype=torch.uint8, device=device)] if free else []
    # Planned before memory was short, as when another program takes it meanwhile: only running out tells.
    made, short = Runner(network, device, "fp32", backend="torch").run(image, tile=side)
    del taken
    print(f"{_KEPT_FREE // 2**20} MiB free: {short.tiles} tiles, the smallest of {short.tile_px[1]}x{short.tile_px[0]} px")
    print(f"largest difference {(made - exact).abs().max():.1e}")


def describe(device: torch.device) -> str:
    """The device, the processor and the software."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return f"{name}, torch {torch.__version__}, {platform.platform()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--toy", action="store_true", help="small sizes, to see on a CPU that all of it runs")
    parser.add_argument("--part", choices=["parity", "memory"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.part:
        (measure_parity if options.part == "parity" else measure_memory)(device, options.toy)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    for name in options.only:
        outcomes.append(run_part(name, options.toy))
        print(f"{name}: {outcomes[-1].status} after {outcomes[-1].seconds} s", flush=True)
        record = {"device": describe(device), "parts": [asdict(one) for one in outcomes]}  # kept if a later part hangs
        (options.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        sections = [f"# {describe(device)}\n"]
        sections += [
            f"## {one.part}: {one.status}, {one.seconds} s\n\n`python {one.command}`\n\n{one.output}\n" for one in outcomes
        ]
        (options.out / "gpu.md").write_text("\n".join(sections), encoding="utf-8")
    if any(isinstance(one.status, int) and one.status for one in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
