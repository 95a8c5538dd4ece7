"""How every step reports its progress, and how it is cancelled."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total) after every part of the work; raising in it cancels the work."""
