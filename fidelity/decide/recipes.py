"""The one place where the defaults of every step live, by kind of image."""

from dataclasses import dataclass, field
from typing import Literal

from ..steps.consistency import ConsistencyMode
from ..steps.gate import GateAction, GateLimits
from ..steps.upscale import Channels

Domain = Literal["photo", "anime_flux", "anime_sd", "line_art", "painting"]

DRAWN_DOMAINS: tuple[Domain, ...] = ("anime_flux", "anime_sd", "line_art")
"""Kinds of image that are made of lines and flat areas."""

_PHOTO_MODELS = ("RealESRGAN_x4plus", "SwinIR", "HAT")
_DRAWN_MODELS = ("RealESRGAN_x4plus_anime_6B", "4x-AnimeSharp", "waifu2x", "Real-CUGAN")


@dataclass(frozen=True)
class Recipe:
    """Every setting of the pipeline for one kind of image."""

    domain: Domain
    """What kind of image this is for."""
    models: tuple[str, ...]
    """Names in `fidelity.decide.choosing.KNOWN_MODELS`, best first; the first that is installed is taken."""
    shipped: Literal["natural", "drawn"] = "natural"
    """Which of the shipped networks is taken where none of those is installed."""
    channels: Channels = "luma"
    """"luma" sends luma alone through the network, "rgb" all colours."""
    consistency: ConsistencyMode | Literal["off"] = "color"
    """How the enlargement is held to its source."""
    gate: GateAction | Literal["off"] = "blend"
    """What happens where colours drifted all the same."""
    gate_limits: GateLimits = field(default_factory=GateLimits)
    """What counts as drifted, in CIEDE2000."""


RECIPES: dict[Domain, Recipe] = {
    "photo": Recipe("photo", _PHOTO_MODELS),
    "anime_flux": Recipe("anime_flux", _DRAWN_MODELS, "drawn"),
    "anime_sd": Recipe("anime_sd", _DRAWN_MODELS, "drawn"),
    "line_art": Recipe("line_art", _DRAWN_MODELS, "drawn"),
    "painting": Recipe("painting", ("SwinIR", "RealESRGAN_x4plus")),
}
"""The recipes; each setting can be overridden with `dataclasses.replace`."""

SAFE_DOMAIN: Domain = "photo"
"""The recipe for an image of unknown kind."""
