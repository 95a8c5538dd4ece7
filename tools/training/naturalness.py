"""Makes the numbers that BRISQUE and NIQE compare with.

    python -m tools.training.naturalness brisque brisque_model_live.yml brisque_range_live.yml
    python -m tools.training.naturalness niqe PHOTOS [--photos 300]

BRISQUE's model is read from two files of OpenCV's repository opencv_contrib (modules/quality/samples). NIQE's is fitted on a
folder of photographs, those of `restoration.jsonl`: each is reduced to a long edge of 1000 px, which removes most of JPEG's
traces, and its sharp patches are taken, as in the paper.
"""

import argparse
import random
from pathlib import Path

import cv2
import torch
from safetensors.torch import save_file
from torch import Tensor

from fidelity.files.read import read_image
from fidelity.imaging.naturalness import PATCH_PX, niqe_features
from fidelity.imaging.resample import resize

FOLDER = Path(__file__).parents[2] / "fidelity/imaging"
_LONG_EDGE = 1000
_SHARP = 0.75
"""Patches count whose sharpness is more than this share of the sharpest one's in their photograph."""


def read_brisque(model: Path, limits: Path) -> dict[str, Tensor]:
    """The support vectors, their weights, the width of the kernel, the offset, and the range of each feature."""
    storages = [cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ) for path in (model, limits)]  # nodes live as long as these
    machine = storages[0].getNode("opencv_ml_svm")
    gamma = machine.getNode("kernel").getNode("gamma").real()
    vectors = machine.getNode("support_vectors")
    rows = [[row.at(place).real() for place in range(row.size())] for row in map(vectors.at, range(vectors.size()))]
    decision = machine.getNode("decision_functions").at(0)
    weights = [decision.getNode("alpha").at(place).real() for place in range(len(rows))]
    found = storages[1].getNode("range").mat()
    return {
        "vectors": torch.tensor(rows, dtype=torch.float32),
        "weights": torch.tensor(weights, dtype=torch.float64),
        "gamma": torch.tensor(gamma, dtype=torch.float64),
        "rho": torch.tensor(decision.getNode("rho").real(), dtype=torch.float64),
        "range": torch.from_numpy(found).float(),
    }


def fit_niqe(folder: Path, photos: int) -> dict[str, Tensor]:
    """The mean and covariance of the features of sharp patches."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    found: list[Tensor] = []
    for path in random.Random(0).sample(paths, min(photos, len(paths))):
        image = read_image(path, "srgb").image[:, :3].float()
        factor = _LONG_EDGE / max(image.shape[2:])
        if factor > 1:
            continue
        image = resize(image, (round(image.shape[2] * factor), round(image.shape[3] * factor))).clamp(0, 1)
        if min(image.shape[2:]) < PATCH_PX:
            continue
        features, sharpness = niqe_features(image)
        found.append(features[(sharpness > _SHARP * sharpness.max()) & features.isfinite().all(dim=1)])
    features = torch.cat(found)
    print(f"{len(features)} patches of {len(found)} photographs")
    return {"mean": features.mean(dim=0), "covariance": features.T.cov()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    brisque = kinds.add_parser("brisque")
    brisque.add_argument("model", type=Path)
    brisque.add_argument("limits", type=Path)
    niqe = kinds.add_parser("niqe")
    niqe.add_argument("folder", type=Path)
    niqe.add_argument("--photos", type=int, default=300)
    options = parser.parse_args()
    made = (
        read_brisque(options.model, options.limits) if options.kind == "brisque" else fit_niqe(options.folder, options.photos)
    )
    path = FOLDER / f"{options.kind}.safetensors"
    save_file({name: value.contiguous() for name, value in made.items()}, path)
    path.chmod(0o644)
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
