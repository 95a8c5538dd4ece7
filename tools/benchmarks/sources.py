"""Sources of the benchmarks' images."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image


def data_folder() -> Path:
    """The folder of real weights and images named by FIDELITY_TEST_DATA."""
    folder = os.environ.get("FIDELITY_TEST_DATA")
    if not folder:
        raise SystemExit("set FIDELITY_TEST_DATA to a folder of real weights and images")
    return Path(folder)


def read(path: Path) -> torch.Tensor:
    """Reads an image file as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255


def read_set5(scale: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Reads (low resolution, ground truth) of each Set5 image by name, the truth cropped to a multiple of the scale."""
    folder = data_folder() / "images/set5"
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for path in sorted((folder / "HR").glob("*.png")):
        low = read(folder / f"LRx{scale}" / path.name)
        pairs[path.stem] = low, read(path)[:, :, : low.shape[2] * scale, : low.shape[3] * scale]
    return pairs
