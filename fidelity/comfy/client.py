"""A client for ComfyUI's HTTP API: uploads pictures, queues and follows a graph, downloads results."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from ..errors import RefusedError
from ..files.paths import write_whole
from .graphs import Prompt, describe_refusal

Watch = Callable[[str, int, int], None]
"""Called with (name of the running node, done, total)."""

_ANSWER_SECONDS = 60
_LISTEN_SECONDS = 2
_LOST_SECONDS = 60
_RESULT_KINDS = ("images", "gifs", "video", "audio", "text_files")


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
        parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ServerError(f"{url!r} is not a server address; wanted one like http://127.0.0.1:8188")
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._id = uuid.uuid4().hex
        self._written: set[Path] = set()

    def known_nodes(self) -> dict[str, Any]:
        """All node types that the server has, with their inputs."""
        return self._get("/object_info")

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
        boundary = uuid.uuid4().hex
        name = f"{uuid.uuid4().hex[:8]}-{path.name}".replace('"', "_")  # keeps files of the same name apart
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        answer = self._post("/upload/image", body, f"multipart/form-data; boundary={boundary}")
        folder, stored = answer.get("subfolder") or "", answer["name"]
        return f"{folder}/{stored}" if folder else stored

    def queue(self, prompt: Prompt) -> str:
        """Queues a graph.

        Returns:
            Its prompt id.

        Raises:
            ServerError: If the server refuses it.
        """
        body = json.dumps({"prompt": prompt, "client_id": self._id}).encode()
        return str(self._post("/prompt", body, "application/json")["prompt_id"])

    def wait(self, queued: str, prompt: Prompt, watch: Watch | None = None) -> list[Result]:
        """Waits until a graph has finished; reconnects if the connection is lost.

        Args:
            queued: Its prompt id.
            prompt: The graph, for the names of its nodes.
            watch: Called with progress.

        Returns:
            The results, in the order of the graph's nodes.

        Raises:
            ServerError: If the graph fails or is canceled on the server, or the connection stays lost.
        """
        lost_since: float | None = None
        while True:
            try:
                with connect(f"{self._url.replace('http', 'ws', 1)}/ws?clientId={self._id}", max_size=None) as listening:
                    while queued not in (history := self._get(f"/history/{queued}")):
                        lost_since = None  # a server that answers is there; one that only accepts connections is not
                        _hear(listening, queued, prompt, watch)
                    return _read_results(history[queued], prompt)
            except _FailedThereError:
                raise
            except (ServerError, WebSocketException, OSError) as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _LOST_SECONDS:
                    raise ServerError(f"{self._url}: connection lost for {_LOST_SECONDS} s while running {queued}") from error
                time.sleep(1)

    def cancel(self, queued: str) -> None:
        """Removes a graph from the queue, or stops it if it is running."""
        body = json.dumps({"delete": [queued]}).encode()
        self._post("/queue", body, "application/json")
        running = self._get("/queue").get("queue_running") or []
        if any(entry[1] == queued for entry in running):
            self._post("/interrupt", json.dumps({"prompt_id": queued}).encode(), "application/json")

    def download(self, result: Result, folder: Path) -> Path:
        """Downloads a result; the file is written atomically.

        Returns:
            Path of the file.
        """
        query = urllib.parse.urlencode({"filename": result.filename, "subfolder": result.subfolder, "type": result.kind})
        content = self._fetch(urllib.request.Request(f"{self._url}/view?{query}"))
        path = self._free_name(folder / Path(result.filename).name)  # a server must not choose the folder
        write_whole(path, lambda file: file.write(content))
        return path

    def _free_name(self, path: Path) -> Path:
        """The path, numbered if this client has written there already: results of two subfolders may share a name."""
        numbered, count = path, 1
        while numbered in self._written:
            count += 1
            numbered = path.with_stem(f"{path.stem}_{count}")
        self._written.add(numbered)
        return numbered

    def _get(self, path: str) -> Any:
        return json.loads(self._fetch(urllib.request.Request(self._url + path)))

    def _post(self, path: str, body: bytes, kind: str) -> Any:
        answer = self._fetch(urllib.request.Request(self._url + path, body, {"Content-Type": kind}))
        return json.loads(answer) if answer else {}

    def _fetch(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self._url}: {_read_refusal(error)}") from error
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(f"{self._url}: no answer from ComfyUI ({reason})") from error


class _FailedThereError(ServerError):
    """The graph itself failed, so there is nothing to wait for."""


def _read_refusal(error: urllib.error.HTTPError) -> str:
    body = error.read()
    try:
        return describe_refusal(json.loads(body))
    except (ValueError, AttributeError):
        return f"answered {error.code} {error.reason}"


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
        event = json.loads(message)
        data = event.get("data") or {}
        if data.get("prompt_id") != queued:
            continue
        if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
            time.sleep(0.05)  # the server writes the history after this event
            return
        if watch and event["type"] == "progress":
            watch(_name(prompt, data.get("node")), int(data["value"]), int(data["max"]))
        elif watch and event["type"] == "executing" and data.get("node") is not None:
            watch(_name(prompt, data["node"]), 0, 1)


def _name(prompt: Prompt, key: Any) -> str:
    node = prompt.get(str(key), {})
    return str(node.get("_meta", {}).get("title") or node.get("class_type") or key)


def _read_results(entry: Mapping[str, Any], prompt: Prompt) -> list[Result]:
    status = entry.get("status") or {}
    messages = dict(status.get("messages") or ())
    if "execution_error" in messages:
        error = messages["execution_error"]
        message = " ".join(str(error.get("exception_message")).split())
        raise _FailedThereError(f"node {error.get('node_id')} ({_name(prompt, error.get('node_id'))}): {message}")
    if "execution_interrupted" in messages or status.get("status_str") == "error":
        raise _FailedThereError("canceled on the server")
    results: list[Result] = []
    for outputs in (entry.get("outputs") or {}).values():
        for kind in _RESULT_KINDS:
            for place in outputs.get(kind) or ():
                if isinstance(place, Mapping) and "filename" in place:
                    results.append(Result(place["filename"], place.get("subfolder") or "", place.get("type") or "output"))
    return results
