"""Well-known third-party networks: how to recognize their files, where to get them, and their license."""

import re
from dataclasses import dataclass
from typing import Literal

Restoration = Literal["denoise", "deblock"]
"""What an x1 network restores: noise, or JPEG damage."""


@dataclass(frozen=True)
class KnownModel:
    """A third-party network that recipes prefer."""

    pattern: str
    """Regular expression for its file name without the extension; case is ignored."""
    page: str
    """Where to download it."""
    licence: str | None = None
    """License of its weights, as that page states it; None if it was not looked up."""


KNOWN_MODELS: dict[str, KnownModel] = {
    "RealESRGAN_x4plus": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus(?!.*anime)",
        "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.1.0",
        "BSD-3-Clause",
    ),
    "RealESRGAN_x4plus_anime_6B": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus[-_ ]?anime",
        "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.2.2.4",
        "BSD-3-Clause",
    ),
    "4x-AnimeSharp": KnownModel(r"^4x[-_ ]?animesharp", "https://huggingface.co/Kim2091/AnimeSharp"),
    "waifu2x": KnownModel(r"^waifu2x(?!.*photo)", "https://github.com/nagadomi/nunif/releases", "MIT"),
    "Real-CUGAN": KnownModel(r"^(\dx[-_ ])?real[-_]?cugan", "https://github.com/bilibili/ailab/tree/main/Real-CUGAN", "MIT"),
    "SwinIR": KnownModel(r"swinir", "https://github.com/JingyunLiang/SwinIR/releases", "Apache-2.0"),
    "HAT": KnownModel(r"(^|[-_ ])(real[-_ ])?hat([-_ ]|$)", "https://github.com/XPixelGroup/HAT", "Apache-2.0"),
}
"""Keyed by the names that `Recipe.models` uses."""


RESTORERS: dict[Restoration, dict[str, KnownModel]] = {
    "denoise": {
        "SCUNet": KnownModel(r"^scunet[-_]color", "https://github.com/cszn/KAIR/releases/tag/v1.0"),
        "NAFNet": KnownModel(r"nafnet.*sidd", "https://github.com/megvii-research/NAFNet"),
        "FFDNet": KnownModel(r"^ffdnet", "https://github.com/cszn/KAIR/releases/tag/v1.0"),
        "DnCNN": KnownModel(r"^dncnn[-_]?((color|gray)[-_]?blind|3)", "https://github.com/cszn/KAIR/releases/tag/v1.0"),
    },
    "deblock": {
        "FBCNN": KnownModel(r"^fbcnn", "https://github.com/jiaxi-jiang/FBCNN/releases/tag/v1.0"),
        "SwinIR": KnownModel(r"swinir.*(car|jpeg)", "https://github.com/JingyunLiang/SwinIR/releases"),
        "SCUNet": KnownModel(r"^scunet[-_]color", "https://github.com/cszn/KAIR/releases/tag/v1.0"),
        "DnCNN": KnownModel(r"^dncnn[-_]?3", "https://github.com/cszn/KAIR/releases/tag/v1.0"),
    },
}
"""x1 networks by what they restore, best first. All are blind, except FFDNet, which takes the measured noise level."""


def matches(stem: str, known: KnownModel) -> bool:
    """Whether a file name without its extension is that of a known network."""
    return re.search(known.pattern, stem, re.IGNORECASE) is not None


_TRAINED_ON_DAMAGE = re.compile(r"real[-_ ]?esr|bsrgan|realsr|real[-_ ]?hat|apisr", re.IGNORECASE)


def restores_too(stem: str) -> bool:
    """Whether a file name without its extension is that of an enlarging network that was trained on damaged sources.

    Such a network does better on the damaged source than on a restored one, whose remaining damage it does not know
    (`python -m tools.benchmarks.holding`).
    """
    return _TRAINED_ON_DAMAGE.search(stem) is not None
