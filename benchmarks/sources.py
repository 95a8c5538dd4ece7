"""Where the benchmarks' images come from."""

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
    """An image file as (1, 3, H, W)."""
    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
