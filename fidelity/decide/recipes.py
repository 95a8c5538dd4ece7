"""The one place where the defaults of every step live, by kind of image, and where measurements switch steps on."""

from dataclasses import dataclass, field, replace
from typing import Literal, cast

from ..choices import Domain
from ..steps.cleanup import CleanupMethod
from ..steps.consistency import ConsistencyMode
from ..steps.diffusion import DENOISE_STEPS
from ..steps.gate import GateAction, GateLimits
from ..steps.upscale import Channels
from .damage import Conditions

DRAWN_DOMAINS: tuple[Domain, ...] = ("anime_flux", "anime_sd", "line_art")
"""Kinds of image that are made of lines and flat areas."""

Setting = Literal["channels", "restore", "cleanup", "passes", "deband"]
"""Settings that a measurement may decide."""

DEFAULT_VALUES: dict[Setting, str] = {
    "channels": "luma",
    "restore": "off",
    "deband": "off",
    "cleanup": "off",
    "passes": "direct",
}
"""What such a setting is on "auto" when no measurement decides otherwise."""


@dataclass(frozen=True)
class Switch:
    """One measurement that decides one setting, where that setting is on "auto"."""

    setting: Setting
    """What it decides."""
    value: str
    """What it decides for."""
    measure: str
    """A field of `fidelity.decide.damage.Conditions`."""
    above: float | None = None
    """It decides where the measurement is larger than this..."""
    below: float | None = None
    """...or smaller than this; one of the two is given. A measurement that found nothing decides nothing."""

    def reason(self, conditions: Conditions) -> str | None:
        """Why it decides, in words; None if it does not."""
        value = getattr(conditions, self.measure)
        if value is None:
            return None
        name = self.measure.replace("_", " ")
        if self.above is not None and value > self.above:
            return f"{self.setting} {self.value}: {name} is {value:.3g}, above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"{self.setting} {self.value}: {name} is {value:.3g}, below {self.below:g}"
        return None


LEAST_RESTORATION = 0.1
"""Sources of which less than this share should be restored are left as they are."""
_LEAVE = Switch("restore", "off", "restore_strength", below=LEAST_RESTORATION)
_DEBLOCK = Switch("restore", "deblock", "jpeg_quality", below=92)
_DENOISE = Switch("restore", "denoise", "restore_strength", above=LEAST_RESTORATION)
_RESTORE = (_LEAVE, _DEBLOCK, _DENOISE)
"""A slightly damaged source is restored slightly; what an installed network is asked for follows from JPEG's traces."""
_DEBAND = Switch("deband", "on", "banding", above=0.05)
_SMOOTH_RINGS = Switch("cleanup", "bilateral", "ringing", above=1.5)
_SMOOTH_STAIRS = Switch("cleanup", "antialias", "jaggedness", above=0.6)
_STEPWISE = Switch("passes", "stepwise", "noise_sigma", above=12)

_DRAWN_DENOISE = 0.3
"""Lines wander beyond it."""

_PHOTO_MODELS = ("RealESRGAN_x4plus", "SwinIR", "HAT")
_DRAWN_MODELS = ("RealESRGAN_x4plus_anime_6B", "4x-AnimeSharp", "waifu2x", "Real-CUGAN")


@dataclass(frozen=True)
class Recipe:
    """Every setting of the pipeline for one kind of image."""

    domain: Domain
    """What kind of image this is for."""
    models: tuple[str, ...]
    """Names in `fidelity.decide.model_choice.KNOWN_MODELS`, best first; the first that is installed is taken."""
    shipped: Literal["natural", "drawn"] = "natural"
    """Which of the shipped networks is taken where none of those is installed."""
    restore: Literal["auto", "off", "denoise", "deblock"] = "auto"
    """Whether noise or JPEG damage of the source is restored first, by a network at x1, as strongly as damage is measured."""
    deband: Literal["auto", "off", "on"] = "auto"
    """Whether the stairs of gradients are evened out before the enlargement."""
    channels: Channels | Literal["auto"] = "auto"
    """"luma" sends luma alone through the network, "rgb" all colours."""
    passes: Literal["auto", "direct", "stepwise"] = "auto"
    """"direct" takes the fewest passes to the target; "stepwise" doubles and cleans in between, if there is a x2 network."""
    between: CleanupMethod = "bilateral"
    """How it is cleaned in between."""
    consistency: ConsistencyMode | Literal["off"] = "color"
    """How the enlargement is held to its source."""
    gate: GateAction | Literal["off"] = "blend"
    """What happens where colours drifted all the same."""
    gate_limits: GateLimits = field(default_factory=GateLimits)
    """What counts as drifted, in CIEDE2000."""
    cleanup: CleanupMethod | Literal["auto", "off"] = "auto"
    """What is done to the enlargement at the end."""
    cleanup_strength: float = 1.0
    """How much of it, from 0 to 1."""
    diffusion: tuple[str, ...] = ()
    """Workflows that draw what no such network does, for this kind of image, best first; never taken by themselves."""
    diffusion_denoise: float = DENOISE_STEPS[0]
    """How much the first diffusion pass may redraw, from 0 to 1."""
    switches: tuple[Switch, ...] = ()
    """What decides the settings that are on "auto"; of several for one setting, the first that applies."""


RECIPES: dict[Domain, Recipe] = {
    "photo": Recipe(
        "photo",
        _PHOTO_MODELS,
        diffusion=("photo-supir", "photo-sdxl-tile"),
        switches=(
            *_RESTORE,
            _DEBAND,
            Switch("channels", "rgb", "jpeg_quality", below=85),
            _SMOOTH_RINGS,
            _STEPWISE,
        ),
    ),
    "anime_flux": Recipe(
        "anime_flux",
        _DRAWN_MODELS,
        "drawn",
        diffusion=("anime-sdxl-tile",),
        diffusion_denoise=_DRAWN_DENOISE,
        switches=(*_RESTORE, _DEBAND, _SMOOTH_STAIRS, _STEPWISE),
    ),
    "anime_sd": Recipe(
        "anime_sd",
        _DRAWN_MODELS,
        "drawn",
        diffusion=("anime-sdxl-tile", "anime-sd-latent"),
        diffusion_denoise=_DRAWN_DENOISE,
        switches=(
            *_RESTORE,
            _DEBAND,
            Switch("cleanup", "bilateral", "ringing", above=1.0),
            _STEPWISE,
        ),
    ),
    "line_art": Recipe(
        "line_art",
        _DRAWN_MODELS,
        "drawn",
        cleanup="off",
        switches=(*_RESTORE, _STEPWISE),
    ),
    "painting": Recipe(
        "painting",
        ("SwinIR", "RealESRGAN_x4plus"),
        diffusion=("photo-sdxl-tile",),
        switches=(*_RESTORE, _DEBAND, Switch("cleanup", "unsharp", "softness", above=0.45), _STEPWISE),
    ),
}
"""The recipes; each setting can be overridden with `dataclasses.replace`."""

SAFE_DOMAIN: Domain = "photo"
"""The recipe for an image of unknown kind."""


def settle(recipe: Recipe, conditions: Conditions) -> tuple[Recipe, tuple[str, ...]]:
    """Decides every setting that is on "auto" by what was measured.

    Args:
        recipe: The recipe; settings other than "auto" are kept.
        conditions: What was measured of the image.

    Returns:
        The recipe without "auto", and one sentence for each setting that a measurement switched.
    """
    settled: dict[Setting, str] = {}
    reasons: list[str] = []
    for setting, default in DEFAULT_VALUES.items():
        if getattr(recipe, setting) != "auto":
            continue
        settled[setting] = default
        for switch in recipe.switches:
            reason = switch.reason(conditions) if switch.setting == setting else None
            if reason:
                settled[setting] = switch.value
                reasons += [reason] if switch.value != default else []
                break
    return replace(recipe, **settled), tuple(reasons)


_CLEANUP_SWITCHES = (_SMOOTH_RINGS, _SMOOTH_STAIRS)


def choose_cleanup(conditions: Conditions, domain: Domain | None = None) -> tuple[CleanupMethod | None, str]:
    """What an image is to be cleaned by, and why; None where nothing is measured that needs it.

    Args:
        conditions: What was measured of it.
        domain: Its kind, whose recipe decides; None if that is unknown.
    """
    if domain and RECIPES[domain].cleanup == "off":
        return None, f"nothing to clean: the recipe of {domain} leaves it out"
    switches = [switch for switch in RECIPES[domain].switches if switch.setting == "cleanup"] if domain else _CLEANUP_SWITCHES
    for switch in switches:
        reason = switch.reason(conditions)
        if reason:
            return cast(CleanupMethod, switch.value), reason
    return None, f"nothing to clean: ringing is {conditions.ringing:.2g}, jaggedness {conditions.jaggedness:.2g}"
