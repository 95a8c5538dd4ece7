"""What metadata say of a picture, in every form that programs write them."""

import json
import time

import pytest

from fidelity.decide.provenance import interpret


def prompt_graph(loader, **values):
    """A small ComfyUI graph: loader, two prompts, sampler, decoder, output."""
    return {
        "1": {"class_type": loader, "inputs": values},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse in the storm", "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "photo, dslr, anime, manga", "clip": ["1", 1]}},
        "4": {
            "class_type": "KSampler",
            "inputs": {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "seed": 1},
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "ComfyUI"}},
    }


@pytest.mark.parametrize(
    ("loader", "values", "family", "style"),
    [
        ("CheckpointLoaderSimple", {"ckpt_name": "animagine-xl-3.1.safetensors"}, "sd", "drawn"),
        ("CheckpointLoaderSimple", {"ckpt_name": "realisticVisionV60B1.safetensors"}, "sd", "photo"),
        ("CheckpointLoaderSimple", {"ckpt_name": "v1-5-pruned-emaonly.ckpt"}, "sd", None),
        ("UNETLoader", {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}, "flux", None),
        ("UnetLoaderGGUF", {"unet_name": "flux1-schnell-Q4_K_S.gguf"}, "flux", None),
        ("UNETLoader", {"unet_name": "Chroma1-HD.safetensors"}, "flux", None),
        ("UNETLoader", {"unet_name": "qwen_image_fp8.safetensors"}, "other", None),
    ],
)
def test_a_comfyui_graph_names_the_network_that_was_used(loader, values, family, style):
    found = interpret({"prompt": json.dumps(prompt_graph(loader, **values))}, {})
    assert (found.family, found.style) == (family, style)
    assert next(iter(values.values())) in found.evidence[0]


def test_the_negative_prompt_says_nothing_of_the_style():
    graph = prompt_graph("CheckpointLoaderSimple", ckpt_name="model.safetensors")
    assert interpret({"prompt": json.dumps(graph)}, {}).style is None
    graph["2"]["inputs"]["text"] = "anime girl, cel shading, illustration"
    assert interpret({"prompt": json.dumps(graph)}, {}).style == "drawn"


def test_a_loader_that_leads_nowhere_does_not_count():
    graph = prompt_graph("CheckpointLoaderSimple", ckpt_name="counterfeit.safetensors")
    graph["90"] = {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}}
    assert interpret({"prompt": json.dumps(graph)}, {}).family == "sd"


def test_a_graph_that_samples_nothing_tells_nothing():
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.jpg"}},
        "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x-AnimeSharp.pth"}},
        "3": {"class_type": "ImageUpscaleWithModel", "inputs": {"image": ["1", 0], "upscale_model": ["2", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }
    found = interpret({"prompt": json.dumps(graph)}, {})
    assert found.family is None
    assert found.evidence == ()


def test_loras_and_upscalers_are_not_taken_for_the_network():
    graph = prompt_graph("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors")
    graph["7"] = {"class_type": "LoraLoader", "inputs": {"lora_name": "flux_style.safetensors", "model": ["1", 0]}}
    graph["4"]["inputs"]["model"] = ["7", 0]
    graph["8"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "flux-upscale.pth"}}
    graph["9"] = {"class_type": "ImageUpscaleWithModel", "inputs": {"image": ["5", 0], "upscale_model": ["8", 0]}}
    graph["6"]["inputs"]["images"] = ["9", 0]
    assert interpret({"prompt": json.dumps(graph)}, {}).family == "sd"


def workflow_graph(mode=0):
    return {
        "nodes": [
            {"id": 1, "type": "UNETLoader", "mode": 0, "inputs": [], "widgets_values": ["flux1-dev.safetensors", "default"]},
            {"id": 9, "type": "CheckpointLoaderSimple", "mode": mode, "inputs": [], "widgets_values": ["pony.safetensors"]},
            {"id": 2, "type": "KSampler", "inputs": [{"name": "model", "link": 1}, {"name": "other", "link": 3}]},
            {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "link": 2}], "widgets_values": ["ComfyUI"]},
        ],
        "links": [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "IMAGE"], [3, 9, 0, 2, 1, "MODEL"]],
    }


def test_the_frontends_form_is_read_where_the_other_is_missing():
    found = interpret({"workflow": json.dumps(workflow_graph(mode=4))}, {})
    assert found.family == "flux"
    assert "pony" not in found.evidence[0]  # bypassed


def test_comfyui_in_webp_is_no_camera():
    graph = json.dumps(prompt_graph("UNETLoader", unet_name="flux1-dev.safetensors"))
    found = interpret({}, {"Model": f"prompt:{graph}", "Make": "workflow:{}"})
    assert (found.family, found.camera) == ("flux", None)


PARAMETERS = """1girl, solo, looking at viewer <lora:style:0.7>
Negative prompt: photo, realistic
Steps: 28, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 832x1216, Model hash: 0, Model: {model}{more}, Version: v1.10"""


@pytest.mark.parametrize(
    ("model", "more", "family"),
    [
        ("waiIllustriousSDXL_v140", "", "sd"),
        ("flux1-dev-bnb-nf4-v2", "", "flux"),
        ("myMerge", ", Distilled CFG Scale: 3.5", "sd"),  # a name is worth more than a setting
    ],
)
@pytest.mark.parametrize("keyword", ["parameters", "UserComment"])
def test_generation_parameters_are_read_from_png_and_jpeg(keyword, model, more, family):
    found = interpret({keyword: PARAMETERS.format(model=model, more=more)}, {})
    assert (found.family, found.style) == (family, "drawn")


def test_parameters_without_a_model_name_tell_flux_by_its_own_setting():
    text = "a cat\nSteps: 20, Sampler: Euler, Distilled CFG Scale: 3.5, Seed: 1"
    assert interpret({"parameters": text}, {}).family == "flux"
    assert interpret({"parameters": text.replace("Distilled CFG Scale: 3.5, ", "")}, {}).family == "sd"


@pytest.mark.parametrize(
    ("texts", "family"),
    [
        (
            {"invokeai_metadata": json.dumps({"model": {"name": "FLUX Schnell", "base": "flux"}, "positive_prompt": "x"})},
            "flux",
        ),
        ({"invokeai_metadata": json.dumps({"model": {"model_name": "dreamshaper", "base_model": "sd-1"}})}, "sd"),
        ({"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Description": "1girl", "Comment": "{}"}, "sd"),
        ({"UserComment": json.dumps({"sui_image_params": {"model": "flux1-dev", "prompt": "a"}})}, "flux"),
        ({"parameters": json.dumps({"sui_image_params": {"model": "OfficialStableDiffusion/sd_xl_base_1.0"}})}, "sd"),
        ({"parameters": json.dumps({"base_model_name": "animaPencilXL.safetensors", "Prompt": "1girl, "})}, "sd"),
    ],
)
def test_other_programs_json_is_read(texts, family):
    found = interpret(texts, {})
    assert found.family == family
    assert len(found.evidence) == 1


def test_a_camera_is_named_once():
    assert interpret({}, {"Make": "Canon", "Model": "Canon EOS 5D"}).camera == "Canon EOS 5D"
    assert interpret({}, {"Make": "Apple", "Model": "iPhone 8\x00"}).camera == "Apple iPhone 8"
    assert interpret({}, {"Make": " ", "Model": ""}).camera is None


def test_a_drawing_program_is_named_and_a_photo_editor_is_not():
    assert interpret({}, {"Software": "Krita 5.2"}).program == "Krita 5.2"
    assert interpret({}, {"Software": "Adobe Photoshop CC 2019"}).program is None
    packet = '<rdf:Description xmp:CreatorTool="CLIP STUDIO PAINT">'
    assert interpret({"xmp": packet}, {}).program == "CLIP STUDIO PAINT"


def test_content_credentials_and_declared_algorithms_are_evidence():
    assert interpret({}, {}, credentials=True).evidence == ("has content credentials (C2PA)",)
    found = interpret({"xmp": "digitalsourcetype/trainedAlgorithmicMedia"}, {})
    assert found.family == "other"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"1": 5}', '{"nodes": 3, "links": "x"}', '{"1": {"inputs": {"model": [1, 2]}}}', "{" * 5000],
)
def test_nonsense_tells_nothing_and_breaks_nothing(text):
    for keyword in ("prompt", "workflow", "parameters", "UserComment", "Comment", "invokeai_metadata"):
        assert interpret({keyword: text}, {}).family is None


def test_not_a_number_in_a_graph_is_forgiven():
    graph = json.dumps(prompt_graph("UNETLoader", unet_name="flux1-dev.safetensors"))
    assert interpret({"prompt": graph.replace('"seed": 1', '"seed": NaN')}, {}).family == "flux"


def test_a_graph_that_runs_in_a_circle_ends():
    graph = prompt_graph("CheckpointLoaderSimple", ckpt_name="a.safetensors")
    graph["1"]["inputs"]["loop"] = ["6", 0]
    assert interpret({"prompt": json.dumps(graph)}, {}).family == "sd"


def test_a_long_text_takes_no_time():
    """Quadratic time would be a minute and more."""
    text = "x\nSteps: 20, " + '"type":"checkpoint"' * 50_000
    started = time.process_time()
    assert interpret({"parameters": text}, {}).family == "sd"
    for part in ("<lora:", "(" * 9, "Model: , ", "CreatorTool>", '"type":"checkpoint"}'):
        interpret({"parameters": f"x\nSteps: 20, {part * 50_000}", "xmp": part * 50_000}, {})
    assert time.process_time() - started < 5


def test_the_checkpoint_among_resources_is_found():
    resources = '[{"type":"lora","modelName":"a"},{"type":"checkpoint","weight":1,"modelName":"realisticVision"}]'
    assert "realisticVision" in interpret({"parameters": f"x\nSteps: 20, Civitai resources: {resources}"}, {}).evidence[0]


def test_metadata_nested_too_deeply_is_ignored_with_a_note():
    found = interpret({"prompt": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"}, {})
    assert found.family is None
    assert found.evidence == ("metadata that is damaged or nested too deeply was ignored",)


@pytest.mark.parametrize("wrong", [{"x": 1}, ["a"], None, 1.5, True, "", [[]]])
def test_graphs_with_anything_in_the_place_of_an_id_are_read(wrong):
    for graph in (
        {"links": [{"id": wrong, "origin_id": 1}], "nodes": []},
        {
            "links": [[wrong, wrong, 0, 2, 0, "X"]],
            "nodes": [{"id": wrong, "type": wrong, "inputs": [{"name": wrong, "link": wrong}]}],
        },
        {"links": wrong, "nodes": wrong},
    ):
        assert interpret({"workflow": json.dumps(graph)}, {}).family is None
    for prompt in ({"1": wrong}, {"1": {"class_type": wrong, "inputs": {"a": [wrong, 0], "b": wrong}}}):
        assert interpret({"prompt": json.dumps(prompt)}, {}).family is None
