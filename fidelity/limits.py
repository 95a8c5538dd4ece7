"""How much memory this process may use: what the machine has, or less if a container or a limit of the process says so."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

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
    for folder in _cgroup_folders():
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


def _cgroup_folders() -> Iterator[Path]:
    """The folders of this process's control group and of all that it lies in, of both versions."""
    try:
        lines = _OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, place = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = _CGROUPS / "memory" if kinds else _CGROUPS
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
