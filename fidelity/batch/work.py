"""What one worker does with one picture, or with one part of a video."""

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..choices import DEFAULT_EXISTING
from ..decide.settings import Settings
from ..decide.target import Target
from ..errors import RefusedError
from ..folder import Outcome, upscale_files
from ..job import FileOptions
from ..networks.compute import Compute
from ..networks.device import choose_device
from ..networks.loader import find_installed
from ..networks.memory import free_host_bytes
from ..report.text import notes_of
from ..session import Session
from ..video.options import DEFAULT_VIDEO_OPTIONS, VideoOptions
from .items import MEMBER, Item, is_remote
from .journal import Row
from .results import describe_drift
from .sources import local_copy
from .videos import Step, do_step, enlarge_or_split


@dataclass(frozen=True)
class Work:
    """What all pictures of a batch have in common."""

    out: Path
    """Folder of the results."""
    settings: Settings
    compute: Compute
    """Without a device, each worker takes the best one of its machine."""
    options: FileOptions
    models_dir: Path | None = None
    """A folder of networks, in addition to the shipped ones."""
    video: VideoOptions = DEFAULT_VIDEO_OPTIONS
    """How videos are read, processed and written."""
    base: Path = field(default_factory=Path.cwd)
    """Folder that paths of sources are relative to."""
    models: tuple[tuple[str, int], ...] = ()
    """Names and sizes of all networks, of which "auto" chooses."""

    @property
    def identity(self) -> str:
        """What results follow from, besides their sources."""
        options = replace(self.options, sources={}, existing=DEFAULT_EXISTING)
        parts = (__version__, self.settings, self.compute.precision, self.compute.backend, options, self.video, self.models)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Worker:
    """Enlarges one picture after another; networks are loaded once."""

    def __init__(self, work: Work, threads: int | None = None, memory_share: float = 1.0) -> None:
        """Binds what all pictures have in common.

        Args:
            work: That.
            threads: Threads of PyTorch; its own choice if not given.
            memory_share: Share of the machine's free memory that this worker may use, unless the work says how much.

        Raises:
            RefusedError: If the settings name a network that does not exist or is refused.
        """
        if threads:
            torch.set_num_threads(threads)
        device = work.compute.device or choose_device("auto")
        memory = work.compute.memory_bytes or int(memory_share * free_host_bytes())
        work = replace(work, compute=replace(work.compute, device=device, memory_bytes=memory))
        self._work = work
        self._models = find_installed(work.models_dir)
        self._session = Session(work.settings, work.compute, self._models)

    def run(self, item: Item, known: Row | None = None, step: Step | None = None) -> Row:
        """Enlarges a picture or a video, or does a step of a video.

        Args:
            item: The picture or video.
            known: Its row in an earlier run; nothing is done if source and settings are the same and the result is there.
            step: What to do of a video that was split.

        Returns:
            source, output, status ("done", "same" or "failed"), reason of a failure, seconds, identity of the settings, sha256,
            bytes and time of the source, size and bytes of the result, domain, model, gate, drift (mean, p99, max) from what
            colors were held to and, of a picture, from the unrestored source; of a video also frames. A video of several parts
            becomes "split", with the parts that are to be done next; a part becomes "part".
        """
        began = time.perf_counter()
        row, failed = begin_row(self._work, item), failed_row(self._work, item, "")
        try:
            if item.refused:
                raise RefusedError(item.reason)
            with local_copy(item.source, self._work.base) as path:
                if item.is_video and step:
                    made = do_step(path, self._work.out / item.output, self._session_for(item), self._work.video, step)
                else:
                    made = self._enlarge(path, item, known, row["identity"])
                return row | made | {"seconds": _since(began)}
        except RefusedError as error:
            told = str(error)
            reason = told if Path(item.source).name in told else f"{item.source}: {told}"
        except OSError as error:
            reason = f"{item.source}: cannot be read ({error.strerror or error})"
        except Exception as error:  # a picture that triggers a bug does not end the batch
            reason = f"{item.source}: failed unexpectedly ({type(error).__name__}: {error})"
        return failed | {"reason": " ".join(reason.split()), "seconds": _since(began)}

    def _enlarge(self, path: Path, item: Item, known: Row | None, identity: str) -> Row:
        output = self._work.out / item.output
        stat = path.stat()
        facts: Row = {"sha256": hash_file(path), "source_bytes": stat.st_size, "source_time": stat.st_mtime_ns}
        same = known and (known["sha256"], known["identity"]) == (facts["sha256"], identity)
        if known and same and output.is_file() and output.stat().st_size == known["bytes"]:
            return known | facts | {"status": "same"}
        session = self._session_for(item)
        output.parent.mkdir(parents=True, exist_ok=True)
        if item.is_video:
            return facts | enlarge_or_split(path, output, session, self._work.video, item.is_file)
        outcome: Outcome = next(iter(upscale_files([(path, output)], session, self._work.options)))
        report = outcome.report()
        assert report.output
        return (
            facts
            | {
                "status": "done",
                "width": report.output.width,
                "height": report.output.height,
                "bytes": output.stat().st_size,
                "domain": report.recipe["domain"],
                "model": report.model.name,
                **describe_drift(report.held_drift),
                **describe_drift(report.drift.color, "source_"),
                "gate": report.gate.action,
            }
            | ({"notes": list(notes)} if (notes := notes_of(report)) else {})
        )

    def _session_for(self, item: Item) -> Session:
        if not item.options:
            return self._session
        return Session(read_options(self._work.settings, item.options), self._work.compute, self._models)


def begin_row(work: Work, item: Item) -> Row:
    """What a row says before anything is done."""
    row: Row = {"source": item.source, "output": item.output, "identity": identity_of(work, item)}
    return row | ({"options": item.options} if item.options else {})


def failed_row(work: Work, item: Item, reason: str) -> Row:
    """The row of a picture that failed, with what tells whether it would again."""
    limit = work.options.max_megapixels
    facts = {"max_megapixels": limit} if limit else {}
    return begin_row(work, item) | _facts_of(work, item) | facts | {"status": "failed", "reason": reason, "seconds": 0.0}


def would_fail_again(work: Work, item: Item, known: Row) -> bool:
    """Whether neither a picture that failed nor the settings have changed since; what is remote may always do."""
    if item.refused:
        return known["reason"] == item.reason
    facts, then = _facts_of(work, item), ("source_bytes", "source_time")
    same = known.get("identity") == identity_of(work, item) and known.get("max_megapixels") == work.options.max_megapixels
    return same and bool(facts) and all(known.get(name) == facts.get(name) for name in then)


def _facts_of(work: Work, item: Item) -> Row:
    """Size and time of a source, or of the archive that it is in; nothing if they cannot be told."""
    if is_remote(item.source):
        return {}
    try:
        stat = (work.base / item.source.partition(MEMBER)[0]).stat()
    except (OSError, ValueError):
        return {}
    return {"source_bytes": stat.st_size, "source_time": stat.st_mtime_ns}


def identity_of(work: Work, item: Item) -> str:
    """What a picture's result follows from, besides its source."""
    own = repr(sorted(item.options.items()))
    return hashlib.sha256(f"{work.identity}{own}".encode()).hexdigest()[:16]


def read_options(settings: Settings, options: dict[str, str]) -> Settings:
    """The settings with those of a row in place of their own.

    Raises:
        RefusedError: If one cannot be read.
    """
    values = dict(options)
    target = settings.target
    aims = {name: values.pop(name) for name in _READERS if name in values}
    if aims:
        target = Target(**{name: _READERS[name](name, text) for name, text in aims.items()})
    changed: dict[str, Any] = {"target": target, **values}
    if "restore" in changed and changed["restore"] not in ("auto", "off", "denoise", "deblock"):
        changed |= {"restore": "auto", "restore_strength": _number("restore", changed["restore"])}
    return replace(settings, **changed)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RefusedError(f"{name} is {text!r}; wanted a number") from error


def _whole(name: str, text: str) -> int:
    value = _number(name, text)
    if value != round(value):
        raise RefusedError(f"{name} is {text}; wanted a whole number")
    return round(value)


def _size(name: str, text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2:
        raise RefusedError(f"{name} is {text!r}; wanted WIDTHxHEIGHT")
    width, height = (_whole(name, part) for part in parts)
    return height, width


_READERS: dict[str, Any] = {"scale": _number, "size": _size, "fit": _size, "long_edge": _whole, "megapixels": _number}


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
