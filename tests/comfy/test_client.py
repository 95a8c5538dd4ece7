"""What a client does with names that collide and with a server that never answers; the rest is tested on a real host."""

from contextlib import contextmanager

import pytest

from fidelity.comfy import client as client_module
from fidelity.comfy.client import ComfyClient, Result, ServerError


def test_results_of_one_name_from_two_subfolders_are_two_files(tmp_path, monkeypatch):
    client = ComfyClient("http://localhost:1")
    monkeypatch.setattr(client, "_fetch", lambda request: request.full_url.encode())
    results = [Result("a.png", folder, "output") for folder in ("", "one", "two")]
    paths = [client.download(result, tmp_path) for result in results]
    assert [path.name for path in paths] == ["a.png", "a_2.png", "a_3.png"]
    assert "subfolder=two" in paths[2].read_text()


def test_a_server_that_accepts_connections_and_never_answers_is_given_up(monkeypatch):
    @contextmanager
    def connect(*_, **__):
        yield None

    def fail(path):
        raise ServerError("answered 500 Internal Server Error")

    client = ComfyClient("http://localhost:1")
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(client_module, "connect", connect)
    monkeypatch.setattr(client_module.time, "sleep", lambda _: None)
    monkeypatch.setattr(client_module.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(client, "_get", fail)
    with pytest.raises(ServerError, match="connection lost for 60 s"):
        client.wait("id", {})
