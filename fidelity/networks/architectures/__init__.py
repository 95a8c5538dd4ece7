"""Architectures that spandrel does not have, written from their papers and registered with its registry.

Every loader of the process that asks spandrel reads them then, ComfyUI's own among them.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from spandrel import MAIN_REGISTRY, Architecture, ArchSupport

from .edsr import EDSRArch
from .espcn import ESPCNArch
from .ffdnet import FFDNetArch
from .fsrcnn import FSRCNNArch
from .lapsrn import LapSRNArch
from .waifu2x import CUNetArch, UpConv7Arch, VGG7Arch

_ARCHITECTURES: tuple[tuple[Callable[[], Architecture[Any]], tuple[str, ...]], ...] = (
    (EDSRArch, ()),
    (ESPCNArch, ()),
    (FSRCNNArch, ()),
    (LapSRNArch, ()),
    (FFDNetArch, ("DnCNN",)),
    (UpConv7Arch, ()),
    (VGG7Arch, ()),
    (CUNetArch, ("RealCUGAN",)),
)
"""Each with those of spandrel that take its weights for their own, and so must look at them later."""


def register_architectures() -> None:
    """Adds the architectures to spandrel's registry, and those of `spandrel_extra_arches` if it is installed.

    Doing so again changes nothing. That package holds networks whose licences forbid commercial use: users install it.
    """
    for kind, before in _ARCHITECTURES:
        support = ArchSupport.from_architecture(kind(), cast(Any, before))
        MAIN_REGISTRY.add(support, ignore_duplicates=True)
    with suppress(ImportError):
        from spandrel_extra_arches import EXTRA_REGISTRY

        MAIN_REGISTRY.add(*EXTRA_REGISTRY, ignore_duplicates=True)
