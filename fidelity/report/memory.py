"""The memory that a piece of work takes at its peak."""

import ctypes
import sys
import threading
from types import TracebackType

import psutil
import torch

_INTERVAL_SECONDS = 0.005


class MemoryWatch:
    """Watches a block of work: ``with MemoryWatch(device) as watch: …``, then `peak_bytes`.

    On a CUDA device its allocator is asked; elsewhere the process is looked at every few milliseconds, so that what lives
    shorter may be missed. Where the C library can (Linux), memory that was freed before is given back first; elsewhere what
    is used again does not count.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepares to watch work on a device."""
        self.peak_bytes = 0
        """The most that was held beyond what was held before."""
        self._device = device
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = 0

    def __enter__(self) -> "MemoryWatch":
        if self._device.type == "cuda":
            torch.cuda.init()  # before that there are no statistics to reset, and asking for it raises
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
        else:
            _give_back_freed()
            self._before = self._process.memory_info().rss
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - self._before
            return
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss - self._before)


def _give_back_freed() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)


def peak_memory_bytes() -> int:
    """The most memory this process has held at once since it began, plus the most on a CUDA device."""
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset + on_device
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) + on_device
