"""Compares places of a picture that was enlarged in pieces with crops that are enlarged in one, by the same decision.

    fidelity upscale SOURCE.tif -o RESULT.tif --scale 2 --restore off --bits 16 --memory 700MB
    python -m tools.benchmarks.pieces SOURCE.tif RESULT.tif --scale 2 --memory 700MB

Differences are in units of 1/1024, without a margin of each crop, which lacks what surrounds it.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvips

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target, parse_memory
from fidelity.large.job import LargeJob, decide_large, decision_for, with_thresholds
from fidelity.large.pieces import Piece
from fidelity.large.source import LargeSource
from fidelity.networks.compute import Compute
from fidelity.session import Session

SIDE_PX, MARGIN_PX = 700, 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--memory", required=True, help="as for the result")
    parser.add_argument("--places", type=int, default=10)
    options = parser.parse_args()
    settings = Settings(Target(scale=float(options.scale)), restore="off")
    session = Session(settings, Compute(memory_bytes=parse_memory(options.memory)))
    job = LargeJob(LargeSource(options.source), options.result, options.scale, 16)
    sampled = decide_large(job, session)
    decision = with_thresholds(sampled.decision, sampled.sample, session)
    made = pyvips.Image.new_from_file(str(options.result))
    white = 65535 if str(made.format) == "ushort" else 255
    draw, whole = np.random.default_rng(3), slice(0, SIDE_PX)
    inner = slice(MARGIN_PX * options.scale, (SIDE_PX - MARGIN_PX) * options.scale)
    worst = 0.0
    for _ in range(options.places):
        top, left = (int(draw.integers(0, length - SIDE_PX)) for length in job.source.size)
        crop = job.source.read(slice(top, top + SIDE_PX), slice(left, left + SIDE_PX))
        one = session.carry_out(crop, decision_for(Piece(whole, whole, whole, whole), decision, options.scale)).image
        expected = one[0, :, inner, inner].movedim(0, -1).numpy()
        corner = (options.scale * (left + MARGIN_PX), options.scale * (top + MARGIN_PX))
        found = made.crop(*corner, expected.shape[1], expected.shape[0]).numpy().reshape(expected.shape)
        apart = 1024 * np.abs(expected - found.astype(np.float32) / white)
        worst = max(worst, float(apart.max()))
        place = f"{left}, {top}"
        most = np.quantile(apart, 0.999)
        print(f"{place:16} max {apart.max():6.2f}  99.9 % below {most:.2f}  mean {apart.mean():.3f}", flush=True)
    print(f"largest {worst:.2f}")


if __name__ == "__main__":
    main()
