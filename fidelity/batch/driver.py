"""Spreads a batch over workers on Ray, on this machine or a cluster, and notes what becomes of every picture."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from ..errors import RefusedError
from ..video.spread import MOST_PARTS
from .items import Item
from .journal import Row
from .results import Results, Tally
from .videos import PART, SPLIT, Step
from .work import Work, Worker, failed_row, identity_of, would_fail_again

MOST_ATTEMPTS = 3
"""Workers that may die of one picture before it is set aside."""

_TICK_SECONDS = 1.0
"""After which progress is told though nothing is finished."""
_NEVER_BEGAN = "creation task"
"""What Ray says of an actor that failed in its first moment."""
_HINT = 'needs Ray: pip install ".[cluster]" in a clone of the repository'


@dataclass(frozen=True)
class Cluster:
    """Where a batch runs."""

    address: str | None = None
    """Of a Ray cluster; None starts one on this machine."""
    workers: int | None = None
    """How many run in parallel; one per GPU, else one per processor core, if not given."""


def run_batch(
    items: Sequence[Item],
    work: Work,
    cluster: Cluster,
    progress: Callable[[str, int, int], None] | None = None,
    say: Callable[[Row], None] | None = None,
    skip_failed: bool = False,
) -> Tally:
    """Enlarges all pictures, each once, however often it is interrupted.

    Args:
        items: The pictures.
        work: What they have in common.
        cluster: Where it runs.
        progress: Called with (what is done, pictures done, pictures in total); raising in it ends the batch cleanly.
        say: Called with each row as it comes.
        skip_failed: Whether pictures that failed before are left alone as long as neither they nor the settings have changed.

    Returns:
        What became of them; the rows are in the folder of the results.

    Raises:
        RefusedError: If Ray is not installed or cannot be reached, or a setting is refused.
    """
    if not find_spec("ray"):
        raise RefusedError(f"a batch {_HINT}")
    Worker(work)  # refuses here what every worker would
    results = Results(work.out)

    def rows(left: Sequence[Item], tally: Tally) -> Iterator[Row | None]:
        if progress:
            progress(f"{tally.finished} of {tally.total}, starting workers", tally.finished, tally.total)
        pool = _Pool(work, cluster, len(left) + sum(MOST_PARTS for item in left if item.is_video))
        try:
            yield from pool.run(left, results.known, tally)
        finally:
            pool.close()

    def fails(item: Item, known: Row) -> bool:
        return skip_failed and would_fail_again(work, item, known)

    return results.fill(items, lambda item, known: _is_same(item, known, work), rows, progress, say, fails)


def _is_same(item: Item, known: Row, work: Work) -> bool:
    """Whether a picture is finished, as far as can be told without reading it."""
    if item.refused or known["identity"] != identity_of(work, item):
        return False
    try:
        source, output = (work.base / item.source).stat(), (work.out / item.output).stat()
    except OSError:
        return False
    return (source.st_size, source.st_mtime_ns, output.st_size) == (known["source_bytes"], known["source_time"], known["bytes"])


@dataclass(frozen=True)
class _Task:
    """A picture or video, or a step of a video."""

    item: Item
    step: Step | None = None

    @property
    def key(self) -> str:
        """Tells it from all others."""
        part = self.step.part.number if self.step and self.step.part else ""
        return f"{self.item.key}\n{part}"


@dataclass(eq=False)
class _Busy:
    """A worker and what it does: one task at a time, so that none waits behind one that takes hours."""

    actor: Any
    task: _Task | None = None
    reference: Any = None
    """Ray's, to the row that will come."""

    def begin(self, task: _Task, known: Row | None) -> None:
        """Gives it a task."""
        self.task, self.reference = task, self.actor.run.remote(task.item, known, task.step)


class _Queue:
    """What is to be done, and what has become of the parts of videos."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.waiting = deque(_Task(item) for item in items)
        self._parts: dict[str, list[Row]] = {}
        """What was told of the finished parts of videos that were split, by item."""

    def take(self, task: _Task, row: Row) -> Row | None:
        """Notes what became of a task, and returns the row if it is the item's last one."""
        item = task.item
        if row["status"] == SPLIT:
            self._parts[item.key] = []
            self.waiting.extendleft(_Task(item, Step(row, part)) for part in reversed(row["parts"]))
            return None
        if task.step is None:
            return row
        if item.key not in self._parts:  # another part of it has failed
            return None
        if row["status"] == PART:
            done = self._parts[item.key]
            done.append(row)
            if len(done) == len(task.step.row["parts"]):
                self.waiting.appendleft(_Task(item, Step(task.step.row, None, tuple(done))))
            return None
        told = self._parts.pop(item.key)
        self.waiting = deque(one for one in self.waiting if one.item.key != item.key)
        return row | {"seconds": round(sum(one["seconds"] for one in (task.step.row, *told, row)), 3)}


class _Pool:
    """Workers that are started, replaced when they die, and never given more than they can do."""

    def __init__(self, work: Work, cluster: Cluster, tasks: int) -> None:
        self._ray: Any = import_module("ray")
        self._owns = False
        self._connect(cluster)
        resources: dict[str, float] = self._ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        if work.compute.device is not None and work.compute.device.type == "cpu":
            gpus = 0
        most = cluster.workers or (gpus or cores)
        self._count = max(1, min(most, tasks))
        share = max(1, cores // most)
        options: dict[str, Any] = {"num_cpus": min(1.0, cores / most), "max_restarts": 0, "max_task_retries": 0}
        if gpus:
            options["num_gpus"] = min(1.0, gpus / most)
        self._work, self._put = work, self._ray.put(work)
        self._threads, self._memory_share = None if gpus else share, 1 / most
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
        return _Busy(self._class.remote(self._put, self._threads, self._memory_share))

    def run(self, items: Sequence[Item], known: dict[str, Row], tally: Tally) -> Iterator[Row | None]:
        """Does all, and tells what became of each; None now and then, while there is nothing to tell."""
        queue, attempts = _Queue(items), dict[str, int]()
        self._workers = [self._start() for _ in range(self._count)]
        while queue.waiting or any(one.task for one in self._workers):
            for worker in self._workers:
                if queue.waiting and worker.task is None:
                    task = queue.waiting.popleft()
                    worker.begin(task, known.get(task.item.key))
            busy = {worker.reference: worker for worker in self._workers if worker.task}
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=_TICK_SECONDS)
            if not ready:
                yield None
            for reference in ready:
                worker = busy[reference]
                task, worker.task = cast(_Task, worker.task), None
                try:
                    row = cast(Row | None, self._ray.get(reference))
                except self._ray.exceptions.RayActorError as error:
                    row = self._replace(worker, task, error, queue, attempts, tally)
                last = queue.take(task, row) if row else None
                if last:
                    yield last

    def _replace(
        self, worker: _Busy, task: _Task, error: Exception, queue: _Queue, attempts: dict[str, int], tally: Tally
    ) -> Row | None:
        """Starts another worker in place of one that has died, and queues its task again.

        Returns:
            The row of a picture of which too many workers died, which is set aside.
        """
        if _NEVER_BEGAN in str(error):
            last = str(error).strip().splitlines()[-1]
            raise RefusedError(f"a worker does not start: {last.strip()}") from error
        self._workers[self._workers.index(worker)] = self._start()
        attempts[task.key] = attempts.get(task.key, 0) + 1
        if attempts[task.key] < MOST_ATTEMPTS:
            tally.retried += 1
            queue.waiting.appendleft(task)
            return None
        item, reason = task.item, f"set aside, since {MOST_ATTEMPTS} workers died of it"
        return failed_row(self._work, item, f"{item.source}: {reason}")

    def close(self) -> None:
        """Ends the workers, and what was started here."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        if self._owns:
            self._ray.shutdown()
