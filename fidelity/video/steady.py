"""Steadies what an upscaler adds: detail that flickers is averaged along the motion of the source.

Only the detail is filtered, the difference between the result and its source enlarged without a network, so that the source's
own motion, grain and light stay as they are. Each frame's detail is mixed with the filtered detail of the frame before, moved
to where the source shows the same. Where the sources differ, or the detail itself differs by more than flicker does, the frame
keeps its own; at a cut all of it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.filters import box_mean
from ..imaging.resample import resize
from ..imaging.yuv import FULL, rgb_to_planes
from ..progress import Progress
from .motion import OPENCV_HINT, enlarge_motion, find_motion, has_motion, move
from .scenes import CutFinder


@dataclass(frozen=True)
class SteadySettings:
    """Constants of the filter; chosen with tools/benchmarks/flicker.py."""

    share: float = 0.9
    """Largest share of the frame before in a frame's detail."""
    unlike: float = 4 / 255
    """Difference of the sources, with the noise they have, at which that share has fallen by two thirds."""
    change: float = 30 / 255
    """Change of the detail at which it has fallen likewise."""


DEFAULT_STEADY = SteadySettings()


class Steadier:
    """Filters the frames of one scene after another, in order."""

    def __init__(self, settings: SteadySettings = DEFAULT_STEADY) -> None:
        self._settings = settings
        self.detail: Tensor | None = None
        """The filtered detail of the last frame, ``(1, 1, H, W)``; None before the first one and at a cut."""

    def run(self, result: Tensor, base: Tensor, after: Tensor, before: Tensor | None, motion: Tensor | None) -> Tensor:
        """Filters a frame.

        Args:
            result: Its luma as it was enlarged, ``(1, 1, H, W)``.
            base: The luma of its source enlarged without a network, of that size.
            after: The source's luma in this frame, ``(1, 1, h, w)``.
            before: The source's luma in the frame before; None at a cut.
            motion: From `fidelity.video.motion.find_motion`; None at a cut.

        Returns:
            The steadied luma.
        """
        detail = result - base
        if motion is not None and before is not None and self.detail is not None:
            size = (result.shape[2], result.shape[3])
            earlier = move(self.detail, enlarge_motion(motion, size))
            alike = self._likeness(before, after, motion)
            share = functional.interpolate(alike, size, mode="bilinear", align_corners=False)
            apart = earlier - detail
            share = share * torch.exp(-(apart / self._settings.change).square())
            detail = torch.addcmul(detail, apart, share)
        self.detail = detail
        return base + detail

    def _likeness(self, before: Tensor, after: Tensor, motion: Tensor) -> Tensor:
        """The share of the frame before at each pixel of the source, by how alike the sources are there."""
        apart = box_mean((after - move(before, motion, "bilinear")).abs(), 3)
        noise = _noise_of(after - before)
        limit = self._settings.unlike + noise
        return self._settings.share * torch.exp(-(apart / limit).square())


def check_steady(frames: int, sources: int) -> None:
    """Raises `RefusedError` unless there is one source for each frame, and OpenCV is installed."""
    if frames != sources:
        raise RefusedError(f"there are {frames} frames and {sources} sources; wanted one source for each frame")
    if not has_motion():
        raise RefusedError(f"steadying {OPENCV_HINT}")


def steady_frames(frames: Tensor, sources: Tensor, progress: Progress | None = None) -> Tensor:
    """Steadies the luma of upscaled frames in order, from any upscaler; colors are those of each frame.

    Args:
        frames: ``(B, 1, 3 or 4, H, W)`` in [0, 1].
        sources: The frames before upscaling, ``(B, 1, 3 or 4, h, w)``, of any size.
        progress: Called after each frame.

    Returns:
        The frames, in [0, 1]. Alpha is unchanged.

    Raises:
        RefusedError: As `check_steady`.
    """
    check_steady(len(frames), len(sources))
    steadier, cuts, out = Steadier(), CutFinder(), frames.clone()
    size, before = (frames.shape[2], frames.shape[3]), None
    for index in range(len(frames)):
        planes = rgb_to_planes(sources[index, :3].to(frames.device).expand(3, -1, -1)[None], FULL)
        result = rgb_to_planes(frames[index, :3].expand(3, -1, -1)[None], FULL).luma
        earlier = None if cuts.starts_scene(planes) else before
        motion = None if earlier is None else find_motion(earlier, planes.luma)
        steadied = steadier.run(result, resize(planes.luma, size), planes.luma, earlier, motion)
        out[index, :3] = (frames[index, :3] + (steadied - result)[0]).clamp_(0, 1)
        before = planes.luma
        if progress:
            progress(index + 1, len(frames))
    return out


def _noise_of(difference: Tensor) -> float:
    """Standard deviation of the noise in the difference of two frames, by the median, which motion hardly moves."""
    strided = difference[..., ::2, ::2].abs().flatten()
    return float(strided.median()) / 0.6745 if strided.numel() else math.nan
