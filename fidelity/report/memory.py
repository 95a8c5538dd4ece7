"""Measures peak memory."""

import ctypes
import sys
import threading
from types import TracebackType

import psutil
import torch

_INTERVAL_SECONDS = 0.005


class MemoryWatch:
    """Measures the peak memory of a block: ``with MemoryWatch(device) as watch: …``, then `peak_bytes`.

    On a CUDA device the allocator keeps the statistics. Elsewhere the process is sampled every few milliseconds, so
    shorter peaks may be missed. On Linux, memory freed earlier is first returned to the system; elsewhere, reusing it
    does not count.
    """

    def __init__(self, device: torch.device) -> None:
        """Prepares to measure work on a device."""
        self.peak_bytes = 0
        """Peak memory beyond what was in use at the start."""
        self._device = device
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = 0

    def __enter__(self) -> "MemoryWatch":
        if self._device.type == "cuda":
            torch.cuda.init()  # before this there are no statistics, and resetting them raises
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
    """Peak memory of this process since it started, plus the peak on a CUDA device."""
    on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset + on_device
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) + on_device
