"""Tone mapping of PQ and HLG signals to sRGB, so that what a screen without high dynamic range shows is kept.

A picture without anything brighter than reference white, 203 nits, is only converted. Else light is compressed by the curve of
ITU-R BT.2390, section 5.4.1, which makes the picture's own peak white: dark and middle tones stay, lights near reference white
give way to what is brighter. One factor for the three colors of a pixel keeps its hue; colors outside sRGB's are clipped.

Sources: SMPTE ST 2084 and ITU-R BT.2100-2 (transfer functions), ITU-R BT.2408 (reference white), ITU-R BT.2390-10.
"""

import numpy as np
import torch
from torch import Tensor

from ..imaging.hdr import WideSignal, nits_to_pq, signal_to_nits
from .color_tags import BT709, primaries_of, to_xyz

WHITE_NITS = 203.0
_BAND_ROWS = 256
_PEAK_SHARE = 1e-4
"""Share of the pixels that may be brighter than what counts as the peak."""


def tone_map(image: Tensor, signal: WideSignal, peak_nits: float | None = None) -> Tensor:
    """Converts a signal of high dynamic range to sRGB.

    Args:
        image: ``(1, 3 or 4, H, W)`` in [0, 1]; alpha is unchanged.
        signal: How its samples stand for light.
        peak_nits: The light that becomes white, so that all frames of a video are mapped alike; the picture's own if not given.

    Returns:
        ``(1, 3 or 4, H, W)``, sRGB in [0, 1].
    """
    device = image.device
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, image.shape[2], _BAND_ROWS)]
    brightest = [signal_to_nits(image[:, :3, rows], signal.transfer).amax(dim=1, keepdim=True) for rows in bands]
    peak = peak_nits or float(np.quantile(torch.cat(brightest, dim=2).cpu().numpy(), 1 - _PEAK_SHARE))
    matrix = torch.from_numpy(np.linalg.inv(to_xyz(BT709)) @ to_xyz(primaries_of(signal))).float().to(device)
    result = image.clone()
    for rows, nits in zip(bands, brightest, strict=True):
        light = signal_to_nits(image[:, :3, rows], signal.transfer) * _compress(nits, peak) / WHITE_NITS
        light = torch.einsum("ij,bjhw->bihw", matrix, light).clamp_(0, 1)
        result[:, :3, rows] = torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return result


def _compress(nits: Tensor, peak: float) -> Tensor:
    """The factor that brings light of at most `peak` nits to at most `WHITE_NITS`."""
    if peak <= WHITE_NITS:
        return torch.ones_like(nits)
    top, white = nits_to_pq(torch.tensor([peak, WHITE_NITS])).tolist()
    given = (nits_to_pq(nits) / top).clamp(max=1)
    highest = white / top
    knee = 1.5 * highest - 0.5
    part = (given - knee).clamp(min=0) / (1 - knee)
    curve = (2 * part**3 - 3 * part**2 + 1) * knee + (part**3 - 2 * part**2 + part) * (1 - knee)
    curve = curve + (-2 * part**3 + 3 * part**2) * highest
    mapped = signal_to_nits(torch.where(given < knee, given, curve) * top, "PQ")
    return (mapped / nits.clamp(min=1e-6)).clamp(0, 1)
