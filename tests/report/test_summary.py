import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fidelity.decide.decision import decide
from fidelity.decide.domain import DOMAINS, Verdict, named_verdict
from fidelity.decide.model_choice import ModelChoice, ModelChooser, shipped_model
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.report.measure import measure_images
from fidelity.report.summary import (
    summarize_choice,
    summarize_enlargement,
    summarize_gate,
    summarize_metrics,
    summarize_plan,
    summarize_verdict,
)
from fidelity.session import carry_out
from fidelity.steps.gate import GateLimits, gate


def verdict(label, sure):
    rest = (1 - sure) / 4
    return Verdict(label, sure, {kind: sure if kind == label else rest for kind in DOMAINS}, ("its camera is named", "more"))


def scene(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4


def test_a_sure_verdict_names_its_kind_and_the_first_reason():
    lines = summarize_verdict(verdict("line_art", 0.9)).split("\n")
    assert lines[0] == "✓ line_art 90 %"
    assert lines[-1] == "its camera is named"


def test_an_unsure_verdict_says_which_recipe_is_followed():
    lines = summarize_verdict(verdict("line_art", 0.3)).split("\n")
    assert lines[0] == "≈ line_art 30 %"
    assert lines[1] == "unsure: using the photo recipe"


def test_an_unsure_photo_is_marked_too_and_a_named_kind_has_no_rivals():
    assert summarize_verdict(verdict("photo", 0.3)).startswith("≈ photo 30 %\nunsure")
    assert summarize_verdict(named_verdict("painting")).split("\n") == ["✓ painting 100 %", "chosen by the user"]


def test_a_better_network_is_named():
    choice = ModelChoice(Path("natural-x4.safetensors"), "shipped model", better="SwinIR, its page")
    assert summarize_choice("natural-x4", choice).split("\n") == [
        "≈ natural-x4",
        "shipped model",
        "better: SwinIR, its page",
    ]
    assert summarize_choice("mine", ModelChoice(Path("mine.pth"), "chosen by you")).startswith("✓ mine\n")


@pytest.mark.parametrize(
    ("action", "shift", "mark", "word"),
    [
        ("blend", 0.0, "✓", "colors preserved"),
        ("blend", 0.2, "≈", "bicubic is blended in over"),
        ("reject", 0.2, "✗", "bicubic enlargement is returned"),
        ("report", 0.2, "✗", "beyond the limits, and stay so"),
    ],
)
def test_the_gates_doing_is_told_with_its_figures(action, shift, mark, word):
    source = scene(1, 3, 24, 20)
    image = torch.nn.functional.interpolate(source, scale_factor=2, mode="nearest") + shift
    result = gate(image, source, action, GateLimits(1.5, 4.0))
    lines = summarize_gate(result, GateLimits(1.5, 4.0)).split("\n")
    assert lines[0].startswith(mark) and word in lines[0]
    assert lines[1] == f"drift {result.before.mean:.2f} on average, {result.before.max:.2f} at most (1 is just visible)"
    assert ("now" in lines[2]) == (action != "report" and shift > 0)
    assert lines[-1] == "limits 1.5 on average, 4 at most"


def test_a_plan_and_what_came_of_it():
    source, settings = scene(1, 3, 40, 30), Settings(Target(scale=2.0), "painting", restore="off")
    decision = decide(source, ModelChooser(str(shipped_model("drawn", 2)), {}), settings, 2**32)
    planned = summarize_plan(decision).split("\n")
    assert planned[0] == "· painting, 60x80"
    assert planned[1] == "drawn-x2"
    assert re.fullmatch(r"peak memory at most \d+\.\d\d GiB", planned[2])
    made = summarize_enlargement(carry_out(source, decision)).split("\n")
    assert re.match(r"✓ colors preserved: drift 0\.\d\d on average, \d\.\d\d at most", made[0])
    assert made[1] == "type: painting, 100 % sure"
    assert made[2] == "models: drawn-x2"


def test_what_measurements_switched_is_told_in_plain_words():
    source = scene(1, 3, 40, 30)
    decision = decide(source, ModelChooser(str(shipped_model("drawn", 2)), {}), Settings(Target(scale=2.0), "painting"), 2**32)
    seen = (
        "restore deblock: traces of JPEG compression of quality 58, below 92",
        "channels rgb: traces of JPEG compression of quality 58, below 85",
        "as it is",
    )
    told = summarize_enlargement(replace(carry_out(source, decision), decision=replace(decision, reasons=seen))).split("\n")
    assert told[3:5] == ["JPEG damage found and repaired (traces of JPEG compression of quality 58, below 92)", "as it is"]


def test_figures_of_one_size_and_of_two():
    image = scene(1, 3, 40, 40)
    assert summarize_metrics(measure_images(image, image)).split("\n")[:2] == [
        "· color drift 0.00 on average, 0.00 at most (1 is just visible)",
        "identical",
    ]
    near = summarize_metrics(measure_images(image, image + 0.01))
    assert "PSNR-Y 41.32 dB" in near and "SSIM" in near
    lines = summarize_metrics(measure_images(image, scene(1, 3, 80, 80))).splitlines()
    assert lines[-2:] == ["compared at the smaller size", "BRISQUE 61.2 (lower is better)"]


def test_the_browsers_part_knows_the_nodes_that_tell_something():
    pack = Path(__file__).parents[2]
    script = (pack / "js/results.js").read_text(encoding="utf-8")
    known = set(re.findall(r"^  (Fidelity\w+): \d+,$", script, re.MULTILINE))
    telling = set()
    for path in (pack / "nodes").rglob("*.py"):
        for name, body in re.findall(
            r"^class (Fidelity\w+)\(.*?\n(.*?)(?=^class |\Z)", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            if "show_result" in body:
                telling.add(name)
    assert known == telling
    assert {json.dumps(mark, ensure_ascii=False) for mark in "✓≈✗·"} == set(re.findall(r'"[✓≈✗·]"', script))
