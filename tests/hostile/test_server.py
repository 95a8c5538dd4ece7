"""What `fidelity queue` and its client do with a server that lies, stalls or sends anything at all."""

import json
import random
import time

import pytest

from fidelity.comfy.client import ComfyClient, Result, ServerError
from tools.attack.server import DONE, MODES, PNG, USUAL, HostileServer, find_fault, mutate, queue, short_limits, whole


@pytest.fixture
def server():
    made = HostileServer()
    with short_limits():
        yield made
    made.close()


TRIED = [name for name in MODES if name.partition(": ")[0] in ("/prompt", "/view", "websocket", "result's name")]
"""`python -m tools.attack` tries them all; the others take longer, since the client asks again."""

OTHERS = ["/history/id: a dripped head", "/history/id: null", "/queue: 500", "/object_info: no end"]


@pytest.mark.parametrize("mode", [*TRIED, *OTHERS])
def test_whatever_a_server_does_ends_in_the_result_or_one_line(server, tmp_path, mode):
    MODES[mode](server)
    assert find_fault(server, tmp_path) is None


def test_damaged_answers_end_in_the_result_or_one_line(server, tmp_path):
    draw = random.Random(1)
    for index in range(40):
        server.answers = dict(USUAL)
        change, folder = mutate(server, draw), tmp_path / str(index)
        folder.mkdir()
        assert find_fault(server, folder) is None, change


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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out", "w.json"]


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
