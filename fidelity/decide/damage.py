"""Measured conditions of an image: what was done to it before it came here, in figures that switch steps on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.color import rgb_to_ycbcr
from ..imaging.drift import flatten_alpha
from ..imaging.filters import box_mean, local_range
from ..imaging.tensors import check_image
from .features import measure_patch_features, take_patches
from .restoration import judge_restoration

_BLOCK_PX = 8
_SMALLEST_PX = 24


@dataclass(frozen=True)
class Conditions:
    """Size, damage and softness of an image, measured on its pixels alone."""

    long_edge_px: int
    """Pixels along the longer side."""
    jpeg_quality: float | None
    """Quality of the last JPEG compression on the scale of the IJG's library, 1 to 100; None where it left no trace that
    could be measured, which is so above about 93, after a resize, and for images that never were JPEGs."""
    blockiness: float
    """How much larger steps across the borders of blocks of 8 px are than steps inside them, less 1; 0 for none."""
    noise_sigma: float
    """Standard deviation of noise in luma, in steps of 8 bits; 0 too where uneven texture covers everything, since noise
    cannot be told from it there. Texture that is alike everywhere, as of a lawn, measures as noise."""
    chroma_noise_sigma: float
    """The same in the colour differences."""
    banding: float
    """Share of the area where what should be a ramp climbs in stairs of two steps of 8 bits and more, in [0, 1]."""
    ringing: float
    """Unrest beside strong edges beyond that farther off, in percent of the edges' height; 0 for none."""
    softness: float
    """The blur effect of Crete et al., 0 for the sharpest, 1 for no detail at all; about 0.3 for a sharp photograph."""
    jaggedness: float
    """Share of strong slanted edges that jump within one sample, in [0, 1]; about 0.2 where lines are antialiased."""

    restore_strength: float = 0.0
    """Share of a restored image that comes nearest the undamaged one, in [0, 1]: 0 for a clean source. See
    `fidelity.decide.restoration`."""

    @property
    def damage_sigma(self) -> float:
        """Standard deviation of noise, or of what JPEG's rounding adds if that is more, in steps of 8 bits."""
        if self.jpeg_quality is None:
            return self.noise_sigma
        step = float(_LUMINANCE_TABLE[0, 1]) * _ratio_of(self.jpeg_quality)
        return max(self.noise_sigma, step / math.sqrt(12))  # the error of rounding is uniform


def measure_conditions(image: Tensor) -> Conditions:
    """Measures the conditions of an image, on patches of it.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1], on any device; transparency is laid over white.
    """
    check_image(image)
    patches = flatten_alpha(take_patches(image).cpu().float(), 1.0).expand(-1, 3, -1, -1)
    for axis in (2, 3):  # what is smaller than this is mirrored, so that every measure has something to stand on
        while patches.shape[axis] < _SMALLEST_PX:
            patches = torch.cat((patches, patches.flip(axis)), dim=axis)
    planes = rgb_to_ycbcr(patches) * 255
    luma, chroma = planes[:, :1], planes[:, 1:]
    clipped = ((patches <= 0) | (patches >= 1)).any(dim=1, keepdim=True)
    phase, blockiness = _find_grid(luma)
    return Conditions(
        long_edge_px=max(image.shape[2:]),
        jpeg_quality=_estimate_quality(luma, clipped, phase),
        blockiness=blockiness,
        noise_sigma=_estimate_white_noise(luma),
        chroma_noise_sigma=_estimate_noise(chroma, luma),
        banding=_measure_banding(luma),
        ringing=_measure_ringing(luma),
        softness=_measure_blur(luma),
        jaggedness=_measure_jaggedness(luma),
        restore_strength=judge_restoration(measure_patch_features(image)),
    )


def _find_grid(luma: Tensor) -> tuple[tuple[int, int], float]:
    """The (row, column) where blocks of 8 px begin, and how strong their borders are."""
    phase, strengths = list[int](), list[float]()
    for axis in (2, 3):
        steps = luma.diff(n=2, dim=axis).abs().clamp(max=12)
        profile = steps.mean(dim=(0, 1, 5 - axis))
        profile = profile[: len(profile) // _BLOCK_PX * _BLOCK_PX].reshape(-1, _BLOCK_PX).mean(dim=0) + 0.05
        # A border before sample b bends the second differences that begin at b - 2 and b - 1.
        pairs = (profile + profile.roll(-1)) / 2
        place = int(pairs.argmax())
        inside = profile.roll(-place)[3:7].mean()
        phase.append((place + 2) % _BLOCK_PX)
        strengths.append((pairs[place] / inside).item() - 1)
    return (phase[0], phase[1]), max(0.0, sum(strengths) / 2)


_LUMINANCE_TABLE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
"""Steps of luminance at quality 50 (ITU-T T.81, Annex K, table K.1)."""

_LOW_FREQUENCIES = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0), (0, 4), (2, 2), (4, 0))
_LARGEST_STEP = 120
_FEWEST_COEFFICIENTS = 16
_CLEAR_RHYTHM = 0.6
_CLIPPED = 0.1
"""Share of a block that may be clipped to 0 or 255, which disturbs the rhythm."""


def _estimate_quality(luma: Tensor, clipped: Tensor, phase: tuple[int, int]) -> float | None:
    """The IJG quality whose table fits the rhythm of the DCT coefficients best.

    After quantisation by q all coefficients lie at multiples of q, so the mean of cos(2πc / q) over them is near 1; over
    coefficients that were never quantised it is near 0. Source of the idea: Fan and de Queiroz, "Identification of bitmap
    compression history: JPEG detection and quantizer estimation", 2003.
    """
    blocks, spoilt = (
        functional.unfold(plane[:, :, phase[0] :, phase[1] :], _BLOCK_PX, stride=_BLOCK_PX).transpose(1, 2).flatten(0, 1)
        for plane in (luma, clipped.float())
    )
    blocks = blocks[spoilt.mean(dim=1) <= _CLIPPED].reshape(-1, _BLOCK_PX, _BLOCK_PX)
    basis = _dct_matrix()
    coefficients = basis @ blocks @ basis.T
    steps = torch.arange(2, _LARGEST_STEP + 1, dtype=torch.float32)
    qualities: list[float] = []
    measured = 0
    for row, column in _LOW_FREQUENCIES:
        values = coefficients[:, row, column]
        values = values[values.abs() > 1.5]
        if len(values) < _FEWEST_COEFFICIENTS:
            continue
        measured += 1
        above = values.abs()[None] > steps[:, None] / 2
        count = above.sum(dim=1)
        rhythm = (torch.cos(2 * math.pi * values[None] / steps[:, None]) * above).sum(dim=1) / count.clamp(min=1)
        expected = torch.exp(-2 * (math.pi * _ROUNDING / steps).square())
        fits = (rhythm > _CLEAR_RHYTHM * expected) & (count >= _FEWEST_COEFFICIENTS)
        # Small coefficients must be gone too, or a broad distribution passes for one at every large multiple.
        gone = (values.abs()[None] < 0.3 * steps[:, None]).float().sum(dim=1) <= 0.6 * len(values)
        found = steps[fits & gone]
        if len(found):
            qualities.append(_quality_of(found[-1].item() / _LUMINANCE_TABLE[row, column].item()))
    if measured < 3 or len(qualities) < 0.6 * measured:
        return None
    return float(torch.tensor(qualities).median())


_ROUNDING = 0.45
"""Standard deviation that rounding to 8-bit RGB leaves on a luma coefficient."""


def _quality_of(ratio: float) -> float:
    """The IJG's quality for steps of `ratio` times those at quality 50."""
    return min(100.0, 100 - 50 * ratio) if ratio <= 1 else 50 / ratio


def _ratio_of(quality: float) -> float:
    """The inverse of `_quality_of`."""
    return 50 / quality if quality < 50 else (100 - quality) / 50


def _dct_matrix() -> Tensor:
    """The orthonormal DCT-II of 8 samples."""
    place = torch.arange(_BLOCK_PX, dtype=torch.float32)
    matrix = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / (2 * _BLOCK_PX)) * 0.5
    matrix[0] /= 2**0.5
    return matrix


def _estimate_white_noise(luma: Tensor) -> float:
    """`_estimate_noise`, or 0 where what was measured is coarser than noise: means of four samples must waver by less."""
    sigma = _estimate_noise(luma, luma)
    halved = functional.avg_pool2d(luma, 2)
    return sigma if sigma > 0 and _estimate_noise(halved, halved) < _COARSE * sigma else 0.0


_COARSE = 0.9
"""Share of noise that is left in means of four samples. White noise keeps 0.5, on photographs 0.51 to 0.70; foliage, grass and
gravel measured 1.1 to 2.1. Noise that was resized or compressed looks like them, and is left alone with them."""


def _estimate_noise(planes: Tensor, luma: Tensor) -> float:
    """Standard deviation of noise, from the blocks where there is least else.

    Each block is measured with the mask of Immerkaer, "Fast noise variance estimation", 1996, which is blind to ramps.
    """
    mask = planes.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]).reshape(1, 1, 3, 3) / 6
    channels = planes.shape[1]
    response = functional.conv2d(planes, mask.expand(channels, 1, 3, 3), groups=channels)
    power = functional.avg_pool2d(response.square().mean(dim=1, keepdim=True), _BLOCK_PX)
    level = functional.avg_pool2d(luma[:, :, 1:-1, 1:-1], _BLOCK_PX)
    power = power[(level > 12) & (level < 243)]  # nearer to black and white noise is cut off
    if len(power) == 0:
        return 0.0
    quietest, quiet = power.quantile(power.new_tensor([0.1, 0.3])).tolist()
    if quiet > _TEXTURE_SPREAD * quietest:
        return 0.0
    # The quietest tenth of blocks of noise alone measures this much of the noise's true power.
    return (quietest / 0.63) ** 0.5


_TEXTURE_SPREAD = 2.4
"""How much more power the quietest third of blocks may have than the quietest tenth. Noise is alike everywhere: below 2 on
noisy photographs; brushwork and foliage are not: above 2.7 on those looked at."""


def _measure_banding(luma: Tensor) -> float:
    """Where a block spans a few steps of 8 bits, has plateaus, and climbs between them by two steps or more at once."""
    size = 16
    steps = torch.cat((luma.diff(dim=2)[..., :-1].abs(), luma.diff(dim=3)[:, :, :-1].abs()), dim=1)
    level = functional.avg_pool2d((steps < 0.5).float(), size).mean(dim=1)
    stairs = functional.avg_pool2d(((steps > 1.5) & (steps < 9)).float(), size).amax(dim=1)
    small = functional.avg_pool2d(((steps >= 0.5) & (steps <= 1.5)).float(), size).amax(dim=1)
    low, high = -functional.max_pool2d(-luma[..., :-1, :-1], size)[:, 0], functional.max_pool2d(luma[..., :-1, :-1], size)[:, 0]
    banded = (level > 0.6) & (stairs > 0.03) & (stairs > 2 * small) & (high - low > 1.5) & (high - low < 20)
    return banded.float().mean().item()


def _measure_ringing(luma: Tensor) -> float:
    """How much more flat places near a strong edge waver than flat places farther from it."""
    low, high = local_range(luma, 3)
    strong = ((high - low) > 60).float()
    quiet = (high - low) < 30
    if strong.mean() < 0.002:
        return 0.0
    near = functional.max_pool2d(strong, 9, stride=1, padding=4) > 0
    closest = functional.max_pool2d(strong, 3, stride=1, padding=1) > 0
    around = functional.max_pool2d(strong, 21, stride=1, padding=10) > 0
    unrest = (luma - box_mean(luma, 5)).square()
    rings, rest = near & ~closest & quiet, around & ~near & quiet
    if rings.sum() < 200 or rest.sum() < 200:
        return 0.0
    height = (high - low)[strong > 0].mean().item()
    beyond = unrest[rings].median().sqrt().item() - unrest[rest].median().sqrt().item()
    return max(0.0, 100 * beyond / height)


def _measure_blur(luma: Tensor) -> float:
    """The blur effect: how much of all variation a strong blur takes away.

    Source: Crete, Dolmiere, Ladret and Nicolas, "The blur effect: perception and estimation with a new no-reference
    perceptual blur metric", 2007.
    """
    span = 11
    results: list[float] = []
    smooth = luma.new_tensor([1, 2, 1]) / 4
    difference = luma.new_tensor([1, 0, -1]) / 2
    for axis in (2, 3):
        along, across = ((-1, 1), (1, -1)) if axis == 2 else ((1, -1), (-1, 1))
        kernel = (difference.reshape(along) * smooth.reshape(across))[None, None]
        mean = luma.new_full((1, 1, *((span, 1) if axis == 2 else (1, span))), 1 / span)
        margin = (0, 0, span // 2, span // 2) if axis == 2 else (span // 2, span // 2, 0, 0)
        blurred = functional.conv2d(functional.pad(luma, margin, mode="reflect"), mean)
        slope, blurred_slope = (functional.conv2d(plane, kernel).abs() for plane in (luma, blurred))
        total = slope.sum().item()
        kept = (slope - blurred_slope).clamp(min=0).sum().item()
        results.append(abs(total - kept) / total if total > 0 else 1.0)
    return max(results)


def _measure_jaggedness(luma: Tensor) -> float:
    """The share of strong slanted edges that jump from one level to the other within one sample."""
    inner = luma[:, :, 2:-2, 2:-2]
    down = luma[:, :, 3:-1, 2:-2] - luma[:, :, 1:-3, 2:-2]
    across = luma[:, :, 2:-2, 3:-1] - luma[:, :, 2:-2, 1:-3]
    low, high = (edge[:, :, 2:-2, 2:-2] for edge in local_range(luma, 5))
    smooth_down, smooth_across = box_mean(down, 5).abs(), box_mean(across, 5).abs()
    ratio = torch.minimum(smooth_down, smooth_across) / torch.maximum(smooth_down, smooth_across).clamp(min=1e-3)
    step = torch.maximum((inner - luma[:, :, 1:-3, 2:-2]).abs(), (inner - luma[:, :, 2:-2, 1:-3]).abs())
    slanted = (high - low > 60) & (ratio > 0.25) & (step > 0.4 * (high - low))
    if slanted.sum() < 100:
        return 0.0
    return (step[slanted] > 0.85 * (high - low)[slanted]).float().mean().item()
