"""Chooses networks: the installed ones, ranked for a domain and a scale, then the shipped ones."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..choices import AUTO_SCALE
from ..errors import ModelRefusedError
from ..networks.cache import NETWORKS
from ..networks.compute import AUTO_COMPUTE, Compute
from ..networks.loader import SHIPPED_WEIGHTS, ModelNotFoundError, detect_architecture, find_model
from ..networks.network import Network
from ..networks.runner import estimate_memory
from ..networks.speed import measure_seconds_per_pixel
from ..steps.restore import HalfSize
from ..steps.upscale import RESIZE_SHARE
from .catalogue import KNOWN_MODELS, RESTORERS, Restoration, find_download, matches, restores_too
from .planning import NetworkCost, Plan, plan_passes
from .recipes import DRAWN_DOMAINS, Recipe

_DRAWN_WORDS = re.compile(r"anime|manga|cartoon|toon|comic|line[-_ ]?art|sketch|illustr|waifu|cugan", re.IGNORECASE)
_RESTORATION_WORDS = re.compile(r"(?<![0-9a-z])1x|denois|dejpe?g|jpeg|deblur|colordn|graydn|_car_", re.IGNORECASE)
_SCALE_IN_NAME = re.compile(r"(?<![0-9a-z])(?:up)?(?:x([2-8])|([2-8])x)(?![0-9])", re.IGNORECASE)
_STRONG_ARCHITECTURES = ("HAT", "DRCT", "DAT", "ATD", "RGT", "SwinIR", "Swin2SR", "OmniSR", "PLKSR", "ESRGAN")
"""Architectures, best first, of which even an unknown network beats a shipped one."""


_Rank = tuple[bool, int, bool, str]


@dataclass(frozen=True)
class ModelChoice:
    """The chosen file, and why."""

    path: Path
    reason: str
    """One sentence for the report."""
    is_shipped: bool = False
    """Whether it is a shipped network; these enlarge luma only, whatever their input."""
    better: str | None = None
    """A network worth installing, with its page; None unless "auto" fell back to a shipped network."""


@dataclass(frozen=True)
class Restorer:
    """An x1 network that restores the source before it is enlarged."""

    network: Network
    is_shipped: bool
    """Whether it ships with the pack; the shipped one also restores colors and needs no noise level."""
    is_held: bool = False
    """Whether its result is held to what the damage explains, as that for photographs and paintings is; see
    `fidelity.steps.evidence`."""
    notes: tuple[str, ...] = ()
    """Installed networks that could not be used, as readable text."""
    half: HalfSize | None = None
    """What is restored at half size; None for nothing."""

    def with_half(self, share: float) -> "Restorer":
        """The same restorer with a share of restoration at half size; only shipped networks are known to serve for that."""
        if not self.is_shipped or share <= 0:
            return self
        enlarger = NETWORKS.load(shipped_model("natural" if self.is_held else "drawn", 2))
        return replace(self, half=HalfSize(enlarger, share, again=not self.is_held))


@dataclass(frozen=True)
class ModelPlan:
    """The passes to a target, their networks, and why these were chosen."""

    plan: Plan
    """Sizes, order and memory."""
    models: tuple[Network, ...]
    """One for each enlarging network pass, in order; empty if the plan is only a resize."""
    choice: ModelChoice
    """Why the network that does most of the work was chosen."""
    restorer: "Restorer | None" = None
    """The x1 network that the plan begins with; it is not in `models`."""
    notes: tuple[str, ...] = ()
    """Requests of the recipe that could not be planned, and how restoration is divided, as readable text."""
    takes_damage: bool = False
    """Whether the first of the enlarging networks restores on its own: it gets the source as it is, and the restorer's image is
    only one of the two that colors are held between."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """All networks in order, the restorer first."""
        return (*((self.restorer.network,) if self.restorer else ()), *self.models)


class ModelChooser:
    """Chooses and loads networks for one image after another.

    Args:
        name: "auto", or a model by path, by file name, or by file name without its extension.
        models: Files by name, from `fidelity.networks.loader.list_models`.

    Raises:
        FileNotFoundError: If no model has that name.
        ModelRefusedError: If that model is not usable.
    """

    def __init__(self, name: str, models: Mapping[str, Path]) -> None:
        self.models = models
        """Files by name."""
        self._fixed = None if name == "auto" else _name_choice(_find(name, models))
        self.fixed = NETWORKS.load(self._fixed.path) if self._fixed else None
        """The model that the user chose; None for "auto"."""

    def choose(self, recipe: Recipe, scale: float) -> tuple[Network, ModelChoice]:
        """Returns the network for one image, and why it was chosen.

        Args:
            recipe: Lists the networks that fit the domain.
            scale: Enlargement factor.

        Raises:
            ModelRefusedError: If no network is usable.
        """
        if self._fixed and self.fixed:
            return self.fixed, self._fixed
        refused: list[str] = []
        for choice in rank_models(recipe, scale, self.models):
            try:
                model = NETWORKS.load(choice.path)
            except ModelRefusedError as error:
                refused.append(str(error))
                continue
            note = f" (skipped: {'; '.join(refused)})" if refused else ""
            return model, replace(choice, reason=choice.reason + note)
        raise ModelRefusedError(f"no network is usable: {'; '.join(refused)}")

    def plan(
        self,
        recipe: Recipe,
        source: tuple[int, int],
        target: tuple[int, int],
        memory_bytes: int,
        channels: int = 3,
        batch: int = 1,
        compute: Compute = AUTO_COMPUTE,
        writer_bytes_per_pixel: float | None = None,
    ) -> ModelPlan:
        """Returns the cheapest passes from a source to a target, with the networks chosen for them.

        Args:
            recipe: Lists the networks that fit the domain.
            source: (height, width) of the source.
            target: (height, width) of the result.
            memory_bytes: Memory limit in bytes.
            channels: Channels of the source: 1, 3 or 4.
            batch: Number of images enlarged together.
            compute: Where and how networks run.
            writer_bytes_per_pixel: See `fidelity.decide.planning.plan_passes`.

        Raises:
            ModelRefusedError: If no network is usable.
            RefusedError: If the target does not fit in that memory, or the recipe is not settled.
        """
        ratio = max(target[0] / source[0], target[1] / source[1])
        stepwise = recipe.passes == "stepwise"
        chosen = [self.choose(recipe, ratio)]
        if ratio > RESIZE_SHARE * AUTO_SCALE or (stepwise and ratio > RESIZE_SHARE * 2):
            # More than one pass: the other scale may give a cheaper chain, or the requested stepwise one.
            others = (self.choose(recipe, 2), self.choose(recipe, AUTO_SCALE))
            chosen += [other for other in others if other[0] is not chosen[0][0]]
        known = {model.name: (model, choice) for model, choice in chosen}
        restorer = self.choose_restorer(recipe.restore, recipe.shipped) if recipe.restore in RESTORERS else None
        notes = list(restorer.notes) if restorer else []
        networks = [_cost_of(model, source, compute) for model, _ in known.values()]
        first = _cost_of(restorer.network, source, compute) if restorer else None
        debands = recipe.deband == "on"
        images = (batch, channels)
        plan = plan_passes(source, target, networks, memory_bytes, images, first, stepwise, debands, writer_bytes_per_pixel)
        names = [step.network for step in plan.passes if step.kind == "network" and step.network]
        if stepwise and len(names) > 0 and not any(step.kind == "clean" for step in plan.passes):
            notes.append("passes stepwise: only one pass, because there is no x2 network or the target scale is small")
        choice = known[names[-1]][1] if names else chosen[0][1]
        leading = known[names[0]][1].path.stem if names else ""
        takes_damage = restorer is not None and restores_too(leading)
        if takes_damage:
            between = "its colors are held between its own and the restored source's"
            notes.append(f"{leading} restores on its own: it gets the source as it is, and {between}")
        return ModelPlan(plan, tuple(known[name][0] for name in names), choice, restorer, tuple(notes), takes_damage)

    def choose_restorer(self, restoration: Restoration, shipped: str) -> Restorer:
        """Returns the best installed x1 network for "denoise" or "deblock", or else the shipped one of a type.

        Args:
            restoration: What it should remove; the shipped networks remove both.
            shipped: "natural" or "drawn".
        """
        refused: list[str] = []
        for one in RESTORERS[restoration].values():
            for name in sorted(name for name in self.models if matches(Path(name).stem, one)):
                try:
                    network = NETWORKS.load(self.models[name])
                except ModelRefusedError as error:
                    refused.append(str(error))
                    continue
                if network.scale == 1:
                    return Restorer(network, False)
                refused.append(f"{name} is not an x1 network")
        notes = (f"restore {restoration}: uses the shipped network (skipped: {'; '.join(refused)})",) if refused else ()
        return Restorer(NETWORKS.load(shipped_restorer(shipped)), True, shipped == "natural", notes)


def estimate_seconds(planned: ModelPlan, compute: Compute = AUTO_COMPUTE) -> list[float]:
    """Estimates the seconds that each network pass of a plan takes, from a small test run on this machine.

    Args:
        planned: The plan.
        compute: Where and how it will run.
    """
    device = compute.device or torch.device("cpu")
    steps = [step for step in planned.plan.passes if step.network]
    pixels = [step.source[0] * step.source[1] for step in steps]
    speeds = [measure_seconds_per_pixel(network, device, compute.precision, compute.backend) for network in planned.networks]
    seconds = [speed * count for speed, count in zip(speeds, pixels, strict=True)]
    if planned.restorer and planned.restorer.half:
        seconds[0] *= planned.restorer.half.total_cost
    return seconds


def shipped_model(kind: str, scale: float) -> Path:
    """Returns the file of the shipped network of a type, "natural" or "drawn", for an enlargement by `scale`."""
    return SHIPPED_WEIGHTS / f"{kind}-x{2 if scale <= 2 else 4}.safetensors"


def shipped_restorer(kind: str) -> Path:
    """Returns the file of the shipped network that restores at x1, for the type "natural" or "drawn"."""
    return SHIPPED_WEIGHTS / f"{kind}-x1.safetensors"


def rank_models(recipe: Recipe, scale: float, models: Mapping[str, Path]) -> Iterator[ModelChoice]:
    """Yields every network that fits, best first; the last is a shipped one.

    Networks named by the recipe come first: those whose scale suffices, then the others, each in the recipe's order. Then
    come networks of a strong architecture whose file name fits the domain, then the shipped one. Files are opened to detect
    their architecture only after all networks named by the recipe.

    Args:
        recipe: The preferred networks and the domain.
        scale: Enlargement factor.
        models: Files by name.
    """
    wanted = 2 if scale <= 2 else 4
    known: list[tuple[_Rank, ModelChoice]] = []
    strangers: list[tuple[str, Path]] = []
    for name, path in models.items():
        stem = Path(name).stem
        if path.parent == SHIPPED_WEIGHTS or _RESTORATION_WORDS.search(stem):
            continue
        place = next((i for i, title in enumerate(recipe.models) if matches(stem, KNOWN_MODELS[title])), None)
        if place is not None:
            reason = f"installed; choice {place + 1} of the {recipe.domain} recipe ({recipe.models[place]})"
            known.append((_rank(name, place, wanted), ModelChoice(path, reason)))
        elif (recipe.domain in DRAWN_DOMAINS) == bool(_DRAWN_WORDS.search(stem)):
            strangers.append((name, path))
    yield from _in_order(known)
    strong: list[tuple[_Rank, ModelChoice]] = []
    for name, path in strangers:
        architecture = detect_architecture(path)
        if architecture in _STRONG_ARCHITECTURES:
            reason = f"installed; strong architecture {architecture}, and the file name fits {recipe.domain}"
            strong.append((_rank(name, _STRONG_ARCHITECTURES.index(architecture), wanted), ModelChoice(path, reason)))
    yield from _in_order(strong)
    best = recipe.models[0]
    reason = f"shipped model; none of {', '.join(recipe.models)} is installed"
    better = f"{best}, {KNOWN_MODELS[best].page}"
    yield ModelChoice(shipped_model(recipe.shipped, scale), reason, is_shipped=True, better=better)


def scale_in_name(stem: str) -> int | None:
    """Returns the scale in a file name, as in `4x-AnimeSharp` or `SwinIR-M_x2`; None if there is none."""
    found = _SCALE_IN_NAME.search(stem)
    return int(found[1] or found[2]) if found else None


def _cost_of(network: Network, size: tuple[int, int], compute: Compute) -> NetworkCost:
    """Returns the cost of a network for planning; convolutions take about one operation per parameter and pixel.

    Tiles on a GPU use none of the planned host memory, and shrink until they fit there.
    """
    device = compute.device or torch.device("cpu")
    tile_bytes = (
        0
        if device.type == "cuda"
        else estimate_memory(network, size, device, compute.precision, compute.tile_px, compute.backend)
    )
    return NetworkCost(network.name, network.scale, float(network.parameters), tile_bytes)


def _find(name: str, models: Mapping[str, Path]) -> Path:
    """The file of a model; says how to get one that can be downloaded."""
    try:
        return find_model(name, models)
    except ModelNotFoundError as error:
        known = find_download(name)
        if known is None:
            raise
        raise ModelNotFoundError(f"{name}: is not installed; get it with: fidelity models get {known.name}") from error


def _name_choice(path: Path) -> ModelChoice:
    return ModelChoice(path, "chosen by the user", is_shipped=path.parent == SHIPPED_WEIGHTS)


def _rank(name: str, place: int, wanted: int) -> _Rank:
    """Returns the sort key: too small a scale goes last, then by place, then the exact scale first, then by name."""
    scale = scale_in_name(Path(name).stem)
    return bool(scale and scale < wanted), place, scale != wanted, name


def _in_order(ranked: list[tuple[_Rank, ModelChoice]]) -> list[ModelChoice]:
    return [choice for _, choice in sorted(ranked, key=lambda pair: pair[0])]
