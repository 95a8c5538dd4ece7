"""Architectures that spandrel lacks, written from their papers and added to its registry.

Every loader in the process that uses spandrel then reads them, including ComfyUI's own.
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
"""Each with the spandrel architectures that would mistake its weights for their own, and so must be tried later."""


def register_architectures() -> None:
    """Adds the architectures to spandrel's registry, and those of `spandrel_extra_arches` if it is installed.

    Calling it again changes nothing. That package contains networks whose licenses forbid commercial use, so users install it.
    """
    for kind, before in _ARCHITECTURES:
        support = ArchSupport.from_architecture(kind(), cast(Any, before))
        MAIN_REGISTRY.add(support, ignore_duplicates=True)
    with suppress(ImportError):
        from spandrel_extra_arches import EXTRA_REGISTRY

        MAIN_REGISTRY.add(*EXTRA_REGISTRY, ignore_duplicates=True)
