"""Keeps libraries' warnings from the terminal, in any number of threads."""

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_inside = 0
_filters: Any = None


@contextmanager
def no_warnings() -> Generator[None, None, None]:
    """Ignores all warnings until the last thread is out.

    `warnings.catch_warnings` alone changes filters of the whole process, and two threads that overlap put back each other's.
    """
    global _inside, _filters  # noqa: PLW0603
    with _lock:
        if not _inside:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _filters.__exit__(None, None, None)
