"""Grain of film and paper: measured in what an enlargement has lost of its source, and added back.

Restorers and many upscalers take grain for noise. Where it belongs to the picture, `fit_grain` describes what is missing, and
`lay_grain` gives the enlargement grain of the same statistics at its own resolution. Enlarging the lost grain instead would
make blurred blotches of it.

The model has the parts of AV1's film grain synthesis (Norkin and Birkbeck, "Film grain synthesis for AV1 video codec", 2018):
the strength of the grain as a piecewise linear function of brightness, an autoregressive model of lag 3 for its spectrum, and
the dependence of the color differences on luma. It is fitted in flat patches, where what is missing is grain and not detail.

The new grain's spectrum is the model's up to the source's highest frequency. Above it, it falls off as the inverse fourth power
of frequency, so that grain looks sharp at the output's resolution, but is hardly stronger there. Reducing the output to the
source's size damps and aliases frequencies near that limit; the spectrum makes up for both.

At low frequencies, what is missing in flat areas is put back itself, and the new grain is as much weaker. So colors come nearer
to the source's, and the whole spectrum is the source's.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..imaging.color import opponent_to_rgb, rgb_to_luma, rgb_to_opponent
from ..imaging.drift import COLOR_BAND_SIGMA_PX
from ..imaging.filters import box_mean, gaussian_blur
from ..imaging.resample import resize_weights
from ..imaging.rows import (
    MappedSource,
    NewMap,
    PartRows,
    Resized,
    Rows,
    RowSource,
    band_rows,
    band_rows_around,
    has_grey_rows,
)
from ..progress import Progress

LEVEL_NODES = 9
"""Brightnesses, evenly from 0 to 1, between which the strength of grain is interpolated."""

_PATCH_PX = 32
_LARGE_PX = 2**20
_MOST_PATCHES = 1024
_FLATTEST = 0.3
"""Share of the patches that count as flat."""
_LEAST_PATCHES = 6
_FLAT_DEVIATION = 16 / 255
_FLAT_WINDOW_PX = 7
_CLIPPED = 6 / 255
_SHADOW = 0.2
_LAG = 3
_COARSE_SIGMA_PX = COLOR_BAND_SIGMA_PX / 2
"""Low-pass of the part that is put back as it was, in source pixels: wide enough to hold the band that color is judged in."""
_FREQUENCIES = 65
_TILES_PX = (1024, 1000)
"""Sides of two periodic tiles of grain, which are added: together they repeat only after 128 000 pixels."""


@dataclass(frozen=True)
class Grain:
    """Statistics of the grain of one image."""

    levels: Tensor
    """``(LEVEL_NODES,)``: standard deviation in luma at brightnesses from 0 to 1, in [0, 1] units."""
    mixture: Tensor
    """``(C, C)``, lower triangular: makes luma and the color differences, per unit of luma's deviation, of independent
    fields."""
    coefficients: Tensor
    """``(C, 24)``: autoregressive coefficients of each field, for the three rows above and the three pixels to the left."""
    unevenness: float
    """Coefficient of variation of the strength among flat patches, after brightness is accounted for: small if the grain is
    stationary."""
    shadow_share: float | None
    """Strength in the shadows relative to the strongest: below 1 for film, 1 for an amplified sensor; None if none are flat."""

    @property
    def deviation(self) -> float:
        """The largest standard deviation in luma, in [0, 1] units."""
        return self.levels.max().item()

    @property
    def correlation(self) -> float:
        """Correlation of horizontally neighboring pixels in luma: 0 for white noise."""
        spectrum = _ar_spectrum(self.coefficients[0], *_frequency_grid())
        across = torch.cos(2 * math.pi * _frequency_grid()[1])
        return (spectrum * across).mean().item() / spectrum.mean().item()


def fit_grain(source: RowSource, clean: RowSource, alpha: RowSource | None = None) -> Grain | None:
    """Describes the difference of two images as grain.

    Args:
        source: ``(1, 1 or 3, H, W)`` in [0, 1].
        clean: The same without its grain: the enlargement, reduced to the source's size.
        alpha: Transparency, ``(1, 1, H, W)``: only what is opaque counts.

    Returns:
        The statistics; None if the image has too few flat patches to tell.
    """
    patches = _take_patches(source, clean, alpha)
    if patches is None:
        return None
    brightness, removed = patches  # (N,), (N, C, side, side)
    removed = removed - removed.mean(dim=(2, 3), keepdim=True)
    power = removed[:, 0].square().mean(dim=(1, 2))
    levels = _fit_levels(brightness, power).sqrt()
    dark = power[brightness < _SHADOW]
    shadow_share = (dark.mean().sqrt() / levels.max().clamp(min=1e-6)).item() if len(dark) else None
    expected = _interpolate(levels, brightness).clamp(min=1e-6)
    spread = (power.sqrt() / expected).std().item()
    unit = removed / expected.reshape(-1, 1, 1, 1)
    covariance = torch.einsum("nchw,ndhw->cd", unit, unit) / unit[:, 0].numel()
    small = 1e-6 * torch.eye(covariance.shape[0], dtype=covariance.dtype)
    mixture = torch.linalg.cholesky(covariance + small)
    fields = torch.linalg.solve_triangular(mixture, unit.movedim(1, 0).flatten(1), upper=False)
    fields = fields.reshape(unit.shape[1], unit.shape[0], *unit.shape[2:])
    coefficients = torch.stack([_fit_autoregression(field) for field in fields])
    return Grain(levels.float(), mixture.float(), coefficients.float(), spread, shadow_share)


def lay_grain(
    target: Rows, source: RowSource, clean: RowSource, grain: Grain, new_map: NewMap, progress: Progress | None = None
) -> None:
    """Lays grain on an enlargement, in place.

    Args:
        target: The enlargement, ``(1, C or 4, H, W)`` in [0, 1].
        source: ``(1, C, h, w)`` with C 1 or 3, with its grain.
        clean: The enlargement, reduced to the source's size.
        grain: From `fit_grain` of the two.
        new_map: Creates the rows of an intermediate image of the source's size.
        progress: Told about the rows that are done.
    """
    channels, size = source.shape[1], target.shape[2:]
    output = PartRows(target, slice(0, channels)) if target.shape[1] > channels else target
    is_grey = channels == 1 or has_grey_rows(source)
    strength = MappedSource(clean, lambda band: _interpolate(grain.levels.to(band), rgb_to_luma(band)), 1)
    grown, levels = Resized(_find_coarse(source, clean, new_map), size), Resized(strength, size)
    tiles = _make_tiles(grain, (source.shape[2:], size), _seed_of(source))
    mixture = grain.mixture.to(target.device)
    for rows in band_rows(output):
        fine = _read_tiles(tiles, rows, size[1]).to(target.device)
        mixed = torch.einsum("cd,bdhw->bchw", mixture, fine)
        shades = mixed[:, :1].expand(-1, channels, -1, -1) if is_grey else opponent_to_rgb(mixed)
        band = output.read(rows) + grown.read(rows) + levels.read(rows).clamp_(min=0) * shades
        output.write(rows, band.clamp_(0, 1))
        if progress:
            progress(rows.stop, size[0])


def _take_patches(source: RowSource, clean: RowSource, alpha: RowSource | None) -> tuple[Tensor, Tensor] | None:
    """Takes the flattest patches.

    Returns:
        Their brightness, ``(N,)``, and what was removed there, in luma and color differences, ``(N, C, side, side)``.
    """
    height, width = source.shape[2:]
    if min(height, width) < _PATCH_PX:
        return None
    step = _PATCH_PX if height * width >= _LARGE_PX else _PATCH_PX // 2
    columns = range(0, width - _PATCH_PX + 1, step)
    tops = list(range(0, height - _PATCH_PX + 1, step))
    tops = tops[:: math.ceil(len(tops) * len(columns) / _MOST_PATCHES)]
    found: list[list[tuple[float, float, Tensor]]] = [[] for _ in range(LEVEL_NODES)]
    for top in tops:
        before, after = (image.read(slice(top, top + _PATCH_PX))[:1].cpu().double() for image in (source, clean))
        opaque = None if alpha is None else alpha.read(slice(top, top + _PATCH_PX)) == 1
        luma = rgb_to_luma(after)
        removed = rgb_to_opponent(before - after)
        for left in columns:
            part = (..., slice(left, left + _PATCH_PX))
            mean = luma[part].mean().item()
            extremes = before[part].min().item(), before[part].max().item()
            if opaque is not None and not opaque[part].all():
                continue
            if extremes[0] > 0 and extremes[1] < 1 and _CLIPPED < mean < 1 - _CLIPPED:
                patch = (luma[part].std().item(), mean, removed[part][0])
                found[int(mean * LEVEL_NODES)].append(patch)
    flat: list[tuple[float, float, Tensor]] = []
    for alike in found:  # some at every brightness
        alike.sort(key=lambda patch: patch[0])
        flattest = alike[: max(_LEAST_PATCHES, int(len(alike) * _FLATTEST))]
        flat += [patch for patch in flattest if patch[0] < _FLAT_DEVIATION]
    if len(flat) < _LEAST_PATCHES:
        return None
    return torch.tensor([patch[1] for patch in flat], dtype=torch.float64), torch.stack([patch[2] for patch in flat])


def _fit_levels(brightness: Tensor, power: Tensor) -> Tensor:
    """Mean power at the nodes of brightness; a node without patches takes that of the nearest one."""
    nodes = torch.linspace(0, 1, LEVEL_NODES, dtype=brightness.dtype)
    weights = (1 - (brightness[:, None] - nodes).abs() * (LEVEL_NODES - 1)).clamp(min=0)
    total = weights.sum(dim=0)
    means = (weights * power[:, None]).sum(dim=0) / total.clamp(min=1e-9)
    known = (total > 0.5).nonzero().flatten()
    if len(known) == 0:
        return power.mean().expand(LEVEL_NODES).clone()
    nearest = (nodes[:, None] - nodes[known]).abs().argmin(dim=1)
    return means[known[nearest]]


def _interpolate(levels: Tensor, brightness: Tensor) -> Tensor:
    """The strength at each brightness, linearly between the nodes."""
    place = brightness.clamp(0, 1) * (LEVEL_NODES - 1)
    lower = place.floor().clamp(max=LEVEL_NODES - 2)
    index = lower.long()
    return torch.lerp(levels[index], levels[index + 1], place - lower)


def _neighbors() -> list[tuple[int, int]]:
    """Offsets (down, right) of the pixels that come before one in reading order, up to the lag."""
    above = [(down, right) for down in range(-_LAG, 0) for right in range(-_LAG, _LAG + 1)]
    return [*above, *((0, right) for right in range(-_LAG, 0))]


def _fit_autoregression(field: Tensor) -> Tensor:
    """The least-squares prediction of a pixel from its neighbors, ``(24,)``, over patches ``(N, side, side)``."""
    side = field.shape[-1]
    inner = slice(_LAG, side), slice(_LAG, side - _LAG)

    def shifted(down: int, right: int) -> Tensor:
        rows, columns = inner
        return field[:, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right].flatten()

    around = torch.stack([shifted(*offset) for offset in _neighbors()])
    normal = around @ around.T
    normal += 1e-6 * normal.diagonal().mean().clamp(min=1e-12) * torch.eye(len(normal), dtype=normal.dtype)
    return torch.linalg.solve(normal, around @ shifted(0, 0))


def _frequency_grid() -> tuple[Tensor, Tensor]:
    """Frequencies (down, across) in cycles per source pixel, each ``(65, 65)``, from -0.5 to 0.5."""
    axis = torch.linspace(-0.5, 0.5, _FREQUENCIES, dtype=torch.float64)
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    return down, across


def _ar_spectrum(coefficients: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The power spectrum of an autoregressive field, up to a factor."""
    response = torch.ones_like(down).to(torch.complex128)
    for value, (rows, columns) in zip(coefficients.tolist(), _neighbors(), strict=True):
        response -= value * torch.exp(2j * math.pi * (rows * down + columns * across))
    return 1 / response.abs().square().clamp(min=1e-4)


def _spectrum(coefficients: Tensor, responses: tuple["_Response", "_Response"]) -> Tensor:
    """The spectrum on the frequency grid that new grain needs, so that reducing it gives the model's less the color band's."""
    down, across = _frequency_grid()
    model = _ar_spectrum(coefficients, down, across)
    model = model / model.mean()
    wanted = model * (1 - torch.exp(-4 * (math.pi * _COARSE_SIGMA_PX) ** 2 * (down.square() + across.square())))
    aliases = [(down + below, across + aside) for below in (-1, 0, 1) for aside in (-1, 0, 1)]
    damping = [(responses[0].at(place[0]) * responses[1].at(place[1])).square() for place in aliases]
    made = wanted.clone()
    for _ in range(6):
        reduced = sum((_extend(made, *place) * damped for place, damped in zip(aliases, damping, strict=True)), 0 * made)
        made *= (wanted / reduced.clamp(min=1e-9)).clamp(0.5, 2)
        made = made.minimum(8 * model)
    return made


def _extend(spectrum: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """A spectrum on the frequency grid at any frequency; beyond the source's highest it falls as the fourth power."""
    radius = torch.maximum(down.abs(), across.abs()) / 0.5
    index = [((one.clamp(-0.5, 0.5) + 0.5) * (_FREQUENCIES - 1)).round().long() for one in (down, across)]
    return spectrum[index[0], index[1]] / radius.clamp(min=1).pow(4)


class _Response:
    """The frequency response of reducing one axis, by source frequency."""

    def __init__(self, source: int, target: int) -> None:
        weights = resize_weights(target, source)
        taps = weights.weights[source // 2]
        self._taps, self._ratio = taps, target / source
        self._places = torch.arange(len(taps), dtype=torch.float64)

    def at(self, frequency: Tensor) -> Tensor:
        """The gain at frequencies in cycles per source pixel."""
        if len(self._taps) == 1:
            return torch.ones_like(frequency)
        turns = frequency[..., None] / self._ratio * self._places
        return (self._taps * torch.exp(-2j * math.pi * turns)).sum(dim=-1).abs()


def _make_tiles(grain: Grain, sizes: tuple[tuple[int, int], tuple[int, int]], seed: int) -> list[Tensor]:
    """Two periodic tiles of unit grain, each ``(1, C, side, side)``, whose sum has the model's spectrum."""
    (height, width), (tall, wide) = sizes
    ratios = tall / height, wide / width
    responses = _Response(height, tall), _Response(width, wide)
    spectra = [_spectrum(field, responses) for field in grain.coefficients]
    generator = torch.Generator().manual_seed(seed)
    tiles: list[Tensor] = []
    for side in _TILES_PX:
        axis = torch.fft.fftfreq(side, dtype=torch.float64)
        half = torch.fft.rfftfreq(side, dtype=torch.float64)
        down, across = torch.meshgrid(axis * ratios[0], half * ratios[1], indexing="ij")
        fields: list[Tensor] = []
        for spectrum in spectra:
            gain = (0.5 * ratios[0] * ratios[1] * _extend(spectrum, down, across)).sqrt().float()
            white = torch.randn((side, side), generator=generator)
            fields.append(torch.fft.irfft2(torch.fft.rfft2(white) * gain, s=(side, side)))
        tiles.append(torch.stack(fields)[None])
    return tiles


def _read_tiles(tiles: list[Tensor], rows: slice, width: int) -> Tensor:
    """The sum of the repeated tiles in some rows, ``(1, C, rows, width)``."""
    parts: list[Tensor] = []
    for tile in tiles:
        side = tile.shape[-1]
        band = tile[:, :, torch.arange(rows.start, rows.stop) % side]
        parts.append(band.repeat(1, 1, 1, math.ceil(width / side))[..., :width])
    return torch.stack(parts).sum(dim=0)


def _find_coarse(source: RowSource, clean: RowSource, new_map: NewMap) -> RowSource:
    """The low-pass of what is missing, where the image is flat; elsewhere it is detail that was drawn anew."""
    result = new_map(clean.shape)
    for rows, wide, inner in band_rows_around(clean, math.ceil(4 * _COARSE_SIGMA_PX) + _FLAT_WINDOW_PX):
        before, after = source.read(wide), clean.read(wide)
        luma = rgb_to_luma(after)
        variance = box_mean(luma.square(), _FLAT_WINDOW_PX) - box_mean(luma, _FLAT_WINDOW_PX).square()
        missing = (before - after) / (1 + variance / _FLAT_DEVIATION**2).square()
        result.write(rows, gaussian_blur(missing, _COARSE_SIGMA_PX)[:, :, inner])
    return result


def _seed_of(source: RowSource) -> int:
    """A seed that depends on the picture alone."""
    row = source.read(slice(source.shape[2] // 2, source.shape[2] // 2 + 1))
    pixels = (row.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return int.from_bytes(hashlib.blake2b(pixels.numpy().tobytes(), digest_size=7).digest(), "little")
