"""Where and how networks run: chosen once and passed to every step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..choices import MIN_TILE_PX, BackendChoice, PrecisionChoice
from ..errors import RefusedError
from ..imaging.rows import RowSource


@dataclass(frozen=True)
class Compute:
    """Device, precision, tiles and memory."""

    device: torch.device | None = None
    """Where networks run; the image's device if None."""
    precision: PrecisionChoice = "auto"
    """Precision of the networks; see `fidelity.networks.device.choose_precision`."""
    tile_px: int | None = None
    """Tile side in network input pixels, context included; chosen to fit memory if None."""
    memory_bytes: int | None = None
    """Memory limit that upscaling is planned for; the free memory if None."""
    backend: BackendChoice = "auto"
    """The library that runs networks; see `fidelity.networks.backend.with_backend`."""

    def __post_init__(self) -> None:
        if self.tile_px is not None and self.tile_px < MIN_TILE_PX:
            raise RefusedError(f"tile is {self.tile_px} px; wanted at least {MIN_TILE_PX}")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise RefusedError(f"memory is {self.memory_bytes} bytes; wanted more than 0")

    def device_for(self, image: Tensor | RowSource) -> torch.device:
        """Returns the device to process an image on."""
        return self.device or image.device


AUTO_COMPUTE = Compute()
"""Chooses everything automatically."""
