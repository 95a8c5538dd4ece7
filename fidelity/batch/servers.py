"""Runs a workflow on every picture of a batch, spread over several ComfyUI servers."""

import hashlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from ..comfy.client import ComfyClient, FailedThereError, Result, ServerError
from ..comfy.graphs import Prompt, set_input, set_pictures, to_prompt
from ..errors import RefusedError
from .driver import MOST_ATTEMPTS
from .items import Item
from .journal import Row
from .results import Results, Tally
from .sources import local_copy
from .work import hash_file

_LOST_AFTER = 3
"""Failures one after another after which a server is given up."""


@dataclass(frozen=True)
class Flow:
    """What is run on every picture."""

    workflow: Any
    """As the editor saves it, or in API format."""
    changes: Sequence[str]
    """See `fidelity.comfy.graphs.set_input`."""
    timeout: float | None
    """Seconds to wait for a picture; None waits as long as the server has it."""

    @property
    def identity(self) -> str:
        """What results follow from, besides their sources."""
        return hashlib.sha256(json.dumps([self.workflow, list(self.changes)], sort_keys=True).encode()).hexdigest()[:16]


def run_on_servers(
    items: Sequence[Item],
    flow: Flow,
    servers: Sequence[str],
    out: Path,
    progress: Callable[[str, int, int], None] | None = None,
    say: Callable[[Row], None] | None = None,
) -> Tally:
    """Runs a workflow on all pictures, each once; jobs lost by one server are sent to another.

    Args:
        items: The pictures; the first saved file of each gets the name of its output, others a number.
        flow: What is run.
        servers: Addresses; each has one picture at a time.
        out: Folder of the results, with the rows of the batch.
        progress: Called with (what is done, pictures done, pictures in total); raising in it ends the batch cleanly.
        say: Called with each row as it comes.

    Returns:
        What became of them.

    Raises:
        RefusedError: If the workflow does not run on a server, or no server is left.
    """
    spread = _Spread(flow, servers, out)

    def is_same(_item: Item, known: Row) -> bool:
        return known["identity"] == flow.identity and all((out / name).is_file() for name in known["files"])

    try:
        return Results(out).fill(items, is_same, spread.run, progress, say)
    finally:
        spread.stop()


class _Spread:
    def __init__(self, flow: Flow, servers: Sequence[str], out: Path) -> None:
        self._flow, self._out = flow, out
        self._clients = {server: ComfyClient(server) for server in servers}
        self._prompts: dict[str, Prompt] = {}
        for server, client in self._clients.items():
            prompt = to_prompt(flow.workflow, client.known_nodes())
            for change in flow.changes:
                set_input(prompt, change)
            self._prompts[server] = prompt
        self._waiting: Queue[tuple[Item, int]] = Queue()
        self._rows: Queue[Row] = Queue()
        self._ended = threading.Event()
        self._running: dict[str, str] = {}
        """What each server runs now."""
        self._last_error = ""

    def run(self, items: Sequence[Item], tally: Tally) -> Iterator[Row | None]:
        for item in items:
            self._waiting.put((item, 0))
        threads = [threading.Thread(target=self._serve, args=(name, tally), daemon=True) for name in self._clients]
        for thread in threads:
            thread.start()
        for count in range(len(items)):
            while True:
                try:
                    row = self._rows.get(timeout=0.5)
                    break
                except Empty:
                    if not any(thread.is_alive() for thread in threads):
                        left = len(items) - count
                        raise RefusedError(f"no server is left, {left} pictures are not done ({self._last_error})") from None
                    yield None
            yield row
        self._ended.set()

    def stop(self) -> None:
        """Cancels what still runs."""
        self._ended.set()
        for server, queued in list(self._running.items()):
            try:
                self._clients[server].cancel(queued)
            except ServerError:
                continue

    def _serve(self, server: str, tally: Tally) -> None:
        lost = 0
        while not self._ended.is_set() and lost < _LOST_AFTER:
            try:
                item, attempts = self._waiting.get(timeout=0.2)
            except Empty:
                continue
            began = time.perf_counter()
            row: Row = {"source": item.source, "output": item.output, "identity": self._flow.identity, "server": server}
            try:
                if item.refused:
                    raise FailedThereError(item.refused)
                row |= {"status": "done", **self._run_one(server, item)}
                lost = 0
            except ServerError as error:
                is_its_fault, self._last_error = isinstance(error, FailedThereError), str(error)
                if not is_its_fault and attempts + 1 < MOST_ATTEMPTS:
                    lost, tally.retried = lost + 1, tally.retried + 1
                    self._waiting.put((item, attempts + 1))
                    continue
                row |= {"status": "failed", "reason": f"{item.source}: {error}"}
            except (RefusedError, OSError) as error:
                row |= {"status": "failed", "reason": f"{item.source}: {error}"}
            self._rows.put(row | {"seconds": round(time.perf_counter() - began, 3)})

    def _run_one(self, server: str, item: Item) -> Row:
        client, prompt = self._clients[server], json.loads(json.dumps(self._prompts[server]))
        with local_copy(item.source, Path.cwd()) as path:
            digest = hash_file(path)
            set_pictures(prompt, [client.upload(path)])
        queued = client.queue(prompt)
        self._running[server] = queued
        try:
            results = client.wait(queued, prompt, None, self._flow.timeout)
        finally:
            self._running.pop(server, None)
        kept = [one for one in results if one.kind == "output"] or results
        if not kept:
            raise FailedThereError("the workflow produced no files; wanted a node that saves or previews them")
        return {"sha256": digest, "files": self._fetch(client, kept, item)}

    def _fetch(self, client: ComfyClient, kept: Sequence[Result], item: Item) -> list[str]:
        """Downloads results under the names that follow from the source's."""
        target = self._out / item.output
        target.parent.mkdir(parents=True, exist_ok=True)
        names: list[str] = []
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self._out) as folder:
            for number, result in enumerate(kept, 1):
                made = client.download(result, Path(folder))
                stem = target.stem if number == 1 else f"{target.stem}_{number}"
                names.append(made.replace(target.with_name(f"{stem}{made.suffix}")).relative_to(self._out).as_posix())
        return names
