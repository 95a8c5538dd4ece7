"""The defaults of every step for each domain, and the measurements that switch steps on."""

from dataclasses import dataclass, field, replace
from typing import Literal, cast

from ..choices import Domain, GrainChoice, RestoreChoice
from ..steps.cleanup import CleanupMethod
from ..steps.consistency import ConsistencyMode
from ..steps.diffusion import DENOISE_STEPS
from ..steps.gate import GateAction, GateLimits
from ..steps.upscale import Channels
from .damage import Conditions

DRAWN_DOMAINS: tuple[Domain, ...] = ("anime_flux", "anime_sd", "line_art")
"""Domains of images made of lines and flat areas."""

Setting = Literal["channels", "restore", "cleanup", "passes", "deband"]
"""Settings that a measurement can decide."""

DEFAULT_VALUES: dict[Setting, str] = {
    "channels": "luma",
    "restore": "off",
    "deband": "off",
    "cleanup": "off",
    "passes": "direct",
}
"""Value of each such setting on "auto" if no measurement decides otherwise."""


@dataclass(frozen=True)
class Switch:
    """A measurement that decides a setting that is on "auto"."""

    setting: Setting
    """The setting it decides."""
    value: str
    """The value it sets."""
    measure: str
    """A field of `fidelity.decide.damage.Conditions`."""
    above: float | None = None
    """It applies if the measurement is larger than this..."""
    below: float | None = None
    """...or smaller than this; one of the two is given. A measurement of None decides nothing."""

    def reason(self, conditions: Conditions) -> str | None:
        """Returns why it applies, as readable text; None if it does not."""
        value = getattr(conditions, self.measure)
        if value is None:
            return None
        form = _MEASURED[self.measure]
        if self.above is not None and value > self.above:
            return f"{self.setting} {self.value}: {form.format(value)}, above {self.above:g}"
        if self.below is not None and value < self.below:
            return f"{self.setting} {self.value}: {form.format(value)}, below {self.below:g}"
        return None


_MEASURED = {
    "banding": "share of the area with banding {:.2f}",
    "jaggedness": "share of jagged lines {:.2f}",
    "jpeg_quality": "traces of JPEG compression of quality {:.0f}",
    "noise_sigma": "luma noise of {:.1f} 8-bit levels",
    "restore_strength": "damage rated {:.2f} of 1",
    "ringing": "ringing {:.1f} %",
    "softness": "softness {:.2f} of 1",
}
"""How a measurement is told, with its unit."""


LEAST_RESTORATION = 0.1
"""Sources with a restore strength below this are not restored."""
_LEAVE = Switch("restore", "off", "restore_strength", below=LEAST_RESTORATION)
_DEBLOCK = Switch("restore", "deblock", "jpeg_quality", below=92)
_DENOISE = Switch("restore", "denoise", "restore_strength", above=LEAST_RESTORATION)
_RESTORE = (_LEAVE, _DEBLOCK, _DENOISE)
"""A slightly damaged source is restored slightly; JPEG's traces decide between deblocking and denoising."""
_DEBAND = Switch("deband", "on", "banding", above=0.05)
_SMOOTH_RINGS = Switch("cleanup", "bilateral", "ringing", above=1.5)
_SMOOTH_STAIRS = Switch("cleanup", "antialias", "jaggedness", above=0.6)
_REMOVED_BY_RESTORATION = "ringing"
"""Damage that needs no cleanup at the end if the source is restored."""
_STEPWISE = Switch("passes", "stepwise", "noise_sigma", above=12)

_DRAWN_DENOISE = 0.3
"""Above it, lines shift."""

_PHOTO_MODELS = ("RealESRGAN_x4plus", "SwinIR", "HAT")
_DRAWN_MODELS = ("RealESRGAN_x4plus_anime_6B", "4x-AnimeSharp", "waifu2x", "Real-CUGAN")


@dataclass(frozen=True)
class Recipe:
    """Every setting of the pipeline for one domain."""

    domain: Domain
    """The domain this is for."""
    models: tuple[str, ...]
    """Names in `fidelity.decide.model_choice.KNOWN_MODELS`, best first; the first installed one is used."""
    shipped: Literal["natural", "drawn"] = "natural"
    """Type of the shipped network that is used if none of those is installed."""
    restore: RestoreChoice = "auto"
    """What an x1 network restores first, noise or JPEG damage; the measured damage sets the strength."""
    deband: Literal["auto", "off", "on"] = "auto"
    """Whether banding in gradients is smoothed before the enlargement."""
    channels: Channels | Literal["auto"] = "auto"
    """"luma" sends only luma through the network, "rgb" all colors."""
    grain: GrainChoice = "auto"
    """Whether grain that restoration removed is added back; "auto" decides by measurement, see `fidelity.decide.grain`."""
    passes: Literal["auto", "direct", "stepwise"] = "auto"
    """"direct" uses the fewest passes; "stepwise" doubles with cleanup in between, if there is an x2 network."""
    between: CleanupMethod = "bilateral"
    """The cleanup filter between stepwise passes."""
    consistency: ConsistencyMode | Literal["off"] = "color"
    """How the enlargement is kept consistent with its source."""
    gate: GateAction | Literal["off"] = "blend"
    """What happens where colors still drift."""
    gate_limits: GateLimits = field(default_factory=GateLimits)
    """The largest accepted drift, in CIEDE2000."""
    cleanup: CleanupMethod | Literal["auto", "off"] = "auto"
    """The filter applied to the enlargement at the end."""
    cleanup_strength: float = 1.0
    """Strength of that filter, from 0 to 1."""
    diffusion: tuple[str, ...] = ()
    """Workflows that generate new detail for this domain by diffusion, best first; never run automatically."""
    diffusion_denoise: float = DENOISE_STEPS[0]
    """Denoise strength of the first diffusion pass, from 0 to 1."""
    switches: tuple[Switch, ...] = ()
    """What decides the settings on "auto"; the first switch that applies to a setting wins."""


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
        grain="off",
        diffusion=("anime-sdxl-tile",),
        diffusion_denoise=_DRAWN_DENOISE,
        switches=(*_RESTORE, _DEBAND, _SMOOTH_STAIRS, _STEPWISE),
    ),
    "anime_sd": Recipe(
        "anime_sd",
        _DRAWN_MODELS,
        "drawn",
        grain="off",
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
"""The recipes; override any setting with `dataclasses.replace`."""

SAFE_DOMAIN: Domain = "photo"
"""The domain whose recipe an image of unknown domain follows."""


def settle(recipe: Recipe, conditions: Conditions) -> tuple[Recipe, tuple[str, ...]]:
    """Decides every setting that is on "auto" from the measurements.

    Args:
        recipe: The recipe; settings other than "auto" are kept.
        conditions: Measurements of the image.

    Returns:
        The recipe without "auto", and one sentence for each setting that a measurement switched.
    """
    settled: dict[Setting, str] = {}
    reasons: list[str] = []
    for setting, default in DEFAULT_VALUES.items():
        if getattr(recipe, setting) != "auto":
            continue
        settled[setting] = default
        restores = settled.get("restore", recipe.restore) != "off"
        for switch in recipe.switches:
            if switch.setting != setting or (restores and switch.measure == _REMOVED_BY_RESTORATION):
                continue
            reason = switch.reason(conditions)
            if reason:
                settled[setting] = switch.value
                reasons += [reason] if switch.value != default else []
                break
    return replace(recipe, **settled), tuple(reasons)


_CLEANUP_SWITCHES = (_SMOOTH_RINGS, _SMOOTH_STAIRS)


def choose_cleanup(conditions: Conditions, domain: Domain | None = None) -> tuple[CleanupMethod | None, str]:
    """Returns the cleanup filter an image needs, and why; None if the measurements show no need.

    Args:
        conditions: Measurements of the image.
        domain: Its domain, whose recipe decides; None if unknown.
    """
    if domain and RECIPES[domain].cleanup == "off":
        return None, f"nothing to clean: the {domain} recipe uses no cleanup"
    switches = [switch for switch in RECIPES[domain].switches if switch.setting == "cleanup"] if domain else _CLEANUP_SWITCHES
    for switch in switches:
        reason = switch.reason(conditions)
        if reason:
            return cast(CleanupMethod, switch.value), reason
    return None, f"nothing to clean: ringing is {conditions.ringing:.2g}, jaggedness {conditions.jaggedness:.2g}"
