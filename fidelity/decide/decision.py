"""Everything that is decided about an enlargement before any of it is done."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..choices import AUTO_SCALE
from ..networks.compute import AUTO_COMPUTE, Compute
from .damage import Conditions, measure_conditions
from .domain import Verdict, classify, named_verdict
from .model_choice import ModelChooser, ModelPlan
from .provenance import Provenance
from .recipes import RECIPES, Recipe, settle
from .settings import Settings
from .target import resolve_target


@dataclass(frozen=True)
class Decision:
    """What will be done to an image, and why."""

    verdict: Verdict
    """Its domain."""
    conditions: Conditions
    """What was measured of it."""
    recipe: Recipe
    """Every setting, none of them "auto"."""
    reasons: tuple[str, ...]
    """Which measurement switched which setting, and what was asked for and could not be had, in words."""
    planned: ModelPlan
    """The passes and their networks."""
    restore_strength: float = 1.0
    """Share of the restored source that is enlarged, in [0, 1]; the rest is the source as it was."""


def decide(
    image: Tensor,
    chooser: ModelChooser,
    settings: Settings,
    memory_bytes: int,
    compute: Compute = AUTO_COMPUTE,
    provenance: Provenance | None = None,
) -> Decision:
    """Decides how an image is enlarged.

    Args:
        image: ``(B, C, H, W)``; of a batch, the first image decides.
        chooser: The networks that there are.
        settings: What is wanted.
        memory_bytes: What may be held at once.
        compute: Where and how networks run.
        provenance: What the image's file says of its origin.

    Raises:
        ModelRefusedError: If no network is usable.
        RefusedError: If the target cannot be made in that memory, or is too large to be written.
    """
    size, first = (image.shape[2], image.shape[3]), image[:1]
    target = resolve_target(size, settings.target, chooser.fixed.scale if chooser.fixed else AUTO_SCALE)
    verdict = classify(first, provenance) if settings.domain == "auto" else named_verdict(settings.domain)
    conditions = measure_conditions(first)
    recipe, reasons = settle(settings.apply_to(RECIPES[verdict.recipe_domain]), conditions)

    def plan(recipe: Recipe) -> ModelPlan:
        return chooser.plan(recipe, size, target, memory_bytes, image.shape[1], image.shape[0], compute)

    planned = plan(recipe)
    if planned.restorer and recipe.passes == "stepwise" and not settings.chose("passes"):
        recipe = replace(recipe, passes="direct")
        reasons += ("passes direct after all: a network restores the source first",)
        planned = plan(recipe)
    if recipe.channels == "rgb" and enlarges_luma_alone(planned):
        recipe = replace(recipe, channels="luma")
        reasons += ("channels luma after all: the network enlarges luma alone",)
    strength = 1.0 if settings.chose("restore") else conditions.restore_strength
    if planned.restorer and strength < 0.995:
        reasons += (f"restore strength {strength:.2f}, by the damage",)
    return Decision(verdict, conditions, recipe, reasons + planned.notes, planned, strength)


def enlarges_luma_alone(planned: ModelPlan) -> bool:
    """Whether the networks of a plan produce luma only, whatever they are asked for."""
    return planned.choice.is_luma or any(network.channels_out == 1 for network in planned.models)
