"""Attacks the product at length and prints what fell over.

    python -m tools.attack [--minutes 10] [--seed 0] [--only models pictures servers kills threads nodes]

Damaged model files (`models.py`) and pictures (`pictures.py`), hostile servers (`server.py`), kill -9 (`kills.py`), networks
that threads share (`threads.py`) and, where there is a ComfyUI, every image for every node of the pack
(`tests/nodes/tiny_models/attack.py`). The tests run a few of each.
"""

import argparse
import json
import queue
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from tools.attack import server as servers
from tools.attack.kills import kill_and_check
from tools.attack.threads import share_networks
from tools.attack.trials import LONGEST_SECONDS


@dataclass
class Outcome:
    """What one kind of attack came to."""

    tries: int = 0
    fates: Counter[str] = field(default_factory=Counter[str])
    """How many ended how, of those without a fault."""
    faults: list[str] = field(default_factory=list[str])

    def add(self, fate: str, fault: str | None, what: str) -> None:
        """Counts one try; a fault is printed at once."""
        self.tries += 1
        if fault:
            self.faults.append(f"{what}: {fault}")
            print(f"  {what}: {fault}", flush=True)
        else:
            self.fates[fate] += 1


def attack_files(kind: str, until: float, seed: int, most: int) -> Outcome:
    """Damaged files, in a process that is started anew whenever one brings it down."""
    outcome, place = Outcome(), seed
    with tempfile.TemporaryDirectory() as folder:
        while place < seed + most and time.monotonic() < until:
            done = 0
            for line in _lines_of([f"tools.attack.{kind}", str(place), str(min(500, seed + most - place)), folder], until):
                if isinstance(line, str):
                    outcome.add("", line, f"{kind} {place + done}")
                    done += 1
                elif "fate" in line:
                    outcome.add(line["fate"], line["fault"], f"{kind} {line['seed']} ({line['kind']})")
                    done += 1
            place += max(1, done)
    return outcome


def _lines_of(module: list[str], until: float) -> Iterator[dict[str, str] | str]:
    """The lines of JSON that a module prints, and how it ended if it crashed or hung."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed when this generator is
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *module], stdout=subprocess.PIPE, stderr=errors, text=True
    )
    assert process.stdout
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_forward, args=(process.stdout, lines), daemon=True).start()
    began: bool | None = None
    try:
        while time.monotonic() < until + LONGEST_SECONDS:
            line = lines.get(timeout=LONGEST_SECONDS + 20)
            if not line:
                if process.wait() and began:
                    yield f"brought the process down (exit code {process.returncode})"
                elif began is None:
                    errors.seek(0)
                    raise SystemExit(f"{module[0]} does not start: {errors.read()[-500:].strip()}")
                return
            began = "fate" not in line
            yield json.loads(line)
    except queue.Empty:
        yield f"took more than {LONGEST_SECONDS} s"
    finally:
        process.kill()
        process.wait()
        errors.close()


def _forward(stream: IO[str], lines: "queue.Queue[str]") -> None:
    for line in stream:
        if line.startswith("{"):  # libraries print too
            lines.put(line)
    lines.put("")


def attack_servers(until: float, seed: int, most: int) -> Outcome:
    """Every mode once, then answers damaged at random."""
    outcome, draw = Outcome(), random.Random(seed)
    modes: list[tuple[str, Callable[[servers.HostileServer], object]]] = list(servers.MODES.items())
    with servers.short_limits():
        for place in range(max(len(modes), most)):
            if time.monotonic() > until:
                break
            server = servers.HostileServer()
            if place < len(modes):
                name, apply = modes[place]
                apply(server)
            else:
                name = servers.mutate(server, draw)
            with tempfile.TemporaryDirectory() as folder:
                outcome.add("result or one line", servers.find_fault(server, Path(folder)), f"server: {name}")
            server.close()
    return outcome


def attack_by_kills(until: float, seed: int, most: int) -> Outcome:
    """Kills runs over a folder."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for fate, fault in kill_and_check(Path(folder), random.Random(seed), most, until):
            outcome.add(fate, fault, f"kill {outcome.tries}")
    return outcome


def attack_by_threads(until: float, _seed: int, most: int) -> Outcome:
    """Networks that threads share."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for name, images, differ in share_networks(Path(folder), most):
            outcome.add("equal", f"{differ} of {images} differ" if differ else None, f"threads: {name}")
            if time.monotonic() > until:
                break
    return outcome


def attack_nodes(_until: float, _seed: int, _most: int) -> Outcome:
    """Every node with every image, in a ComfyUI of its own."""
    from tests.nodes.conftest import start_host  # noqa: PLC0415 imports pytest

    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        process, host = start_host(Path(folder))
        try:
            graph = {"1": {"class_type": "RunCheck", "inputs": {"name": "all_hostile_images"}}}
            status, outputs, messages = host.wait(host.start(graph), seconds=900)
        finally:
            process.terminate()
            process.wait()
    if status == "success":
        outcome.tries = int(outputs["1"]["text"][0].split()[0])
        outcome.fates["taken or refused"] = outcome.tries
    else:
        outcome.add("", messages["execution_error"]["exception_message"], "nodes")
    return outcome


ATTACKS: dict[str, tuple[Callable[[float, int, int], Outcome], int]] = {
    "models": (partial(attack_files, "models"), 5000),
    "pictures": (partial(attack_files, "pictures"), 5000),
    "servers": (attack_servers, 600),
    "kills": (attack_by_kills, 50),
    "threads": (attack_by_threads, 60),
    "nodes": (attack_nodes, 0),
}
"""By name: the attack, and how many tries it has if time allows."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="when to stop, for each kind of attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    options = parser.parse_args()
    outcomes: dict[str, tuple[Outcome, float]] = {}
    for name in options.only:
        attack, most = ATTACKS[name]
        print(f"{name}:", flush=True)
        began = time.monotonic()
        outcomes[name] = attack(began + 60 * options.minutes, options.seed, most), time.monotonic() - began
    print("\n| attack | tries | ended well | faults | seconds |\n|---|---|---|---|---|")
    for name, (outcome, seconds) in outcomes.items():
        ended = ", ".join(f"{count} {fate}" for fate, count in sorted(outcome.fates.items()))
        print(f"| {name} | {outcome.tries} | {ended} | {len(outcome.faults)} | {seconds:.0f} |")
    raise SystemExit(any(outcome.faults for outcome, _ in outcomes.values()))


if __name__ == "__main__":
    main()
