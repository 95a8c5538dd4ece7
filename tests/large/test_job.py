"""Pictures in pieces: equal to the whole, resumed, refused in words."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.errors import RefusedError
from fidelity.files.journal import parts_folder
from fidelity.files.write import Export
from fidelity.job import FileOptions
from fidelity.large import job as large
from fidelity.large.job import LargeJob, decide_large, needs_pieces, prepare_large, upscale_large, with_thresholds
from fidelity.large.plan import plan_large
from fidelity.large.source import LargeSource
from fidelity.networks.compute import Compute
from fidelity.session import Session

pyvips = pytest.importorskip("pyvips", reason="libvips is not installed: pip install 'pyvips[binary]'")
ROOT = Path(__file__).parents[2]


def picture(height=200, width=250, channels=3, bits=8):
    """Soft color with edges and fine lines."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    soft = [0.5 + 0.3 * np.sin(columns / (31 + 7 * channel)) * np.cos(rows / 43) for channel in range(channels)]
    lines = ((rows + 2 * columns) % 53 < 2) * 0.25
    image = np.clip(np.stack(soft, axis=-1) - lines[..., None], 0, 1)
    if channels == 4:
        image[..., 3] = np.clip(rows / height * 2, 0, 1)
    return np.round(image * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def write(path, samples, **options):
    height, width, channels = samples.shape
    kind = "uchar" if samples.dtype == np.uint8 else "ushort"
    image = pyvips.Image.new_from_memory(samples.tobytes(), width, height, channels, kind)
    space = {(1, "uchar"): "b-w", (1, "ushort"): "grey16"}.get((channels, kind), "srgb" if kind == "uchar" else "rgb16")
    image.copy(interpretation=space).write_to_file(str(path), **options)
    return path


@pytest.fixture
def session():
    return Session(Settings(Target(scale=2), domain="photo", restore="off"), Compute(torch.device("cpu"), precision="fp32"))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(large, "_LONGEST_SIDE_PX", 128)
    monkeypatch.setattr(large, "_SHORTEST_SIDE_PX", 128)
    monkeypatch.setattr(large, "_SAMPLE_PX", 160)


def run(path, output, session, **options):
    return upscale_large(path, output, session, FileOptions(**options))


def samples_of(path):
    image = pyvips.Image.new_from_file(str(path))
    return image.numpy().reshape(image.height, image.width, -1)


@pytest.mark.parametrize(("suffix", "bits", "channels"), [(".tif", 16, 3), (".png", 8, 4), (".tif", 8, 1)])
def test_pieces_give_what_the_whole_gives(tmp_path, session, suffix, bits, channels):
    path = write(tmp_path / "in.tif", picture(channels=channels, bits=bits), tile=True, tile_width=128, tile_height=128)
    report = run(path, tmp_path / f"out{suffix}", session)
    made = samples_of(tmp_path / f"out{suffix}").astype(np.float64) / (2**bits - 1)
    assert made.shape == (400, 500, channels) and report.output.bits == bits
    assert "enlarged in 4 pieces" in report.input.notes and report.drift.color.mean < 0.2
    job = LargeJob(LargeSource(path), tmp_path / "x.tif", 2, bits)
    sampled = decide_large(job, session)
    decision = with_thresholds(sampled.decision, sampled.sample, session)
    plan = replace(decision.planned.plan, source=(200, 250), target=(400, 500))
    decision = replace(decision, planned=replace(decision.planned, plan=plan))
    whole = session.carry_out(job.source.read(slice(0, 200), slice(0, 250)), decision).image[0].movedim(0, -1).numpy()
    if channels == 4:  # colors that nothing shows of are anyhow
        made, whole = (one * one[..., 3:] for one in (made, whole))
    apart = np.abs(made - whole)
    step = 1 / 1024 if bits == 16 else 2 / 1024 + 0.5 / 255
    assert np.quantile(apart, 0.99) < step and apart.mean() < step / 2, (apart.max(), apart.mean())


def test_a_png_and_a_turned_jpeg_are_read_in_pieces(tmp_path, session):
    samples = picture()
    Image.fromarray(samples).save(tmp_path / "in.png")
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    Image.fromarray(samples).save(tmp_path / "in.jpg", quality=98, exif=exif)
    run(tmp_path / "in.png", tmp_path / "a.tif", session)
    run(tmp_path / "in.jpg", tmp_path / "b.tif", session)
    upright, turned = samples_of(tmp_path / "a.tif"), samples_of(tmp_path / "b.tif")
    assert turned.shape == (500, 400, 3)
    assert np.abs(np.rot90(upright, 3).astype(int) - turned).mean() < 3
    assert not list(tmp_path.glob("*.parts"))


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    whole = slice(0, 64)
    for level in (10, 200):
        path = write(tmp_path / "in.tif", np.full((64, 64, 3), level, np.uint8), tile=True)
        assert LargeSource(path).read(whole, whole).mean() == pytest.approx(level / 255)
        assert LargeSource(path).shrink(32).mean() == pytest.approx(level / 255)


def test_metadata_and_resolution_are_carried(tmp_path, session):

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[315] = "A. Painter"
    Image.fromarray(picture()).save(tmp_path / "in.tif", dpi=(240, 240), icc_profile=icc, tiffinfo=tags)
    run(tmp_path / "in.tif", tmp_path / "out.tif", session, export=Export(pyramid=True))
    with Image.open(tmp_path / "out.tif") as made:
        assert made.info["icc_profile"] == icc and made.n_frames > 1
        assert made.info["dpi"][0] == pytest.approx(240, abs=0.1)
        assert made.getexif().get(315) == "A. Painter"
        assert "fidelity" in str(made.info.get("xmp", b"")).lower()
    run(tmp_path / "in.tif", tmp_path / "out.png", session)
    with Image.open(tmp_path / "out.png") as made:
        assert made.getexif().get(315) == "A. Painter"


def test_deep_zoom_has_its_tiles_and_a_page(tmp_path, session):
    path = write(tmp_path / "in.tif", picture())
    assert needs_pieces(path, tmp_path / "out.dzi", session, FileOptions())
    run(path, tmp_path / "out.dzi", session)
    assert "Image" in (tmp_path / "out.dzi").read_text()
    page = (tmp_path / "out.html").read_text()
    assert '"width": 500, "height": 400, "tiles": "out_files"' in page and '"iiif": false' in page
    finest = tmp_path / "out_files" / "9"
    assert {one.name for one in finest.iterdir()} == {f"{column}_{row}.jpg" for column in range(2) for row in range(2)}


def test_iiif_has_the_tiles_that_its_description_and_page_ask_for(tmp_path, session):
    path, home = write(tmp_path / "in.tif", picture(275, 301)), tmp_path / "web" / "scan"
    run(path, home / "info.json", session, existing="overwrite")
    info = json.loads((home / "info.json").read_text())
    assert (info["id"], info["width"], info["height"], info["type"]) == ("scan", 602, 550, "ImageService3")
    wanted = set()
    for factor in info["tiles"][0]["scaleFactors"]:
        side = 256 * factor
        for left in range(0, 602, side):
            for top in range(0, 550, side):
                width, height = min(side, 602 - left), min(side, 550 - top)
                area = "full" if (width, height) == (602, 550) else f"{left},{top},{width},{height}"
                wanted.add(f"{area}/{-(-width // factor)},{-(-height // factor)}/0/default.jpg")
    assert {str(one.relative_to(home)) for one in home.rglob("*.jpg")} == wanted
    assert '"iiif": true' in (tmp_path / "web" / "scan.html").read_text()
    assert sorted(one.name for one in (tmp_path / "web").iterdir()) == ["scan", "scan.html"]
    (home / "0,0,9,9").mkdir()  # of another picture
    run(path, home / "info.json", session, existing="overwrite")
    assert not (home / "0,0,9,9").exists() and len(list(home.rglob("*.jpg"))) == len(wanted)


def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, session):
    path = write(tmp_path / "in.tif", picture(), tile=True)
    run(path, tmp_path / "whole.png", session)
    output, seen = tmp_path / "out.png", []

    def stop(told, _done, _total):
        seen.append(told)
        if told.startswith("piece 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_large(path, output, session, FileOptions(), stop)
    assert not output.exists() and len(list(parts_folder(output).glob("piece-*.tif"))) == 2
    with (parts_folder(output) / "journal.jsonl").open("ab") as file:
        file.write(b'{"torn')
    (parts_folder(output) / "piece-000002.tif").write_bytes(b"torn")
    seen.clear()
    upscale_large(path, output, session, FileOptions(), lambda told, *_: seen.append(told))
    assert seen and "piece 2 of 4" in seen and "piece 1 of 4" not in seen
    assert output.read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert not parts_folder(output).exists()


def test_other_settings_do_not_resume(tmp_path, session):
    path, output = write(tmp_path / "in.tif", picture(), tile=True), tmp_path / "out.png"

    def stop(told, _done, _total):
        if told.startswith("piece 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_large(path, output, session, FileOptions(), stop)
    other = Session(replace(session.settings, gate="off"), session.compute)
    with pytest.raises(RefusedError, match="interrupted run with another settings"):
        run(path, output, other)
    run(path, output, other, existing="overwrite")
    assert output.is_file()


def test_what_does_not_go_is_refused_in_a_line(tmp_path, session):
    path = write(tmp_path / "in.tif", picture())
    for output, options, wanted in (
        ("out.jpg", {}, r"wanted \.tif, \.tiff, \.png, \.dzi or info\.json"),
        ("out.tif", {"color_space": "srgb"}, "--color-space srgb does not apply"),
        ("out.png", {"export": Export(pyramid=True)}, r"wanted \.tif with --pyramid"),
    ):
        with pytest.raises(RefusedError, match=wanted):
            run(path, tmp_path / output, session, **options)
    uneven = Session(Settings(Target(scale=1.5)))
    with pytest.raises(RefusedError, match="wanted a whole --scale"):
        run(path, tmp_path / "out.tif", uneven)
    write(tmp_path / "float.tif", picture(bits=16)[..., :2])
    pyvips.Image.black(64, 64, bands=3).cast("float").tiffsave(str(tmp_path / "float.tif"))
    with pytest.raises(RefusedError, match="wanted RGB or grey of 8 or 16 bits"):
        run(tmp_path / "float.tif", tmp_path / "out.tif", session)
    (tmp_path / "text.tif").write_bytes(b"no picture")
    with pytest.raises(RefusedError, match="cannot be read in pieces"):
        run(tmp_path / "text.tif", tmp_path / "out.tif", session)
    damaged = tmp_path / "damaged.png"
    Image.fromarray(picture()).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:20000])
    with pytest.raises(RefusedError, match="damaged or truncated"):
        run(damaged, tmp_path / "out.tif", session)
    assert not (tmp_path / "out.tif").exists()


def test_a_disk_that_is_too_small_is_refused_before_any_work(tmp_path, session, monkeypatch):
    path = write(tmp_path / "in.tif", picture())
    monkeypatch.setattr("fidelity.imaging.rows.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(RefusedError, match="GiB are free"):
        run(path, tmp_path / "out.tif", session)
    assert not parts_folder(tmp_path / "out.tif").exists()


def test_more_pieces_than_files_may_be_open_are_refused_before_any_work(tmp_path, session, monkeypatch):
    path = write(tmp_path / "in.tif", picture())
    monkeypatch.setattr(large, "allow_open_files", lambda _count: 10)
    with pytest.raises(RefusedError, match="needs 68 files open at once, the limit is 10"):
        run(path, tmp_path / "out.tif", session)
    assert not list(parts_folder(tmp_path / "out.tif").glob("piece-*"))


def test_a_plan_tells_pieces_time_and_room(tmp_path, session):
    path = write(tmp_path / "in.tif", picture())
    plan = plan_large(prepare_large(path, tmp_path / "out.tif", session, FileOptions()), session)
    assert (plan.source.width, plan.target.width) == (250, 500) and plan.seconds > 0
    assert plan.scratch_bytes >= 400 * 500 * 3 and "in 4 pieces" in plan.notes[-1]


def test_the_command_makes_a_tiff_for_viewers_of_large_pictures(tmp_path):
    write(tmp_path / "in.tif", picture(), tile=True)
    command = [sys.executable, "-m", "fidelity", "upscale", str(tmp_path / "in.tif"), "-o", str(tmp_path / "out.tif")]
    command += ["--scale", "2", "--pyramid", "--restore", "off", "--report", str(tmp_path / "report.json")]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert "1 piece" in report["input"]["notes"][0] and report["output"]["width"] == 500
    with Image.open(tmp_path / "out.tif") as made:
        assert made.size == (500, 400) and made.n_frames > 1


def test_a_picture_beyond_the_memory_needs_pieces(tmp_path, session):
    path = write(tmp_path / "in.tif", picture())
    assert not needs_pieces(path, tmp_path / "out.tif", session, FileOptions())
    assert needs_pieces(path, tmp_path / "out.tif", session.within(1_000_000), FileOptions())
