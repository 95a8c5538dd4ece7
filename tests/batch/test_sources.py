import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fidelity.batch.items import Item
from fidelity.batch.journal import RESULTS_NAME, to_line
from fidelity.batch.sources import find_items, local_copy
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


def outputs(found):
    return [item.output for item in found.items]


def test_folders_keep_their_structure_and_files_come_one_by_one(folder, tmp_path):
    assert outputs(find_items([str(folder)], None, ".png", tmp_path / "out")) == ["a.png", "b.png", "deep/a.png", "deep/c.png"]
    files = [str(folder / "a.png"), str(folder / "deep/a.png")]
    assert outputs(find_items(files, None, ".tif", tmp_path)) == ["a_png.tif", "a_png_2.tif"]


def test_patterns_are_expanded(folder, tmp_path):
    found = find_items([f"{folder}/**/*.png"], None, ".jpg", tmp_path / "out")
    assert outputs(found) == ["a.jpg", "deep/a.jpg"]
    with pytest.raises(RefusedError, match="matches no image"):
        find_items([f"{folder}/*.bmp"], None, ".png", tmp_path)


def test_pictures_in_archives_are_listed_and_read(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "a.png", "x/a.png")
        archive.write(folder / "notes.txt", "notes.txt")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(folder / "b.jpg", "../b.jpg")
    found = find_items([str(tmp_path / "all.zip"), str(tmp_path / "all.tar.gz")], None, ".png", tmp_path / "out")
    assert outputs(found) == ["x/a.png", "b.png"]  # nothing leaves the folder of results
    for item, name in zip(found.items, ("a.png", "b.jpg"), strict=True):
        with local_copy(item.source, tmp_path) as path:
            assert path.read_bytes() == (folder / name).read_bytes()
        assert not path.exists()
    (tmp_path / "torn.zip").write_bytes(b"PK\3\4")
    with pytest.raises(RefusedError, match="cannot be read as an archive"):
        find_items([str(tmp_path / "torn.zip")], None, ".png", tmp_path)


def test_places_of_fsspec_are_listed_and_read(folder, tmp_path):
    pytest.importorskip("fsspec", reason="fsspec is not installed")
    found = find_items([f"file://{folder}/*.png"], None, ".png", tmp_path / "out")
    assert outputs(found) == ["a.png"]
    with local_copy(found.items[0].source, tmp_path) as path:
        assert path.read_bytes() == (folder / "a.png").read_bytes()
    with pytest.raises(RefusedError, match="holds no image"):
        find_items([f"file://{folder}/none"], None, ".png", tmp_path)
    with pytest.raises(RefusedError, match="cannot be opened"):
        find_items(["nothing-of-the-kind://a/b.png"], None, ".png", tmp_path)


def test_a_manifest_sets_options_a_row_and_names_bad_rows(folder, tmp_path):
    lines = "source,output,scale,restore\na.png,one.png,2,off\nb.jpg,,,0.5\nb.jpg,one.png,,\n,x.png,,\na.png,../out.png,,\n"
    manifest = folder / "list.csv"
    manifest.write_text(lines, encoding="utf-8")
    one, two, same, empty, outside = find_items([], manifest, ".png", tmp_path).items
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
        json.dumps({"file": "b.jpg", "scale": 2}),
    ]
    (folder / "list.jsonl").write_text("\n".join(rows))
    good, torn, no_object, two = find_items([], folder / "list.jsonl", ".png", tmp_path).items
    assert good.options == {"domain": "photo"} and not good.refused and two.options == {"scale": "2"}
    assert "is not JSON" in torn.refused and "no JSON object" in no_object.refused
    (folder / "list.txt").write_text("a.png")
    with pytest.raises(RefusedError, match="unknown ending"):
        find_items([], folder / "list.txt", ".png", tmp_path)


def journal(out, items, status="done"):
    """What a batch leaves."""
    out.mkdir(exist_ok=True)
    with (out / RESULTS_NAME).open("ab") as file:
        for item in items:
            file.write(to_line({"source": item.source, "output": item.output, "status": status}))


def test_results_keep_the_name_that_they_have_whatever_is_added(folder, tmp_path):
    out = tmp_path / "out"

    def rerun(suffix=".png", source=folder):
        found = find_items([str(source)], None, suffix, out)
        journal(out, found.items)
        return {item.source.removeprefix(f"{folder}/"): item.output for item in found.items}

    first = rerun()
    assert (first["b.jpg"], first["deep/a.png"]) == ("b.png", "deep/a.png")
    for name in ("b.png", "deep/a.webp"):
        Image.new("RGB", (8, 8)).save(folder / name)
    second = rerun()
    assert second == first | {"b.png": "b_png.png", "deep/a.webp": "deep/a_webp.png"}
    (folder / "deep/a.png").unlink()
    Image.new("RGB", (8, 8)).save(folder / "deep/a_webp.webp")
    third = rerun(".jpg")  # in another format, too
    assert third["b.jpg"] == "b.jpg" and third["b.png"] == "b_png.jpg" and third["deep/a.webp"] == "deep/a_webp.jpg"
    assert third["deep/a_webp.webp"] == "deep/a_webp_webp.jpg"
    assert rerun(source=folder / "../in/deep")[str(folder / "../in/deep/c.webp").removeprefix(f"{folder}/")] == "deep/c.png"


def test_a_result_of_another_folder_is_not_written_over_unless_its_source_is_gone(folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    journal(out, find_items([str(folder)], None, ".png", out).items)
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "a.png")
    assert outputs(find_items([str(other)], None, ".png", out)) == ["a_png.png"]
    (folder / "a.png").unlink()
    assert outputs(find_items([str(other)], None, ".png", out)) == ["a.png"]


def test_a_name_that_a_manifest_chose_is_not_taken_for_one_that_follows_from_the_source(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "list.csv").write_text("source,output,scale\na.png,one.png,3\nb.jpg,,3\n", encoding="utf-8")
    found = find_items([], folder / "list.csv", ".png", out)
    assert outputs(found) == ["one.png", "b.png"]
    journal(out, found.items)
    assert outputs(find_items([str(folder / "a.png"), str(folder / "b.jpg")], None, ".png", out)) == ["a.png", "b.png"]
    both = find_items([str(folder / "a.png")], folder / "list.csv", ".png", out)
    assert outputs(both) == ["a.png", "one.png", "b.png"]
