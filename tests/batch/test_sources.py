import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fidelity.batch.sources import Item, find_items, local_copy
from fidelity.errors import RefusedError


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "in"
    for name in ("a.png", "b.jpg", "deep/a.png", "deep/c.webp"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    (place / "notes.txt").write_text("mine")
    return place


def outputs(items):
    return [item.output for item in items]


def test_folders_keep_their_structure_and_files_come_one_by_one(folder, tmp_path):
    assert outputs(find_items([str(folder)], None, ".png", tmp_path / "out")) == ["a.png", "b.png", "deep/a.png", "deep/c.png"]
    files = [str(folder / "a.png"), str(folder / "deep/a.png")]
    assert outputs(find_items(files, None, ".tif", tmp_path)) == ["a_png.tif", "a_png_2.tif"]


def test_patterns_are_expanded(folder, tmp_path):
    items = find_items([f"{folder}/**/*.png"], None, ".jpg", tmp_path / "out")
    assert outputs(items) == ["a.jpg", "deep/a.jpg"]
    with pytest.raises(RefusedError, match="matches no image"):
        find_items([f"{folder}/*.bmp"], None, ".png", tmp_path)


def test_pictures_in_archives_are_listed_and_read(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "a.png", "x/a.png")
        archive.write(folder / "notes.txt", "notes.txt")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(folder / "b.jpg", "../b.jpg")
    items = find_items([str(tmp_path / "all.zip"), str(tmp_path / "all.tar.gz")], None, ".png", tmp_path / "out")
    assert outputs(items) == ["x/a.png", "b.png"]  # nothing leaves the folder of results
    for item, name in zip(items, ("a.png", "b.jpg"), strict=True):
        with local_copy(item.source, tmp_path) as path:
            assert path.read_bytes() == (folder / name).read_bytes()
        assert not path.exists()
    (tmp_path / "torn.zip").write_bytes(b"PK\3\4")
    with pytest.raises(RefusedError, match="cannot be read as an archive"):
        find_items([str(tmp_path / "torn.zip")], None, ".png", tmp_path)


def test_places_of_fsspec_are_listed_and_read(folder, tmp_path):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    items = find_items([f"file://{folder}/*.png"], None, ".png", tmp_path / "out")
    assert outputs(items) == ["a.png"]
    with local_copy(items[0].source, tmp_path) as path:
        assert path.read_bytes() == (folder / "a.png").read_bytes()
    with pytest.raises(RefusedError, match="holds no image"):
        find_items([f"file://{folder}/none"], None, ".png", tmp_path)
    with pytest.raises(RefusedError, match="cannot be opened"):
        find_items(["nothing-of-the-kind://a/b.png"], None, ".png", tmp_path)


def test_a_manifest_sets_options_a_row_and_names_bad_rows(folder, tmp_path):
    lines = "source,output,scale,restore\na.png,one.png,2,off\nb.jpg,,,0.5\nb.jpg,one.png,,\n,x.png,,\na.png,../out.png,,\n"
    manifest = folder / "list.csv"
    manifest.write_text(lines, encoding="utf-8")
    one, two, same, empty, outside = find_items([], manifest, ".png", tmp_path)
    assert (one.source, one.output, one.options) == (str(folder / "a.png"), "one.png", {"scale": "2", "restore": "off"})
    assert two == Item(str(folder / "b.jpg"), "b.png", {"restore": "0.5"})
    assert "is that of another picture" in same.refused and same.output == "" and same.key != one.key
    assert empty.source == "list.csv, row 4" and "has no source" in empty.refused
    assert "within the folder of results" in outside.refused


def test_a_manifest_of_json_lines(folder, tmp_path):
    rows = [
        json.dumps({"path": str(folder / "a.png"), "domain": "photo"}),
        "{torn",
        "[]",
        json.dumps({"file": "b.jpg", "mood": 1}),
    ]
    (folder / "list.jsonl").write_text("\n".join(rows))
    good, torn, no_object, unknown = find_items([], folder / "list.jsonl", ".png", tmp_path)
    assert good.options == {"domain": "photo"} and not good.refused
    assert "is not JSON" in torn.refused and "no JSON object" in no_object.refused and "sets mood" in unknown.refused
    (folder / "list.txt").write_text("a.png")
    with pytest.raises(RefusedError, match="unknown ending"):
        find_items([], folder / "list.txt", ".png", tmp_path)
