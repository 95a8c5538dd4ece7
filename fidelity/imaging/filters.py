"""Local filters."""

from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from .resample import apply_separable, gaussian_weights
from .tensors import check_image


def gaussian_blur(image: Tensor, sigma_px: float) -> Tensor:
    """Blurs with a Gaussian; the image is mirrored at its border.

    Args:
        image: ``(B, C, H, W)``, any number of channels.
        sigma_px: Standard deviation in pixels; 0 returns a copy.

    Raises:
        RefusedError: If sigma is negative.
    """
    if sigma_px < 0:
        raise RefusedError(f"sigma is {sigma_px} px; wanted 0 or more")
    check_image(image, channels=tuple(range(1, 65)))
    if sigma_px == 0:
        return image.clone()
    height, width = image.shape[2:]
    return apply_separable(image, gaussian_weights(height, sigma_px), gaussian_weights(width, sigma_px))


def box_mean(image: Tensor, size_px: int) -> Tensor:
    """Returns the mean over a square of odd side `size_px`, with border pixels repeated; same shape."""
    radius = size_px // 2
    padded = functional.pad(image, (radius, radius, radius, radius), mode="replicate")
    return functional.avg_pool2d(padded, size_px, stride=1)


def local_range(image: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Returns the minimum and the maximum over a square of odd side `size_px` around every sample; same shapes."""
    return -_local_maximum(-image, size_px), _local_maximum(image, size_px)


def _local_maximum(image: Tensor, size_px: int) -> Tensor:
    radius = size_px // 2
    along_rows = functional.max_pool2d(image, (size_px, 1), stride=1, padding=(radius, 0))
    return functional.max_pool2d(along_rows, (1, size_px), stride=1, padding=(0, radius))
