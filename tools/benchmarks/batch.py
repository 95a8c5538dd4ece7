"""Times `fidelity batch` beside a plain loop, on this machine: one worker, two, and two of which one is killed now and then.

    python -m tools.benchmarks.batch [--pictures 60] [--megapixels 1] [--kill-seconds 20] [--skip loop one two kills]

The loop enlarges one file after another in one process, with one thread. Times are of the work, from the first picture on; what
a worker takes to start is told apart.
"""

import argparse
import os
import platform
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import torch
from PIL import Image

from fidelity.batch.driver import Cluster, run_batch
from fidelity.batch.journal import read_last_rows
from fidelity.batch.sources import find_items
from fidelity.batch.work import Work, Worker
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.job import FileOptions
from fidelity.networks.compute import Compute
from tools.training.data import GENERATORS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--megapixels", type=float, default=1.0)
    parser.add_argument("--kill-seconds", type=float, default=20.0)
    parser.add_argument("--skip", nargs="*", default=[], choices=["loop", "one", "two", "kills"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.pictures} pictures of {options.megapixels:g} megapixels, x2; {platform.processor() or platform.machine()}")
    with tempfile.TemporaryDirectory() as folder:
        sources = draw(Path(folder) / "in", options.pictures, options.megapixels)
        if "loop" not in options.skip:
            loop(sources, Path(folder) / "loop")
        for name, workers, kills in (("one", 1, 0.0), ("two", 2, 0.0), ("kills", 2, options.kill_seconds)):
            if name not in options.skip:
                spread(sources, Path(folder) / name, workers, kills)


def draw(folder: Path, count: int, megapixels: float) -> Path:
    """Generated photographs and drawings."""
    folder.mkdir()
    side = round((megapixels * 1e6) ** 0.5)
    names = sorted(GENERATORS)
    for number in range(count):
        made = np.asarray(GENERATORS[names[number % len(names)]](side, np.random.default_rng(number % 6), 3), np.float32)
        made = made.transpose(1, 2, 0) if made.shape[0] == 3 else made
        Image.fromarray((np.roll(made, 17 * number, 1) * 255).clip(0, 255).round().astype(np.uint8)).save(
            folder / f"{number:04}.png", compress_level=1
        )
    return folder


def work_for(out: Path) -> Work:
    settings = Settings(Target(scale=2), restore="off")
    return Work(out, settings, Compute(torch.device("cpu"), precision="fp32"), FileOptions(existing="overwrite"))


def loop(sources: Path, out: Path) -> None:
    items = find_items([str(sources)], None, ".png", out).items
    worker = Worker(work_for(out), 1)
    worker.run(items[0])
    began = time.perf_counter()
    for item in items:
        assert worker.run(item)["status"] == "done"
    tell("plain loop, one thread", time.perf_counter() - began, len(items))


def spread(sources: Path, out: Path, workers: int, kill_seconds: float) -> None:
    """Runs a batch, and kills a worker every so often."""
    items = find_items([str(sources)], None, ".png", out).items
    first: list[float] = []
    memory: list[int] = []
    ended, killed = Event(), list[int]()

    def note(_told: str, done: int, _total: int) -> None:
        memory.append(psutil.Process().memory_info().rss)
        if done and not first:
            first.append(time.perf_counter())

    def kill() -> None:
        while not ended.wait(kill_seconds):
            ours = [one for one in psutil.process_iter(["name"]) if str(one.info["name"]).startswith("ray::Worker")]
            for one in ours[:1]:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
                    killed.append(one.pid)

    if kill_seconds:
        Thread(target=kill, daemon=True).start()
    began = time.perf_counter()
    tally = run_batch(items, work_for(out), Cluster(workers=workers), note)
    ended.set()
    seconds = time.perf_counter() - (first[0] if first else began)
    name = f"{workers} worker{'s' if workers > 1 else ''}" + (f", {len(killed)} killed" if kill_seconds else "")
    tell(name, seconds, len(items) - 1)
    rows = list(read_last_rows(out))
    whole = sum(1 for path in out.glob("*.png") if is_whole(path))
    grown = (memory[-1] - memory[len(memory) // 10]) / 2**20
    print(
        f"  to the first {first[0] - began if first else 0:.1f} s; done {tally.done}, failed {tally.failed}, taken over "
        f"{tally.retried}; rows {len(rows)}, whole files {whole}; driver grew by {grown:.1f} MiB",
        flush=True,
    )


def is_whole(path: Path) -> bool:
    with Image.open(path) as opened:
        opened.load()
    return True


def tell(name: str, seconds: float, pictures: int) -> None:
    print(
        f"{name:28} {seconds:8.1f} s  {seconds / max(1, pictures):6.2f} s a picture  {60 * pictures / seconds:6.1f} a minute",
        flush=True,
    )


if __name__ == "__main__":
    main()
