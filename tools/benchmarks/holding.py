"""Compares what colors are held to: the damaged source, or the source restored, against the undamaged original.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.holding [--networks NAME ...] [--pictures 12]

Clean pictures are damaged as in `tools.benchmarks.restoring` and enlarged four times by networks whose colors drift. "raw" is
the network's output, "damaged" is that output made consistent with its source, "restored" the same with the source as the
default restores it, at the strength that it measures. "estimated" is that with the colors between the restored source's and the
network's, as the default holds networks that were trained on damage (`fidelity.steps.reference`); "whole" gives the restored
source to the network, as the default does with others.
All are compared with the original in PSNR-Y, SSIM-Y and CIEDE2000 (color band), and the pairs are counted on which the last
three have nearer colors than both "raw" and "damaged".
"""

import argparse
from itertools import islice

import numpy as np
from torch import Tensor

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr, ssim
from fidelity.imaging.rows import TensorRows, maps_in_memory, read_all
from fidelity.networks.loader import find_model, list_models, load_model
from fidelity.networks.network import Network
from fidelity.session import Session, run_passes
from fidelity.steps.consistency import project
from fidelity.steps.reference import estimate_reference
from fidelity.steps.upscale import upscale
from tools.benchmarks.restoring import LEVELS, SCALE, damage, read_sources
from tools.benchmarks.sources import data_folder

_NETWORKS = (
    "realesr-animevideov3-x4",
    "realcugan-up4x-conservative",
    "upscayl-lite-4x",
    "realesrgan-x4plus-anime",
    "realesrgan-x4plus",
)
_WAYS = ("raw", "damaged", "restored", "estimated", "whole")


def enlarge(network: Network, low: Tensor, restored: Tensor) -> dict[str, Tensor]:
    """The results of one network by name of the method."""
    target = (low.shape[2] * SCALE, low.shape[3] * SCALE)
    raw = upscale(low, network, target, "rgb").image
    estimated = estimate_reference(*map(TensorRows, (raw, low, restored)), maps_in_memory(raw.device))
    from_restored = upscale(restored, network, target, "rgb").image
    return {
        "raw": raw,
        "damaged": project(raw, low),
        "restored": project(raw, restored),
        "estimated": project(raw, read_all(estimated)),
        "whole": project(from_restored, restored),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=_NETWORKS, help="names of networks in the test data")
    parser.add_argument("--pictures", type=int, default=12, help="number of pictures of each type")
    options = parser.parse_args()
    known = list_models([data_folder() / "models"])
    networks = {name: load_model(find_model(name, known)) for name in options.networks}
    session = Session(Settings(Target(scale=1)))
    nearer = dict.fromkeys(_WAYS[2:], 0)
    pairs = 0
    print("| | " + " | ".join(_WAYS) + " |\n|---|" + "---|" * len(_WAYS))
    for kind, sources in read_sources().items():
        for level in LEVELS:
            rows: dict[str, list[tuple[float, ...]]] = {way: [] for way in _WAYS}
            for index, truth in enumerate(islice(sources.values(), options.pictures)):
                low = damage(truth, level, index)
                restored = run_passes(low, session.decide(low)).reference
                for network in networks.values():
                    drifts: dict[str, float] = {}
                    for way, result in enlarge(network, low, restored).items():
                        quality = (psnr(truth, result, luma=True, crop_px=SCALE), ssim(truth, result, luma=True, crop_px=SCALE))
                        drifts[way] = measure_drift(truth, result).mean
                        rows[way].append((*quality, drifts[way]))
                    pairs += 1
                    for way in nearer:
                        nearer[way] += drifts[way] < min(drifts["raw"], drifts["damaged"])
            cells = [np.mean(rows[way], axis=0) for way in _WAYS]
            texts = [f"{cell[0]:.2f} / {cell[1]:.3f} / {cell[2]:.2f}" for cell in cells]
            print(f"| {kind} {level} | " + " | ".join(texts) + " |", flush=True)
    for way, count in nearer.items():
        print(f"{way}: nearer than raw and damaged on {count} of {pairs} pairs")


if __name__ == "__main__":
    main()
