"""How steps report their progress, and how they are canceled."""

from collections.abc import Callable
from fractions import Fraction

Progress = Callable[[int, int], None]
"""Called with (done, total) after every part of the work; an exception raised in it cancels the work."""

_UNITS = 1000


def part_of(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """Returns a progress callback that covers one part of another.

    Args:
        progress: The callback of the whole; None gives None.
        start: Start of the part, as a share of the whole in [0, 1].
        stop: End of the part.
    """
    if progress is None:
        return None
    return lambda done, total: progress(round(_UNITS * (start + (stop - start) * done / max(1, total))), _UNITS)


def describe_left(seconds: float) -> str:
    """The time that work still takes, as in "0:01:20 left"."""
    return f"{describe_time(seconds)} left"


def describe_time(seconds: float | Fraction) -> str:
    """A time or a length as in "0:01:20": hours, minutes and seconds, rounded."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
