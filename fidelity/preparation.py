"""Prepares a photograph before it is enlarged: restores measured damage, and applies requested corrections."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from .choices import Domain, RestoreChoice
from .decide.damage import measure_conditions
from .decide.half_size import describe_half, with_half_size
from .decide.model_choice import ModelChooser, Restorer
from .decide.recipes import RECIPES, SAFE_DOMAIN, settle
from .errors import RefusedError
from .networks.compute import AUTO_COMPUTE, Compute
from .networks.network import Network
from .progress import Progress, part_of
from .steps.balance import Balance, balance
from .steps.deband import deband
from .steps.geometry import WHOLE, Corners, Lens, correct_geometry
from .steps.restore import restore


@dataclass(frozen=True)
class Preparation:
    """What to do; the defaults restore measured damage and change nothing else."""

    restore: RestoreChoice = "auto"
    """What is restored, noise or JPEG damage; auto: the recipe of the domain decides."""
    restore_strength: float | None = None
    """Share of the restored image in the blend, from 0 to 1; None lets the measured damage decide."""
    deband: Literal["auto", "off", "on"] = "auto"
    """Whether banding in gradients is smoothed; auto: if banding is measured."""
    balance: Balance = field(default_factory=Balance)
    """Exposure and white balance."""
    lens: Lens = field(default_factory=Lens)
    """Lens distortion to correct."""
    corners: Corners = WHOLE
    """Corners of the area of the lens-corrected picture that fills the result."""
    domain: Domain = SAFE_DOMAIN
    """Domain of the image; its recipe sets how much damage triggers restoration."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("restore", self.restore, get_args(RestoreChoice)),
            ("deband", self.deband, ("auto", "off", "on")),
        ):
            if value not in known:
                raise RefusedError(f"{name} is {value!r}; wanted {', '.join(known)}")
        if self.restore_strength is not None and not 0 <= self.restore_strength <= 1:
            raise RefusedError(f"restore strength is {self.restore_strength}; wanted 0 to 1")


@dataclass(frozen=True)
class Prepared:
    """The prepared image, and what was done."""

    image: Tensor
    """The prepared image; shape, dtype and device are kept."""
    done: tuple[str, ...]
    """What was done and why, one sentence for each step."""


def prepare(
    image: Tensor,
    wanted: Preparation,
    chooser: ModelChooser,
    model: Network | None = None,
    find_room: Callable[[Network], torch.device] | None = None,
    compute: Compute = AUTO_COMPUTE,
    progress: Progress | None = None,
) -> Prepared:
    """Restores, debands, balances and straightens an image, each only if requested or if measurements call for it.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1]; for a batch, damage is measured on the first image, light on all.
        wanted: What to do.
        chooser: Finds a restoration network if `model` is not given.
        model: An x1 restoration network.
        find_room: Frees memory for the restoration network and returns its device; by default, the device of the image.
        compute: Where and how the network runs; `find_room` overrides the device.
        progress: Called with (units done, units in total).

    Raises:
        RefusedError: If the image is not finite, a setting is invalid, or `model` is not an x1 network.
    """
    if model and model.scale != 1:
        raise RefusedError(f"{model.name} enlarges {model.scale} times; wanted a network of scale 1 to restore with")
    conditions = measure_conditions(image[:1]).with_strength(wanted.restore, wanted.restore_strength)
    recipe, reasons = settle(replace(RECIPES[wanted.domain], restore=wanted.restore, deband=wanted.deband), conditions)
    why = {reason.split()[0]: reason for reason in reasons}
    done: list[str] = []
    if recipe.restore not in ("auto", "off"):
        found = Restorer(model, False) if model else chooser.choose_restorer(recipe.restore, recipe.shipped)
        where = replace(compute, device=find_room(found.network)) if find_room else compute
        part, damage = part_of(progress, 0.0, 0.7), conditions.damage_sigma
        strength, evidence = conditions.restore_strength, conditions.evidence if found.is_held else None
        keeps_colors = not found.is_shipped or conditions.is_dithered
        found = with_half_size(found, image[:1], strength, where)
        image = restore(image, found.network, damage, keeps_colors, where, part, strength, evidence, found.half)
        reason = why.get("restore", f"restore {recipe.restore}: chosen by the user")
        done += [f"{reason}, by {found.network.name}", *describe_half(found), *found.notes]
    if recipe.deband == "on":
        image = deband(image, progress=part_of(progress, 0.7, 0.8))
        done.append(why.get("deband", "deband on: chosen by the user"))
    image, gains = balance(image, wanted.balance)
    if any(gain != 1 for gain in gains):
        done.append(f"light multiplied by {', '.join(f'{gain:.3f}' for gain in gains)}")
    straight = correct_geometry(image, wanted.lens, wanted.corners, part_of(progress, 0.8, 1.0))
    if straight is not image:
        done.append(f"lens k1 {wanted.lens.k1:g}, k2 {wanted.lens.k2:g}, corners {wanted.corners}")
    return Prepared(straight, tuple(done))
