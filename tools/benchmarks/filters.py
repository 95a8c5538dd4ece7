"""Compares time and memory of the local filters with kornia's, alternating in one process.

Run it with a Python that has kornia, such as the one that runs ComfyUI:

    python -m tools.benchmarks.filters --size 1920x1080

Memory is the peak growth of the process as a multiple of the image's size in bytes, including the result. "differs" is the
largest difference between the two results, excluding four pixels at the border, where padding may differ.
"""

import argparse
import statistics
from collections.abc import Callable

import kornia.filters
import torch
from torch import Tensor

from fidelity.steps.cleanup import CleanupMethod, CleanupSettings, clean
from fidelity.steps.enhance import enhance
from tools.benchmarks.speed import measure

_WHOLE = CleanupSettings()


def _kornia(method: CleanupMethod, image: Tensor) -> Tensor:
    """Applies kornia's version of a filter to all channels."""
    if method == "bilateral":
        return kornia.filters.bilateral_blur(image, 5, _WHOLE.value_range, (_WHOLE.sigma_px, _WHOLE.sigma_px), "reflect", "l2")
    if method == "guided":
        return kornia.filters.guided_blur(image, image, 5, _WHOLE.value_range**2, "replicate")
    if method == "median":
        return kornia.filters.median_blur(image, 3)
    return kornia.filters.unsharp_mask(image, 9, (_WHOLE.unsharp_sigma_px, _WHOLE.unsharp_sigma_px), "reflect")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", action="store_true", help="skip kornia, for sizes that it cannot handle")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    own = image.numel() * 4
    methods: tuple[CleanupMethod, ...] = ("bilateral", "guided", "median", "unsharp", "antialias")
    cpu = torch.device("cpu")
    print("| filter | seconds, ours | kornia | memory, ours | kornia | differs |\n|---|---|---|---|---|---|")
    for method in methods:
        works: dict[str, Callable[[], Tensor]] = {"ours": lambda method=method: clean(image, method, channels="rgb")}
        if method != "antialias" and not options.ours:
            works["kornia"] = lambda method=method: _kornia(method, image)
        seen: dict[str, list[tuple[float, int]]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, work in works.items():
                seen[name].append(measure(work, cpu))
        seconds = {name: statistics.median(pair[0] for pair in pairs) for name, pairs in seen.items()}
        memory = {name: statistics.median(pair[1] for pair in pairs) / own for name, pairs in seen.items()}
        cells = [f"{seconds['ours']:.2f}", "", f"{memory['ours']:.1f}", "", ""]
        if "kornia" in works:
            differs = (works["ours"]() - works["kornia"]())[..., 4:-4, 4:-4].abs().max().item()
            cells[1], cells[3], cells[4] = f"{seconds['kornia']:.2f}", f"{memory['kornia']:.1f}", f"{differs:.4f}"
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)
    seconds, grown = measure(lambda: enhance(image).image, cpu)
    print(f"| enhance | {seconds:.2f} | | {grown / own:.1f} | | |")


if __name__ == "__main__":
    main()
