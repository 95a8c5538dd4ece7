"""What `fidelity plan` says of time and memory, against a run: peak memory of the process, and seconds from start to end.

    python -m tools.benchmarks.planning PHOTO [--networks natural-x2 PATH …] [--sides 128 512 1024]

PHOTO is cropped and resized to each side. Each command is a process of its own; the peak is what Linux counted for it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageOps


def measure(command: list[str]) -> tuple[float, int, str]:
    """Runs `fidelity`; returns its seconds, its peak memory in bytes and what it printed."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "fidelity", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    printed, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: {errors.decode().strip()}")
    return time.monotonic() - began, usage.ru_maxrss * 1024, printed.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--networks", nargs="+", default=["natural-x2", "natural-x4", "drawn-x2"])
    parser.add_argument("--sides", nargs="+", type=int, default=[128, 512, 1024])
    parser.add_argument("--restore", default="off", help="as for fidelity upscale")
    options = parser.parse_args()
    print("| network | source | planned | peak | ratio | planned | took | ratio |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Image.open(options.photo) as opened:
        photo = opened.convert("RGB")
        for network in options.networks:
            for side in options.sides:
                source = Path(folder) / f"{side}.png"
                ImageOps.fit(photo, (side, side), Image.Resampling.BICUBIC).save(source)
                given = [str(source), "--model", network, "--domain", "photo", "--restore", options.restore]
                _, _, printed = measure(["plan", "--json", *given])
                plan = json.loads(printed)
                out = Path(folder) / "out.png"
                seconds, peak, _ = measure(["upscale", "-o", str(out), "--existing", "overwrite", *given])
                planned = plan["peak_memory_bytes"], plan["seconds"]
                print(
                    f"| {Path(network).stem} | {side}x{side} | {planned[0] / 2**20:.0f} MiB | {peak / 2**20:.0f} MiB "
                    f"| {planned[0] / peak:.2f} | {planned[1]:.1f} s | {seconds:.1f} s | {planned[1] / seconds:.2f} |",
                    flush=True,
                )
    print(f"\n{os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads")


if __name__ == "__main__":
    main()
