"""Compares a folder of pictures through the command with the same work by a plain script, alternating.

    python -m tools.benchmarks.folder PHOTO [--pictures 40] [--megapixels 1] [--scale 2] [--rounds 2] [-- OPTIONS…]

The script (`plain` below, run by the same Python) is what one writes with spandrel, PyTorch and Pillow: load the network, read
each picture, run the network on the whole of it, save. The command also decides, holds the colors, checks them and reports.
What follows `--` goes to the command. Seconds are whole processes, the start of Python included; the least of the rounds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fidelity.networks.loader import SHIPPED_WEIGHTS
from tools.benchmarks.whole import mirror


def plain(network: Path, folder: Path, output: Path) -> None:
    """Enlarges every picture of a folder as a script would."""
    import torch
    from spandrel import ModelLoader

    model = ModelLoader().load_from_file(network).eval()
    for path in sorted(folder.iterdir()):
        pixels = np.array(Image.open(path).convert("RGB"))
        with torch.inference_mode():
            result = model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)  # type: ignore[operator]
        Image.fromarray((result[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(output / path.name)


def run(command: list[str], output: Path) -> float:
    """The seconds that a command takes to fill a folder."""
    output.mkdir()
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, help="an undamaged photograph, which is enlarged by mirroring")
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--scale", type=int, default=2, choices=(2, 4))
    parser.add_argument("--rounds", type=int, default=2)
    own, given = sys.argv[1:], list[str]()
    if "--" in own:
        own, given = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    photo = np.array(Image.open(options.photo).convert("RGB"))
    network = SHIPPED_WEIGHTS / f"natural-x{options.scale}.safetensors"
    script = "from tools.benchmarks.folder import plain; from pathlib import Path; plain(*map(Path, {}))"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        for index in range(options.pictures):
            mirror(np.roll(photo, (3 * index, 5 * index), (0, 1)), options.megapixels).save(folder / f"{index:03}.png")
        best: dict[str, float] = {}
        for turn in range(options.rounds):
            outputs = [Path(name) / f"{who}{turn}" for who in ("script", "command")]
            arguments = [str(network), str(folder), str(outputs[0])]
            commands = {
                "script": [sys.executable, "-c", script.format(arguments)],
                "command": [
                    *(sys.executable, "-m", "fidelity", "upscale", str(folder), "-o", str(outputs[1])),
                    *("--scale", str(options.scale), *given),
                ],
            }
            for (who, command), output in zip(commands.items(), outputs, strict=True):
                best[who] = min(best.get(who, float("inf")), run(command, output))
                count = len(list(output.iterdir()))
                if count != options.pictures:
                    raise SystemExit(f"the {who} made {count} of {options.pictures} pictures")
    what = f"{options.pictures} pictures of {options.megapixels:g} MP ×{options.scale}"
    print(f"{what}: script {best['script']:.1f} s, command {best['command']:.1f} s, {best['command'] / best['script']:.2f}")


if __name__ == "__main__":
    main()
