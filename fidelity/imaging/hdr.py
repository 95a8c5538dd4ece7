"""Signals of high dynamic range: PQ and HLG to light and back, and a color difference that can hold them.

Sources: SMPTE ST 2084 and ITU-R BT.2100-2 (transfer functions, ICtCp), ITU-R BT.2124-0 (the difference).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Transfer = Literal["PQ", "HLG"]
"""Transfer functions of high dynamic range."""

_PEAK_NITS = 10_000.0
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_HLG_LUMA = (0.2627, 0.6780, 0.0593)
_TO_LMS = ((1688 / 4096, 2146 / 4096, 262 / 4096), (683 / 4096, 2951 / 4096, 462 / 4096), (99 / 4096, 309 / 4096, 3688 / 4096))
_TO_ITP = (
    (0.5, 0.5, 0.0),
    (0.5 * 6610 / 4096, 0.5 * -13613 / 4096, 0.5 * 7003 / 4096),
    (17933 / 4096, -17390 / 4096, -543 / 4096),
)
_DIFFERENCE_SCALE = 720.0


@dataclass(frozen=True)
class WideSignal:
    """How the samples of a picture stand for light."""

    transfer: Transfer
    """The transfer function."""
    primaries: int
    """Code point of its primaries (ITU-T H.273, table 2)."""
    to_bt2020: tuple[tuple[float, float, float], ...]
    """Matrix from its linear colors to those of BT.2020."""

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """The color difference of BT.2124, in which 1 is just noticeable, as in CIEDE2000.

        Args:
            first: ``(B, 1 or 3, H, W)``, the signal in [0, 1].
            second: Of the same shape.

        Returns:
            ``(B, 1, H, W)``.
        """
        apart = self._to_itp(first) - self._to_itp(second)
        return _DIFFERENCE_SCALE * apart.square().sum(dim=1, keepdim=True).sqrt()

    def _to_itp(self, signal: Tensor) -> Tensor:
        colors = signal.float().clamp(0, 1).expand(-1, 3, -1, -1)
        nits = _mix(signal_to_nits(colors, self.transfer), self.to_bt2020)
        return _mix(nits_to_pq(_mix(nits, _TO_LMS)), _TO_ITP)


def signal_to_nits(signal: Tensor, transfer: Transfer) -> Tensor:
    """Light of a screen, in nits; of HLG, that of a screen with a peak of 1000.

    Args:
        signal: ``(B, 3, H, W)`` in [0, 1].
        transfer: Its transfer function.
    """
    if transfer == "PQ":
        power = signal ** (1 / _M2)
        return _PEAK_NITS * ((power - _C1).clamp(min=0) / (_C2 - _C3 * power)) ** (1 / _M1)
    scene = torch.where(signal <= 0.5, signal.square() / 3, (torch.exp((signal - _HLG_C) / _HLG_A) + _HLG_B) / 12)
    luma = torch.einsum("c,bchw->bhw", scene.new_tensor(_HLG_LUMA), scene).unsqueeze(1)
    return _HLG_PEAK_NITS * luma.clamp(min=1e-9) ** (_HLG_GAMMA - 1) * scene


def nits_to_pq(nits: Tensor) -> Tensor:
    """The PQ signal of light, elementwise."""
    power = (nits.clamp(min=0) / _PEAK_NITS) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _mix(image: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", image.new_tensor(matrix), image)
