"""Kills runs over a folder at any moment, and looks at what they left."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_IMAGES = 12
_PART = ".*.fidelity-part"


def kill_and_check(folder: Path, draw: random.Random, kills: int, until: float) -> Iterator[tuple[str, str | None]]:
    """Runs `fidelity upscale` over a folder, kills it some time after a first result, and again where it was left.

    After each kill, sources must be as they were and results whole. After the last, a run that is not killed must finish, and
    its results equal those of one that never was.

    Args:
        folder: An empty folder.
        draw: Chooses the moments.
        kills: How often.
        until: The `time.monotonic` after which no further run is started.

    Yields:
        For each kill, and for the last run, what it met and what was wrong, if anything.
    """
    sources, results, whole = folder / "in", folder / "out", folder / "whole"
    _make_images(sources)
    before = _digests(sources)
    first = _start(sources, whole)
    while not _digests(whole):
        time.sleep(0.02)
    began = time.monotonic()
    _finish(first)
    seconds = time.monotonic() - began  # of the work, without the start
    wanted = _digests(whole)
    for _ in range(kills):
        if time.monotonic() > until:
            break
        process = _start(sources, results)
        present = len(_digests(results))
        while process.poll() is None and len(_digests(results)) <= present:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1) * seconds)
        was_running = process.poll() is None
        process.kill()
        process.wait()
        made = _digests(results)
        wrong = sorted(name for name, digest in made.items() if wanted.get(name) != digest)
        fault = f"not whole: {', '.join(wrong)}" if wrong else None
        if _digests(sources) != before:
            fault = "sources changed"
        yield "killed half-way" if was_running else "had finished", fault
        if len(made) == len(wanted):
            for path in results.iterdir():
                path.unlink()
    for part in results.glob(_PART):
        os.utime(part, (1, 1))  # only old parts are swept, since not all drives have locks
    code = _finish(_start(sources, results))
    parts = list(results.glob(_PART))
    fault = None
    if code or _digests(results) != wanted or parts:
        fault = f"the last run ended with {code}, {len(_digests(results))} of {len(wanted)} results and {len(parts)} parts left"
    yield "finished after them", fault


def _make_images(folder: Path) -> None:
    folder.mkdir()
    for index in range(_IMAGES):
        noise = np.random.default_rng(index).integers(0, 256, (40 + 8 * index, 90, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((200, 160), Image.Resampling.BICUBIC).save(folder / f"{index}.png")


def _start(sources: Path, results: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "fidelity", "upscale", str(sources), "-o", str(results), "--scale", "2"]
    return subprocess.Popen(
        [*command, "--domain", "photo", "--existing", "skip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _finish(process: "subprocess.Popen[bytes]") -> int:
    return process.wait(timeout=600)


def _digests(folder: Path) -> dict[str, str]:
    """The files of a folder by name, without hidden ones."""
    files = [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
