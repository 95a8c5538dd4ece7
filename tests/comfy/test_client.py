"""What a client does with a server that lies, stalls or sends anything at all; the rest is tested on a real host."""

import base64
import hashlib
import io
import json
import socket
import threading
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.comfy import client as client_module
from fidelity.comfy.client import ComfyClient, Result, ServerError

PROMPT = {"1": {"class_type": "SaveImage", "inputs": {}}}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PNG = io.BytesIO()
Image.new("RGB", (8, 8), (9, 8, 7)).save(PNG, "PNG")
PNG = PNG.getvalue()
DONE = {"status": {"messages": []}, "outputs": {"1": {"images": [{"filename": "ok.png", "subfolder": "", "type": "output"}]}}}


def whole(body, kind="application/json", status="200 OK", length=None):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content) if length is None else length}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + content


USUAL = {
    "/object_info": whole({"SaveImage": {"input": {}}}),
    "/upload/image": whole({"name": "up.png"}),
    "/prompt": whole({"prompt_id": "id"}),
    "/history/id": whole({"id": DONE}),
    "/queue": whole({"queue_running": [[0, "id"]], "queue_pending": []}),
    "/view": whole(PNG, "image/png"),
}


class HostileServer:
    """Answers as told for each path: bytes, a list of (bytes, seconds to wait after), or nothing at all."""

    def __init__(self):
        self.answers, self.ws = dict(USUAL), "stays"
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._open = True
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._open = False
        self._socket.close()

    def _serve(self):
        while self._open:
            try:
                link, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link):
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
                for part, seconds in answer if isinstance(answer, list) else [(answer, 0)]:
                    link.sendall(part)
                    time.sleep(seconds)
        except OSError:
            pass

    def _upgrade(self, link, request):
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


@pytest.fixture
def server(monkeypatch):
    for name, value in {"_ANSWER_SECONDS": 1.0, "_LOST_SECONDS": 2, "_LISTEN_SECONDS": 0.1, "_LARGEST_ANSWER": 10**6}.items():
        monkeypatch.setattr(client_module, name, value)
    monkeypatch.setattr(client_module, "_LARGEST_RESULT", 10**6)
    made = HostileServer()
    yield made
    made.close()


def queue(server, tmp_path, *options):
    (tmp_path / "w.json").write_text(json.dumps(PROMPT))
    arguments = ["queue", str(tmp_path / "w.json"), "--server", server.url, "-o", str(tmp_path / "out"), *options]
    return CliRunner().invoke(app, arguments)


DEEP = b"[" * 100_000 + b"]" * 100_000
DRIP = [(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", 0), *[(b" ", 0.3)] * 20]
FOREVER = [(b"HTTP/1.1 200 OK\r\n\r\n", 0), *[(bytes(10**5), 0)] * 100]
BODIES = {
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


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("path", ["/object_info", "/prompt", "/history/id", "/view"])
def test_any_answer_to_any_request_ends_in_one_line(server, tmp_path, path, body):
    server.answers[path] = BODIES[body]
    started = time.monotonic()
    told = queue(server, tmp_path, "--timeout", "4")
    assert told.exit_code == 1
    assert len(told.stderr.strip().splitlines()) == 1
    assert "failed unexpectedly" not in told.stderr
    assert not {"\x1b", "\u202e"} & set(told.stderr)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
    assert time.monotonic() - started < 60  # hangs, not speed


@pytest.mark.parametrize(
    "ws", ["closes", "refused", b"no JSON", b"[1]", b'{"data": {"prompt_id": "id"}}', DEEP[:60_000], b"null"]
)
def test_events_are_never_needed(server, tmp_path, ws):
    server.ws = ws
    told = queue(server, tmp_path)
    if ws == "refused":
        assert (told.exit_code, "connection lost" in told.stderr) == (1, True)
    else:
        assert (told.exit_code, (tmp_path / "out/ok.png").read_bytes()) == (0, PNG)


def test_a_graph_that_was_deleted_there_is_told(server, tmp_path):
    server.answers |= {"/history/id": whole({}), "/queue": whole({"queue_running": [], "queue_pending": []})}
    told = queue(server, tmp_path)
    assert (told.exit_code, "is gone from the server" in " ".join(told.stderr.split())) == (1, True)


def test_a_graph_that_never_finishes_is_given_up_after_the_time_given(server, tmp_path):
    server.answers["/history/id"] = whole({})
    told = queue(server, tmp_path, "--timeout", "1")
    assert (told.exit_code, "was not finished in 1 s" in " ".join(told.stderr.split())) == (1, True)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../.bashrc", "bashrc"),
        (".hidden.png", "hidden.png"),
        ("", "result"),
        ("..", "result"),
        ("a\x1b[2J\u202eb.png", "a[2Jb.png"),
        ("C:\\x\\y.png", "y.png"),
        ("x" * 500 + ".png", "x" * 120 + ".png"),
        (7, "7"),
        ("\u6f22" * 100 + ".png", "\u6f22" * 40 + ".png"),
        ("con?.png", "con.png"),
    ],
)
def test_names_are_made_safe(server, tmp_path, name, kept):
    entry = json.loads(json.dumps(DONE))
    entry["outputs"]["1"]["images"][0]["filename"] = name
    server.answers["/history/id"] = whole({"id": entry})
    told = queue(server, tmp_path)
    if name == "":
        assert told.exit_code in (0, 1)
    else:
        assert (told.exit_code, [path.name for path in (tmp_path / "out").iterdir()]) == (0, [kept])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "w.json"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (whole(b"<html></html>", "image/png"), "is not what its ending says"),
        (whole(b"", "image/png"), "came empty"),
        (whole(PNG[:-20], "image/png"), "came without its end"),
        (whole(PNG[:40], "image/png", length=len(PNG)), "no answer from ComfyUI"),
    ],
)
def test_what_is_no_such_file_is_not_kept(server, tmp_path, content, words):
    server.answers["/view"] = content
    told = queue(server, tmp_path)
    assert (told.exit_code, words in " ".join(told.stderr.split())) == (1, True)
    assert list((tmp_path / "out").iterdir()) == []


def test_files_that_exist_are_kept_and_results_of_one_name_are_numbered(server, tmp_path):
    (tmp_path / "ok.png").write_text("mine")
    client = ComfyClient(server.url)
    results = [Result("ok.png", folder, "output") for folder in ("", "one")]
    assert [client.download(result, tmp_path).name for result in results] == ["ok_2.png", "ok_3.png"]
    assert (tmp_path / "ok.png").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_told_before_the_run(server, tmp_path):
    (tmp_path / "out").write_text("a file")
    server.answers["/prompt"] = whole({"error": "must not be asked"}, status="400 Bad Request")
    assert "is not a writable folder" in " ".join(queue(server, tmp_path).stderr.split())


@pytest.mark.parametrize("number", ["Infinity", "NaN", '"x"', "null"])
def test_progress_of_any_number_is_taken(server, tmp_path, number):
    server.ws = f'{{"type": "progress", "data": {{"prompt_id": "id", "value": {number}, "max": 3, "node": "1"}}}}'.encode()
    assert queue(server, tmp_path).exit_code == 0


def test_results_of_every_kind_come_down_and_one_that_is_lost_stops_none(server, tmp_path):
    entry = {"outputs": {"1": {"3d": [{"filename": "a.glb"}], "latents": [{"filename": "b.latent"}], "text": ["words"]}}}
    server.answers |= {"/history/id": whole({"id": entry}), "/view": whole(b"glTF2")}
    assert queue(server, tmp_path).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.glb", "b.latent"]
    server.answers["/view"] = whole(b"noise")
    assert queue(server, tmp_path).exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.glb", "b.latent", "b_2.latent"]


def test_a_large_upload_may_take_its_time(server, monkeypatch, tmp_path):
    monkeypatch.setattr(client_module, "_ANSWER_SECONDS", 0.5)
    client = ComfyClient(server.url)
    sent = client._http.stream

    def slowly(*given, **content):
        time.sleep(0.8)
        return sent(*given, **content)

    monkeypatch.setattr(client._http, "stream", slowly)
    (tmp_path / "a.png").write_bytes(PNG)
    assert client.upload(tmp_path / "a.png") == "up.png"


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "", "http://"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(ServerError, match="is not a server address"):
        ComfyClient(url)


def test_a_server_that_is_not_there_is_told():
    with pytest.raises(ServerError, match="no answer from ComfyUI"):
        ComfyClient("http://127.0.0.1:9").known_nodes()
