"""The nodes in a real ComfyUI, queued over its HTTP API."""

import json
from pathlib import Path

import pytest
import torch

from fidelity.imaging.drift import measure_drift, overshoot_percent
from fidelity.imaging.resample import resize
from fidelity.networks.loader import load_model

PACK = Path(__file__).parents[2]
NODES = {
    "FidelityTiledDiffusion",
    "FidelityRestorationGuidance",
    "FidelityTruncatedSampling",
    "FidelityDiffusionPass",
    "FidelityRestoreFaces",
    "FidelityBeforeAfter",
    "FidelityMeasure",
    "FidelityClipQuality",
    "FidelityCompareModels",
    "FidelityPrepare",
    "FidelityCleanup",
    "FidelityEnhance",
    "FidelityGrade",
    "FidelityLoadImage",
    "FidelitySaveImage",
    "FidelityAutoUpscale",
    "FidelityPlanPasses",
    "FidelityRunPasses",
    "FidelityClassifyDomain",
    "FidelityLoadUpscaleModel",
    "FidelityUpscale",
    "FidelityConsistency",
    "FidelityDeltaEGate",
    "FidelitySplitYCbCr",
    "FidelityMergeYCbCr",
}


SAVING = 0.25
"""Mean CIEDE2000 that core's SaveImage costs by itself: it cuts values off to 8 bits instead of rounding them."""


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def keep_colors(host, photo):
    """The shipped API workflow on a photo."""
    graph = json.loads((PACK / "workflows/api/keep-colors-after-any-upscaler.json").read_text(encoding="utf-8"))
    graph["1"]["inputs"]["image"] = host.upload(photo)
    return graph


def upscaling(name, loader="FidelityLoadUpscaleModel", **inputs):
    """Load an image, load a model, upscale, save."""
    settings = {"target": "model scale", "channels": "luma", "tile": 0} | inputs
    return {
        "1": node("LoadImage", image=name),
        "2": node(loader, model_name="small.safetensors"),
        "3": node("FidelityUpscale", upscale_model=["2", 0], image=["1", 0], **settings),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }


def test_every_node_is_there_and_every_input_explains_itself(host):
    info = host.get("/object_info")
    assert set(info) >= NODES
    for name in NODES:
        entry = info[name]
        assert entry["description"]
        assert entry["category"] == "Fidelity"
        for needed in ("required", "optional"):
            for spec in entry["input"].get(needed, {}).values():
                assert spec[1].get("tooltip"), f"{name} has an input without a tooltip"
        assert all(entry["output_tooltips"]), f"{name} has an output without a tooltip"


def test_the_shipped_workflow_keeps_the_colours_of_a_photo(host, keep_colors, photo):
    outputs = host.run(keep_colors)
    result = host.fetch(outputs, "7")
    assert result.shape == (1, 3, 384, 448)
    report = json.loads(outputs["6"]["text"][0])
    assert report["passed"] is True
    assert report["before"]["mean"] <= 0.1
    assert report["before"]["max"] <= 1.5
    assert overshoot_percent(photo, result) <= 2
    assert measure_drift(photo, result).mean <= report["before"]["mean"] + SAVING


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ({"target": "scale by", "target.scale": 1.25}, (120, 140)),
        ({"target": "size", "target.width": 101, "target.height": 333}, (333, 101)),
        ({"target": "long edge", "target.long_edge": 300}, (257, 300)),
        ({"target": "megapixels", "target.megapixels": 0.04}, (185, 216)),
    ],
)
def test_each_target_gives_its_exact_size(host, photo, target, size):
    result = host.fetch(host.run(upscaling(host.upload(photo), **target)), "9")
    assert tuple(result.shape[2:]) == size


def test_core_can_run_our_model_and_we_can_run_cores(host, photo):
    name = host.upload(photo)
    by_core = {
        "1": node("LoadImage", image=name),
        "2": node("FidelityLoadUpscaleModel", model_name="small.safetensors"),
        "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }
    by_us = upscaling(name, loader="UpscaleModelLoader", channels="rgb")
    first, second = host.fetch(host.run(by_core), "9"), host.fetch(host.run(by_us), "9")
    assert (first - second).abs().max() <= 1.001 / 255


@pytest.mark.parametrize("name", ["natural-x4", "natural-x2", "drawn-x4", "drawn-x2"])
def test_core_loads_and_runs_each_shipped_network(host, photo, name):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("UpscaleModelLoader", model_name=f"{name}.safetensors"),
        "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }
    result = host.fetch(host.run(graph), "9")
    scale = int(name[-1])
    assert result.shape == (1, 3, 96 * scale, 112 * scale)
    inner = (..., slice(8, -8), slice(8, -8))  # at the border bilinear colour sees zeros
    assert measure_drift(photo[inner], result[..., 8 * scale : -8 * scale, 8 * scale : -8 * scale]).mean < 0.25 + SAVING


@pytest.mark.parametrize("name", ["realesr-animevideov3-x4", "realcugan-up2x-conservative", "waifu2x-upconv7-photo-x2"])
def test_core_runs_real_weights_and_so_do_we(host, photo, test_data, name, request):
    file = test_data / f"models/{name}.safetensors"
    (host.models / file.name).symlink_to(file)
    request.addfinalizer((host.models / file.name).unlink)  # auto would choose it in other tests
    by_core = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("UpscaleModelLoader", model_name=file.name),
        "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }
    stored = (photo * 255).round() / 255
    with torch.no_grad():
        expected = load_model(file).descriptor(stored).clamp(0, 1)
    assert (host.fetch(host.run(by_core), "9") - expected).abs().max() <= 1.01 / 255
    by_us = upscaling(host.upload(photo), channels="rgb")
    by_us["2"]["inputs"]["model_name"] = file.name
    away = (host.fetch(host.run(by_us), "9") - expected).abs()
    assert away.max() <= 4 / 255  # in bfloat16, where the CPU gains from it
    assert away.mean() <= 0.5 / 255


def test_core_loads_and_runs_an_architecture_that_spandrel_lacks(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("UpscaleModelLoader", model_name="upconv.safetensors"),
        "3": node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0]),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }
    assert host.fetch(host.run(graph), "9").shape == (1, 3, 192, 224)


@pytest.mark.parametrize(("domain", "scale", "expected"), [("line_art", 2, "drawn-x2"), ("painting", 3, "natural-x4")])
def test_auto_loads_a_network_for_the_domain_and_the_scale(host, photo, domain, scale, expected):
    graph = upscaling(host.upload(photo))
    graph["2"]["inputs"] = {"model_name": "auto", "domain": domain, "scale": scale}
    graph["8"] = node("PreviewAny", source=["2", 1])
    (said,) = host.run(graph)["8"]["text"]
    assert said.startswith(f"{expected}.safetensors: shipped model")
    assert "Better: " in said


def test_the_domain_that_was_told_chooses_the_network(host, photo):
    graph = upscaling(host.upload(photo))
    graph["4"] = node("FidelityClassifyDomain", image=["1", 0], override="anime_sd")
    graph["2"]["inputs"] = {"model_name": "auto", "domain": ["4", 0], "scale": 2.0}
    graph["8"] = node("PreviewAny", source=["2", 1])
    assert host.run(graph)["8"]["text"][0].startswith("drawn-x2.safetensors: shipped model")


def test_pixels_are_judged_with_scores_and_reasons(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("FidelityClassifyDomain", image=["1", 0], override="none"),
        "3": node("PreviewAny", source=["2", 2]),
        "4": node("PreviewAny", source=["2", 1]),
    }
    outputs = host.run(graph)
    report = json.loads(outputs["3"]["text"][0])
    assert sum(report["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert report["confidence"] == pytest.approx(float(outputs["4"]["text"][0]), abs=1e-3)
    assert report["evidence"]


def test_consistency_and_gate_hold_what_core_enlarged(host, photo):
    graph = upscaling(host.upload(photo))
    graph["3"] = node("ImageUpscaleWithModel", upscale_model=["2", 0], image=["1", 0])
    graph["4"] = node("FidelityConsistency", image=["3", 0], reference=["1", 0], mode="color")
    gate = {"action": "blend", "mean_limit": 1.0, "max_limit": 3.0}
    graph["5"] = node("FidelityDeltaEGate", image=["3", 0], reference=["1", 0], **gate)
    graph["8"] = node("SaveImage", images=["4", 0], filename_prefix="held")
    graph["7"] = node("SaveImage", images=["5", 0], filename_prefix="gated")
    outputs = host.run(graph)
    raw, held, gated = (measure_drift(photo, host.fetch(outputs, key)) for key in ("9", "8", "7"))
    assert held.mean < raw.mean / 4 + SAVING
    assert gated.mean <= 1 + SAVING
    assert gated.max <= 3 + SAVING


def test_splitting_and_merging_gives_the_image_back(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("FidelitySplitYCbCr", image=["1", 0], matrix="bt709"),
        "3": node("FidelityMergeYCbCr", y=["2", 0], cb=["2", 1], cr=["2", 2], matrix="bt709"),
        "9": node("SaveImage", images=["3", 0], filename_prefix="test"),
    }
    assert (host.fetch(host.run(graph), "9") - photo).abs().max() <= 1.001 / 255  # what SaveImage cuts off


def test_a_batch_with_alpha_runs_through_every_step(host, photo):
    mask = torch.zeros(1, 3, 96, 112)
    mask[..., 30:80] = 1
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "m": node("LoadImageMask", image=host.upload(mask), channel="red"),
        "a": node("JoinImageWithAlpha", image=["1", 0], alpha=["m", 0]),
        "b": node("RepeatImageBatch", image=["a", 0], amount=2),
        "2": node("FidelityLoadUpscaleModel", model_name="small.safetensors"),
        "3": node("FidelityUpscale", upscale_model=["2", 0], image=["b", 0], target="model scale", channels="rgb", tile=64),
        "4": node("FidelityConsistency", image=["3", 0], reference=["a", 0], mode="color"),
        "5": node("FidelityDeltaEGate", image=["4", 0], reference=["a", 0], action="blend", mean_limit=1.0, max_limit=3.0),
        "9": node("SaveImage", images=["5", 0], filename_prefix="test"),
    }
    outputs = host.run(graph)
    assert len(outputs["9"]["images"]) == 2
    assert host.fetch(outputs, "9").shape == (1, 4, 192, 224)


def test_an_image_of_one_pixel_runs(host):
    assert host.fetch(host.run(upscaling(host.upload(torch.ones(1, 3, 1, 1)))), "9").shape == (1, 3, 2, 2)


def test_cancelling_stops_half_way_and_the_next_prompt_runs(host, photo):
    graph = upscaling(host.upload(resize(photo, (1500, 1500)).clamp(0, 1)), channels="rgb")
    graph["1b"] = node("CancelHalfWay", image=["1", 0])
    graph["3"]["inputs"]["image"] = ["1b", 0]
    status, outputs, messages = host.wait(host.start(graph))
    assert status == "error"
    assert messages["execution_interrupted"]["node_id"] == "3"
    assert "9" not in outputs
    host.run(upscaling(host.upload(photo)))


def refusal(host, graph):
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    return messages["execution_error"]["exception_message"].strip()


def test_what_is_no_model_is_refused_in_one_line(host, photo):
    graph = upscaling(host.upload(photo))
    graph["2"]["inputs"]["model_name"] = "text.pth"
    assert refusal(host, graph) == "text.pth: damaged or not a model file"


def test_a_reference_of_another_batch_is_refused(host, photo):
    graph = upscaling(host.upload(photo))
    graph["b"] = node("RepeatImageBatch", image=["1", 0], amount=3)
    graph["4"] = node("FidelityConsistency", image=["3", 0], reference=["b", 0], mode="color")
    graph["9"]["inputs"]["images"] = ["4", 0]
    assert refusal(host, graph) == "reference has 3 images, image has 1; wanted one, or one per image"


def test_a_tile_too_small_is_refused(host, photo):
    assert refusal(host, upscaling(host.upload(photo), tile=16)) == "tile is 16 px; wanted at least 32"


def test_half_precision_images_are_held_too(half_host, photo):
    graph = json.loads((PACK / "workflows/api/keep-colors-after-any-upscaler.json").read_text(encoding="utf-8"))
    graph["1"]["inputs"]["image"] = half_host.upload(photo)
    outputs = half_host.run(graph)
    assert json.loads(outputs["6"]["text"][0])["before"]["mean"] <= 0.15
    assert measure_drift(photo, half_host.fetch(outputs, "7")).mean <= 0.15 + SAVING


AUTO = {
    "target": "model scale",
    "domain": "auto",
    "model_name": "auto",
    "restore": "auto",
    "restore_strength": 0.0,
    "deband": "auto",
    "passes": "auto",
    "memory_gb": 0.0,
}


def auto_graph(name, **inputs):
    """Load an image, enlarge it on defaults, show the report, save."""
    return {
        "1": node("LoadImage", image=name),
        "2": node("FidelityAutoUpscale", image=["1", 0], cleanup="auto", **(AUTO | inputs)),
        "3": node("PreviewAny", source=["2", 2]),
        "9": node("SaveImage", images=["2", 0], filename_prefix="test"),
    }


def test_one_node_goes_the_whole_way_and_reports_it(host, photo):
    outputs = host.run(auto_graph(host.upload(photo)))
    result = host.fetch(outputs, "9")
    assert result.shape == (1, 3, 384, 448)
    report = json.loads(outputs["3"]["text"][0])
    assert report["model"]["name"] == "natural-x4.safetensors"
    assert report["gate"]["passed"] is True
    assert report["drift"]["color"]["mean"] <= 0.1
    assert {"domain", "conditions", "recipe", "switched", "passes", "sharpness_ratio"} <= set(report)
    assert measure_drift(photo, result).mean <= report["drift"]["color"]["mean"] + SAVING


def test_one_node_meets_a_sheet_and_settings_reach_the_report(host, photo):
    sheet = {"target": "print size", "target.width_cm": 2.54, "target.height_cm": 5.08, "target.dpi": 100.0}
    settings = {"domain": "line_art", "passes": "stepwise", "restore_strength": 0.5}
    outputs = host.run(auto_graph(host.upload(photo), **settings, **sheet))
    assert tuple(host.fetch(outputs, "9").shape[2:]) == (100, 117)
    report = json.loads(outputs["3"]["text"][0])
    assert report["domain"]["label"] == "line_art"
    assert report["recipe"]["passes"] == "stepwise"
    assert "restored at 0.50 of full strength, chosen by the user" in str(report)


def test_two_loaders_of_one_model_keep_their_own_backend(host, photo):
    graph = upscaling(host.upload(photo), channels="rgb")
    other = {name: json.loads(json.dumps(graph[name]).replace('["2", 0]', '["b2", 0]')) for name in ("2", "3")}
    other["2"]["inputs"]["backend"] = "openvino"
    graph |= {"b2": other["2"], "b3": other["3"], "b9": node("SaveImage", images=["b3", 0], filename_prefix="test")}
    if not host.has("openvino"):
        assert refusal(host, graph) == "backend openvino: OpenVINO is not installed; pip install openvino"
        return
    outputs = host.run(graph)
    assert (host.fetch(outputs, "9") - host.fetch(outputs, "b9")).abs().max() <= 1.001 / 255


@pytest.mark.parametrize("auto", [True, False])
def test_openvino_runs_a_model_or_says_what_to_install(host, photo, auto):
    name = host.upload(photo)
    graph = auto_graph(name) if auto else upscaling(name, channels="rgb")
    exact = host.fetch(host.run(graph), "9")
    graph["2"]["inputs"]["backend"] = "openvino"
    if not host.has("openvino"):
        assert refusal(host, graph) == "backend openvino: OpenVINO is not installed; pip install openvino"
        return
    outputs = host.run(graph)
    assert (host.fetch(outputs, "9") - exact).abs().max() <= 3.001 / 255
    if auto:
        passes = json.loads(outputs["3"]["text"][0])["passes"]
        assert [one["backend"] for one in passes if one["kind"] == "network"] == ["openvino"]


def test_a_plan_is_made_and_then_run(host, photo):
    name = host.upload(photo)
    graph = {
        "1": node("LoadImage", image=name),
        "2": node("FidelityPlanPasses", image=["1", 0], **(AUTO | {"target": "long edge", "target.long_edge": 700})),
        "3": node("FidelityRunPasses", plan=["2", 0], image=["1", 0]),
        "4": node("FidelityConsistency", image=["3", 0], reference=["3", 1], mode="color"),
        "5": node("PreviewAny", source=["2", 4]),
        "9": node("SaveImage", images=["4", 0], filename_prefix="test"),
    }
    outputs = host.run(graph)
    assert tuple(host.fetch(outputs, "9").shape[2:]) == (600, 700)
    plan = json.loads(outputs["5"]["text"][0])["plan"]
    assert plan["target"] == {"width": 700, "height": 600}
    assert [step["kind"] for step in plan["passes"]] == ["network", "network", "resize"]


def test_a_plan_that_does_not_fit_is_refused_in_one_line(host, photo):
    large = {"target": "long edge", "target.long_edge": 60_000, "memory_gb": 1.0}
    status, _, messages = host.wait(host.start(auto_graph(host.upload(photo), **large)))
    assert status == "error"
    assert "60000x51429 px needs about" in messages["execution_error"]["exception_message"]


def test_a_target_of_another_version_is_refused_in_one_line(host, photo):
    status, _, messages = host.wait(host.start(auto_graph(host.upload(photo), target="as large as a house")))
    assert status == "error"
    assert "target is not one of this node's options" in messages["execution_error"]["exception_message"]


@pytest.mark.parametrize("domain", ["photo", "anime_flux", "anime_sd", "line_art", "painting"])
def test_one_node_serves_an_image_of_each_kind(host, test_data, read_rgb, domain):
    source = read_rgb(min((test_data / "images/domains" / domain).iterdir(), key=lambda path: path.stat().st_size))
    wide = {"target": "scale by", "target.scale": 1.5}
    outputs = host.run(auto_graph(host.upload(source), **wide))
    result = host.fetch(outputs, "9")
    assert tuple(result.shape[2:]) == tuple(round(side * 1.5) for side in source.shape[2:])
    report = json.loads(outputs["3"]["text"][0])
    assert report["gate"]["after"]["mean"] <= 0.3
    assert report["gate"]["after"]["max"] <= 3.5


def test_steps_of_a_texture_that_repeats_see_across_its_edges(host, photo):
    name = host.upload(photo)
    off, alone, again = (upscaling(name, tileable=tileable) for tileable in ("off", "both", "both"))
    again["t"] = node("ImageStitch", image1=["1", 0], image2=["1", 0], direction="right", **STITCHED)
    again["u"] = node("ImageStitch", image1=["t", 0], image2=["t", 0], direction="down", **STITCHED)
    again["3"]["inputs"]["image"] = ["u", 0]
    for graph, reference in ((off, ["1", 0]), (alone, ["1", 0]), (again, ["u", 0])):
        tileable = graph["3"]["inputs"]["tileable"]
        graph["4"] = node("FidelityConsistency", image=["3", 0], reference=reference, mode="color", tileable=tileable)
        graph["9"]["inputs"]["images"] = ["4", 0]
    plain, once, four = (host.fetch(host.run(graph), "9") for graph in (off, alone, again))
    height, width = once.shape[2:]
    assert four.shape[2:] == (2 * height, 2 * width)
    middle = four[..., height:, width:]
    assert (middle - once).abs().max() <= 4.001 / 255  # what bfloat16 and the larger solve leave
    assert (middle - plain).abs().max() > 10 / 255


STITCHED = {"match_image_size": False, "spacing_width": 0, "spacing_color": "white"}
