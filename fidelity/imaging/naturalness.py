"""Quality without a reference: how far an image's statistics are from those of undistorted photographs (BRISQUE, NIQE).

Both look at luma after its local mean is subtracted and it is divided by its local spread. In photographs, what is left is
distributed much the same everywhere; noise, blur and compression change the shape. Lower is better in both. They were made for
photographs: the scores of drawings and of pictures with large flat areas say little, and those of the two do not compare.
"""

import math
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from .color import rgb_to_luma
from .resample import resize
from .tensors import check_image

PATCH_PX = 96
"""Side of NIQE's patches."""
SMALLEST_PX = 32
"""The shortest side of an image that has a BRISQUE score."""

_WINDOW_PX, _WINDOW_SIGMA = 7, 7 / 6
_NEIGHBORS = ((0, 1), (1, 0), (1, 1), (-1, 1))
_SHAPES = (0.2, 10.0, 0.001)
"""First, end and step of the shape parameters that are tried."""


def brisque(image: Tensor) -> float | None:
    """BRISQUE, 0 to 100: what people who saw images with such statistics said of their quality; lower is better.

    Args:
        image: ``(1, 1 or 3, H, W)`` in [0, 1]; it is measured with 8 bits.

    Returns:
        The score by the model that was trained on the LIVE database; None for an image that is too small or has no texture.

    Source: Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", 2012; the model is that of
    OpenCV's module quality (`naturalness.md` beside the numbers has its notice).
    """
    check_image(image, channels=(1, 3))
    if min(image.shape[2:]) < SMALLEST_PX:
        return None
    features = brisque_features(image)
    if not features.isfinite().all():
        return None
    model = _load("brisque")
    lowest, highest = model["range"]
    scaled = -1 + 2 * (features - lowest) / (highest - lowest)
    distances = (model["vectors"] - scaled).square().sum(dim=1)
    score = (model["weights"] * torch.exp(-model["gamma"] * distances)).sum() - model["rho"]
    return min(100.0, max(0.0, score.item()))


def brisque_features(image: Tensor) -> Tensor:
    """The 36 features of BRISQUE, in its order; not finite for an image without texture."""
    plane, features = (rgb_to_luma(image.double()) * 255).round() / 255, list[Tensor]()
    for scale in (1, 2):
        size = [side // scale for side in plane.shape[2:]]
        scaled = plane if scale == 1 else functional.interpolate(plane, size, mode="bicubic", align_corners=False)
        contrasts = _contrasts(scaled, 1 / 255)[0][0]
        shape, left, right = _fit(contrasts.flatten(1))
        features += [shape, (left.square() + right.square()) / 2]
        for down, right_by in _NEIGHBORS:
            shape, left, right = _fit((contrasts * _shifted(contrasts, down, right_by)).flatten(1))
            features += [shape, _mean_of(shape, left, right), left.square(), right.square()]
    return torch.cat(features).double()


def niqe(image: Tensor) -> float | None:
    """NIQE: the distance of an image's statistics from those of sharp photographs; lower is better, about 2 to 20.

    Args:
        image: ``(1, 1 or 3, H, W)`` in [0, 1].

    Returns:
        The distance to the model fitted here on photographs under free licenses, so that scores are near those by the
        authors' own, but not equal; None for an image of fewer than two patches of 96 px.

    Source: Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", 2013.
    """
    check_image(image, channels=(1, 3))
    if min(image.shape[2:]) < PATCH_PX:
        return None
    features, _ = niqe_features(image)
    features = features[features.isfinite().all(dim=1)]
    if len(features) < 2:
        return None
    model = _load("niqe")
    difference = model["mean"] - features.mean(dim=0)
    spread = (model["covariance"] + features.T.cov()) / 2
    return (difference @ torch.linalg.pinv(spread, hermitian=True) @ difference).clamp(min=0).sqrt().item()


def niqe_features(image: Tensor) -> tuple[Tensor, Tensor]:
    """The features of NIQE of every whole patch, ``(N, 36)``, and its sharpness, ``(N)``: the mean local spread.

    Args:
        image: ``(1, 1 or 3, H, W)`` in [0, 1], both sides 96 px or more.
    """
    height, width = (side // PATCH_PX * PATCH_PX for side in image.shape[2:])
    plane = rgb_to_luma(image.float())[..., :height, :width] * 255
    features, sharpness = list[Tensor](), torch.empty(0)
    for scale in (1, 2):
        side = PATCH_PX // scale
        scaled = plane if scale == 1 else resize(plane, (height // 2, width // 2))
        contrasts, spread = _contrasts(scaled, 1.0)
        patches = _patches(contrasts, side)
        if scale == 1:
            sharpness = _patches(spread, side).mean(dim=(1, 2))
        shape, left, right = _fit(patches.flatten(1))
        features += [shape, (left + right) / 2]
        for down, right_by in _NEIGHBORS:
            shape, left, right = _fit((patches * patches.roll((-down, -right_by), dims=(1, 2))).flatten(1))
            features += [shape, _mean_of(shape, left, right), left, right]
    return torch.stack(features, dim=1).double(), sharpness


def _contrasts(plane: Tensor, constant: float) -> tuple[Tensor, Tensor]:
    """Luma without its local mean, divided by its local spread and a constant; and that spread."""
    reach = _WINDOW_PX // 2
    bell = torch.exp(-(torch.arange(-reach, reach + 1, dtype=torch.float64) ** 2) / (2 * _WINDOW_SIGMA**2))
    bell = (bell / bell.sum()).to(plane)

    def blur(values: Tensor) -> Tensor:
        padded = functional.pad(values, (reach, reach, reach, reach), mode="replicate")
        return functional.conv2d(functional.conv2d(padded, bell.reshape(1, 1, 1, -1)), bell.reshape(1, 1, -1, 1))

    mean = blur(plane)
    spread = (blur(plane.square()) - mean.square()).clamp(min=0).sqrt()
    return (plane - mean) / (spread + constant), spread


def _shifted(plane: Tensor, down: int, right: int) -> Tensor:
    """Every value's neighbor, 0 beyond the border; ``(1, H, W)``."""
    padded = functional.pad(plane, (1, 1, 1, 1))
    return padded[:, 1 + down : 1 + down + plane.shape[1], 1 + right : 1 + right + plane.shape[2]]


def _patches(plane: Tensor, side: int) -> Tensor:
    return plane[0, 0].unfold(0, side, side).unfold(1, side, side).flatten(0, 1)


def _fit(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fits an asymmetric generalized Gaussian to each row: its shape, and its spread to the left and to the right.

    Source: Lasmar, Stitou and Berthoumieu, "Multiscale skewed heavy tailed model for texture analysis", 2009.
    """
    squares = values.square()
    below, above = values < 0, values > 0
    left = ((squares * below).sum(dim=1) / below.sum(dim=1)).sqrt()
    right = ((squares * above).sum(dim=1) / above.sum(dim=1)).sqrt()
    ratio = left / right
    moments = values.abs().mean(dim=1).square() / squares.mean(dim=1)
    wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio.square() + 1).square()
    shapes, ratios = _shape_table()
    place = torch.searchsorted(ratios, wanted.double().nan_to_num(1.0)).clamp(1, len(ratios) - 1)
    nearer = (wanted - ratios[place - 1]).abs() <= (ratios[place] - wanted).abs()
    found = shapes[place - nearer.long()].to(values)
    return torch.where(wanted.isfinite(), found, wanted), left, right


@cache
def _shape_table() -> tuple[Tensor, Tensor]:
    """Shape parameters, and the ratio of moments that each gives: gamma(2/a)^2 / (gamma(1/a) gamma(3/a)), ascending."""
    first, end, step = _SHAPES
    shapes = first + step * torch.arange(math.ceil((end - first) / step), dtype=torch.float64)
    logarithms = 2 * torch.lgamma(2 / shapes) - torch.lgamma(1 / shapes) - torch.lgamma(3 / shapes)
    return shapes, logarithms.exp()


def _mean_of(shape: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The mean of an asymmetric generalized Gaussian."""
    logarithm = torch.lgamma(2 / shape) - (torch.lgamma(1 / shape) + torch.lgamma(3 / shape)) / 2
    return (right - left) * logarithm.exp()


@cache
def _load(name: str) -> dict[str, Tensor]:
    path = Path(__file__).with_name(f"{name}.safetensors")
    return {key: value.double() for key, value in load_file(path).items()}
