"""Damaged files one after another, in a process of their own, so that one that hangs or crashes it is seen from outside.

The process is started with the first seed, their number and a folder to work in. It prints a line of JSON as each begins and as
it ends.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

LONGEST_SECONDS = 20
"""What counts as a hang."""


def damage(content: bytes, draw: random.Random) -> bytes:
    """Replaces, removes, repeats or adds bytes, most of them near the start, where formats say what follows."""
    made = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 20))):
        place = draw.randrange(len(made) + 1) if draw.random() < 0.5 else draw.randrange(min(len(made), 600) + 1)
        how = draw.randrange(6)
        if how == 0:
            del made[place:]
        elif how == 1:
            del made[place : place + draw.choice((1, 4, 100))]
        elif how == 2:
            made[place:place] = made[place : place + draw.choice((1, 8, 200))]
        elif how == 3:
            made[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"9999"))
        else:
            made[place : place + draw.choice((0, 1, 4))] = draw.randbytes(draw.choice((1, 4)))
        if not made:
            break
    return bytes(made)


def told_of_time(began: float) -> str | None:
    """What is wrong with a try that began then, by `time.monotonic`, if it took too long."""
    seconds = time.monotonic() - began
    return f"took {seconds:.0f} s" if seconds > LONGEST_SECONDS else None


def run_trials(
    make_file: Callable[[int, Path], tuple[Path, str]],
    find_fault: Callable[[Path], tuple[str, str | None]],
    most_bytes: int,
) -> None:
    """Tries the files of the seeds that the command line names.

    Args:
        make_file: Writes the file of a seed to a folder; returns its path and its kind.
        find_fault: Reads it; returns how it ended, and what was wrong, if anything.
        most_bytes: Address space that one small file may take beyond what the process has now.
    """
    import resource  # noqa: PLC0415 not on Windows

    first, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    with Path("/proc/self/statm").open() as file:
        before = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (before + most_bytes, -1))
    for seed in range(first, first + count):
        print(json.dumps({"seed": seed}), flush=True)
        path, kind = make_file(seed, folder)
        fate, fault = find_fault(path)
        print(json.dumps({"seed": seed, "kind": kind, "fate": fate, "fault": fault}), flush=True)
