"""Spreads a batch over workers on Ray, on this machine or a cluster, and notes what becomes of every picture."""

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from ..errors import RefusedError
from ..files.paths import FileRefusedError, hold
from .sources import Item, key_of
from .work import Row, Work, Worker, identity_of

RESULTS_NAME = "batch.jsonl"
"""The rows of a batch, in the folder of its results."""
MOST_ATTEMPTS = 3
"""Workers that may die of one picture before it is set aside."""

_NEVER_BEGAN = "creation task"
"""What Ray says of an actor that failed in its first moment."""
_IN_FLIGHT = 2
"""Pictures that each worker has at a time: one in work, one waiting."""
_HINT = "needs Ray: pip install 'fidelity-upscale[cluster]'"


@dataclass(frozen=True)
class Cluster:
    """Where a batch runs."""

    address: str | None = None
    """Of a Ray cluster; None starts one on this machine."""
    workers: int | None = None
    """How many there are; as many as GPUs, else as processor cores, if not given."""


@dataclass
class Tally:
    """What has become of a batch so far; as large for a million pictures as for ten."""

    total: int
    done: int = 0
    same: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Of all workers together."""
    drift_sum: float = 0.0
    drift_max: float = 0.0
    retried: int = 0
    """Pictures whose worker died, and that another one took."""
    began: float = field(default_factory=time.perf_counter)

    @property
    def finished(self) -> int:
        """Pictures of which something became."""
        return self.done + self.same + self.failed

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.began

    def add(self, row: Row) -> None:
        """Counts a row."""
        status = row["status"]
        self.done += status == "done"
        self.same += status == "same"
        self.failed += status == "failed"
        self.seconds += row.get("seconds", 0.0) if status == "done" else 0.0
        if "drift_mean" in row:
            self.drift_sum += row["drift_mean"]
            self.drift_max = max(self.drift_max, row["drift_max"])

    def describe(self) -> str:
        """Progress in a few words."""
        per_minute = 60 * self.done / max(1e-6, self.elapsed)
        counted = self.done + self.same
        drift = f", drift {self.drift_sum / counted:.2f}" if counted else ""
        failed = f", {self.failed} failed" if self.failed else ""
        left = self._seconds_left()
        clock = f", {int(left // 3600)}:{int(left // 60 % 60):02}:{int(left % 60):02} left" if self.done else ""
        return f"{self.finished} of {self.total}, {per_minute:.1f} a minute{clock}{drift}{failed}"

    def _seconds_left(self) -> float:
        return (self.total - self.finished) * self.elapsed / max(1, self.done)


class Results:
    """The rows of a batch in its folder; one process at a time holds them."""

    def __init__(self, out: Path) -> None:
        """Opens the file, and reads what earlier runs have finished.

        Raises:
            FileRefusedError: If another run works in that folder.
        """
        out.mkdir(parents=True, exist_ok=True)
        self.path = out / RESULTS_NAME
        self._file = self.path.open("ab")
        if not hold(self._file):
            self._file.close()
            raise FileRefusedError(f"{out}: another batch works on it; wanted another folder, or to wait")
        self.known: dict[str, Row] = {}
        """The last row of every picture that is finished, by `Item.key`."""
        is_torn = False
        for row, is_torn in _read_rows(self.path):  # noqa: B007  what is said of the last one counts
            if row and row.get("status") in ("done", "same"):
                key = key_of(row["source"], row["output"])
                self.known[key] = {name: value for name, value in row.items() if name not in _TOLD_ANEW}
        if is_torn:
            self._file.write(b"\n")

    def add(self, row: Row) -> None:
        """Notes what became of a picture."""
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Lets another run resume here."""
        os.fsync(self._file.fileno())
        self._file.close()


_TOLD_ANEW = ("source", "output", "status", "seconds")


def _read_rows(path: Path) -> Iterator[tuple[Row | None, bool]]:
    """Each row, or None for a torn one, and whether it lacks its end."""
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield (row if isinstance(row, dict) else None), not line.endswith(b"\n")


def run_batch(
    items: Sequence[Item],
    work: Work,
    cluster: Cluster,
    progress: Callable[[str, int, int], None] | None = None,
    say: Callable[[Row], None] | None = None,
) -> Tally:
    """Enlarges all pictures, each once, however often it is interrupted.

    Args:
        items: The pictures.
        work: What they have in common.
        cluster: Where it runs.
        progress: Called with (what is done, pictures done, pictures in total); raising in it ends the batch cleanly.
        say: Called with each row as it comes.

    Returns:
        What became of them; the rows are in the folder of the results.

    Raises:
        RefusedError: If Ray is not installed or cannot be reached, or a setting is refused.
    """
    if not find_spec("ray"):
        raise RefusedError(f"a batch {_HINT}")
    Worker(work)  # refuses here what every worker would
    results = Results(work.out)
    try:
        tally, left = Tally(len(items)), list[Item]()
        for item in items:
            known = results.known.get(item.key)
            if known and _is_same(item, known, work):
                row = known | {"source": item.source, "output": item.output, "status": "same"}
                tally.add(row)
            else:
                left.append(item)
        if progress:
            progress(tally.describe(), tally.finished, tally.total)
        if left:
            pool = _Pool(work, cluster, len(left))
            try:
                for row in pool.run(left, results.known, tally):
                    results.add(row)
                    tally.add(row)
                    if say:
                        say(row)
                    if progress:
                        progress(tally.describe(), tally.finished, tally.total)
            finally:
                pool.close()
        return tally
    finally:
        results.close()


def _is_same(item: Item, known: Row, work: Work) -> bool:
    """Whether a picture is finished, as far as can be told without reading it."""
    if item.refused or known["identity"] != identity_of(work, item):
        return False
    try:
        source, output = (work.base / item.source).stat(), (work.out / item.output).stat()
    except OSError:
        return False
    return (source.st_size, source.st_mtime_ns, output.st_size) == (known["source_bytes"], known["source_time"], known["bytes"])


@dataclass(eq=False)
class _Busy:
    """A worker and what it has to do."""

    actor: Any
    tasks: dict[Any, Item] = field(default_factory=dict[Any, Item])
    """Items by Ray's reference to the row that will come."""


class _Pool:
    """Workers that are started, replaced when they die, and never given more than they can do."""

    def __init__(self, work: Work, cluster: Cluster, pictures: int) -> None:
        self._ray: Any = import_module("ray")
        self._owns = False
        self._connect(cluster)
        resources: dict[str, float] = self._ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        if work.compute.device is not None and work.compute.device.type == "cpu":
            gpus = 0
        most = cluster.workers or (gpus or cores)
        self._count = max(1, min(most, pictures))
        share = max(1, cores // most)
        options: dict[str, Any] = {"num_cpus": min(1.0, cores / most), "max_restarts": 0, "max_task_retries": 0}
        if gpus:
            options["num_gpus"] = min(1.0, gpus / most)
        self._work, self._threads, self._memory_share = self._ray.put(work), None if gpus else share, 1 / most
        self._class = self._ray.remote(Worker).options(**options)
        self._workers: list[_Busy] = []

    def _connect(self, cluster: Cluster) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._ray.is_initialized():
            return
        logging.getLogger("ray").setLevel(logging.ERROR)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
        try:
            if cluster.address:
                self._ray.init(address=cluster.address, **quiet)
            else:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                self._ray.init(include_dashboard=False, **quiet)
        except Exception as error:  # whatever Ray raises where there is no cluster
            raise RefusedError(f"Ray cannot be reached at {cluster.address or 'this machine'}: {error}") from error
        self._owns = True

    def _start(self) -> _Busy:
        return _Busy(self._class.remote(self._work, self._threads, self._memory_share))

    def run(self, items: Sequence[Item], known: dict[str, Row], tally: Tally) -> Iterator[Row]:
        waiting, attempts = deque(items), dict[str, int]()
        self._workers = [self._start() for _ in range(self._count)]
        while waiting or any(one.tasks for one in self._workers):
            for worker in self._workers:
                while waiting and len(worker.tasks) < _IN_FLIGHT:
                    item = waiting.popleft()
                    worker.tasks[worker.actor.run.remote(item, known.get(item.key))] = item
            references = [reference for worker in self._workers for reference in worker.tasks]
            ready, _ = self._ray.wait(references, num_returns=1, timeout=1.0)
            for reference in ready:
                worker = next((one for one in self._workers if reference in one.tasks), None)
                if worker is None:  # that of a worker which has died meanwhile
                    continue
                try:
                    row = cast(Row, self._ray.get(reference))
                except self._ray.exceptions.RayActorError as error:
                    yield from self._replace(worker, error, waiting, attempts, tally)
                    continue
                del worker.tasks[reference]
                yield row

    def _replace(
        self, worker: _Busy, error: Exception, waiting: deque[Item], attempts: dict[str, int], tally: Tally
    ) -> Iterator[Row]:
        """Starts another worker in place of one that has died, which takes what that one had to do.

        The first of its pictures may be why; one of which too many workers died is set aside.
        """
        if _NEVER_BEGAN in str(error):
            last = str(error).strip().splitlines()[-1]
            raise RefusedError(f"a worker does not start: {last.strip()}") from error
        first, *others = worker.tasks.values()
        waiting.extendleft(reversed(others))
        attempts[first.key] = attempts.get(first.key, 0) + 1
        if attempts[first.key] < MOST_ATTEMPTS:
            tally.retried += 1
            waiting.appendleft(first)
        else:
            reason = f"{first.source}: set aside, since {MOST_ATTEMPTS} workers died of it"
            yield {"source": first.source, "output": first.output, "status": "failed", "reason": reason, "seconds": 0.0}
        self._workers[self._workers.index(worker)] = self._start()

    def close(self) -> None:
        """Ends the workers, and what was started here."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        if self._owns:
            self._ray.shutdown()
