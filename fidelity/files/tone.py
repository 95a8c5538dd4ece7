"""Tone mapping of PQ and HLG signals to sRGB, so that what a screen without high dynamic range shows is kept.

A picture without anything brighter than reference white, 203 nits, is only converted. Else light is compressed by the curve of
ITU-R BT.2390, section 5.4.1, which makes the picture's own peak white: dark and middle tones stay, lights near reference white
give way to what is brighter. One factor for the three colors of a pixel keeps its hue; colors outside sRGB's are clipped.

Sources: SMPTE ST 2084 and ITU-R BT.2100-2 (transfer functions), ITU-R BT.2408 (reference white), ITU-R BT.2390-10.
"""

import numpy as np
from numpy.typing import NDArray

from .color_tags import BT709, Chromaticities, Wide, to_xyz

Samples = NDArray[np.float32]

WHITE_NITS = 203.0
_PEAK_NITS = 10_000.0
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_HLG_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
_BAND_ROWS = 256
_PEAK_SHARE = 1e-4
"""Share of the pixels that may be brighter than what counts as the peak."""


def tone_map(samples: Samples, wide: Wide, primaries: Chromaticities) -> Samples:
    """Converts a signal of high dynamic range to sRGB.

    Args:
        samples: ``(H, W, 3 or 4)`` in [0, 1]; alpha is unchanged.
        wide: Its transfer function.
        primaries: Its primaries and white.

    Returns:
        ``(H, W, 3 or 4)``, sRGB in [0, 1].
    """
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, len(samples), _BAND_ROWS)]
    brightest = np.concatenate([_to_nits(samples[rows, :, :3], wide).max(axis=2) for rows in bands])
    peak = float(np.quantile(brightest, 1 - _PEAK_SHARE))
    matrix = (np.linalg.inv(to_xyz(BT709)) @ to_xyz(primaries)).astype(np.float32)
    result = samples.copy()
    for rows in bands:
        light = _to_nits(samples[rows, :, :3], wide) * _compress(brightest[rows], peak)[..., None] / WHITE_NITS
        light = np.clip(light @ matrix.T, 0, 1)
        result[rows, :, :3] = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return result


def _to_nits(signal: Samples, wide: Wide) -> Samples:
    if wide == "PQ":
        power = signal ** np.float32(1 / _M2)
        return _from_pq_power(power)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    luma = (scene @ _HLG_LUMA)[..., None]
    return (_HLG_PEAK_NITS * np.maximum(luma, 1e-9) ** (_HLG_GAMMA - 1) * scene).astype(np.float32)


def _to_pq(nits: Samples) -> Samples:
    power = (np.maximum(nits, 0) / _PEAK_NITS) ** np.float32(_M1)
    return (((_C1 + _C2 * power) / (1 + _C3 * power)) ** np.float32(_M2)).astype(np.float32)


def _from_pq_power(power: Samples) -> Samples:
    """Nits of a PQ signal that was raised to 1 / m2."""
    return (_PEAK_NITS * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** np.float32(1 / _M1)).astype(np.float32)


def _compress(nits: Samples, peak: float) -> Samples:
    """The factor that brings light of at most `peak` nits to at most `WHITE_NITS`."""
    if peak <= WHITE_NITS:
        return np.ones_like(nits)
    top = float(_to_pq(np.array(peak, np.float32)))
    given = np.minimum(_to_pq(nits) / top, 1)
    highest = float(_to_pq(np.array(WHITE_NITS, np.float32))) / top
    knee = 1.5 * highest - 0.5
    part = np.maximum(given - knee, 0) / (1 - knee)
    curve = (2 * part**3 - 3 * part**2 + 1) * knee + (part**3 - 2 * part**2 + part) * (1 - knee)
    curve = curve + (-2 * part**3 + 3 * part**2) * highest
    wanted = (np.where(given < knee, given, curve) * top).astype(np.float32)
    mapped = _from_pq_power(wanted ** np.float32(1 / _M2))
    return (mapped / np.maximum(nits, 1e-6)).clip(0, 1).astype(np.float32)
