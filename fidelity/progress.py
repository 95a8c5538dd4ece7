"""How every step reports its progress, and how it is cancelled."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total) after every part of the work; raising in it cancels the work."""

_UNITS = 1000


def part_of(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """A progress that fills one part of another.

    Args:
        progress: The other; None gives None.
        start: Where the part begins, as a share of the whole in [0, 1].
        stop: Where it ends.
    """
    if progress is None:
        return None
    return lambda done, total: progress(round(_UNITS * (start + (stop - start) * done / max(1, total))), _UNITS)
