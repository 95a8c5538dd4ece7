"""Decides whether what an enlargement has lost is grain that belongs to the picture."""

from ..steps.grain import Grain
from .damage import Conditions
from .recipes import Recipe

_LEAST_DEVIATION = 1 / 255
_LEAST_KEPT = 0.2 / 255
_LEAST_JPEG_QUALITY = 88
_MOST_UNEVEN = 0.35
_LEAST_CORRELATION = 0.2
_MOST_IN_SHADOWS = 0.9


def rules_out_grain(recipe: Recipe, conditions: Conditions) -> bool:
    """Whether no grain would be added back whatever were measured: it is off, or "auto" meets the damage of compression."""
    is_jpeg = conditions.jpeg_quality is not None and conditions.jpeg_quality < _LEAST_JPEG_QUALITY
    return recipe.grain == "off" or (recipe.grain == "auto" and (is_jpeg or conditions.has_unknown_blocks))


def judge_grain(grain: Grain | None, recipe: Recipe, conditions: Conditions) -> tuple[bool, str]:
    """Whether to add grain back, and why, as readable text; the text is empty if there is nothing to say.

    On "auto", it must be stationary, of a visible strength, and not of JPEG. For photographs it must also look like film:
    coarser than a pixel, and not strongest in the shadows as the noise of a sensor is after its tone curve.

    Args:
        grain: What was lost, as grain; None if that cannot be told.
        recipe: Its *grain* decides unless it is "auto".
        conditions: Measurements of the source.
    """
    if rules_out_grain(recipe, conditions):
        return False, ""
    if grain is None:
        return False, "no grain added back: too few flat areas to measure it" if recipe.grain == "keep" else ""
    if grain.deviation < _LEAST_KEPT:
        return False, "no grain added back: none was lost" if recipe.grain == "keep" else ""
    strength = f"{grain.deviation * 255:.1f} of 255"
    if recipe.grain == "keep":
        return True, f"grain of {strength} added back: chosen by the user"
    is_even = grain.deviation >= _LEAST_DEVIATION and grain.unevenness <= _MOST_UNEVEN
    is_film = grain.correlation >= _LEAST_CORRELATION and (grain.shadow_share or 0) <= _MOST_IN_SHADOWS
    if not is_even or (recipe.domain == "photo" and not is_film):
        return False, ""
    return True, f"grain of {strength} added back: it is even, and found in the flat areas"
