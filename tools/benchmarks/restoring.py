"""Compares networks and defaults with bicubic on photographs and drawings at three levels of damage.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.restoring [--networks NAME_OR_FILE ...] [--sheet FOLDER]

Clean pictures (Set5, scikit-image's photographs, drawings of the test data; the central 384 px) are damaged with a fixed seed
and enlarged four times. PSNR-Y, SSIM-Y and CIEDE2000 compare the result with the undamaged original. Sharpness is the mean
slope at the original's edges, relative to the original.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files.read import read_image
from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.metrics import psnr, ssim
from fidelity.imaging.resample import resize
from fidelity.networks.loader import find_model, list_models, load_model
from fidelity.session import Session
from fidelity.steps.upscale import upscale
from tools.benchmarks.sources import data_folder

SIDE_PX = 384
SCALE = 4
_PHOTOGRAPHS = ("astronaut", "camera", "chelsea", "coffee", "rocket")
_DRAWINGS = {"anime_flux": 4, "anime_sd": 4, "line_art": 5}


@dataclass(frozen=True)
class Stage:
    """One round of damage."""

    blur_px: float
    """Sigma of a Gaussian, in pixels before downscaling."""
    reduce: int
    """Downscaling factor, applied after the blur."""
    noise: float
    """Standard deviation of Gaussian noise, in 1/255."""
    quality: int
    """JPEG quality, with 4:2:0 subsampling."""


LEVELS: dict[str, tuple[Stage, ...]] = {
    "mild": (Stage(0.6, 4, 2, 85),),
    "medium": (Stage(1.2, 4, 6, 60),),
    "heavy": (Stage(1.6, 2, 10, 55), Stage(0.6, 2, 5, 40)),
}


def damage(image: Tensor, level: str, seed: int) -> Tensor:
    """Damages a clean image ``(1, 3, H, W)`` and downscales its sides to a quarter."""
    generator = torch.Generator().manual_seed(seed)
    for stage in LEVELS[level]:
        image = gaussian_blur(image, stage.blur_px)
        image = resize(image, (image.shape[2] // stage.reduce, image.shape[3] // stage.reduce))
        image = image + torch.randn(image.shape, generator=generator) * stage.noise / 255
        image = as_jpeg(image.clamp(0, 1), stage.quality)
    return image


def as_jpeg(image: Tensor, quality: int) -> Tensor:
    """Compresses an image as JPEG and decodes it."""
    buffer = io.BytesIO()
    pixels = (image[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
    return torch.from_numpy(np.asarray(Image.open(buffer)).copy()).movedim(-1, 0)[None].float() / 255


def read_sources() -> dict[str, dict[str, Tensor]]:
    """Reads clean pictures by type and name, ``(1, 3, up to 384, up to 384)``."""
    folder = data_folder() / "images"
    photos = {path.stem: _middle(read_image(path, "srgb").image) for path in sorted((folder / "set5/HR").iterdir())}
    for name in _PHOTOGRAPHS:
        pixels = np.atleast_3d(getattr(data, name)())
        photos[name] = _middle(torch.from_numpy(pixels.copy()).movedim(-1, 0)[None].float() / 255)
    drawings: dict[str, Tensor] = {}
    for domain, count in _DRAWINGS.items():
        for path in sorted((folder / "domains" / domain).glob("*.png"))[:count]:
            image = read_image(path, "srgb").image[:, :3]
            half = resize(image, (image.shape[2] // 2, image.shape[3] // 2)).clamp(0, 1)  # removes the generators' artifacts
            drawings[path.stem] = _middle(half if min(half.shape[2:]) >= SIDE_PX // 2 else image)
    return {"photo": photos, "drawn": drawings}


def _middle(image: Tensor) -> Tensor:
    height, width = (min(SIDE_PX, side) // 8 * 8 for side in image.shape[2:])
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :3, top : top + height, left : left + width].expand(-1, 3, -1, -1)


def edge_slope(truth: Tensor, image: Tensor) -> float:
    """Mean slope of luma at the strongest tenth of the original's edges, relative to the original."""
    slopes = [_slope(rgb_to_luma(one)) for one in (truth, image)]
    strong = slopes[0] >= slopes[0].flatten().quantile(0.9)
    return (slopes[1][strong].mean() / slopes[0][strong].mean()).item()


def _slope(luma: Tensor) -> Tensor:
    down, across = luma.diff(dim=2)[..., :-1], luma.diff(dim=3)[:, :, :-1]
    return (down.square() + across.square()).sqrt()


def contenders(names: list[str]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Methods by name that enlarge a source four times."""
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "bicubic": lambda low: resize(low, (low.shape[2] * SCALE, low.shape[3] * SCALE)).clamp(0, 1)
    }
    known = list_models([data_folder() / "models"])
    for name in names:
        if name == "default":
            session = Session(Settings(Target(scale=SCALE)))
            found[name] = lambda low, session=session: session.run(low).image
            continue
        network = load_model(find_model(name, known))
        found[Path(name).stem] = lambda low, network=network: (
            upscale(low, network, (low.shape[2] * SCALE, low.shape[3] * SCALE), "rgb").image
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks", nargs="+", default=["default"], help='"default", names of networks in the test data, or files'
    )
    parser.add_argument("--sheet", type=Path, help="folder to write every result beside its original to")
    options = parser.parse_args()
    ways = contenders(options.networks)
    print("| | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))
    for kind, sources in read_sources().items():
        for level in LEVELS:
            rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
            for index, (source_name, truth) in enumerate(sources.items()):
                low = damage(truth, level, index)
                results = {name: way(low) for name, way in ways.items()}
                for name, result in results.items():
                    rounded = (result * 255).round() / 255
                    quality = (psnr(truth, rounded, luma=True, crop_px=SCALE), ssim(truth, rounded, luma=True, crop_px=SCALE))
                    rows[name].append((*quality, measure_drift(truth, rounded).mean, edge_slope(truth, rounded)))
                if options.sheet:
                    options.sheet.mkdir(parents=True, exist_ok=True)
                    row = torch.cat((truth, *results.values()), dim=3)[0, :3].clamp(0, 1)
                    pixels = (row * 255).round().to(torch.uint8).movedim(0, -1).numpy()
                    Image.fromarray(pixels).save(options.sheet / f"{kind}-{level}-{source_name}.png")
            cells = [np.mean(rows[name], axis=0) for name in ways]
            texts = [f"{cell[0]:.2f} / {cell[1]:.3f} / {cell[2]:.2f} / {cell[3]:.2f}" for cell in cells]
            print(f"| {kind} {level} | " + " | ".join(texts) + " |", flush=True)


if __name__ == "__main__":
    main()
