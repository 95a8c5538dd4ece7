"""Color spaces and color difference: sRGB, linear light, YCbCr, CIE Lab (D65) and CIEDE2000."""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..errors import RefusedError
from .bands import map_bands
from .tensors import check_image

YCbCrMatrix = Literal["bt601", "bt709"]

LUMA_WEIGHTS: dict[YCbCrMatrix, tuple[float, float, float]] = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
}
"""Weights of R, G and B in luma (ITU-R BT.601-7 and BT.709-6)."""

# IEC 61966-2-1:1999, linear sRGB to CIE XYZ with white point D65, and that white point (CIE 1931 2° observer).
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE_D65 = (0.95047, 1.0, 1.08883)
_POW_25_7 = 25.0**7


def srgb_to_linear(image: Tensor) -> Tensor:
    """Decodes sRGB values to linear light.

    Args:
        image: ``(B, C, H, W)``, sRGB-encoded, in [0, 1]; every channel is decoded, so pass alpha separately.

    Returns:
        The same shape, linear light in [0, 1].

    Source: IEC 61966-2-1:1999.
    """
    return map_bands(_srgb_to_linear, image)


def linear_to_srgb(image: Tensor) -> Tensor:
    """Encodes linear light as sRGB; the inverse of `srgb_to_linear`."""
    return map_bands(_linear_to_srgb, image)


def rgb_to_ycbcr(image: Tensor, matrix: YCbCrMatrix = "bt601") -> Tensor:
    """Converts RGB to luma and chroma, full range as in JPEG.

    Args:
        image: ``(B, 3, H, W)``, sRGB-encoded, in [0, 1].
        matrix: "bt601" (JPEG and nearly all still images) or "bt709" (HD video).

    Returns:
        ``(B, 3, H, W)``: Y, Cb and Cr in [0, 1], where 0.5 is the neutral value of Cb and Cr.

    Source: ITU-T T.871 (JFIF) for BT.601, ITU-R BT.709-6.
    """
    check_image(image, channels=(3,))
    return map_bands(partial(_rgb_to_ycbcr, matrix=matrix), image)


def ycbcr_to_rgb(image: Tensor, matrix: YCbCrMatrix = "bt601") -> Tensor:
    """The exact inverse of `rgb_to_ycbcr`; the result is not clamped."""
    check_image(image, channels=(3,))
    return map_bands(partial(_ycbcr_to_rgb, matrix=matrix), image)


def rgb_to_opponent(difference: Tensor) -> Tensor:
    """Converts differences of RGB images to those of luma and the color differences, neutral at 0; one channel stays."""
    return difference if difference.shape[1] == 1 else rgb_to_ycbcr(difference) - _neutral(difference)


def opponent_to_rgb(difference: Tensor) -> Tensor:
    """The inverse of `rgb_to_opponent`."""
    return difference if difference.shape[1] == 1 else ycbcr_to_rgb(difference + _neutral(difference))


def _neutral(like: Tensor) -> Tensor:
    return like.new_tensor([0, 0.5, 0.5]).reshape(1, 3, 1, 1)


def rgb_to_luma(image: Tensor, matrix: YCbCrMatrix = "bt601") -> Tensor:
    """Returns only the Y channel of `rgb_to_ycbcr`, ``(B, 1, H, W)``; a grey image is copied unchanged."""
    check_image(image, channels=(1, 3))
    if image.shape[1] == 1:
        return image.clone()
    return map_bands(partial(_luma, matrix=matrix), image)


def rgb_to_lab(image: Tensor) -> Tensor:
    """Converts sRGB to CIE L*a*b* (D65, 2° observer).

    Args:
        image: ``(B, 3, H, W)``, sRGB-encoded, in [0, 1].

    Returns:
        ``(B, 3, H, W)``: L* in [0, 100], a* and b* roughly in [-128, 127].

    Source: CIE 15:2004.
    """
    check_image(image, channels=(3,))
    return map_bands(_rgb_to_lab, image)


def ciede2000(lab_a: Tensor, lab_b: Tensor) -> Tensor:
    """Computes the CIEDE2000 color difference of two Lab images, per pixel.

    Args:
        lab_a: ``(B, 3, H, W)`` Lab values, as `rgb_to_lab` returns them.
        lab_b: The same shape.

    Returns:
        ``(B, 1, H, W)`` differences; about 1 is just noticeable.

    Source: Sharma, Wu and Dalal, "The CIEDE2000 Color-Difference Formula: Implementation Notes,
    Supplementary Test Data, and Mathematical Observations", 2005.
    """
    check_image(lab_a, "lab_a", channels=(3,))
    check_image(lab_b, "lab_b", channels=(3,))
    return map_bands(_ciede2000, lab_a, lab_b)


def delta_e(image_a: Tensor, image_b: Tensor) -> Tensor:
    """Computes CIEDE2000 between two sRGB images of the same size, per pixel, ``(B, 1, H, W)``; grey counts as R = G = B."""
    check_image(image_a, "image_a", channels=(1, 3))
    check_image(image_b, "image_b", channels=(1, 3))
    if image_a.shape[2:] != image_b.shape[2:]:
        raise RefusedError(
            f"images are {tuple(image_a.shape[2:])} and {tuple(image_b.shape[2:])} (height, width); wanted the same size"
        )
    return map_bands(_delta_e, image_a, image_b)


def is_grey(image: Tensor) -> bool:
    """Whether an image has one channel, or three that are exactly equal."""
    if image.shape[1] == 1:
        return True
    return bool(torch.equal(image[:, 0], image[:, 1]) and torch.equal(image[:, 0], image[:, 2]))


def _srgb_to_linear(band: Tensor) -> Tensor:
    return torch.where(band <= 0.04045, band / 12.92, ((band.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(band: Tensor) -> Tensor:
    return torch.where(band <= 0.0031308, band * 12.92, 1.055 * band.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _luma(band: Tensor, matrix: YCbCrMatrix) -> Tensor:
    red, green, blue = LUMA_WEIGHTS[matrix]
    return red * band[:, 0:1] + green * band[:, 1:2] + blue * band[:, 2:3]


def _rgb_to_ycbcr(band: Tensor, matrix: YCbCrMatrix) -> Tensor:
    red, _, blue = LUMA_WEIGHTS[matrix]
    luma = _luma(band, matrix)
    chroma_blue = (band[:, 2:3] - luma) / (2 - 2 * blue) + 0.5
    chroma_red = (band[:, 0:1] - luma) / (2 - 2 * red) + 0.5
    return torch.cat((luma, chroma_blue, chroma_red), dim=1)


def _ycbcr_to_rgb(band: Tensor, matrix: YCbCrMatrix) -> Tensor:
    red_weight, green_weight, blue_weight = LUMA_WEIGHTS[matrix]
    luma = band[:, 0:1]
    blue_offset = (band[:, 1:2] - 0.5) * (2 - 2 * blue_weight)
    red_offset = (band[:, 2:3] - 0.5) * (2 - 2 * red_weight)
    green = luma - (red_weight * red_offset + blue_weight * blue_offset) / green_weight
    return torch.cat((luma + red_offset, green, luma + blue_offset), dim=1)


def _rgb_to_lab(band: Tensor) -> Tensor:
    linear = _srgb_to_linear(band)
    matrix = torch.tensor(_RGB_TO_XYZ, dtype=band.dtype, device=band.device)
    white = torch.tensor(_WHITE_D65, dtype=band.dtype, device=band.device).reshape(1, 3, 1, 1)
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear) / white
    # CIE 15:2004: a line replaces the cube root below (6/29)^3.
    cube = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = cube.unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=1)


def _delta_e(band_a: Tensor, band_b: Tensor) -> Tensor:
    return _ciede2000(_rgb_to_lab(band_a.expand(-1, 3, -1, -1)), _rgb_to_lab(band_b.expand(-1, 3, -1, -1)))


def _ciede2000(lab_a: Tensor, lab_b: Tensor) -> Tensor:
    lightness_a, a_a, b_a = lab_a.unbind(1)
    lightness_b, a_b, b_b = lab_b.unbind(1)

    chroma_mean_7 = ((torch.hypot(a_a, b_a) + torch.hypot(a_b, b_b)) / 2) ** 7
    stretch = 1 + 0.5 * (1 - torch.sqrt(chroma_mean_7 / (chroma_mean_7 + _POW_25_7)))
    a_a, a_b = a_a * stretch, a_b * stretch
    chroma_a, chroma_b = torch.hypot(a_a, b_a), torch.hypot(a_b, b_b)
    hue_a = torch.atan2(b_a, a_a) % (2 * math.pi)
    hue_b = torch.atan2(b_b, a_b) % (2 * math.pi)

    # Hue is undefined where either chroma is zero: the difference is 0, and the mean is the other color's hue.
    achromatic = chroma_a * chroma_b == 0
    hue_step = hue_b - hue_a
    wraps = hue_step.abs() > math.pi
    hue_step = torch.where(wraps, hue_step - torch.sign(hue_step) * 2 * math.pi, hue_step)
    hue_step = torch.where(achromatic, torch.zeros_like(hue_step), hue_step)
    hue_sum = hue_a + hue_b
    wrapped_sum = torch.where(hue_sum < 2 * math.pi, hue_sum + 2 * math.pi, hue_sum - 2 * math.pi)
    hue_mean = torch.where(achromatic, hue_sum, torch.where(wraps, wrapped_sum, hue_sum) / 2)

    delta_lightness = lightness_b - lightness_a
    delta_chroma = chroma_b - chroma_a
    delta_hue = 2 * torch.sqrt(chroma_a * chroma_b) * torch.sin(hue_step / 2)

    lightness_offset = ((lightness_a + lightness_b) / 2 - 50) ** 2
    chroma_mean = (chroma_a + chroma_b) / 2
    weight_hue = (
        1
        - 0.17 * torch.cos(hue_mean - math.radians(30))
        + 0.24 * torch.cos(2 * hue_mean)
        + 0.32 * torch.cos(3 * hue_mean + math.radians(6))
        - 0.20 * torch.cos(4 * hue_mean - math.radians(63))
    )
    scale_lightness = 1 + 0.015 * lightness_offset / torch.sqrt(20 + lightness_offset)
    scale_chroma = 1 + 0.045 * chroma_mean
    scale_hue = 1 + 0.015 * chroma_mean * weight_hue
    rotation_angle = math.radians(60) * torch.exp(-(((torch.rad2deg(hue_mean) - 275) / 25) ** 2))
    chroma_mean_7 = chroma_mean**7
    rotation = -torch.sin(rotation_angle) * 2 * torch.sqrt(chroma_mean_7 / (chroma_mean_7 + _POW_25_7))

    term_lightness = delta_lightness / scale_lightness
    term_chroma = delta_chroma / scale_chroma
    term_hue = delta_hue / scale_hue
    squared = term_lightness**2 + term_chroma**2 + term_hue**2 + rotation * term_chroma * term_hue
    return torch.sqrt(squared.clamp(min=0)).unsqueeze(1)
