"""A server that lies, stalls or sends anything at all, and what `fidelity queue` makes of it."""

import base64
import hashlib
import io
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image
from typer.testing import CliRunner, Result

from fidelity.cli import app
from fidelity.comfy import client

Answer = bytes | Sequence[tuple[bytes, float]]
"""What is sent; or parts, each with the seconds to wait after it."""

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_GRAPH = {
    "1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
}


def _make_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = _make_png()
DONE: Any = {
    "status": {"messages": []},
    "outputs": {"1": {"images": [{"filename": "ok.png", "subfolder": "", "type": "output"}]}},
}


def whole(body: Any, kind: str = "application/json", status: str = "200 OK", length: int | None = None) -> bytes:
    """An answer of bytes, or of something as JSON; its length can be a lie."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content) if length is None else length}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


USUAL: Mapping[str, Answer] = {
    "/object_info": whole({"SaveImage": {"input": {}}, "LoadImage": {"input": {"required": {"image": [["a.png"]]}}}}),
    "/upload/image": whole({"name": "up.png"}),
    "/prompt": whole({"prompt_id": "id"}),
    "/history/id": whole({"id": DONE}),
    "/queue": whole({"queue_running": [[0, "id"]], "queue_pending": []}),
    "/view": whole(PNG, "image/png"),
}


class HostileServer:
    """Answers as told for each path, and with 404 to all others."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = dict(USUAL)
        self.ws: str | bytes = "stays"
        """What happens to the websocket: it "stays", "closes" or is "refused", or the one event that is sent."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._open = False
        self._socket.close()

    def _serve(self) -> None:
        while self._open:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        try:
            with link:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += link.recv(65536)
                path = request.split(b" ", 2)[1].decode().partition("?")[0]
                if path == "/ws":
                    self._upgrade(link, request)
                    return
                answer = self.answers.get(path, whole({}, status="404 Not Found"))
                head, _, body = request.partition(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                left = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
                while left > 0:
                    left -= len(link.recv(65536))
                link.settimeout(20)
                for part, seconds in [(answer, 0.0)] if isinstance(answer, bytes) else answer:
                    link.sendall(part)
                    time.sleep(seconds)
        except OSError:
            pass

    def _upgrade(self, link: socket.socket, request: bytes) -> None:
        if self.ws == "refused":
            link.sendall(whole({}, status="403 Forbidden"))
            return
        key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        link.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        link.sendall(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        if isinstance(self.ws, bytes):
            head = bytes((0x81, len(self.ws))) if len(self.ws) < 126 else b"\x81\x7e" + len(self.ws).to_bytes(2, "big")
            link.sendall(head + self.ws)
        if self.ws != "closes":
            link.settimeout(20)
            link.recv(1000)  # until the client closes


DEEP = b"[" * 100_000 + b"]" * 100_000
DRIP = [(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 0), *[(b" ", 0.3)] * 20]
FOREVER = [(b"HTTP/1.1 200 OK\r\n\r\n", 0), *[(bytes(10**5), 0)] * 100]
BODIES: Mapping[str, Answer] = {
    "nothing": b"",
    "noise": b"\x00\xff" * 100,
    "an empty body": whole(b""),
    "no JSON": whole(b"<html>Sign in</html>", "text/html"),
    "another form": whole([1, 2, 3]),
    "null": whole(None),
    "a number": whole(7),
    "deep nesting": whole(DEEP),
    "broken UTF-8": whole(b'{"a": "\xff"}'),
    "a cut body": whole(b'{"id": 1', length=500),
    "a drip": DRIP,
    "silence": [(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", 3)],
    "no end": FOREVER,
    "500": whole({}, status="500 Internal Server Error"),
    "500 of noise": whole(b"\xff\xfe", status="500 X"),
    "404 of another form": whole([[]], status="404 Not Found"),
    "a dripped refusal": [(b"HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\n", 0), *[(b" ", 0.3)] * 20],
    "compressed": whole(b"\x1f\x8b\x08\x08", kind="text/plain\r\nContent-Encoding: gzip"),
    "a redirect to itself": whole(b"", status="302 Found\r\nLocation: /prompt"),
    "a chunk of bad length": [(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0)],
    "control characters": whole({"error": "\x1b[2J\u202e"}, status="400 Bad Request"),
}
HEADS: Mapping[str, Answer] = {
    "a dripped head": [(b"HTTP/1.1 200 OK\r\n", 0), *[(b"A", 0.2)] * 30],
    "a head without end": [(b"HTTP/1.1 200 OK\r\n", 0), *[(b"A: " + b"b" * 10**5 + b"\r\n", 0)] * 100],
    "no version": [(b"200 OK\r\n\r\n{}", 0)],
    "another protocol": [(b"SSH-2.0-OpenSSH_9.6\r\n", 0)],
    "an unknown status": whole({}, status="999 X"),
    "no status": whole({}, status="OK"),
    "continue for ever": [(b"HTTP/1.1 100 Continue\r\n\r\n", 0.1)] * 60,
    "two lengths": [(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", 0)],
    "a negative length": whole({}, length=-5),
    "an enormous length": whole({}, length=10**18),
    "a length that is no number": [(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}", 0)],
    "control characters in the head": [(b"HTTP/1.1 500 \x1b[2J\r\nA: \x00\r\n\r\n", 0)],
    "an unfinished head": [(b"HTTP/1.1 200 OK\r\nA: b", 0)],
    "an unfinished chunk": [(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}", 0)],
    "a redirect elsewhere": whole(b"", status="302 Found\r\nLocation: file:///etc/passwd"),
}
EVENTS: Mapping[str, str | bytes] = {
    "closes": "closes",
    "is refused": "refused",
    "no JSON": b"no JSON",
    "a list": b"[1]",
    "no kind": b'{"data": {"prompt_id": "id"}}',
    "deep nesting": DEEP[:60_000],
    "null": b"null",
    "numbers that are none": b'{"type": "progress", "data": {"prompt_id": "id", "value": NaN, "max": "x"}}',
    "another node": b'{"type": "progress", "data": {"prompt_id": "id", "value": 1, "max": 3, "node": [1]}}',
}
RESULTS: Mapping[str, Any] = {
    "in another folder": "../../.bashrc",
    "hidden": ".hidden.png",
    "empty": "",
    "the folder above": "..",
    "control characters": "a\x1b[2J\u202eb.png",
    "of Windows": "C:\\x\\y.png",
    "long": "x" * 500 + ".png",
    "a number": 7,
    "long in bytes": "\u6f22" * 100 + ".png",
    "a device": "con?.png",
    "a surrogate": "\ud800.png",
    "null": None,
    "a list": ["a"],
}
_ASKED = (*USUAL,)


def _modes() -> Generator[tuple[str, Callable[[HostileServer], None]], None, None]:
    def answering(path: str, answer: Answer) -> Callable[[HostileServer], None]:
        def apply(server: HostileServer) -> None:
            if path == "/queue":  # only asked for what has not finished
                server.answers["/history/id"] = whole({})
            server.answers[path] = answer

        return apply

    def hearing(event: str | bytes) -> Callable[[HostileServer], None]:
        return lambda server: setattr(server, "ws", event)

    def naming(name: Any) -> Callable[[HostileServer], None]:
        entry = json.loads(json.dumps(DONE))
        entry["outputs"]["1"]["images"][0]["filename"] = name
        return answering("/history/id", whole({"id": entry}))

    for path in _ASKED:
        for name, answer in {**BODIES, **HEADS}.items():
            yield f"{path}: {name}", answering(path, answer)
    for name, event in EVENTS.items():
        yield f"websocket: {name}", hearing(event)
    for name, filename in RESULTS.items():
        yield f"result's name: {name}", naming(filename)


MODES: Mapping[str, Callable[[HostileServer], None]] = dict(_modes())
"""By name, what each mode changes in a server."""


def mutate(server: HostileServer, draw: random.Random) -> str:
    """Damages one of a server's usual answers at random, and says which."""
    path = draw.choice(_ASKED)
    content = bytearray(whole(PNG, "image/png") if path == "/view" else bytes(USUAL[path]))  # pyright: ignore[reportArgumentType]
    for _ in range(draw.choice((1, 2, 8))):
        place = draw.randrange(len(content))
        content[place : place + draw.choice((0, 1, 6))] = draw.randbytes(draw.choice((0, 1, 5)))
    server.answers[path] = bytes(content)
    return f"{path}: {bytes(content)[:80]!r}"


@contextmanager
def short_limits() -> Generator[None, None, None]:
    """The client's limits, shortened so that reaching one takes no time."""
    limits: dict[str, float] = {"_ANSWER_SECONDS": 0.5, "_LOST_SECONDS": 1, "_LISTEN_SECONDS": 0.05}
    with ExitStack() as stack:
        for name, value in {**limits, "_LARGEST_ANSWER": 10**6, "_LARGEST_RESULT": 10**6}.items():
            stack.enter_context(mock.patch.object(client, name, value))
        yield


def queue(server: HostileServer, folder: Path, *options: str) -> Result:
    """Runs `fidelity queue` against a server, with results going to the subfolder `out`."""
    (folder / "w.json").write_text(json.dumps(_GRAPH))
    (folder / "a.png").write_bytes(PNG)
    given = ["queue", str(folder / "w.json"), "--server", server.url, "-o", str(folder / "out")]
    return CliRunner().invoke(app, [*given, "--image", str(folder / "a.png"), *options])


def find_fault(server: HostileServer, folder: Path) -> str | None:
    """Runs `fidelity queue` and says what it did wrong, if anything: it gives the result or one line, and nothing else.

    Args:
        server: The server, in any mode.
        folder: An empty folder.
    """
    began = time.monotonic()
    told = queue(server, folder, "--timeout", "1")
    lines, out = told.stderr.strip().splitlines(), folder / "out"
    kept = sorted(out.iterdir()) if out.exists() else []
    if time.monotonic() - began > _LONGEST_SECONDS:
        return f"took {time.monotonic() - began:.0f} s"
    if told.exit_code not in (0, 1) or "failed unexpectedly" in told.stderr:
        return f"failed unexpectedly: {told.stderr.strip()[-200:]} {told.exception!r}"
    if any(ord(character) < 32 or character in "\u202e\u2066" for line in lines for character in line):
        return "printed control characters"
    if (told.exit_code, len(lines), len(kept)) not in ((0, 0, 1), (1, 1, 0)):
        return f"gave exit code {told.exit_code}, {len(lines)} lines and {len(kept)} files: {told.stderr.strip()[-200:]}"
    if sorted(path.name for path in folder.iterdir()) != ["a.png", *(["out"] if out.exists() else []), "w.json"]:
        return "wrote beside the folder for results"
    return None


_LONGEST_SECONDS = 40
"""What counts as a hang; all limits together are well below it."""
