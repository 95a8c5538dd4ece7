"""Exposure and white balance in linear light, and grading: levels, contrast, saturation. All bounded and off by default."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import RefusedError
from ..imaging.bands import map_bands
from ..imaging.color import linear_to_srgb, srgb_to_linear
from ..imaging.tensors import check_finite, check_image

WhiteBalance = Literal["off", "grey_world", "percentile"]
"""grey_world: makes the mean of the scene grey; percentile: makes its brightest unclipped areas grey."""

MIDDLE_GREY = 0.18
"""Linear light to which automatic exposure brings a scene's typical luminance (an 18 % grey card)."""

_SAMPLES = 2**18
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # IEC 61966-2-1


@dataclass(frozen=True)
class Balance:
    """Settings of exposure and white balance."""

    exposure_ev: float | Literal["auto"] = 0.0
    """In stops; auto brings the scene's log-average luminance to middle grey without clipping highlights."""
    white: WhiteBalance = "off"
    """See `WhiteBalance`."""
    strength: float = 1.0
    """Share of the white balance to apply, from 0 to 1."""
    max_ev: float = 1.0
    """Largest change by automatic exposure, in stops, in either direction."""
    max_gain: float = 1.5
    """Largest factor by which white balance may multiply or divide a channel."""
    highlight: float = 0.98
    """Linear light that automatic exposure may raise the brightest 0.1 % of pixels to."""

    def __post_init__(self) -> None:
        if self.white not in get_args(WhiteBalance):
            raise RefusedError(f"white balance is {self.white!r}; wanted {', '.join(get_args(WhiteBalance))}")
        if self.exposure_ev != "auto" and not -8 <= self.exposure_ev <= 8:
            raise RefusedError(f"exposure is {self.exposure_ev} EV; wanted -8 to 8, or auto")
        if not 0 <= self.strength <= 1:
            raise RefusedError(f"strength is {self.strength}; wanted 0 to 1")
        if not (self.max_ev >= 0 and self.max_gain >= 1):
            raise RefusedError(f"limits are {self.max_ev} EV and a gain of {self.max_gain}; wanted 0 EV and 1 or more")


@dataclass(frozen=True)
class Grade:
    """A simple grade; the defaults change nothing."""

    black: float = 0.0
    """Encoded value mapped to black."""
    white: float = 1.0
    """Encoded value mapped to white."""
    gamma: float = 1.0
    """Gamma of encoded values; above 1 brightens midtones."""
    contrast: float = 1.0
    """Slope of an S-curve at middle grey; black and white stay fixed. Above 1 adds contrast."""
    saturation: float = 1.0
    """Factor of the distance from grey of equal luminance, in linear light; 0 is grey, above 1 more saturated."""

    def __post_init__(self) -> None:
        if not 0 <= self.black < self.white <= 1:
            raise RefusedError(f"levels are {self.black} to {self.white}; wanted 0 to 1, black below white")
        if not (0.1 <= self.gamma <= 10 and 0.1 <= self.contrast <= 4 and 0 <= self.saturation <= 4):
            raise RefusedError(
                f"gamma {self.gamma}, contrast {self.contrast}, saturation {self.saturation}; "
                "wanted 0.1 to 10, 0.1 to 4 and 0 to 4"
            )


def balance(image: Tensor, wanted: Balance) -> tuple[Tensor, tuple[float, ...]]:
    """Changes exposure and white balance.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1]; a batch is measured as one scene. White balance does not apply to grey.
        wanted: The settings.

    Returns:
        The image in [0, 1], and the gain of each channel in linear light. An image that needs no change is returned
        unchanged.

    Raises:
        RefusedError: If the image is not finite.
    """
    check_image(image)
    check_finite(image)
    if wanted.white == "off" and wanted.exposure_ev == 0:
        return image, (1.0,) * min(image.shape[1], 3)
    light = _sample_light(image)
    gains = torch.ones(light.shape[1], dtype=torch.float64)
    if wanted.white != "off" and light.shape[1] == 3:
        gains = _white_gains(light, wanted)
    exposure = _auto_exposure(light * gains, wanted) if wanted.exposure_ev == "auto" else 2.0**wanted.exposure_ev
    gains = gains * exposure
    if bool((gains == 1).all()):
        return image, tuple(gains.tolist())
    factors = gains.float().reshape(1, -1, 1, 1).to(image.device)

    def apply(band: Tensor) -> Tensor:
        return linear_to_srgb((srgb_to_linear(band) * factors).clamp_(0, 1))

    colors = map_bands(apply, image[:, :3])
    return torch.cat((colors, image[:, 3:]), dim=1), tuple(gains.tolist())


def grade(image: Tensor, wanted: Grade) -> Tensor:
    """Changes levels, then contrast, then saturation.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        wanted: The settings; neutral ones are skipped, so neutral settings return the image bit for bit.

    Raises:
        RefusedError: If the image is not finite.
    """
    check_image(image)
    check_finite(image)
    if wanted == Grade():
        return image

    def apply(band: Tensor) -> Tensor:
        if (wanted.black, wanted.white, wanted.gamma) != (0.0, 1.0, 1.0):
            band = ((band - wanted.black) / (wanted.white - wanted.black)).clamp(0, 1).pow(1 / wanted.gamma)
        if wanted.contrast != 1:
            # x^c / (x^c + (1 - x)^c): slope c in the middle; black and white stay fixed.
            high, low = band.clamp(0, 1).pow(wanted.contrast), (1 - band).clamp(0, 1).pow(wanted.contrast)
            band = high / (high + low)
        if wanted.saturation != 1 and band.shape[1] == 3:
            light = srgb_to_linear(band)
            luminance = (light * light.new_tensor(_LUMINANCE).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)
            band = linear_to_srgb((luminance + wanted.saturation * (light - luminance)).clamp_(0, 1))
        return band

    return torch.cat((map_bands(apply, image[:, :3]), image[:, 3:]), dim=1)


def _sample_light(image: Tensor) -> Tensor:
    """``(samples, channels)`` of linear light, spread evenly over an image; nearly transparent pixels do not count."""
    step = max(1, math.isqrt(image[:, :1].numel() // _SAMPLES))
    down, across = min(step, image.shape[2]), min(step, image.shape[3])
    thinned = image[:, :, down // 2 :: down, across // 2 :: across].float()
    light = srgb_to_linear(thinned[:, :3]).movedim(1, -1).flatten(0, 2)
    if image.shape[1] == 4:
        seen = thinned[:, 3].flatten() > 0.5
        light = light[seen] if seen.any() else light
    return light.cpu().double()


def _white_gains(light: Tensor, wanted: Balance) -> Tensor:
    """Gains that make the reference grey and preserve its luminance, within the limits."""
    weights = light.new_tensor(_LUMINANCE)
    inside = light[(light.amax(dim=1) < 0.98) & (light.amin(dim=1) > 0.002)]
    if len(inside) < 16:
        return torch.ones(3, dtype=light.dtype)
    if wanted.white == "grey_world":
        reference = inside.mean(dim=0)
    else:
        lightness = inside @ weights
        band = lightness >= lightness.quantile(0.95)
        reference = inside[band].median(dim=0).values
    gains = (reference @ weights) / reference
    gains = gains.clamp(1 / wanted.max_gain, wanted.max_gain) ** wanted.strength
    gains = gains / ((reference * gains) @ weights) * (reference @ weights)
    return gains.clamp(1 / wanted.max_gain, wanted.max_gain)


def _auto_exposure(light: Tensor, wanted: Balance) -> float:
    """The factor to middle grey, limited by `max_ev` and by the highlights."""
    weights = light.new_tensor(_LUMINANCE if light.shape[1] == 3 else (1.0,))
    luminance = light @ weights
    factor = MIDDLE_GREY / luminance.clamp(min=1e-4).log().mean().exp().item()
    factor = min(max(factor, 2**-wanted.max_ev), 2**wanted.max_ev)
    room = wanted.highlight / max(light.amax(dim=1).quantile(0.999).item(), 1e-6)
    return max(min(factor, room), 1.0) if factor > 1 else factor
