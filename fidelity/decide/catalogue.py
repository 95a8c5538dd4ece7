"""Well-known networks by others: how to recognise their files, where to get them, under which licence."""

import re
from dataclasses import dataclass
from typing import Literal

Restoration = Literal["denoise", "deblock"]
"""What a network at x1 mends: noise, or what JPEG did."""


@dataclass(frozen=True)
class KnownModel:
    """A network by others that recipes prefer."""

    pattern: str
    """What its file name looks like, without the ending, in any case of letters."""
    page: str
    """Where to get it."""
    licence: str | None = None
    """Of its weights, by that page; None where it was not looked up."""


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
"""By the names that `Recipe.models` uses."""


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
"""Networks at x1 that mend without being told how bad it is, best first, by what they mend; FFDNet is told what was
measured."""


def matches(stem: str, known: KnownModel) -> bool:
    """Whether a file's name, without its ending, is that of a known network."""
    return re.search(known.pattern, stem, re.IGNORECASE) is not None
