"""Every setting of an enlargement that a user can choose, checked on construction."""

from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any, Literal, get_args, get_type_hints

from ..choices import Domain, GrainChoice, RestoreChoice, Tileable
from ..errors import RefusedError, check_type
from .recipes import Recipe
from .target import Target

_NOT_OF_RECIPES = ("target", "domain", "model", "restore_strength", "tileable")


@dataclass(frozen=True)
class Settings:
    """The user's settings; the image and its recipe decide everything on "auto".

    Raises:
        RefusedError: If a value is unknown; the message lists the known ones.
    """

    target: Target = field(default_factory=Target)
    """Size of the result."""
    domain: Domain | Literal["auto"] = "auto"
    """Domain of the image; "auto" lets the file's metadata and the pixels decide."""
    model: str = "auto"
    """The network: a name, a file, or "auto" for the best one installed for the domain and the scale."""
    channels: Literal["auto", "luma", "rgb"] = "auto"
    """Whether the network enlarges only luma or all colors."""
    consistency: Literal["auto", "off", "color", "full"] = "auto"
    """How the result is kept consistent with its source: colors and tones, every pixel, or not at all."""
    gate: Literal["auto", "blend", "reject", "report", "off"] = "auto"
    """What happens where colors drift beyond the limits."""
    restore: RestoreChoice = "auto"
    """What is restored before the enlargement; "auto" lets the measured damage decide."""
    deband: Literal["auto", "on", "off"] = "auto"
    """Whether banding in gradients is smoothed first."""
    passes: Literal["auto", "direct", "stepwise"] = "auto"
    """The fewest passes, or doubling with cleanup in between."""
    cleanup: Literal["auto", "bilateral", "guided", "median", "antialias", "unsharp", "off"] = "auto"
    """The filter applied to the result at the end."""
    restore_strength: float | None = None
    """Share of the restored source in the blend that is enlarged, from 0 to 1; None lets the measured damage decide."""
    grain: GrainChoice = "auto"
    """Whether the grain of film or paper that restoration removed is added back; "auto" does so where it is found."""

    tileable: Tileable = "off"
    """Whether the image repeats without a seam, which the result then does too."""

    def __post_init__(self) -> None:
        check_type(self.target, Target, "target")
        check_type(self.model, str, "model")
        for name, kind in get_type_hints(type(self)).items():
            known = [value for part in (kind, *get_args(kind)) for value in get_args(part) if isinstance(value, str)]
            value = getattr(self, name)
            if known and value not in known:
                raise RefusedError(f"{name} is {value!r}; wanted {', '.join(dict.fromkeys(known))}")
        if self.restore_strength is not None and not isinstance(self.restore_strength, Real):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
            raise RefusedError(f"restore_strength is {self.restore_strength!r}; wanted a number from 0 to 1")
        if self.restore_strength is not None and not 0 <= self.restore_strength <= 1:
            raise RefusedError(f"restore_strength is {self.restore_strength}; wanted 0 to 1")

    def apply_to(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with the user's settings in place of its own."""
        return replace(recipe, **{name: value for name, value in self._chosen() if hasattr(recipe, name)})

    def chose(self, name: str) -> bool:
        """Whether the user chose a setting instead of leaving it on "auto"."""
        return any(name == chosen for chosen, _ in self._chosen())

    def _chosen(self) -> list[tuple[str, Any]]:
        values = ((one.name, getattr(self, one.name)) for one in fields(self) if one.name not in _NOT_OF_RECIPES)
        return [(name, value) for name, value in values if value != "auto"]
