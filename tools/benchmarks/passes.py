"""Measures the memory of a chain of passes as the target grows; beyond source and target, it should need only one block.

    python -m tools.benchmarks.passes --source 384 --scales 4 8 16

Uses the photo recipe without restoration or color consistency. "whole" is the memory of the last network's result if it
produced the whole image at once.
"""

import argparse

import torch

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.session import Session, run_passes
from tools.benchmarks.speed import measure

_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=int, default=384, help="side of the source in pixels")
    parser.add_argument("--scales", type=float, nargs="+", default=[4, 6, 8, 12, 16])
    options = parser.parse_args()
    source = torch.rand(1, 3, options.source, options.source, generator=torch.Generator().manual_seed(0))
    cpu = torch.device("cpu")
    print("| target | networks | seconds | result, MiB | beyond it, MiB | whole, MiB |\n|---|---|---|---|---|---|")
    for scale in options.scales:
        settings = Settings(Target(scale=scale), "photo", restore="off", passes="direct", channels="rgb")
        decision = Session(settings).decide(source)
        networks = [step for step in decision.planned.plan.passes if step.kind == "network"]
        seconds, grown = measure(lambda decision=decision: run_passes(source, decision).image, cpu)
        side = round(options.source * scale)
        result = side * side * 3 * 4 / _MIB
        height, width = networks[-1].result
        chain = " ".join(f"x{step.result[0] // step.source[0]}" for step in networks)
        whole = height * width * 3 * 4 / _MIB
        print(
            f"| {side}x{side} | {chain} | {seconds:.1f} | {result:.0f} | {grown / _MIB - result:.0f} | {whole:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
