"""One file becomes another: its depth, its colours, and what belongs beside its pixels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from fidelity.decide.settings import Settings
from fidelity.decide.target import PrintSize, Target
from fidelity.errors import RefusedError
from fidelity.files.read import read_image
from fidelity.files.save import save_result
from fidelity.files.write import Export
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize
from fidelity.job import FileOptions, upscale_file
from fidelity.networks.compute import Compute
from fidelity.report.report import GateReport, read_facts, to_json
from fidelity.session import Session
from fidelity.steps.gate import GateLimits, gate
from tests.deep import encode_deep


@pytest.fixture
def session():
    return Session(Settings(Target(scale=2), "photo"), Compute(torch.device("cpu")), {})


def test_sixteen_bits_go_in_and_come_out(tmp_path, session):
    ramp = np.linspace(20_000, 21_000, 24 * 18).astype(np.uint16).reshape(18, 24, 1).repeat(3, axis=2)
    (tmp_path / "deep.png").write_bytes(encode_deep(ramp, "png"))
    for name, bits in (("out.png", 16), ("out.tif", 16), ("out.jpg", 8)):
        report = upscale_file(tmp_path / "deep.png", tmp_path / name, session)
        assert report.output.bits == read_image(tmp_path / name).bits == bits
        assert ("the result 8" in str(report.input.notes)) == (bits == 8)
    smooth = read_image(tmp_path / "out.tif").image
    assert len(smooth.unique()) > 4 * len((smooth * 255).round().unique())
    upscale_file(tmp_path / "deep.png", tmp_path / "eight.png", session, FileOptions(keeps_depth=False))
    assert read_image(tmp_path / "eight.png").bits == 8


@pytest.mark.parametrize("name", ["out.png", "out.tif"])
def test_a_result_that_goes_through_files_is_never_whole_in_memory(image_file, tmp_path, session, monkeypatch, name):
    source = image_file()
    upscale_file(source, tmp_path / f"whole_{name}", session)
    decide = session.decide

    def decide_short_of_memory(*given):
        decision = decide(*given)
        plan = replace(decision.planned.plan, in_files=True, scratch_bytes=1)
        return replace(decision, planned=replace(decision.planned, plan=plan))

    def refuse(_rows):
        raise AssertionError("the whole image was asked for")

    monkeypatch.setattr(session, "decide", decide_short_of_memory)
    monkeypatch.setattr("fidelity.session.read_all", refuse)
    monkeypatch.setattr("fidelity.steps.upscale.read_all", refuse)
    report = upscale_file(source, tmp_path / "new" / name, session)
    assert report.passes[0].kind == "restore"  # all noise
    whole, filed = (read_image(tmp_path / place / name).image for place, name in (("", f"whole_{name}"), ("new", name)))
    assert (whole - filed).abs().max() <= 1.01 / 255
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_eight_bits_become_sixteen_only_if_asked(image_file, tmp_path, session):
    upscale_file(image_file(), tmp_path / "a.png", session)
    upscale_file(image_file(), tmp_path / "b.png", session, FileOptions(Export(16)))
    assert [read_image(tmp_path / name).bits for name in ("a.png", "b.png")] == [8, 16]


def test_a_wide_profile_is_carried_or_its_colours_converted(image_file, tmp_path, display_p3):
    session = Session(Settings(Target(scale=2), "photo", restore="off"), models={})  # the picture is all noise
    source = image_file("wide.png", icc_profile=display_p3)
    upscale_file(source, tmp_path / "kept.png", session)
    upscale_file(source, tmp_path / "srgb.png", session, FileOptions(color_space="srgb"))
    assert Image.open(tmp_path / "kept.png").info["icc_profile"] == display_p3
    assert "icc_profile" not in Image.open(tmp_path / "srgb.png").info
    shown = read_image(source, "srgb").image
    assert measure_drift(shown, read_image(tmp_path / "srgb.png").image).mean < 0.6


def test_a_camera_is_remembered_and_its_place_forgotten_if_asked(image_file, tmp_path, session):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", 6
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    source = image_file("photo.jpg", exif=exif)
    upscale_file(source, tmp_path / "a.jpg", session)
    upscale_file(source, tmp_path / "b.webp", session, FileOptions(keep_gps=False))
    first, second = (Image.open(tmp_path / name) for name in ("a.jpg", "b.webp"))
    assert first.size == second.size == (36, 48)
    assert first.getexif()[ExifTags.Base.Make] == second.getexif()[ExifTags.Base.Make] == "Maker"
    assert first.getexif()[ExifTags.Base.Orientation] == 1
    assert first.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert not second.getexif().get_ifd(ExifTags.IFD.GPSInfo)


def test_a_result_says_what_made_it_and_keeps_its_graph(tmp_path, session):
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_text("workflow", '{"nodes": []}')
    Image.effect_noise((24, 18), 50).convert("RGB").save(tmp_path / "s.png", pnginfo=texts)
    report = upscale_file(tmp_path / "s.png", tmp_path / "o.png", session)
    with Image.open(tmp_path / "o.png") as opened:
        assert opened.info["workflow"] == '{"nodes": []}'
        packet = opened.info["XML:com.adobe.xmp"]
    assert f'fidelity:model="{report.model.name}"' in packet
    assert f'fidelity:driftMean="{report.drift.color.mean:.4g}"' in packet


@pytest.mark.parametrize("name", ["o.png", "o.tif", "o.jpg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_print_says_its_resolution(image_file, tmp_path, session, name, bits):
    sheet = Session(Settings(Target(print_size=PrintSize(1.27, 1.27, 120.0)), "photo"), models={})
    upscale_file(image_file(), tmp_path / name, sheet, FileOptions(Export(bits)))
    assert Image.open(tmp_path / name).info["dpi"] == pytest.approx((120, 120), abs=0.1)


@pytest.mark.parametrize("name", ["o.png", "o.tif", "o.jpg"])
def test_a_resolution_is_carried_over(image_file, tmp_path, session, name):
    upscale_file(image_file("s.png", dpi=(300, 300)), tmp_path / name, session)
    assert Image.open(tmp_path / name).info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_transparency_that_hides_nothing_goes_into_a_jpeg(tmp_path, session):
    Image.new("RGBA", (9, 7), (200, 30, 40, 255)).save(tmp_path / "opaque.png")
    upscale_file(tmp_path / "opaque.png", tmp_path / "o.jpg", session)
    assert Image.open(tmp_path / "o.jpg").mode == "RGB"


def test_the_size_is_added_to_the_name_if_asked(image_file, tmp_path, session):
    report = upscale_file(image_file("cat.png"), tmp_path / "big.png", session, FileOptions(size_suffix=True))
    assert report.output.path == str(tmp_path / "big_48x36.png")
    assert (tmp_path / "big_48x36.png").exists()


def test_grey_that_was_expanded_goes_back_to_its_profile(tmp_path, grey_profile):
    Image.new("L", (8, 6), 128).save(tmp_path / "l.png", icc_profile=grey_profile)
    source = read_image(tmp_path / "l.png", "srgb")
    save_result(tmp_path / "o.png", source.image.expand(-1, 3, -1, -1), source, {})
    with Image.open(tmp_path / "o.png") as opened:
        assert (opened.mode, opened.getpixel((0, 0)), opened.info["icc_profile"]) == ("L", 128, grey_profile)
    with pytest.raises(RefusedError, match="profile is grey but the image is not"):
        save_result(tmp_path / "o.png", torch.rand(1, 3, 4, 4), source, {})


def test_the_source_is_never_overwritten(image_file, session):
    source = image_file()
    with pytest.raises(RefusedError, match="is the source itself"):
        upscale_file(source, source, session)


def test_reports_of_three_kinds_give_drift_and_decision_and_others_are_refused(photo, image_file, tmp_path, session):
    decision = gate(resize(photo, (192, 224)), photo)
    judged = to_json(GateReport.of(decision, GateLimits()))
    expected = {
        "driftMean": decision.after.mean,
        "driftP99": decision.after.p99,
        "driftMax": decision.after.max,
        "gate": "pass",
    }
    assert read_facts({"kind": "gate"} | judged) == read_facts({"kind": "diffusion", "gate": judged}) == expected
    report = upscale_file(image_file(), tmp_path / "o.png", session)
    facts = read_facts(json.loads(json.dumps(to_json(report))))
    assert (facts["model"], facts["recipe"], facts["driftMax"]) == (report.model.name, "photo", report.drift.color.max)
    for other in ({"figures": 1}, {"kind": "gate"}, {"kind": "enlargement", "model": 3}, [1], None):
        with pytest.raises(RefusedError, match="report"):
            read_facts(other)
