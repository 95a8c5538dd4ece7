"""Choosing a network: those that are installed, ranked for a kind of image and a scale, then the shipped ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..models.loader import SHIPPED_WEIGHTS, Model, ModelRefusedError, detect_architecture, find_model, load_model
from .recipes import DRAWN_DOMAINS, Recipe

AUTO_SCALE = 4
"""The factor of an enlargement for which neither a size nor a network was asked for."""


@dataclass(frozen=True)
class KnownModel:
    """A network by others that recipes prefer."""

    pattern: str
    """What its file name looks like, without the ending, in any case of letters."""
    page: str
    """Where to get it."""


KNOWN_MODELS: dict[str, KnownModel] = {
    "RealESRGAN_x4plus": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus(?!.*anime)", "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.1.0"
    ),
    "RealESRGAN_x4plus_anime_6B": KnownModel(
        r"^(4x[-_ ])?real[-_]?esrgan[-_ ]?x4[-_ ]?plus[-_ ]?anime",
        "https://github.com/xinntao/Real-ESRGAN/releases/tag/v0.2.2.4",
    ),
    "4x-AnimeSharp": KnownModel(r"^4x[-_ ]?animesharp", "https://openmodeldb.info/models/4x-AnimeSharp"),
    "waifu2x": KnownModel(r"^waifu2x(?!.*photo)", "https://github.com/nagadomi/nunif/releases"),
    "Real-CUGAN": KnownModel(r"^(\dx[-_ ])?real[-_]?cugan", "https://github.com/bilibili/ailab/tree/main/Real-CUGAN"),
    "SwinIR": KnownModel(r"swinir", "https://github.com/JingyunLiang/SwinIR/releases"),
    "HAT": KnownModel(r"(^|[-_ ])(real[-_ ])?hat([-_ ]|$)", "https://github.com/XPixelGroup/HAT"),
}
"""By the names that `Recipe.models` uses."""

_DRAWN_WORDS = re.compile(r"anime|manga|cartoon|toon|comic|line[-_ ]?art|sketch|illustr|waifu|cugan", re.IGNORECASE)
_RESTORATION_WORDS = re.compile(r"(?<![0-9a-z])1x|denois|dejpe?g|jpeg|deblur|colordn|graydn|_car_", re.IGNORECASE)
_SCALE_IN_NAME = re.compile(r"(?<![0-9a-z])(?:up)?(?:x([2-8])|([2-8])x)(?![0-9])", re.IGNORECASE)
_STRONG_ARCHITECTURES = ("HAT", "DRCT", "DAT", "ATD", "RGT", "SwinIR", "Swin2SR", "OmniSR", "PLKSR", "ESRGAN")
"""Architectures, best first, of which a network that nothing is known about still beats a shipped one."""


@dataclass(frozen=True)
class ModelChoice:
    """Which file, and why."""

    path: Path
    reason: str
    """One sentence for the report."""
    better: str | None = None
    """A network worth installing, with its page; None unless the choice is a shipped one that "auto" fell back to."""


class ModelChooser:
    """Chooses and loads networks for one image after another; the last one loaded is kept.

    Args:
        name: "auto", or a model by path, by file name, or by file name without its ending.
        models: Files by the name to call them by, from `fidelity.models.loader.list_models`.

    Raises:
        FileNotFoundError: If there is no model of that name.
        ModelRefusedError: If that model is not usable.
    """

    def __init__(self, name: str, models: Mapping[str, Path]) -> None:
        self._models = models
        self._loaded: tuple[Path, Model] | None = None
        self._fixed = None if name == "auto" else ModelChoice(find_model(name, models), "named by the user")
        self.fixed = self._load(self._fixed.path) if self._fixed else None
        """The model that was asked for by name; None for "auto"."""

    def choose(self, recipe: Recipe, scale: float) -> tuple[Model, ModelChoice]:
        """The network for one image.

        Args:
            recipe: Says which networks fit the kind of image.
            scale: The enlargement wanted.

        Raises:
            ModelRefusedError: If no network at all is usable.
        """
        if self._fixed and self.fixed:
            return self.fixed, self._fixed
        refused: list[str] = []
        for choice in rank_models(recipe, scale, self._models):
            try:
                model = self._load(choice.path)
            except ModelRefusedError as error:
                refused.append(str(error))
                continue
            note = f" (passed over: {'; '.join(refused)})" if refused else ""
            return model, ModelChoice(choice.path, choice.reason + note, choice.better)
        raise ModelRefusedError(f"no network can be used: {'; '.join(refused)}")

    def _load(self, path: Path) -> Model:
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = path, load_model(path)
        return self._loaded[1]


def shipped_model(kind: str, scale: float) -> Path:
    """The shipped network of a kind, "natural" or "drawn", for an enlargement by `scale`."""
    return SHIPPED_WEIGHTS / f"{kind}-x{2 if scale <= 2 else 4}.safetensors"


def rank_models(recipe: Recipe, scale: float, models: Mapping[str, Path]) -> list[ModelChoice]:
    """Every network that fits, best first; the last is a shipped one.

    Networks that the recipe names come first, in its order, one whose scale suffices before one whose scale does not;
    then those of a strong architecture whose file name speaks of the kind of image; then the shipped one.

    Args:
        recipe: The networks it prefers, and the kind of image.
        scale: The enlargement wanted.
        models: Files by name.
    """
    wanted = 2 if scale <= 2 else 4
    known: list[tuple[tuple[bool, int, bool, str], ModelChoice]] = []
    strangers: list[tuple[tuple[bool, int, bool, str], ModelChoice]] = []
    for name, path in models.items():
        stem = Path(name).stem
        if path.parent == SHIPPED_WEIGHTS or _RESTORATION_WORDS.search(stem):
            continue
        own_scale = scale_in_name(stem)
        too_small, other = bool(own_scale and own_scale < wanted), own_scale != wanted
        place = next((i for i, title in enumerate(recipe.models) if _matches(stem, title)), None)
        if place is not None:
            reason = f"installed, and choice {place + 1} of the {recipe.domain} recipe ({recipe.models[place]})"
            known.append(((too_small, place, other, name), ModelChoice(path, reason)))
        elif (recipe.domain in DRAWN_DOMAINS) == bool(_DRAWN_WORDS.search(stem)):
            architecture = detect_architecture(path)
            if architecture in _STRONG_ARCHITECTURES:
                reason = f"installed, of the strong architecture {architecture}, its name fits {recipe.domain}"
                key = (too_small, _STRONG_ARCHITECTURES.index(architecture), other, name)
                strangers.append((key, ModelChoice(path, reason)))
    ranked = [choice for _, choice in sorted(known, key=_key) + sorted(strangers, key=_key)]
    best = recipe.models[0]
    reason = f"ships with the pack; none of {', '.join(recipe.models)} is installed"
    return [*ranked, ModelChoice(shipped_model(recipe.shipped, scale), reason, f"{best}, {KNOWN_MODELS[best].page}")]


def scale_in_name(stem: str) -> int | None:
    """The enlargement that a file name speaks of, as in `4x-AnimeSharp` or `SwinIR-M_x2`; None if it speaks of none."""
    found = _SCALE_IN_NAME.search(stem)
    return int(found[1] or found[2]) if found else None


def _matches(stem: str, title: str) -> bool:
    return re.search(KNOWN_MODELS[title].pattern, stem, re.IGNORECASE) is not None


def _key(ranked: tuple[tuple[bool, int, bool, str], ModelChoice]) -> tuple[bool, int, bool, str]:
    return ranked[0]
