"""How many threads PyTorch computes with while other processes keep cores busy.

PyTorch's threads wait for each other after every operation. If one of them has to wait for a core that another process keeps
busy, all wait: with two threads on two cores and one other process, a picture took 30 times as long as with one thread
(tools/benchmarks/README.md).
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from threading import local

import torch

from ..limits import free_cores

_TOLERATED = 0.2
"""How much of a core other processes may use before it counts as taken."""


class _Held(local):
    most: int | None = None
    """The threads that this thread computes with if no core is taken; None outside `on_free_cores`."""


_held = _Held()


def _compute_alone() -> None:
    """Computes with one thread in a process that was forked.

    The other threads of the process that it was forked from do not exist there, and waiting for them would never end.
    """
    _held.most = None
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_compute_alone)


@contextmanager
def on_free_cores() -> Generator[None, None, None]:
    """Computes with as many threads as there are free cores, but no more than before; afterwards with as many as before.

    A context or a decorator. Within another one it changes nothing.
    """
    if _held.most is not None:
        yield
        return
    _held.most = torch.get_num_threads()
    try:
        adapt_threads()
        yield
    finally:
        torch.set_num_threads(_held.most)
        _held.most = None


def adapt_threads() -> None:
    """Within `on_free_cores`, adapts the number of threads to what is free now."""
    if _held.most is None or _held.most == 1:
        return
    wanted = max(1, min(_held.most, int(free_cores() + _TOLERATED)))
    if wanted != torch.get_num_threads():
        torch.set_num_threads(wanted)
