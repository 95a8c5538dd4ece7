"""Measured conditions of an image: size, damage and softness. These measurements switch steps on."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..choices import RestoreChoice
from ..imaging.color import rgb_to_ycbcr
from ..imaging.filters import box_mean, dct_matrix, local_range
from ..imaging.tensors import check_image
from ..steps.evidence import BLOCK_PX, BRIGHTEST, DARKEST, Evidence
from .features import Features, measure_patch_features, on_white, take_opaque, take_patches
from .pixel_art import count_colors, find_pixel_art
from .restoration import choose_strength, judge_restoration

_SMALLEST_PX = 24
_CLEAR_BLOCKS = 0.25
"""Blockiness that only blocks explain; up to 0.15 on real pictures without them."""


@dataclass(frozen=True)
class Conditions:
    """Size, damage and softness of an image, measured on its pixels alone."""

    long_edge_px: int
    """Pixels along the longer side."""
    jpeg_quality: float | None
    """Quality of the last JPEG compression on the IJG scale, 1 to 100. None if it left no measurable trace: above about 93,
    after a resize, or if the image never was a JPEG."""
    blockiness: float
    """Ratio of the steps across borders of 8 px blocks to the steps inside them, minus 1; 0 for none."""
    noise_sigma: float
    """Standard deviation of noise in luma, in 8-bit levels. Also 0 if uneven texture covers everything, since it hides the
    noise. Uniform texture, such as a lawn, measures as noise."""
    chroma_noise_sigma: float
    """The same for the chroma channels."""
    banding: float
    """Share of the area where a gradient is broken into bands two or more 8-bit levels apart, in [0, 1]."""
    ringing: float
    """Excess variation next to strong edges over that farther away, in percent of the edge contrast; 0 for none."""
    softness: float
    """The blur effect of Crete et al.: 0 is sharpest, 1 has no detail at all; a sharp photograph has about 0.3."""
    jaggedness: float
    """Share of strong slanted edges that are one pixel wide, in [0, 1]; about 0.2 if lines are antialiased."""

    jpeg_grid: tuple[int, int] | None = None
    """The (row, column), each from 0 to 7, where the 8 px blocks of a JPEG would begin; None if only a part was measured."""

    restore_strength: float = 0.0
    """Share of the restored image to blend in, in [0, 1]; 0 for a clean source. See `fidelity.decide.restoration`."""

    is_dithered: bool = False
    """Whether patterns of few colors imitate others. They measure as noise, but their mean is exact, so that a restored image
    has to keep it."""

    def with_strength(self, restore: RestoreChoice, strength: float | None) -> "Conditions":
        """The same conditions with the strength that the user chose: a number, or 1 with a named restoration."""
        if strength is None and restore == "auto":
            return self
        return replace(self, restore_strength=1.0 if strength is None else strength)

    def shifted(self, by: tuple[int, int]) -> "Conditions":
        """The same conditions of an image that (rows, columns) were added to before its first ones."""
        if self.jpeg_grid is None:
            return self
        row, column = ((place + added) % BLOCK_PX for place, added in zip(self.jpeg_grid, by, strict=True))
        return replace(self, jpeg_grid=(row, column))

    @property
    def damage_sigma(self) -> float:
        """Standard deviation of the noise or of JPEG's quantization error, whichever is larger, in 8-bit levels."""
        if self.jpeg_quality is None:
            return self.noise_sigma
        step = float(_LUMINANCE_TABLE[0, 1]) * _ratio_of(self.jpeg_quality)
        return max(self.noise_sigma, step / math.sqrt(12))  # the quantization error is uniform

    @property
    def has_unknown_blocks(self) -> bool:
        """Whether it was compressed in blocks, as video is too, though not by a JPEG of measurable quality."""
        return self.jpeg_quality is None and self.blockiness > _CLEAR_BLOCKS

    @property
    def evidence(self) -> Evidence | None:
        """What limits the restoration of a photograph; None if that is not known: blocks without a measurable quality, as in a
        video frame, or only a part of the image measured.
        """
        if self.jpeg_grid is None or self.has_unknown_blocks:
            return None
        if self.jpeg_quality is None:
            return Evidence()
        return Evidence(self.jpeg_grid, (_LUMINANCE_TABLE * _ratio_of(self.jpeg_quality)).clamp(min=1))


def measure_conditions(image: Tensor, texture: Features | None = None) -> Conditions:
    """Measures the conditions of an image on patches of it.

    Args:
        image: ``(1, 1, 3 or 4, H, W)`` in [0, 1], on any device; for transparency, see `take_opaque`.
        texture: From `fidelity.decide.features.measure_patch_features`, if already measured.
    """
    check_image(image)
    opaque = take_opaque(image)
    patches = on_white(take_patches(opaque))
    for axis in (2, 3):  # mirror small images, so that every measurement has enough pixels
        while patches.shape[axis] < _SMALLEST_PX:
            patches = torch.cat((patches, patches.flip(axis)), dim=axis)
    planes = rgb_to_ycbcr(patches) * 255
    luma, chroma = planes[:, :1], planes[:, 1:]
    clipped = ((patches <= 0) | (patches >= 1)).any(dim=1, keepdim=True)
    phase, blockiness = _find_grid(luma)
    noise = _estimate_white_noise(luma)
    return Conditions(
        long_edge_px=max(image.shape[2:]),
        jpeg_quality=_estimate_quality(luma, clipped, phase),
        blockiness=blockiness,
        noise_sigma=noise,
        chroma_noise_sigma=_estimate_noise(chroma, luma),
        banding=_measure_banding(luma),
        ringing=_measure_ringing(luma),
        softness=_measure_blur(luma),
        jaggedness=_measure_jaggedness(luma),
        jpeg_grid=phase if opaque is image else None,
        restore_strength=_judge_strength(image, texture),
        is_dithered=noise >= _DITHER_SIGMA and count_colors(image) <= _PALETTE_COLORS,
    )


def _judge_strength(image: Tensor, texture: Features | None) -> float:
    if find_pixel_art(image):
        return 0.0  # its dithering is no noise
    lowest, highest = torch.aminmax(image[:, :3])
    if highest - lowest < _LEAST_CONTRAST:
        return 0.0  # nothing is there that could be restored
    return choose_strength(judge_restoration(texture or measure_patch_features(image)))


_LEAST_CONTRAST = 3 / 255
_DITHER_SIGMA = 4.0
_PALETTE_COLORS = 256


def _find_grid(luma: Tensor) -> tuple[tuple[int, int], float]:
    """Returns the (row, column) where 8 px blocks begin, and how strong their borders are."""
    phase, strengths = list[int](), list[float]()
    for axis in (2, 3):
        steps = luma.diff(n=2, dim=axis).abs().clamp(max=12)
        profile = steps.mean(dim=(0, 1, 5 - axis))
        profile = profile[: len(profile) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(dim=0) + 0.05
        # A border before sample b bends the second differences that begin at b - 2 and b - 1.
        pairs = (profile + profile.roll(-1)) / 2
        place = int(pairs.argmax())
        inside = profile.roll(-place)[3:7].mean()
        phase.append((place + 2) % BLOCK_PX)
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
"""Luminance quantization steps at quality 50 (ITU-T T.81, Annex K, table K.1)."""

_LOW_FREQUENCIES = ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0), (0, 4), (2, 2), (4, 0))
_LARGEST_STEP = 120
_FEWEST_COEFFICIENTS = 16
_CLEAR_RHYTHM = 0.6
_CLIPPED = 0.1
"""Largest share of a block that may be clipped to 0 or 255; clipping disturbs the periodicity."""


def _estimate_quality(luma: Tensor, clipped: Tensor, phase: tuple[int, int]) -> float | None:
    """Returns the IJG quality whose table best fits the periodicity of the DCT coefficients.

    After quantization by q all coefficients are multiples of q, so the mean of cos(2πc / q) over them is near 1. For
    coefficients that were never quantized it is near 0. Source of the idea: Fan and de Queiroz, "Identification of bitmap
    compression history: JPEG detection and quantizer estimation", 2003.
    """
    blocks, spoilt = (
        functional.unfold(plane[:, :, phase[0] :, phase[1] :], BLOCK_PX, stride=BLOCK_PX).transpose(1, 2).flatten(0, 1)
        for plane in (luma, clipped.float())
    )
    blocks = blocks[spoilt.mean(dim=1) <= _CLIPPED].reshape(-1, BLOCK_PX, BLOCK_PX)
    basis = dct_matrix(BLOCK_PX)
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
        # Small coefficients must be gone too; otherwise a broad distribution seems to fit every large step.
        gone = (values.abs()[None] < 0.3 * steps[:, None]).float().sum(dim=1) <= 0.6 * len(values)
        found = steps[fits & gone]
        if len(found):
            qualities.append(_quality_of(found[-1].item() / _LUMINANCE_TABLE[row, column].item()))
    if measured < 3 or len(qualities) < 0.6 * measured:
        return None
    return float(torch.tensor(qualities).median())


_ROUNDING = 0.45
"""Standard deviation of a luma coefficient caused by rounding to 8-bit RGB."""


def _quality_of(ratio: float) -> float:
    """Returns the IJG quality whose steps are `ratio` times those at quality 50."""
    return min(100.0, 100 - 50 * ratio) if ratio <= 1 else 50 / ratio


def _ratio_of(quality: float) -> float:
    """The inverse of `_quality_of`."""
    return 50 / quality if quality < 50 else (100 - quality) / 50


def _estimate_white_noise(luma: Tensor) -> float:
    """Like `_estimate_noise`, but 0 if the result is coarser than noise: means of four samples must vary less."""
    sigma = _estimate_noise(luma, luma)
    halved = functional.avg_pool2d(luma, 2)
    return sigma if sigma > 0 and _estimate_noise(halved, halved) < _COARSE * sigma else 0.0


_COARSE = 0.9
"""Largest share of noise that may remain in means of four samples. White noise keeps 0.5, on photographs 0.51 to 0.70;
foliage, grass and gravel measured 1.1 to 2.1. Resized or compressed noise looks like these textures, so it counts as 0 too."""


def _estimate_noise(planes: Tensor, luma: Tensor) -> float:
    """Estimates the standard deviation of noise from the blocks with the least detail.

    Each block is measured with the mask of Immerkaer, "Fast noise variance estimation", 1996, which ignores ramps.
    """
    mask = planes.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]).reshape(1, 1, 3, 3) / 6
    channels = planes.shape[1]
    response = functional.conv2d(planes, mask.expand(channels, 1, 3, 3), groups=channels)
    power = functional.avg_pool2d(response.square().mean(dim=1, keepdim=True), BLOCK_PX)
    level = functional.avg_pool2d(luma[:, :, 1:-1, 1:-1], BLOCK_PX)
    power = power[(level > DARKEST) & (level < BRIGHTEST)]
    if len(power) == 0:
        return 0.0
    quietest, quiet = power.quantile(power.new_tensor([0.1, 0.3])).tolist()
    if quiet > _TEXTURE_SPREAD * quietest:
        return 0.0
    # In pure noise, the quietest tenth of blocks measures this share of the true power.
    return (quietest / 0.63) ** 0.5


_TEXTURE_SPREAD = 2.4
"""Largest ratio of power between the quietest third of blocks and the quietest tenth. Noise is uniform: below 2 on noisy
photographs. Brushwork and foliage are not: above 2.7 on those measured."""


def _measure_banding(luma: Tensor) -> float:
    """Measures the share of blocks that span a few 8-bit levels and have plateaus two or more levels apart."""
    size = 16
    steps = torch.cat((luma.diff(dim=2)[..., :-1].abs(), luma.diff(dim=3)[:, :, :-1].abs()), dim=1)
    level = functional.avg_pool2d((steps < 0.5).float(), size).mean(dim=1)
    stairs = functional.avg_pool2d(((steps > 1.5) & (steps < 9)).float(), size).amax(dim=1)
    small = functional.avg_pool2d(((steps >= 0.5) & (steps <= 1.5)).float(), size).amax(dim=1)
    low, high = -functional.max_pool2d(-luma[..., :-1, :-1], size)[:, 0], functional.max_pool2d(luma[..., :-1, :-1], size)[:, 0]
    banded = (level > 0.6) & (stairs > 0.03) & (stairs > 2 * small) & (high - low > 1.5) & (high - low < 20)
    return banded.float().mean().item()


def _measure_ringing(luma: Tensor) -> float:
    """Measures how much more flat areas vary near a strong edge than farther from it."""
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
    """Measures the blur effect: how much of all variation a strong blur removes.

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
    """Measures the share of strong slanted edges that go from one level to the other within one pixel."""
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
