"""Finding out what tiling needs to know of a network by running it once on a small strip."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from spandrel import ImageModelDescriptor
from torch import Tensor, nn

MAX_CONTEXT_PX = 64
"""A receptive field beyond this is not paid for in every tile: such tiles overlap less and are blended."""

_STRIP_ROWS = 16
_OFF_GRID_PX = 4  # half of the smallest windows, and a whole step of networks that work on 2 x 2 or 4 x 4 pixels at once


@dataclass(frozen=True)
class NetworkProbe:
    """What a strip of pixels tells of a network."""

    receptive_field_px: int | None
    """How far an input pixel can reach, in input pixels; None if further than `MAX_CONTEXT_PX`, or not the same everywhere."""
    values_per_pixel: float
    """Numbers alive at once in the widest layer, for each input pixel."""


_probes: WeakKeyDictionary[nn.Module, NetworkProbe] = WeakKeyDictionary()


@torch.inference_mode()
def probe_network(descriptor: ImageModelDescriptor[nn.Module]) -> NetworkProbe:
    """Measures reach and memory of a network; the answer is kept for as long as the network lives.

    One input pixel is set to NaN. NaN spreads through every operation it takes part in, so the outputs
    that are NaN afterwards are those that the pixel can influence: the exact receptive field of a
    convolutional network, and everything for one that pools or attends globally.

    Args:
        descriptor: The network, on any device, in float32.
    """
    known = _probes.get(descriptor.model)
    if known is not None:
        return known
    widest = 0

    def record(_module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal widest
        tensors = [value for value in (*inputs, output) if isinstance(value, Tensor)]
        widest = max(widest, sum(tensor.numel() for tensor in tensors))

    minimum = descriptor.size_requirements.minimum
    rows, columns = max(_STRIP_ROWS, minimum), 2 * MAX_CONTEXT_PX + 33
    middle = columns // 2
    leaves = [module for module in descriptor.model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(record) for module in leaves]
    try:
        left, right = _spread(descriptor, rows, columns, middle)
    finally:
        for hook in hooks:
            hook.remove()
    reach: int | None = max(left, right)
    if reach > MAX_CONTEXT_PX or (
        # Windows of attention lie on a grid: tiles that begin elsewhere see others, however short the reach.
        any(isinstance(leaf, nn.Linear) for leaf in leaves)
        and _spread(descriptor, rows, columns, middle + _OFF_GRID_PX) != (left, right)
    ):
        reach = None
    probe = NetworkProbe(reach, widest / (rows * columns))
    _probes[descriptor.model] = probe
    return probe


def _spread(descriptor: ImageModelDescriptor[nn.Module], rows: int, columns: int, place: int) -> tuple[int, int]:
    """How far to the left and to the right one pixel of a strip reaches, in input pixels."""
    parameter = next(descriptor.model.parameters())
    strip = torch.full((1, descriptor.input_channels, rows, columns), 0.5, device=parameter.device, dtype=parameter.dtype)
    strip[..., rows // 2, place] = torch.nan
    touched = descriptor(strip).isnan().any(dim=1).any(dim=1)[0].nonzero().flatten() // descriptor.scale
    return (place - int(touched.min()), int(touched.max()) - place) if len(touched) else (columns, columns)
