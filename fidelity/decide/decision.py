"""Makes every decision about an enlargement before any work starts."""

from dataclasses import dataclass, replace

from torch import Tensor

from ..choices import AUTO_SCALE
from ..imaging.hdr import WideSignal
from ..networks.compute import AUTO_COMPUTE, Compute
from ..steps.wrap import Margin, describe_margin, describe_tileable, find_margin, find_tileable
from .damage import Conditions, measure_conditions
from .domain import Verdict, classify, named_verdict
from .features import measure_patch_features
from .half_size import describe_half, with_half_size
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
    """Its measurements."""
    recipe: Recipe
    """Every setting, none of them "auto"."""
    reasons: tuple[str, ...]
    """Which measurement switched which setting, and which requests could not be met, as readable text."""
    planned: ModelPlan
    """The passes and their networks."""
    restore_strength: float = 1.0
    """Share of the restored source in the blend that is enlarged, in [0, 1]; the rest is the original source."""
    margin: Margin | None = None
    """What is added around an image that repeats, and cut off at the end; the passes are planned with it."""
    signal: WideSignal | None = None
    """How the image's samples stand for light, if they are of high dynamic range: colors are then compared by it."""

    thresholds: tuple[float | None, ...] = ()
    """See `fidelity.steps.consistency.ConsistencySettings.thresholds`."""

    @property
    def source(self) -> tuple[int, int]:
        """(height, width) of the image that this is for."""
        return self._sizes[0]

    @property
    def target(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self._sizes[1]

    @property
    def _sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        plan = self.planned.plan
        return self.margin.within(plan.source, plan.target) if self.margin else (plan.source, plan.target)


def decide(
    image: Tensor,
    chooser: ModelChooser,
    settings: Settings,
    memory_bytes: int,
    compute: Compute = AUTO_COMPUTE,
    provenance: Provenance | None = None,
    writer_bytes_per_pixel: float | None = None,
    view: Tensor | None = None,
    is_whole: bool = True,
) -> Decision:
    """Decides how an image is enlarged.

    Args:
        image: ``(B, C, H, W)``; for a batch, the image that `find_telling` finds decides.
        chooser: Chooses among the available networks.
        settings: What is wanted.
        memory_bytes: Memory limit in bytes.
        compute: Where and how networks run.
        provenance: What the image's file says about its origin.
        writer_bytes_per_pixel: See `fidelity.decide.planning.plan_passes`.
        view: What a screen shows of the image, if that differs from its samples; the domain is judged by it.
        is_whole: Whether it is no piece of a larger one: at half size, a pixel depends on more than a piece's context.

    Raises:
        ModelRefusedError: If no network is usable.
        RefusedError: If the target does not fit in that memory, or is too large to be written.
    """
    size, place = (image.shape[2], image.shape[3]), find_telling(image)
    first = image[place : place + 1]
    target = resolve_target(size, settings.target, chooser.fixed.scale if chooser.fixed else AUTO_SCALE)
    texture = measure_patch_features(first)  # both the classifier and the judge of damage need it
    if settings.domain != "auto":
        verdict = named_verdict(settings.domain)
    else:
        verdict = classify(first, provenance, texture) if view is None else classify(view[place : place + 1], provenance)
    conditions = measure_conditions(first, texture)
    judged = conditions.with_strength(settings.restore, settings.restore_strength)
    recipe, reasons = settle(settings.apply_to(RECIPES[verdict.recipe_domain]), judged)

    if place:
        reasons += (f"judged by image {place + 1} of {image.shape[0]}: the first shows hardly anything",)
    where = replace(compute, device=compute.device_for(image))
    margin = None
    if settings.tileable != "off":
        margin = find_margin(size, target, settings.tileable)
        size, target = margin.around(size, target)
        large = describe_margin(margin)
        reasons += (large,) if large else ()
    else:
        continuing = find_tileable(first)
        reasons += (describe_tileable(continuing),) if continuing != "off" else ()

    def plan(recipe: Recipe) -> ModelPlan:
        images = (image.shape[1], image.shape[0])
        return chooser.plan(recipe, size, target, memory_bytes, *images, where, writer_bytes_per_pixel)

    planned = plan(recipe)
    if planned.restorer and recipe.passes == "stepwise" and not settings.chose("passes"):
        recipe = replace(recipe, passes="direct")
        reasons += ("passes direct: a network already restores the source first",)
        planned = plan(recipe)
    if recipe.channels == "rgb" and enlarges_luma_alone(planned):
        recipe = replace(recipe, channels="luma")
        reasons += ("channels luma: the network enlarges luma only",)
    if planned.restorer and is_whole and not margin:  # nor does the margin of an image that repeats hold that much
        restorer = with_half_size(planned.restorer, first, judged.restore_strength, where)
        planned = replace(planned, restorer=restorer)
        reasons += describe_half(restorer)
    if planned.restorer:
        source = "based on the measured damage" if judged is conditions else "chosen by the user"
        share = f"{judged.restore_strength:.2f} of full" if judged.restore_strength < 0.995 else "full"
        reasons += (f"restored at {share} strength, {source}",)
    return Decision(verdict, conditions, recipe, reasons + planned.notes, planned, judged.restore_strength, margin)


def find_telling(image: Tensor) -> int:
    """Returns which image of a batch to judge all by: the first, unless it has less than half of the most contrast.

    Args:
        image: ``(B, C, H, W)``.
    """
    if image.shape[0] == 1:
        return 0
    contrast = image[:, :3, ::_STRIDE, ::_STRIDE].float().std(dim=(2, 3), correction=0).amax(dim=1)
    return 0 if contrast[0] >= contrast.max() / 2 else int(contrast.argmax())


_STRIDE = 4


def enlarges_luma_alone(planned: ModelPlan) -> bool:
    """Whether the networks of a plan produce luma only, whatever the settings say."""
    return planned.choice.is_shipped or any(network.channels_out == 1 for network in planned.models)
