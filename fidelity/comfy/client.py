"""A client for ComfyUI's HTTP API: uploads pictures, queues and follows a graph, downloads results.

A server is not trusted. Every answer has a limit in size and time, whatever it contains ends as a `ServerError` if it is not
understood, and a result's name and content are checked before it is written.
"""

import json
import math
import re
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from ..errors import RefusedError
from ..files.paths import claim_free, write_whole
from .graphs import Prompt, describe_refusal

Watch = Callable[[str, int, int], None]
"""Called with (name of the running node, done, total)."""

_ANSWER_SECONDS = 60.0
"""Longest silence within a request, and the longest time that an answer in JSON may take."""
_LISTEN_SECONDS = 2
_LOST_SECONDS = 60
_LARGEST_ANSWER = 2**26
_LARGEST_RESULT = 2**33
_LARGEST_EVENT = 2**26
_SLOWEST_DOWNLOAD = 2**10
"""Bytes per second; a server that sends fewer is given up."""
_CONTENTS: Mapping[str, tuple[tuple[int, bytes], ...]] = {
    ".png": ((0, b"\x89PNG\r\n\x1a\n"),),
    ".jpg": ((0, b"\xff\xd8\xff"),),
    ".jpeg": ((0, b"\xff\xd8\xff"),),
    ".webp": ((8, b"WEBP"),),
    ".gif": ((0, b"GIF8"),),
    ".tif": ((0, b"II"), (0, b"MM")),
    ".tiff": ((0, b"II"), (0, b"MM")),
    ".avif": ((4, b"ftyp"),),
    ".mp4": ((4, b"ftyp"),),
    ".mov": ((4, b"ftyp"), (4, b"moov"), (4, b"wide")),
    ".webm": ((0, b"\x1a\x45\xdf\xa3"),),
    ".mkv": ((0, b"\x1a\x45\xdf\xa3"),),
    ".wav": ((8, b"WAVE"),),
    ".flac": ((0, b"fLaC"),),
    ".glb": ((0, b"glTF"),),
}
"""What files of these endings contain, and where."""
_ENDS: Mapping[str, bytes] = {".png": b"IEND\xaeB`\x82"}
"""How files of these endings end."""
_LONGEST_NAME = 120
_MOST_MISSING = 5


class ServerError(RefusedError):
    """A server that does not answer, refuses a request or fails; the message gives the reason in one line."""


@dataclass(frozen=True)
class Result:
    """A file that a graph produced."""

    filename: str
    """File name on the server."""
    subfolder: str
    """Subfolder below the folder."""
    kind: str
    """Folder on the server: "output", or "temp" for previews."""


class ComfyClient:
    """A client of one server. Several clients may use a server at once: each receives events of its own graphs only."""

    def __init__(self, url: str) -> None:
        """Checks the address; connects to nothing yet.

        Args:
            url: Address of the server, such as http://127.0.0.1:8188.

        Raises:
            ServerError: If the address is not valid.
        """
        try:
            parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        except ValueError as error:
            raise ServerError(f"{url!r} is not a server address ({error}); wanted one like http://127.0.0.1:8188") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ServerError(f"{url!r} is not a server address; wanted one like http://127.0.0.1:8188")
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._id = uuid.uuid4().hex
        self._http = httpx.Client(timeout=_ANSWER_SECONDS, headers={"Accept-Encoding": "identity"})
        self._head_limit = _HeadLimit()

    def known_nodes(self) -> dict[str, Any]:
        """All node types that the server has, with their inputs."""
        found = self._ask("GET", "/object_info")
        if not isinstance(found, dict):
            raise ServerError(f"{self._url}: answered something else than a list of nodes")
        return found

    def upload(self, path: Path) -> str:
        """Uploads a picture to the server's input folder.

        Returns:
            Its name on the server.

        Raises:
            ServerError: If the file cannot be read or the server refuses it.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ServerError(f"{path}: cannot be read ({error.strerror})") from error
        shown = path.name.encode(errors="replace").decode()
        name = f"{uuid.uuid4().hex[:8]}-{shown}"  # keeps files of the same name apart
        with _understood(self._url):
            answer = self._ask("POST", "/upload/image", files={"image": (name, content)})
            folder, stored = answer.get("subfolder") or "", str(answer["name"])
            return f"{folder}/{stored}" if folder else stored

    def queue(self, prompt: Prompt) -> str:
        """Queues a graph.

        Returns:
            Its prompt id.

        Raises:
            ServerError: If the server refuses it.
        """
        with _understood(self._url):
            return str(self._ask("POST", "/prompt", json={"prompt": prompt, "client_id": self._id})["prompt_id"])

    def wait(self, queued: str, prompt: Prompt, watch: Watch | None = None, timeout: float | None = None) -> list[Result]:
        """Waits until a graph has finished; reconnects if the connection is lost.

        Args:
            queued: Its prompt id.
            prompt: The graph, for the names of its nodes.
            watch: Called with progress.
            timeout: Seconds after which to give up; None waits as long as the server has the graph.

        Returns:
            The results, in the order of the graph's nodes.

        Raises:
            ServerError: If the graph fails, is canceled or vanishes on the server, the connection stays lost, or time is up.
        """
        began, lost_since, missing = time.monotonic(), None, 0
        address = f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._id}"
        while True:
            try:
                with connect(address, max_size=_LARGEST_EVENT) as listening:
                    while (entry := self._find_history(queued)) is None:
                        lost_since = None  # a server that answers is there; one that only accepts connections is not
                        if timeout is not None and time.monotonic() - began > timeout:
                            raise FailedThereError(f"{self._url}: {queued} was not finished in {timeout:g} s")
                        missing = 0 if self._has_queued(queued) else missing + 1
                        if missing > _MOST_MISSING:  # neither waiting, running nor finished, several times in a row
                            raise FailedThereError(f"{self._url}: {queued} is gone from the server; canceled there")
                        _hear(listening, queued, prompt, watch)
                    with _understood(self._url):
                        return _read_results(entry, prompt)
            except FailedThereError:
                raise
            except (ServerError, WebSocketException, OSError) as error:
                if timeout is not None and time.monotonic() - began > timeout:
                    raise ServerError(f"{self._url}: {queued} was not finished in {timeout:g} s") from error
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _LOST_SECONDS:
                    raise ServerError(f"{self._url}: connection lost for {_LOST_SECONDS} s while running {queued}") from error
                time.sleep(1)

    def cancel(self, queued: str) -> None:
        """Removes a graph from the queue, or stops it if it is running."""
        self._ask("POST", "/queue", json={"delete": [queued]})
        if self._has_queued(queued, ("queue_running",)):
            self._ask("POST", "/interrupt", json={"prompt_id": queued})

    def download(self, result: Result, folder: Path) -> Path:
        """Downloads a result, under a name that no file has; it appears whole or not at all.

        Returns:
            Path of the file.

        Raises:
            ServerError: If the server does not give it, or gives something else than its name says.
        """
        query = {"filename": result.filename, "subfolder": result.subfolder, "type": result.kind}
        path = claim_free(folder / _safe_name(result.filename), result)

        def write(file: IO[bytes]) -> None:
            with self._stream("GET", "/view", _LARGEST_RESULT, params=query) as parts:
                file.writelines(parts)
            _check_content(path, file)

        write_whole(path, write)
        return path

    def _find_history(self, queued: str) -> Any:
        found = self._ask("GET", f"/history/{queued}")
        return found.get(queued) if isinstance(found, dict) else None

    def _has_queued(self, queued: str, lists: tuple[str, ...] = ("queue_running", "queue_pending")) -> bool:
        """Whether the server has a graph among those that it runs or that wait."""
        with _understood(self._url):
            found = self._ask("GET", "/queue")
            return any(str(entry[1]) == queued for name in lists for entry in found.get(name) or ())

    def _ask(self, method: str, path: str, **content: Any) -> Any:
        """The answer to a request, as JSON; None if it is empty."""
        with self._stream(method, path, _LARGEST_ANSWER, _ANSWER_SECONDS, **content) as parts:
            received = b"".join(parts)
        with _understood(self._url):
            return json.loads(received) if received else None

    @contextmanager
    def _stream(
        self, method: str, path: str, most_bytes: int, most_seconds: float = math.inf, **content: Any
    ) -> Generator[Iterator[bytes], None, None]:
        """A request whose answer is read in parts, within limits from its head on; every failure is a `ServerError`."""
        try:
            with self._http.stream(method, self._url + path, **content, extensions={"trace": self._head_limit}) as answer:
                if answer.is_redirect:
                    raise ServerError(f"{self._url}: is elsewhere ({answer.headers.get('location')}); wanted that address")
                if not answer.is_success:
                    raise ServerError(f"{self._url}: {self._read_refusal(answer)}")
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise ServerError(f"{self._url}: sends compressed answers, which were not asked for")
                yield self._limit(answer, most_bytes, most_seconds)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            reason = str(error) or type(error).__name__
            raise ServerError(f"{self._url}: no answer from ComfyUI ({reason})") from error
        except UnicodeEncodeError as error:
            raise ServerError(f"{self._url}: gave a name that is not valid Unicode") from error

    def _read_refusal(self, answer: httpx.Response) -> str:
        received = b"".join(self._limit(answer, _LARGEST_ANSWER, _ANSWER_SECONDS))
        try:
            return describe_refusal(json.loads(received))
        except (ValueError, AttributeError, TypeError, RecursionError):
            return f"answered {answer.status_code} {answer.reason_phrase}"

    def _limit(self, answer: httpx.Response, most_bytes: int, most_seconds: float) -> Iterator[bytes]:
        began, received = time.monotonic(), 0
        for part in answer.iter_raw():
            received += len(part)
            if received > most_bytes:
                raise ServerError(f"{self._url}: an answer of more than {most_bytes / 2**20:.0f} MiB")
            seconds = time.monotonic() - began
            if seconds > most_seconds:
                raise ServerError(f"{self._url}: no whole answer within {most_seconds:.0f} s")
            if seconds > _ANSWER_SECONDS and received < _SLOWEST_DOWNLOAD * seconds:
                raise ServerError(f"{self._url}: sends less than {_SLOWEST_DOWNLOAD} bytes per second")
            yield part


class _HeadLimit:
    """Closes a connection whose answer has not begun in time: httpx limits each silence, but a head can come byte by byte."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpcore for each thing that it does."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = info["return_value"].get_extra_info("socket")
        elif event.endswith("receive_response_headers.started") and self._connection:
            self._timer = threading.Timer(_ANSWER_SECONDS, _shut, [self._connection])
            self._timer.daemon = True
            self._timer.start()
        elif "receive_response_headers" in event and self._timer:
            self._timer.cancel()


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _understood(url: str) -> Generator[None, None, None]:
    """Makes a `ServerError` of whatever an answer that has another form leads to."""
    try:
        yield
    except ServerError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ServerError(f"{url}: gave an answer of another form than ComfyUI's ({type(error).__name__})") from error


def _safe_name(name: object) -> str:
    """A name without folders, control characters and leading dots: a server chooses neither the folder nor hidden files."""
    text = re.split(r"[/\\]", str(name))[-1]
    kept = "".join(character for character in text if character.isprintable() and character not in '<>:"|?*').strip(". ")
    stem, dot, ending = kept.rpartition(".")
    short = f"{_cut(stem)}.{ending[:16]}" if dot else _cut(kept)
    return short or "result"


def _cut(text: str) -> str:
    """The beginning of a text, as long as file systems allow, which count bytes."""
    return text.encode()[:_LONGEST_NAME].decode(errors="ignore")


def _check_content(path: Path, file: IO[bytes]) -> None:
    """Refuses what cannot be a file of that ending, such as a page that says that something is wrong."""
    length = file.tell()
    if not length:
        raise ServerError(f"{path.name}: came empty")
    with Path(file.name).open("rb") as written:
        file.flush()
        head = written.read(16)
        end = _ENDS.get(path.suffix.lower(), b"")
        written.seek(-min(length, len(end) + 64), 2)
        tail = written.read()
    starts = _CONTENTS.get(path.suffix.lower())
    if starts and not any(head[place:].startswith(mark) for place, mark in starts):
        raise ServerError(f"{path.name}: is not what its ending says; the server sent something else")
    if end and end not in tail:
        raise ServerError(f"{path.name}: came without its end")


class FailedThereError(ServerError):
    """The graph itself failed, so there is nothing to wait for."""


def _hear(listening: ClientConnection, queued: str, prompt: Prompt, watch: Watch | None) -> None:
    """Forwards progress for a while; returns when it is time to check whether the graph has finished."""
    until = time.monotonic() + _LISTEN_SECONDS
    while time.monotonic() < until:
        try:
            message = listening.recv(timeout=_LISTEN_SECONDS)
        except TimeoutError:
            return
        if isinstance(message, bytes):  # a preview
            continue
        try:
            event = json.loads(message)
            data = event.get("data") or {}
            is_ours = data.get("prompt_id") == queued
        except (ValueError, AttributeError, RecursionError):
            continue
        if not is_ours:
            continue
        kind = event.get("type")
        if kind in ("execution_success", "execution_error", "execution_interrupted"):
            time.sleep(0.05)  # the server writes the history after this event
            return
        if watch and kind == "progress" and all(_is_number(data.get(key)) for key in ("value", "max")):
            watch(_name(prompt, data.get("node")), int(data["value"]), int(data["max"]))
        elif watch and kind == "executing" and data.get("node") is not None:
            watch(_name(prompt, data["node"]), 0, 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name(prompt: Prompt, key: Any) -> str:
    node = prompt.get(str(key), {})
    return str(node.get("_meta", {}).get("title") or node.get("class_type") or key)


def _read_results(entry: Mapping[str, Any], prompt: Prompt) -> list[Result]:
    status = entry.get("status") or {}
    messages = dict(status.get("messages") or ())
    if "execution_error" in messages:
        error = messages["execution_error"]
        message = " ".join(str(error.get("exception_message")).split())
        raise FailedThereError(f"node {error.get('node_id')} ({_name(prompt, error.get('node_id'))}): {message}")
    if "execution_interrupted" in messages or status.get("status_str") == "error":
        raise FailedThereError("canceled on the server")
    results: list[Result] = []
    for outputs in (entry.get("outputs") or {}).values():
        for places in outputs.values():
            for place in places if isinstance(places, list) else ():
                if isinstance(place, Mapping) and "filename" in place:
                    parts = (place["filename"], place.get("subfolder") or "", place.get("type") or "output")
                    results.append(Result(*map(str, parts)))
    return results
