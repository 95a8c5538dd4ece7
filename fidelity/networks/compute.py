"""Where and how networks run: chosen once and passed to every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from ..choices import MIN_TILE_PX, BackendChoice, PrecisionChoice
from ..errors import RefusedError, check_type
from ..imaging.rows import RowSource


@dataclass(frozen=True)
class Compute:
    """Device, precision, tiles and memory."""

    device: torch.device | None = None
    """Where networks run; the image's device if None. A name, as in "cuda:1", becomes the device."""
    precision: PrecisionChoice = "auto"
    """Precision of the networks; see `fidelity.networks.device.choose_precision`."""
    tile_px: int | None = None
    """Tile side in network input pixels, context included; chosen to fit memory if None."""
    memory_bytes: int | None = None
    """Memory limit that upscaling is planned for; the free memory if None."""
    backend: BackendChoice = "auto"
    """The library that runs networks; see `fidelity.networks.backend.with_backend`."""

    if TYPE_CHECKING:  # a device may also be given by its name

        def __init__(
            self,
            device: torch.device | str | None = ...,
            precision: PrecisionChoice = ...,
            tile_px: int | None = ...,
            memory_bytes: int | None = ...,
            backend: BackendChoice = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", _find_device(self.device))
        for name, kind in (("precision", PrecisionChoice), ("backend", BackendChoice)):
            if getattr(self, name) not in get_args(kind):
                raise RefusedError(f"{name} is {getattr(self, name)!r}; wanted {', '.join(get_args(kind))}")
        for name in ("tile_px", "memory_bytes"):
            if getattr(self, name) is not None:
                check_type(getattr(self, name), int, name)
        if self.tile_px is not None and self.tile_px < MIN_TILE_PX:
            raise RefusedError(f"tile is {self.tile_px} px; wanted at least {MIN_TILE_PX}")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise RefusedError(f"memory is {self.memory_bytes} bytes; wanted more than 0")

    def check_present(self) -> None:
        """Refuses a device that this machine, or this PyTorch, does not have.

        Raises:
            RefusedError: If it is not there.
        """
        if self.device is None or self.device.type not in _COUNTS:
            return
        count = _COUNTS[self.device.type]()
        if (self.device.index or 0) >= count:
            raise RefusedError(
                f"device {self.device} is not available; this PyTorch finds {count or 'no'} {self.device.type} device"
            )

    def device_for(self, image: Tensor | RowSource) -> torch.device:
        """Returns the device to process an image on."""
        return self.device or image.device


_COUNTS: dict[str, Callable[[], int]] = {
    "cuda": torch.cuda.device_count,
    "mps": lambda: int(torch.backends.mps.is_available()),
}
"""How many devices of a type there are."""


def _find_device(device: object) -> torch.device | None:
    """The device of a name, or the device itself."""
    if device is None:
        return None
    try:
        return torch.device(device)  # pyright: ignore[reportArgumentType, reportCallIssue]  what it is not, it tells
    except (RuntimeError, TypeError) as error:
        raise RefusedError(f"device is {device!r}; wanted cpu, cuda or mps, with a number if there are several") from error


AUTO_COMPUTE = Compute()
"""Chooses everything automatically."""
