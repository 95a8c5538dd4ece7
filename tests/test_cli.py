"""The command: what it writes, prints and returns."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from fidelity.cli import app

run = CliRunner().invoke


def test_an_image_is_enlarged_and_reported(image_file, tmp_path):
    out, report = tmp_path / "out" / "big.png", tmp_path / "report.json"
    options = ["--report", str(report), "--domain", "painting", "--passes", "direct", "--restore", "off"]
    result = run(app, ["upscale", str(image_file()), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    assert Image.open(out).size == (96, 72)
    (made,) = json.loads(report.read_text(encoding="utf-8"))
    assert made["input"] == {"path": str(image_file()), "width": 24, "height": 18, "notes": []}
    assert (made["output"]["width"], made["output"]["height"]) == (96, 72)
    assert (made["domain"]["label"], made["domain"]["confidence"]) == ("painting", 1.0)
    assert made["model"]["name"] == "natural-x4.safetensors"
    assert made["model"]["precision"] == "fp32"
    assert made["passes"][0]["kind"] == "network"
    assert {"mean", "p99", "max"} == set(made["drift"]["color"]) == set(made["drift"]["full"])
    assert made["gate"]["action"] in ("pass", "blend")
    assert made["recipe"]["consistency"] == "color"
    assert {"target", "tile", "device", "precision", "models", "channels", "gate"} <= set(made["recipe"])
    assert made["peak_memory_bytes"] > 10**7
    assert {"sharpness_ratio", "overshoot_percent", "seconds"} <= set(made)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--scale", "1.5"], (36, 27)),
        (["--size", "31x57"], (31, 57)),
        (["--long-edge", "240"], (240, 180)),
        (["--megapixels", "0.0108"], (120, 90)),
        (["--print-size", "25.4x25.4mm@96"], (96, 72)),
    ],
)
def test_each_target_is_met_exactly(image_file, tmp_path, options, size):
    out = tmp_path / "out.png"
    assert run(app, ["upscale", str(image_file()), "-o", str(out), *options]).exit_code == 0
    assert Image.open(out).size == size


def test_settings_reach_the_steps_and_the_report(image_file, tmp_path, compact_file):
    report = tmp_path / "r.json"
    model = compact_file(2)
    arguments = ["--channels", "rgb", "--consistency", "off", "--gate", "off", "--precision", "bf16", "--tile", "64"]
    arguments += ["--model", model.stem, "--models-dir", str(model.parent), "--device", "cpu", "--report", str(report)]
    assert run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), *arguments]).exit_code == 0
    (made,) = json.loads(report.read_text(encoding="utf-8"))
    assert made["model"] == {
        "name": model.name,
        "architecture": "RealESRGAN Compact",
        "scale": 2,
        "precision": "bf16",
        "reason": "chosen by the user",
        "better": None,
    }
    assert (made["recipe"]["channels"], made["recipe"]["consistency"], made["gate"]["action"]) == ("rgb", "off", "off")
    assert made["gate"]["mean_limit"] == 1.0


def test_one_bad_file_never_stops_the_rest(image_file, tmp_path):
    folder = image_file("in/a.png").parent
    (folder / "b.png").write_text("no image")
    image_file("in/c.png")
    result = run(app, ["upscale", str(folder), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert result.stderr.strip() == f"{folder / 'b.png'}: not an image, or an unknown format"


def test_what_a_file_says_does_not_control_the_terminal(image_file, tmp_path):
    name = "\x1b[31m\u202eevil\x07.safetensors"
    graph = {
        "0": {"class_type": "KSampler", "inputs": {"model": ["1", 0]}},
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["0", 0]}},
    }
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(graph))
    path = tmp_path / "\x1b[2Ja.png"
    Image.open(image_file()).save(path, pnginfo=info)
    result = run(app, ["classify", str(path), str(tmp_path / "\x1b[2Jnothing.png")])
    assert r"generated with \x1b[31m\u202eevil\x07.safetensors" in result.stdout
    assert r"\x1b[2Jnothing.png: no such file" in result.stderr.replace("\n", "")
    assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout + result.stderr)


def test_an_impossible_name_is_told_before_any_work(image_file, tmp_path):
    name = "a" * 300 + ".png"
    result = run(app, ["upscale", str(image_file()), "-o", str(tmp_path / name)])
    assert result.exit_code == 2
    assert "not a possible file name" in result.stderr
    result = run(app, ["upscale", str(tmp_path / name), "-o", str(tmp_path / "o.png")])
    assert result.exit_code == 1
    assert "not a possible file name" in result.stderr
    assert "unexpectedly" not in result.stderr


def test_an_empty_folder_does_not_stop_the_others(image_file, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(app, ["upscale", str(tmp_path / "empty"), str(image_file()), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "no images in this folder" in result.stderr
    assert (tmp_path / "out/image.png").is_file()


def test_the_version_is_shown():
    result = run(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("fidelity ")


def test_several_inputs_go_to_a_folder(image_file, tmp_path):
    result = run(app, ["upscale", str(image_file("a.png")), str(image_file("b.jpg")), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_a_model_that_is_refused_is_one_line_and_writes_nothing(image_file, tmp_path):
    (tmp_path / "fake.pth").write_text("no model")
    result = run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--model", str(tmp_path / "fake.pth")])
    assert result.exit_code == 1
    assert result.stderr.strip().startswith("fake.pth: damaged or not a model file")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--scale", "2", "--long-edge", "9"],
        ["--size", "12by9"],
        ["--scale", "0"],
        ["--scale", "inf"],
        ["--models-dir", "/nowhere/at/all"],
        ["--tile", "7"],
        ["--tile", "many"],
        ["--domain", "sculpture"],
        ["--gate", "maybe"],
        ["--restore", "a bit"],
        ["--restore", "1.5"],
    ],
)
def test_wrong_usage_is_exit_two(image_file, tmp_path, options):
    assert run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), *options]).exit_code == 2


def test_two_images_do_not_fit_in_one_file(image_file, tmp_path):
    arguments = ["upscale", str(image_file("a.png")), str(image_file("b.png")), "-o", str(tmp_path / "o.png")]
    assert run(app, arguments).exit_code == 2


def test_the_source_is_never_overwritten(image_file):
    path = image_file()
    before = path.read_bytes()
    result = run(app, ["upscale", str(path), "-o", str(path)])
    assert result.exit_code == 1
    assert "is the source itself; wanted another file name" in result.stderr
    assert path.read_bytes() == before


def test_a_format_that_cannot_hold_the_result_is_refused_before_the_work(image_file, tmp_path):
    result = run(app, ["upscale", str(image_file("a.png", "RGBA")), "-o", str(tmp_path / "o.jpg")])
    assert result.exit_code == 1
    assert "JPEG does not support transparency" in result.stderr


def test_images_of_one_size_are_measured_in_full(image_file):
    result = run(app, ["measure", str(image_file()), str(image_file()), "--json"])
    figures = json.loads(result.stdout)
    assert figures["ssim"] == pytest.approx(1)
    assert figures["psnr"] is None
    assert figures["identical"] is True
    assert figures["ciede2000"]["max"] == 0


def test_images_of_two_sizes_are_measured_by_their_drift(image_file):
    result = run(app, ["measure", str(image_file()), str(image_file("b.png", size=(48, 36))), "--json"])
    figures = json.loads(result.stdout)
    assert figures["compared at"] == "the smaller size"
    assert {"color", "full"} <= set(figures)
    assert "psnr" not in figures


def test_a_measurement_is_readable_without_json(image_file):
    result = run(app, ["measure", str(image_file()), str(image_file("b.png", "L"))])
    assert result.exit_code == 0
    assert "psnr_y" in result.stdout
    assert "mean" in result.stdout


def test_measuring_a_missing_file_is_one_line(tmp_path, image_file):
    result = run(app, ["measure", str(tmp_path / "none.png"), str(image_file())])
    assert result.exit_code == 1
    assert result.stderr.strip() == f"{tmp_path / 'none.png'}: no such file"


def test_the_kind_of_each_image_is_told_with_its_recipe(image_file):
    result = run(app, ["classify", str(image_file()), "--json"])
    assert result.exit_code == 0
    (made,) = json.loads(result.stdout)
    assert set(made["scores"]) == {"photo", "anime_flux", "anime_sd", "line_art", "painting"}
    assert sum(made["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert made["confidence"] == max(made["scores"].values()) == made["scores"][made["label"]]
    assert made["evidence"]
    assert made["recipe"]["models"]
    shown = run(app, ["classify", str(image_file())]).stdout
    assert made["label"] in shown
    assert made["evidence"][0] in shown


def test_a_file_that_says_what_made_it_is_believed_unless_told_not_to(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "1girl, solo\nNegative prompt: x\nSteps: 20, Model: animagine-xl, Version: v1.10")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "a.png", pnginfo=info)
    (made,) = json.loads(run(app, ["classify", str(tmp_path / "a.png"), "--json"]).stdout)
    assert made["label"] == "anime_sd"
    assert made["confidence"] > 0.9
    assert "animagine-xl" in made["evidence"][0]
    (blind,) = json.loads(run(app, ["classify", str(tmp_path / "a.png"), "--json", "--ignore-metadata"]).stdout)
    assert not any("animagine" in line for line in blind["evidence"])
    report = tmp_path / "r.json"
    run(app, ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "o.png"), "--scale", "2", "--report", str(report)])
    (made,) = json.loads(report.read_text(encoding="utf-8"))
    assert made["domain"]["label"] == made["recipe"]["domain"] == "anime_sd"
    assert made["model"]["name"] == "drawn-x2.safetensors"
    assert made["model"]["better"].startswith("RealESRGAN_x4plus_anime_6B, https://")


def test_classifying_goes_on_after_a_bad_file(image_file, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    result = run(app, ["classify", str(tmp_path / "bad.png"), str(image_file()), "--json"])
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)) == 1
    assert "not an image" in result.stderr


def test_a_plan_tells_passes_memory_and_time(image_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = [
        "plan",
        str(image_file()),
        "--size",
        "192x144",
        "--memory",
        "4GB",
        "--domain",
        "photo",
        "--passes",
        "direct",
        "--restore",
        "off",
    ]
    result = run(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    made = json.loads(result.stdout)
    assert [step["network"] for step in made["passes"]] == ["natural-x2.safetensors", "natural-x4.safetensors"]
    assert made["target"] == {"width": 192, "height": 144}
    assert made["network_seconds"] > 0
    assert 0 < made["peak_memory_bytes"] - made["process_memory_bytes"] < 2**30  # this process holds what all tests left
    shown = run(app, arguments).stdout
    assert "24x18 -> 192x144" in shown
    assert "2. natural-x4.safetensors: to 192x144" in shown


def test_a_plan_is_what_is_then_done(image_file, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report = tmp_path / "r.json"
    target = ["--size", "200x150", "--domain", "line_art"]
    planned = json.loads(run(app, ["plan", str(image_file()), *target, "--json"]).stdout)
    run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), *target, "--report", str(report)])
    (made,) = json.loads(report.read_text(encoding="utf-8"))
    kinds = {step["kind"] for step in planned["passes"]}
    assert [(step["kind"], step["model"]) for step in made["passes"] if step["kind"] in kinds] == [
        (step["kind"], step["network"]) for step in planned["passes"]
    ]
    assert [step["kind"] for step in made["passes"] if step["kind"] not in kinds][:2] == ["measure", "consistency"]


def test_restore_takes_a_strength(image_file):
    arguments = ["plan", str(image_file()), "--domain", "photo", "--json", "--restore"]
    kinds = [
        [step["kind"] for step in json.loads(run(app, [*arguments, strength]).stdout)["passes"]] for strength in ("0", "0.4")
    ]
    assert ["restore" in made for made in kinds] == [False, True]


def test_a_plan_beyond_the_memory_is_refused_with_what_would_do(image_file):
    large = ["plan", str(image_file()), "--size", "60000x45000", "--memory"]
    result = run(app, [*large, "0.1GB"])
    assert result.exit_code == 1
    assert "px needs about" in result.stderr
    assert "the limit is 0.1 GiB; wanted at least that much memory" in result.stderr
    assert "works in temporary files of up to" in run(app, [*large, "8GB"]).stdout
    assert run(app, ["plan", str(image_file()), "--size", "96x72", "--memory", "lots"]).exit_code == 2


def test_a_folder_is_filled_in_the_format_and_depth_asked_for(image_file, tmp_path):
    image_file("in/a.png"), image_file("in/b.jpg")
    options = ["--format", "tiff", "--bits", "16", "--size-suffix", "--scale", "2"]
    assert run(app, ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *options]).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_48x36.tif", "b_48x36.tif"]
    assert Image.open(tmp_path / "out/a_48x36.tif").tag_v2[258] == (16, 16, 16)


def test_sources_of_too_many_pixels_are_refused_and_the_others_done(image_file, tmp_path):
    image_file("in/a.png")
    Image.new("RGB", (200, 100)).save(tmp_path / "in/b.png")
    options = ["--scale", "2", "--max-megapixels", "0.015"]
    for dry in (["--dry-run"], []):
        result = run(app, ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *options, *dry])
        assert result.exit_code == 1
        told = "b.png: has 0.02 megapixels; wanted at most 0.015, as --max-megapixels says"
        assert result.stderr.strip().endswith(told) and result.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_quality_makes_files_smaller_and_none_leaves_webp_lossless(image_file, tmp_path):
    sizes = {}
    for name, options in {"a.webp": [], "b.webp": ["--quality", "40"], "c.jpg": [], "d.jpg": ["--quality", "40"]}.items():
        assert run(app, ["upscale", str(image_file()), "-o", str(tmp_path / name), "--scale", "2", *options]).exit_code == 0
        sizes[name[0]] = (tmp_path / name).stat().st_size
    assert sizes["a"] > sizes["b"] and sizes["c"] > sizes["d"]
    assert run(app, ["upscale", str(image_file()), "-o", "x.jpg", "--quality", "0"]).exit_code == 2


def test_models_and_machine_are_told(compact_file):
    folder = str(compact_file(2, name="mine.safetensors").parent)
    told = run(app, ["models", "--models-dir", folder])
    assert told.exit_code == 0
    assert "mine.safetensors: RealESRGAN Compact x2" in told.output
    names = [model["name"] for model in json.loads(run(app, ["models", "--json", "--models-dir", folder]).output)]
    assert names[-1] == "mine.safetensors" and "natural-x4.safetensors" in names
    assert "* " in run(app, ["doctor"]).output
    assert json.loads(run(app, ["doctor", "--json"]).output)["devices"]


def test_a_profile_is_seen_through_when_files_are_measured(image_file, tmp_path, display_p3):
    from fidelity.files.read import read_image
    from fidelity.files.write import write_image

    path = image_file("p3.png", icc_profile=display_p3)
    write_image(tmp_path / "srgb.png", read_image(path, "srgb").image)
    figures = json.loads(run(app, ["measure", str(path), str(tmp_path / "srgb.png"), "--json"]).output)
    assert figures["color"]["mean"] < 0.2


@pytest.mark.parametrize(("crop", "size"), [("10x8", (10, 8)), ("6x5+18+13", (6, 5))])
def test_a_crop_is_compared_with_the_same_part_of_the_reference(image_file, tmp_path, crop, size):
    small = image_file("small.png")
    large = tmp_path / "large.png"
    Image.open(small).resize((48, 36), Image.Resampling.NEAREST).save(large)
    arguments = ["--models", "natural-x2", "-o", str(tmp_path / "sheet.png"), "--page", str(tmp_path / "page.html"), "--json"]
    told = run(app, ["compare", str(small), *arguments, "--reference", str(large), "--crop", crop])
    assert told.exit_code == 0, told.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f'"width": {2 * size[0]}, "height": {2 * size[1]}' in page
    assert page.count("data:image/webp;base64,") == 5
    assert 5 < json.loads(told.output)[0]["psnr_y"] < 60


def test_a_reference_of_another_size_is_refused_whether_cropped_or_not(image_file, tmp_path):
    small, other = image_file("small.png"), image_file("other.png", size=(96, 72))
    arguments = ["--models", "natural-x2", "-o", str(tmp_path / "s.png"), "--reference", str(other), "--scale", "2"]
    for crop in ([], ["--crop", "10x8"]):
        told = run(app, ["compare", str(small), *arguments, *crop])
        assert told.exit_code == 1
        assert "reference is 96x72 px; wanted 48x36" in told.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--crop", "10"], 2, "wanted WIDTHxHEIGHT"),
        (["--crop", "0x4"], 2, "wanted WIDTHxHEIGHT"),
        (["--crop", "25x4"], 1, "a crop of 25x4 px"),
        (["--crop", "4x4+21+0"], 1, "wanted it within 24x18 px"),
        (["--page", "page.txt"], 2, "ends in .html"),
    ],
)
def test_a_crop_or_page_that_cannot_be_is_refused(image_file, tmp_path, arguments, code, words):
    told = run(app, ["compare", str(image_file()), "--models", "natural-x2", "-o", str(tmp_path / "s.png"), *arguments])
    assert told.exit_code == code
    assert words in " ".join(told.output.replace("\u2502", " ").split())
    assert not (tmp_path / "s.png").exists()


def test_networks_are_compared_on_a_sheet(image_file, tmp_path, compact_file):
    models = compact_file(2, name="mine.safetensors").parent
    arguments = ["--models", "natural-x2", "mine", "drawn-x2", "--models-dir", str(models), "--scale", "2"]
    told = run(app, ["compare", str(image_file()), *arguments, "-o", str(tmp_path / "sheet.png"), "--json"])
    assert told.exit_code == 0, told.output
    results = json.loads(told.output)
    assert [one["name"] for one in results] == ["bicubic", "natural-x2", "mine", "drawn-x2"]
    assert all(one["drift_mean"] >= 0 for one in results)
    assert results[0]["peak_memory_mib"] is None
    assert results[1]["peak_memory_mib"] >= 0
    assert Image.open(tmp_path / "sheet.png").width == 4 * (36 + 4)
    refused = run(app, ["compare", str(image_file()), "--models", "nothing", "-o", str(tmp_path / "x.png")])
    assert refused.exit_code == 1
    assert "nothing: no such model" in refused.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "o.jpg", "--bits", "16"], "JPEG stores 8 bits"),
        (["-o", "o.webp", "--bits", "16"], "WEBP stores 8 bits"),
        (["-o", "o.png", "--quality", "90"], "PNG is lossless and has no quality"),
        (["-o", "o.tif", "--quality", "90"], "TIFF is lossless"),
        (["-o", "o.png", "--format", "webp"], "already sets the format"),
        (["-o", "out", "--format", "jpg", "--bits", "16"], "JPEG stores 8 bits"),
        (["-o", "o.png", "--memory", "lots"], "memory is 'lots'"),
    ],
)
def test_options_that_do_not_apply_are_refused_before_any_work(image_file, tmp_path, monkeypatch, options, words):
    source = image_file()
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    result = run(app, ["upscale", str(source), *options])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert set(tmp_path.iterdir()) == before


def test_memory_that_is_not_enough_refuses_an_enlargement_too(image_file, tmp_path):
    result = run(
        app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--long-edge", "20000", "--memory", "500MB"]
    )
    assert result.exit_code == 1
    assert "the limit is" in result.stderr
    assert not (tmp_path / "o.png").exists()


def test_a_fault_of_ours_is_told_apart_from_a_refusal_and_shown_on_request(image_file, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("not what anyone gave us")

    monkeypatch.setattr("fidelity.job.read_image", fail)
    arguments = ["upscale", str(image_file()), "-o", str(tmp_path / "o.png")]
    result = run(app, arguments)
    assert result.exit_code == 1
    assert "failed unexpectedly (ValueError: not what anyone gave us); run fidelity --debug to see where" in result.stderr
    assert not caplog.records
    result = run(app, ["--debug", *arguments])
    logging.getLogger("fidelity").setLevel(logging.NOTSET)
    assert "--debug before" not in result.stderr
    assert caplog.records[-1].exc_info is not None


def test_a_refusal_that_names_the_result_is_not_told_of_the_source_too(image_file, tmp_path):
    result = run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.gif"), "--scale", "2"])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{tmp_path / 'o.gif'}: cannot write .gif; wanted .png")


def test_networks_after_models_may_stand_before_the_image(image_file, tmp_path):
    sheet = tmp_path / "sheet.png"
    arguments = ["compare", "--models", "natural-x2", "drawn-x2", str(image_file()), "-o", str(sheet), "--scale", "2"]
    result = run(app, arguments)
    assert result.exit_code == 0, result.output
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["bicubic", "natural-x2", "drawn-x2"]
    both = run(app, [*arguments, str(image_file("second.png"))])
    assert "are images; wanted only one" in " ".join(both.stderr.replace("│", " ").split())


def test_existing_results_are_refused_before_any_work_skipped_numbered_or_replaced(image_file, tmp_path):
    image_file("in/a.png"), image_file("in/b.png")
    out = tmp_path / "out"
    base = ["upscale", str(tmp_path / "in"), "-o", str(out), "--scale", "2"]
    assert run(app, base).exit_code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "b.png").unlink()
    refused = run(app, base)
    assert (refused.exit_code, sorted(path.name for path in out.iterdir())) == (1, ["a.png"])
    assert "a.png already exists; choose another folder, or --existing overwrite, skip or rename" in refused.stderr.replace(
        "\n", ""
    )
    skipped = run(app, [*base, "--existing", "skip", "--report", str(tmp_path / "r.json")])
    assert skipped.exit_code == 0
    assert "a.png: exists, skipped" in skipped.stdout
    assert [Path(row["input"]["path"]).name for row in json.loads((tmp_path / "r.json").read_text())] == ["b.png"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(app, [*base, "--existing", "rename"]).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "a_2.png", "b.png", "b_2.png"]
    image_file("in/a_2.png")
    assert run(app, [*base, "--existing", "rename"]).exit_code == 0
    assert len(list(out.iterdir())) == 7
    (out / "a.png").write_text("old")
    assert run(app, [*base, "--existing", "overwrite"]).exit_code == 0
    assert (out / "a.png").read_bytes() == before["a.png"]


def test_a_result_whose_name_depends_on_its_size_is_looked_for_too(image_file, tmp_path):
    arguments = ["upscale", str(image_file("a.png")), "-o", str(tmp_path / "o"), "--scale", "2", "--size-suffix"]
    assert run(app, arguments).exit_code == 0
    assert run(app, arguments).exit_code == 1
    assert "exists, skipped" in run(app, [*arguments, "--existing", "skip"]).stdout
    assert len(list((tmp_path / "o").iterdir())) == 1


@pytest.mark.parametrize("target", ["s.png", "o.png", "folder", "pipe"])
def test_a_report_is_written_over_nothing_else(image_file, tmp_path, target):
    source = image_file("s.png")
    before = source.read_bytes()
    (tmp_path / "folder").mkdir(), os.mkfifo(tmp_path / "pipe")
    result = run(app, ["upscale", str(source), "-o", str(tmp_path / "o.png"), "--report", str(tmp_path / target)])
    assert result.exit_code == 1
    assert len(result.stderr.replace(str(tmp_path), "").split("; wanted")) == 2
    assert source.read_bytes() == before
    assert not (tmp_path / "o.png").exists()


def test_a_folder_enlarged_into_itself_never_touches_a_source(image_file, tmp_path):
    before = {}
    for name in ("a.jpg", "a.webp", "a_jpg.png"):
        before[name] = image_file(name).read_bytes()
    result = run(app, ["upscale", str(tmp_path), "-o", str(tmp_path), "--scale", "2", "--existing", "overwrite"])
    assert result.exit_code == 2 and "is the input folder" in " ".join(result.stderr.replace("│", " ").split())
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


def test_a_name_with_a_size_is_no_other_source_either(image_file, tmp_path):
    image_file("in/cat.png", size=(32, 32))
    other = image_file("in/cat_64x64.png", size=(48, 48))
    before = other.read_bytes()
    folder = str(tmp_path / "in")
    result = run(app, ["upscale", folder, "-o", folder, "--scale", "2", "--size-suffix", "--existing", "overwrite"])
    assert (result.exit_code, other.read_bytes() == before) == (1, True)


def test_a_dry_run_tells_everything_and_writes_nothing(image_file, tmp_path):
    image_file("in/a.png"), image_file("in/sub/a.png"), (tmp_path / "in/bad.png").write_bytes(b"no image")
    (tmp_path / "in/notes.txt").write_text("x")
    result = run(app, ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "o"), "--scale", "3", "--recursive", "--dry-run"])
    assert result.exit_code == 1
    assert f"-> {tmp_path / 'o/sub/a.png'} " in result.stdout
    assert "1 other file skipped" in result.stdout
    assert "dry run: 2 of 3 would be enlarged" in result.stdout
    assert "bad.png" in result.stderr
    assert not (tmp_path / "o").exists()


def test_transparency_is_laid_on_a_color(tmp_path):
    picture = Image.new("RGBA", (24, 16), (200, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 12, 16))
    picture.save(tmp_path / "a.png")
    arguments = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "o.jpg"), "--scale", "2"]
    assert "or --flatten white" in " ".join(run(app, arguments).stderr.split())
    assert run(app, [*arguments, "--flatten", "#00ff00"]).exit_code == 0
    with Image.open(tmp_path / "o.jpg") as made:
        assert np.abs(np.asarray(made.getpixel((4, 16))) - (0, 255, 0)).max() < 12
        assert np.abs(np.asarray(made.getpixel((44, 16))) - (200, 0, 0)).max() < 12
    wrong = run(app, [*arguments, "--flatten", "blurple"])
    assert wrong.exit_code == 2
    assert "wanted a color, as in white or #ffffff" in " ".join(wrong.stderr.replace("│", " ").split())


def test_what_libraries_print_by_themselves_stays_off_the_terminal(tmp_path):
    Image.effect_noise((64, 48), 90).convert("RGB").save(tmp_path / "a.tif", compression="tiff_deflate")
    content = (tmp_path / "a.tif").read_bytes()
    place = content.index(b"\x78\x9c") + 2  # of the compressed samples, after their header
    (tmp_path / "a.tif").write_bytes(content[:place] + b"\xff" * 100 + content[place + 100 :])
    command = [sys.executable, "-m", "fidelity"]
    heard = subprocess.run(
        [*command, "--debug", "classify", str(tmp_path / "a.tif")], capture_output=True, text=True, check=False
    )
    quiet = subprocess.run([*command, "classify", str(tmp_path / "a.tif")], capture_output=True, text=True, check=False)
    assert heard.returncode == quiet.returncode == 1
    assert "Decode" in heard.stderr
    assert quiet.stderr.splitlines() == [f"{tmp_path / 'a.tif'}: damaged or truncated (decoder error -2)"]


def test_a_comparison_is_written_over_no_input_and_no_file(image_file, tmp_path):
    source, sheet = image_file(), tmp_path / "sheet.png"
    before = source.read_bytes()
    given = ["compare", str(source), "--models", "natural-x2", "--scale", "2", "-o"]
    assert run(app, [*given, str(source)]).exit_code == 1
    assert source.read_bytes() == before
    sheet.write_text("mine")
    assert run(app, [*given, str(sheet)]).exit_code == 1
    assert sheet.read_text() == "mine"
    assert run(app, [*given, str(sheet), "--existing", "overwrite"]).exit_code == 0


@pytest.mark.parametrize(
    "option", [("--scale", "1e308"), ("--size", "9" * 5000 + "x5"), ("--memory", "9" * 5000 + "GB"), ("--megapixels", "1e305")]
)
def test_numbers_beyond_all_measure_are_refused_in_words(image_file, option):
    refused = run(app, ["plan", str(image_file()), *option])
    assert refused.exit_code in (1, 2)
    assert "unexpectedly" not in refused.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full: only on Linux")
def test_output_that_cannot_be_printed_is_told_in_one_line_and_the_work_is_done(image_file, tmp_path):
    command = [sys.executable, "-m", "fidelity", "upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--scale", "2"]
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "standard output: cannot be written (No space left on device)\n")
    assert (tmp_path / "o.png").exists()


def test_a_line_for_each_image_and_one_for_all(image_file, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(image_file().read_bytes())
    (folder / "c.png").write_bytes(b"no image")
    arguments = ["upscale", str(folder), "-o", str(tmp_path / "o"), "--scale", "2", "--domain", "photo"]
    result = run(app, arguments)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1 and len(lines) == 3
    assert all(len(line) < 120 + 2 * len(str(tmp_path)) and ", natural-x2, " in line for line in lines[:2])
    assert sorted(line.split("]")[0] for line in lines[:2]) != ["[1/3", "[1/3"]
    assert re.fullmatch(r"2 enlarged, 1 refused in [\d.]+ s; color drift [\d.]+ CIEDE2000 on average, most in .*", lines[2])
    one = ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--existing", "overwrite", "--domain", "photo"]
    assert len(run(app, one).stdout.splitlines()) == 1
    assert run(app, [*one, "--quiet"]).stdout == ""
    told = [line.split()[0] for line in run(app, [*one, "--verbose"]).stdout.splitlines()[1:]]
    assert told[:3] == ["type", "because", "model"] and told[-3:] == ["color", "gate", "sharpness"]
    assert run(app, [*one, "-q", "-v"]).exit_code == 2


def test_measuring_loads_no_networks_unless_clip_is_asked_for(image_file):
    path = str(image_file())
    script = (
        "import sys; from fidelity.cli import app; sys.argv[1:] = ['measure', *sys.argv[1:]]\n"
        "try:\n    app()\nexcept SystemExit:\n    assert 'spandrel' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, path, path], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_anime_is_short_for_the_domain_that_suits_tv_anime(image_file, tmp_path):
    report = tmp_path / "r.json"
    made = ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--scale", "2", "--domain", "anime"]
    assert run(app, [*made, "--report", str(report)]).exit_code == 0
    assert json.loads(report.read_text())[0]["domain"]["label"] == "anime_sd"
    again = [*made[:-2], "--domain=anime", "--existing", "overwrite"]
    assert run(app, again).exit_code == 0
    assert run(app, ["upscale", "--domain", "animal", *made[1:-2]]).exit_code == 2


def test_the_result_is_opened_if_asked(image_file, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("fidelity.commands.terminal.typer.launch", lambda path: opened.append(path) or 0)
    one, folder, page = image_file(), tmp_path / "o", tmp_path / "p.html"
    made = ["-o", str(tmp_path / "o.png"), "--scale", "2", "--domain", "photo", "--open"]
    assert run(app, ["upscale", str(one), *made]).exit_code == 0
    assert run(app, ["upscale", str(tmp_path / "none.png"), *made]).exit_code == 1
    assert run(app, ["upscale", str(one), *made, "--dry-run", "--existing", "rename"]).exit_code == 0
    several = ["upscale", str(one), str(image_file("b.png")), "-o", str(folder), "--scale", "2", "--domain", "photo", "--open"]
    assert run(app, several).exit_code == 0
    sheet = ["compare", str(one), "--models", "natural-x2", "-o", str(tmp_path / "sheet.png"), "--page", str(page), "--open"]
    assert run(app, sheet).exit_code == 0
    assert opened == [str(tmp_path / "o.png"), str(folder), str(page)]
    monkeypatch.setattr("fidelity.commands.terminal.typer.launch", lambda path: 3)
    told = run(app, ["upscale", str(one), *made, "--existing", "overwrite"])
    assert told.exit_code == 0 and "no program was found to open it with" in told.stdout


def test_what_another_command_is_for_is_told(image_file, tmp_path, make_clip):
    clip = str(make_clip())
    assert "a video is enlarged by: fidelity video" in run(app, ["upscale", clip, "-o", str(tmp_path / "o.png")]).stderr
    shown = run(app, ["video", str(image_file()), "-o", str(tmp_path / "o.mp4")])
    assert shown.exit_code == 1 and "is a picture, not a video; wanted fidelity upscale" in shown.stderr
    missing = run(app, ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--model", "realesrgan_x4plus"])
    assert "is not installed; get it with: fidelity models get RealESRGAN_x4plus" in missing.stderr


def test_other_proportions_are_pointed_out(image_file, tmp_path):
    arguments = ["upscale", str(image_file()), "-o", str(tmp_path / "o.png"), "--domain", "photo", "--existing", "overwrite"]
    assert "; stretched by 100 %" in run(app, [*arguments, "--size", "48x72"]).stdout
    assert "stretched" not in run(app, [*arguments, "--size", "72x54"]).stdout


def test_the_time_left_is_told_once(monkeypatch):
    from rich.console import Console
    from rich.progress import Progress

    from fidelity.commands.terminal import _TimeLeft

    with Progress(console=Console(file=io.StringIO())) as bars:
        bars.add_task("upscale", total=None)
        (task,) = bars.tasks
        assert str(_TimeLeft().render(task)) == ""
        monkeypatch.setattr(type(task), "time_remaining", 3725.4)
        assert str(_TimeLeft().render(task)) == "about 1:02:05 left"
        task.description = "2 fps, 0:10 left"
        assert str(_TimeLeft().render(task)) == ""
