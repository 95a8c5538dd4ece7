"""Motion between frames, by OpenCV's DIS optical flow, and how much a video flickers along it.

Sources: Kroeger, Timofte, Dai and Van Gool, "Fast optical flow using dense inverse search", 2016 (the flow); Chu, Xie, Mayer,
Leal-Taixé and Thuerey, "Learning temporal coherence via self-supervision for GAN-based video generation", 2020 (tOF and the
warped difference).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..imaging.filters import box_mean
from ..imaging.resample import resize

_LEAST_SIDE_PX = 16
"""DIS finds nothing in smaller pictures."""
_OCCLUDED = 6 / 255
"""Difference between a frame and the one before, moved, at which they are taken to show different things."""
OPENCV_HINT = "needs OpenCV (pip install opencv-contrib-python-headless)"
"""What is said where motion is wanted and OpenCV is not installed."""


def has_motion() -> bool:
    """Whether OpenCV is installed, which finds motion."""
    return find_spec("cv2") is not None


def find_motion(before: Tensor, after: Tensor) -> Tensor:
    """Finds where each pixel of a frame was in the frame before.

    Args:
        before: Luma of the earlier frame, ``(1, 1, H, W)`` in [0, 1].
        after: Luma of the later one.

    Returns:
        ``(1, 2, H, W)``: pixels to the right and down, from a place in `after` to that in `before`.
    """
    height, width = after.shape[2:]
    if min(height, width) < _LEAST_SIDE_PX:
        return after.new_zeros(1, 2, height, width)
    cv2: Any = import_module("cv2")
    finder = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [(image[0, 0].clamp(0, 1) * 255).round().byte().cpu().numpy() for image in (after, before)]
    flow = finder.calc(*grey, None)
    return torch.from_numpy(np.ascontiguousarray(flow)).permute(2, 0, 1)[None].to(after.device)


def enlarge_motion(motion: Tensor, size: tuple[int, int]) -> Tensor:
    """Motion for pictures of another size: as dense, and as long, as they are large."""
    factors = [target / given for target, given in zip((size[1], size[0]), (motion.shape[3], motion.shape[2]), strict=True)]
    larger = functional.interpolate(motion, size, mode="bilinear", align_corners=False)
    return larger * larger.new_tensor(factors).reshape(1, 2, 1, 1)


def move(image: Tensor, motion: Tensor, mode: str = "bicubic") -> Tensor:
    """Moves the earlier frame, ``(1, C, H, W)``, to where the later one shows its content; borders are repeated."""
    height, width = image.shape[2:]
    rows = torch.arange(height, device=image.device, dtype=image.dtype)[:, None] + motion[0, 1]
    columns = torch.arange(width, device=image.device, dtype=image.dtype) + motion[0, 0]
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)[None]
    return functional.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)


def find_visible(before: Tensor, after: Tensor, motion: Tensor) -> Tensor:
    """Where the earlier frame shows what the later one does, ``(1, 1, H, W)`` of bools: by the sources, along their motion."""
    apart = box_mean((after - move(before, motion, "bilinear")).abs(), 3)
    return apart < _OCCLUDED


def flicker(before: Tensor, after: Tensor, motion: Tensor, visible: Tensor) -> float:
    """Mean squared difference between a frame and the one before, moved, where both show the same; in squares of 1/255.

    Args:
        before: Luma of the earlier frame of a video, ``(1, 1, H, W)``.
        after: Luma of the later one.
        motion: From `find_motion` of the source's frames, of any size.
        visible: From `find_visible`, of that size.
    """
    size = (after.shape[2], after.shape[3])
    apart = (after - move(before, enlarge_motion(motion, size))).square()
    shown = functional.interpolate(visible.float(), size, mode="nearest")
    return float((apart * shown).sum() / shown.sum().clamp(min=1)) * 255**2


def motion_error(before: Tensor, after: Tensor, source_before: Tensor, source_after: Tensor) -> float:
    """tOF: how far a video's motion is from its source's, in pixels of the source; both at the source's size."""
    size = (source_after.shape[2], source_after.shape[3])
    small = [resize(image, size) for image in (before, after)]
    return float((find_motion(*small) - find_motion(source_before, source_after)).square().sum(dim=1).sqrt().mean())
