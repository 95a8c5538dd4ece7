"""Diffusion nodes in a real ComfyUI with tiny networks of its own classes."""

import json
import re
from pathlib import Path

import pytest
import torch

from fidelity.imaging.drift import measure_drift

CHECKS = re.findall(
    r"^def check_(\w+)\(\)", (Path(__file__).parent / "tiny_models/checks.py").read_text(encoding="utf-8"), re.MULTILINE
)


@pytest.mark.parametrize("name", [name for name in CHECKS if name != "hostile_images"])  # that one has a test of its own
def test_in_the_hosts_process(host, name):
    graph = {"1": {"class_type": "RunCheck", "inputs": {"name": name}}}
    status, _, messages = host.wait(host.start(graph))
    error = messages.get("execution_error", {})
    assert status == "success", f"{error.get('exception_message')}\n{''.join(error.get('traceback', []))}"


def node(name, **inputs):
    return {"class_type": name, "inputs": inputs}


def passing(image, kind="sdxl", **inputs):
    """The ready pass on tiny networks."""
    settings = {
        "target": "scale by",
        "target.scale": 3.0,
        "denoise": 0.4,
        "fidelity": 0.3,
        "steps": 2,
        "cfg": 3.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "seed": 1,
        "tile": 256,
        "overlap": 64,
        "control_strength": 0.6,
    }
    parts = {"model": ["2", 0], "positive": ["2", 1], "negative": ["2", 2], "vae": ["2", 3], "control_net": ["2", 4]}
    return {
        "1": node("LoadImage", image=image),
        "2": node("TinyModels", kind=kind, slow=0.0),
        "3": node("FidelityDiffusionPass", image=["1", 0], **{**parts, **settings, **inputs}),
        "8": node("PreviewAny", source=["3", 1]),
        "9": node("SaveImage", images=["3", 0], filename_prefix="pass"),
    }


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_the_ready_pass_meets_its_size_and_holds_colors(host, photo, kind):
    source = photo[..., :95, :111]
    outputs = host.run(passing(host.upload(source), kind=kind))
    result = host.fetch(outputs, "9")
    assert result.shape == (1, 3, 285, 333)
    report = json.loads(outputs["8"]["text"][0])
    assert [one["denoise"] for one in report["passes"]] == [0.4, 0.3]
    assert [one["size"] for one in report["passes"]] == ["200x168", "336x288"]
    assert report["gate"]["after"]["mean"] <= 1
    assert measure_drift(source, result).mean < 0.6


def test_the_same_seed_gives_the_same_and_an_upscaler_may_go_before(host, photo):
    name = host.upload(photo)
    graph = passing(name, **{"target.scale": 2.0}, upscale_model=["4", 0])
    graph["4"] = node("FidelityLoadUpscaleModel", model_name="natural-x2.safetensors", domain="photo", scale=2.0)
    first = host.fetch(host.run(graph), "9")
    graph["9"]["inputs"]["filename_prefix"] = "again"
    graph["2"]["inputs"]["slow"] = 0.001  # makes the host run it anew
    assert torch.equal(first, host.fetch(host.run(graph), "9"))


def test_tiles_and_guidance_work_with_the_hosts_own_sampler(host, photo):
    sampler = {"seed": 3, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5}
    guidance = {"fidelity": 0.5, "noise_from": "first step", "band": "wavelet", "radius": 2.0, "cfg_start": 0.0, "cfg_end": 0.0}
    graph = {
        "1": node("LoadImage", image=host.upload(torch.cat((photo,) * 4, dim=2))),
        "2": node("TinyModels", kind="sdxl", slow=0.0),
        "3": node("VAEEncode", pixels=["1", 0], vae=["2", 3]),
        "4": node("FidelityTiledDiffusion", model=["2", 0], tile=256, overlap=64, blend="gaussian"),
        "5": node(
            "FidelityRestorationGuidance", model=["4", 0], latent=["3", 0], control_start=1.0, control_end=0.5, **guidance
        ),
        "6": node("KSampler", model=["5", 0], positive=["2", 1], negative=["2", 2], latent_image=["3", 0], **sampler),
        "7": node("VAEDecode", samples=["6", 0], vae=["2", 3]),
        "9": node("SaveImage", images=["7", 0], filename_prefix="tiled"),
    }
    assert host.fetch(host.run(graph), "9").shape == (1, 3, 384, 112)


def test_a_pass_is_cancelled_half_way_and_the_next_prompt_runs(host, photo):
    graph = passing(host.upload(photo), steps=40)
    graph["1b"] = node("CancelHalfWay", image=["1", 0])
    graph["3"]["inputs"]["image"] = ["1b", 0]
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    assert messages["execution_interrupted"]["node_id"] == "3"
    assert host.run(passing(host.upload(photo[..., :40, :40]), **{"target.scale": 1.0}))


@pytest.mark.parametrize(
    "name", ["photo-sdxl-tile", "anime-sdxl-tile", "anime-sd-latent", "hybrid-gan-diffusion", "photo-ccsr"]
)
def test_the_shipped_workflows_run_on_tiny_networks_in_place_of_theirs(host, photo, name):
    graph = json.loads((Path(__file__).parents[2] / f"workflows/api/{name}.json").read_text(encoding="utf-8"))
    places = {"CheckpointLoaderSimple": {0: 0, 2: 3}, "ControlNetLoader": {0: 4}}
    instead = {}
    for key, step in list(graph.items()):
        kind = step["class_type"]
        if kind in places:
            instead |= {(key, place): ["tiny", other] for place, other in places[kind].items()}
        elif kind == "CLIPTextEncode":
            instead[key, 0] = ["tiny", 2 if "not" in step["_meta"]["title"] else 1]
        else:
            continue
        del graph[key]
    for step in graph.values():
        inputs = step["inputs"]
        for key, value in inputs.items():
            inputs[key] = instead.get(tuple(value), value) if isinstance(value, list) else value
        inputs |= {"steps": 2} if "steps" in inputs else {}
        inputs |= {"image": host.upload(photo[..., :64, :72])} if step["class_type"] == "FidelityLoadImage" else {}
        inputs |= {"target.scale": 2.0} if inputs.get("target.scale") == 4 else {}
    graph["tiny"] = node("TinyModels", kind="sdxl", slow=0.0)
    outputs = host.run(graph)
    (saved,) = [key for key, step in graph.items() if step["class_type"] == "FidelitySaveImage"]
    result = host.fetch(outputs, saved)
    assert result.shape[2:] == (64 * 2, 72 * 2)
    assert result.std() > 0.02  # not the grey that a lost picture gives
