"""The list of images is well formed, and fetching takes what is there and names what is not."""

import json
import re
import sys

import pytest

from fidelity.decide.domain import DOMAINS
from tools.training import collect

ENTRIES = [json.loads(line) for line in collect.LIST.read_text(encoding="utf-8").splitlines()]


def test_every_image_has_a_label_a_place_and_evidence():
    for entry in ENTRIES:
        assert entry["label"] in DOMAINS
        assert entry["file"].startswith(f"{entry['label']}/")
        assert re.fullmatch(r"[0-9a-f]{40}", entry["commit"])
        assert entry["repo"].count("/") == 1
        assert entry["path"]
        assert entry["evidence"]
    assert len({entry["file"] for entry in ENTRIES}) == len(ENTRIES)


def test_every_kind_comes_from_many_repositories():
    for domain in DOMAINS:
        assert len({entry["repo"] for entry in ENTRIES if entry["label"] == domain}) >= 10


def test_nothing_is_taken_from_where_the_judging_images_come_from(test_data):
    reserved = (test_data / "images/domains/reserved.txt").read_text(encoding="utf-8").split("\n")
    known = {line.strip().lower() for line in reserved if line.strip() and not line.startswith("#")}
    known |= {
        entry["repo"].lower() for entry in json.loads((test_data / "images/domains/manifest.json").read_text(encoding="utf-8"))
    }
    assert not known & {entry["repo"].lower() for entry in ENTRIES}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A place with one of two listed files."""
    entries = [
        {"file": f"photo/{name}", "repo": "owner/name", "commit": "c" * 40, "path": f"a folder/{name}", "label": "photo"}
        for name in ("here.png", "gone.png")
    ]
    listed = tmp_path / "list.jsonl"
    listed.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    monkeypatch.setattr(collect, "LIST", listed)
    place = tmp_path / "source/owner/name" / ("c" * 40) / "a folder"
    place.mkdir(parents=True)
    (place / "here.png").write_bytes(b"picture")
    return (tmp_path / "source").as_uri()


def test_what_is_there_is_fetched_and_what_is_gone_is_named(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["collect", str(tmp_path / "out"), "--source", source])
    collect.main()
    assert (tmp_path / "out/photo/here.png").read_bytes() == b"picture"
    assert [path.name for path in (tmp_path / "out/photo").iterdir()] == ["here.png"]
    said = capsys.readouterr().out
    assert "owner/name a folder/gone.png" in said
    assert said.endswith("1 missing\n")
