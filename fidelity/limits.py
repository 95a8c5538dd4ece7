"""What this process may use: the machine's memory and cores, or less if a container, a limit or other processes say so."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_UNLIMITED = 2**60
"""Limits from here on mean none."""


def total_bytes() -> int:
    """The most memory that this process could have."""
    return min(psutil.virtual_memory().total, *(limit for limit, _ in _limits()), _UNLIMITED)


def free_bytes() -> int:
    """The memory that this process can still get."""
    return max(0, min(psutil.virtual_memory().available, *(limit - used for limit, used in _limits()), _UNLIMITED))


def free_cores() -> float:
    """The cores that other processes leave free, among those that this one may run on.

    Load is measured since the last call, at first since this module was imported.
    """
    return _LOAD.free()


class _Load:
    """How many cores are free, by what other processes have computed between two calls."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._others = 0.0
        """How many of its cores others keep busy."""
        self._time, self._busy = time.perf_counter(), _others_seconds()
        self._free = self._count()

    def free(self) -> float:
        """By the mean load since the last call, or the one before if that was long ago; a moment after a call, its answer."""
        with self._lock:
            now = time.perf_counter()
            since = now - self._time
            if since < _SHORTEST_SECONDS:
                return self._free
            before, self._time, self._busy = self._busy, now, _others_seconds()
            if since < _LONGEST_SECONDS:
                self._others = max(0.0, (self._busy - before) / since)
            self._free = self._count()
            return self._free

    def _count(self) -> float:
        return max(0.0, min(len(_own_cores()) - self._others, *_quotas(), _UNLIMITED))


_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.2, 20.0


def _others_seconds() -> float:
    """Seconds that other processes have computed on the cores of this one; 0 where the system does not tell."""
    try:
        times, own = psutil.cpu_times(percpu=True), psutil.Process().cpu_times()
    except (OSError, psutil.Error):
        return 0.0
    busy = sum(_busy_seconds(times[core]) for core in _own_cores() if core < len(times))
    return busy - own.user - own.system


def _busy_seconds(times: Any) -> float:
    """Seconds that a core was busy; those of guests are among the user's."""
    idle = ("idle", "iowait", "guest", "guest_nice")
    return math.fsum(times) - math.fsum(getattr(times, name, 0.0) for name in idle)


def _own_cores() -> Sequence[int]:
    """The logical cores that this process may run on."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # neither macOS nor OpenBSD has it
        with suppress(OSError, psutil.Error):
            return process.cpu_affinity() or ()
    return range(os.cpu_count() or 1)


def allow_open_files(count: int) -> int:
    """Raises the number of files that this process may have open at once to `count`, as far as the system lets it.

    Returns:
        How many it may have open; `count` where no limit is known.
    """
    if resource is None:
        return count
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        with suppress(ValueError, OSError):  # some systems end below the limit that they tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return count if soft == resource.RLIM_INFINITY else soft


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of everything that limits this process."""
    for folder in _cgroup_folders("memory"):
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = _read_number(folder / limit)
            if most is not None and most < _UNLIMITED:
                held = (_read_number(folder / used) or 0) - _read_entry(folder / "memory.stat", cache)
                yield most, max(0, held)
    if resource is not None:
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if 0 < most < _UNLIMITED:
            yield most, psutil.Process().memory_info().vms


def _quotas() -> Iterator[float]:
    """How many cores the control groups allow to be busy at a time."""
    for folder in _cgroup_folders("cpu"):
        with suppress(OSError, ValueError):  # no such file, or "max"
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        quota, period = _read_number(folder / "cpu.cfs_quota_us"), _read_number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            yield quota / period


def _cgroup_folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of all that it lies in, of both versions."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds and controller not in kinds.split(","):
            continue
        root = _CGROUPS / controller if kinds else _CGROUPS
        folder = root / place.lstrip("/")
        yield from (one for one in (folder, *folder.parents) if one == root or root in one.parents)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _read_entry(path: Path, name: str) -> int:
    try:
        entries = dict(line.split() for line in path.read_text().splitlines())
        return int(entries.get(name, 0))
    except (OSError, ValueError):
        return 0


_LOAD = _Load()
