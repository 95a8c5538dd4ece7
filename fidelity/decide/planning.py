"""Plans the cheapest chain of passes that reaches a target size. Sizes are pure integers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Literal

from ..errors import MemoryLimitError, RefusedError
from ..networks.memory import work_memory_bytes
from ..steps.chain import BLOCK_BYTES
from ..steps.upscale import RESIZE_SHARE, check_target


@dataclass(frozen=True)
class NetworkCost:
    """The cost of a network, as planning needs it."""

    name: str
    """Its name in the plan."""
    scale: int
    """Enlargement factor of one pass; 1 for restoration, which is planned once."""
    work: float
    """Cost per input pixel, in any unit that all networks share."""
    tile_bytes: int
    """Peak memory while one tile is computed."""


@dataclass(frozen=True)
class PlannedPass:
    """One step of a plan."""

    kind: Literal["restore", "deband", "network", "clean", "resize"]
    """What is done; "restore" and "deband" come first, at the size of the source."""
    network: str | None
    """Name of its network; None if it uses none."""
    source: tuple[int, int]
    """(height, width) of the input."""
    result: tuple[int, int]
    """(height, width) of the output."""
    work: float
    """Cost, in the unit of `NetworkCost.work`; 0 without a network."""
    peak_bytes: int
    """Peak memory: source, target, one block of the intermediate result, and a network's tile."""


@dataclass(frozen=True)
class Plan:
    """The cheapest way from a source to its target."""

    source: tuple[int, int]
    """(height, width) of the source."""
    target: tuple[int, int]
    """Exact (height, width) of the result."""
    passes: tuple[PlannedPass, ...]
    """In order; the last may be a resize."""
    peak_bytes: int
    """Peak memory of all steps, including the color consistency at the end."""
    in_files: bool = False
    """Whether the result and the maps of the color consistency are in temporary files, because memory is short."""
    scratch_bytes: int = 0
    """Size of those files."""

    @property
    def work(self) -> float:
        """Cost of all passes."""
        return sum(step.work for step in self.passes)


def plan_passes(
    source: tuple[int, int],
    target: tuple[int, int],
    networks: Sequence[NetworkCost],
    memory_bytes: int,
    images: tuple[int, int] = (1, 3),
    restorer: NetworkCost | None = None,
    stepwise: bool = False,
    debands: bool = False,
    writer_bytes_per_pixel: float | None = None,
) -> Plan:
    """Plans the cheapest chain of passes.

    The fewest passes win; among equals, a chain that needs no enlarging resize at the end; then the least work. A resize
    may enlarge by at most `RESIZE_SHARE`, and may shrink by any factor.

    Args:
        source: (height, width) of the source.
        target: (height, width) of the result.
        networks: The available networks; among equals, earlier ones are preferred.
        memory_bytes: Memory limit in bytes.
        images: (batch, channels) of the source.
        restorer: A network of scale 1 to begin with.
        stepwise: Whether to enlarge by 2 at a time with cleanup in between, if there is an x2 network.
        debands: Whether the source is debanded first.
        writer_bytes_per_pixel: Memory per pixel of the result while it is written to a file. A result that does not fit in
            memory then goes to a temporary file first. None if the result has to be in memory.

    Raises:
        MemoryLimitError: If the target does not fit in that memory.
        RefusedError: If no network is given.
    """
    check_target(target)
    if not networks:
        raise RefusedError("no network to plan with; wanted at least one")
    doubling = [network for network in networks if network.scale == 2] if stepwise else []
    ratio = max(target[0] / source[0], target[1] / source[1])
    steps = [_plan_chain(source, target, chain, images, bool(doubling)) for chain in _chains(ratio, doubling or networks)]
    if restorer or debands:
        first = _plan_restoring(source, target, restorer, images)
        steps = [[first, *chain] for chain in steps]
    steps.sort(key=lambda chain: (len(_networks(chain)), _grows_last(chain), sum(step.work for step in chain)))
    finish = work_memory_bytes((*images, *target), (*images, *source))
    plans = [Plan(source, target, tuple(chain), max(finish, *(step.peak_bytes for step in chain))) for chain in steps]
    fitting = [plan for plan in plans if plan.peak_bytes <= memory_bytes]
    if not fitting and writer_bytes_per_pixel is not None and images[0] == 1:
        plans = [_move_to_files(plan, images, writer_bytes_per_pixel) for plan in plans]
        fitting = [plan for plan in plans if plan.peak_bytes <= memory_bytes]
    if not fitting:
        needed = min(plan.peak_bytes for plan in plans)
        wanted = "wanted at least that much memory" if plans[0].in_files else _largest(source, target, memory_bytes, images)
        raise MemoryLimitError(
            f"{target[1]}x{target[0]} px needs about {needed / 2**30:.1f} GiB of memory, the limit is "
            f"{memory_bytes / 2**30:.1f} GiB; {wanted}"
        )
    return fitting[0]


def _move_to_files(plan: Plan, images: tuple[int, int], writer_bytes_per_pixel: float) -> Plan:
    """The same plan with the result and the maps of its size in temporary files."""
    target, source = _image_bytes(plan.target, images), _image_bytes(plan.source, images)
    strip = min(_STRIP_BLOCKS * BLOCK_BYTES, target)
    with_alpha = 2 * source if images[1] == 4 else 0  # alpha and the colors under it need the whole source
    room = {"network": strip - target + with_alpha, "restore": strip - target - source, "deband": -target - source}
    steps = tuple(replace(step, peak_bytes=step.peak_bytes + room.get(step.kind, -target)) for step in plan.passes)
    difference = 4 * plan.source[0] * plan.source[1]
    writer = int(writer_bytes_per_pixel * plan.target[0] * plan.target[1])
    finish = source + with_alpha + 2 * difference + writer
    restored = sum(_RESTORED_COPIES.get(step.kind, 0) for step in plan.passes)
    scratch = (target + (_SCRATCH_MAPS + restored) * source) // 2  # 16 bits per sample
    return replace(
        plan, passes=steps, peak_bytes=max(finish, *(step.peak_bytes for step in steps)), in_files=True, scratch_bytes=scratch
    )


_RESTORED_COPIES = {"restore": 4, "deband": 1}
"""Copies of the source in files while a step works on it; restoration at half size needs three of them."""
_STRIP_BLOCKS = 2
"""Copies of a block of the networks' output while a strip is assembled."""
_SCRATCH_MAPS = 6


def _chains(ratio: float, networks: Sequence[NetworkCost]) -> list[tuple[NetworkCost, ...]]:
    """Returns every chain that gets close enough to the ratio without a needless pass."""
    if ratio <= 1 and any(network.scale > 1 for network in networks):
        return [()]
    open_chains: list[tuple[NetworkCost, ...]] = [()]
    found: list[tuple[NetworkCost, ...]] = []
    while open_chains:
        chain = open_chains.pop()
        for network in networks:
            if network.scale == 1:
                found += [] if chain else [(network,)]
                continue
            longer = (*chain, network)
            reached = prod(step.scale for step in longer)
            if reached * RESIZE_SHARE >= ratio * (1 - 1e-9):
                found.append(longer)
            else:
                open_chains.append(longer)
    return found


def _plan_chain(
    source: tuple[int, int], target: tuple[int, int], chain: tuple[NetworkCost, ...], images: tuple[int, int], cleans: bool
) -> list[PlannedPass]:
    scale = prod(network.scale for network in chain)
    drawn = (source[0] * scale, source[1] * scale)
    block = 0 if drawn == target and len(chain) == 1 else min(BLOCK_BYTES, _image_bytes(drawn, images))
    held = _image_bytes(source, images) + _image_bytes(target, images) + block
    size, steps = source, list[PlannedPass]()
    for place, network in enumerate(chain):
        larger = (size[0] * network.scale, size[1] * network.scale)
        work = network.work * size[0] * size[1]
        steps.append(PlannedPass("network", network.name, size, larger, work, held + network.tile_bytes))
        size = larger
        if cleans and network.scale > 1 and place < len(chain) - 1:
            steps.append(PlannedPass("clean", None, size, size, 0.0, held))
    if size != target or not steps:
        steps.append(PlannedPass("resize", None, size, target, 0.0, held))
    return steps


def _plan_restoring(
    source: tuple[int, int], target: tuple[int, int], restorer: NetworkCost | None, images: tuple[int, int]
) -> PlannedPass:
    held = 2 * _image_bytes(source, images) + _image_bytes(target, images)
    if restorer is None:
        return PlannedPass("deband", None, source, source, 0.0, held)
    work = restorer.work * source[0] * source[1]
    return PlannedPass("restore", restorer.name, source, source, work, held + restorer.tile_bytes)


def _networks(chain: list[PlannedPass]) -> list[PlannedPass]:
    return [step for step in chain if step.kind == "network"]


def _grows_last(chain: list[PlannedPass]) -> bool:
    """Whether a resize has to enlarge the networks' output by more than rounding."""
    last = chain[-1]
    return last.kind == "resize" and max(last.result[0] / last.source[0], last.result[1] / last.source[1]) > 1.02


def _image_bytes(size: tuple[int, int], images: tuple[int, int]) -> int:
    batch, channels = images
    return 4 * batch * channels * size[0] * size[1]


def _largest(source: tuple[int, int], target: tuple[int, int], memory_bytes: int, images: tuple[int, int]) -> str:
    """Returns text about the largest result of the target's aspect ratio that fits in memory."""
    nothing = work_memory_bytes((*images, 0, 0), (*images, 0, 0))
    per_pixel = work_memory_bytes((*images, 1, 1), (*images, 0, 0)) - nothing
    whole = work_memory_bytes((*images, *source), (*images, *source))
    room = memory_bytes - (whole - per_pixel * source[0] * source[1])
    if room < per_pixel * source[0] * source[1]:
        return "that is too little to enlarge this image at all"
    shrink = sqrt(room / per_pixel / (target[0] * target[1]))
    return f"wanted at most about {int(target[1] * shrink)}x{int(target[0] * shrink)} px"
