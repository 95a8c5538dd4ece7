"""Workflows of the editor become what the API takes; settings and pictures go where they belong."""

import json

import pytest

from fidelity.comfy.graphs import GraphRefusedError, describe_refusal, set_input, set_pictures, to_prompt

KNOWN = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "steps": ["INT", {}],
                "text": ["STRING", {"forceInput": True}],
                "name": ["COMBO", {"options": ["x"]}],
            }
        }
    },
    "Show": {"input": {"required": {"image": ["IMAGE", {}]}}},
    "Twice": {"input": {"required": {"image": ["IMAGE", {}]}}},
}


def drawn(nodes, links=()):
    return {"nodes": nodes, "links": list(links), "version": 0.4}


def shown(link, **options):
    return {"id": 9, "type": "Show", "inputs": [{"name": "image", "type": "IMAGE", "link": link}], **options}


LOADER = {"id": 1, "type": "LoadImage", "title": "Source", "widgets_values": ["b.png", "image"], "outputs": [{"type": "IMAGE"}]}


def test_values_get_their_names_and_links_their_nodes():
    sampler = {"id": 2, "type": "KSampler", "widgets_values": [7, "randomize", 20, "x"], "inputs": []}
    note = {"id": 3, "type": "MarkdownNote", "widgets_values": ["hello"]}
    prompt = to_prompt(drawn([LOADER, sampler, note, shown(5)], [[5, 1, 0, 9, 0, "IMAGE"]]), KNOWN)
    assert set(prompt) == {"1", "2", "9"}
    assert prompt["1"]["inputs"] == {"image": "b.png"}
    assert prompt["2"]["inputs"] == {"seed": 7, "steps": 20, "name": "x"}
    assert prompt["9"]["inputs"] == {"image": ["1", 0]}


def test_names_that_the_editor_wrote_down_are_used():
    names = [{"name": name, "widget": {"name": name}} for name in ("name", "seed", "steps")]
    sampler = {"id": 2, "type": "KSampler", "widgets_values": ["x", 7, "fixed", 20], "inputs": names}
    assert to_prompt(drawn([sampler]), KNOWN)["2"]["inputs"] == {"name": "x", "seed": 7, "steps": 20}


@pytest.mark.parametrize(("mode", "expected"), [(0, ["4", 0]), (4, ["1", 0]), (2, None)])
def test_reroutes_and_bypassed_nodes_are_passed_through_and_muted_ones_are_not_there(mode, expected):
    reroute = {"id": 3, "type": "Reroute", "inputs": [{"name": "", "link": 5}], "outputs": [{"type": "*"}]}
    twice = {"id": 4, "type": "Twice", "mode": mode, "outputs": [{"type": "IMAGE"}]}
    twice["inputs"] = [{"name": "image", "type": "IMAGE", "link": 6}]
    links = [[5, 1, 0, 3, 0, "IMAGE"], [6, 3, 0, 4, 0, "IMAGE"], [7, 4, 0, 9, 0, "IMAGE"]]
    prompt = to_prompt(drawn([LOADER, reroute, twice, shown(7)], links), KNOWN)
    assert prompt["9"]["inputs"].get("image") == expected
    assert ("4" in prompt) == (mode == 0)


def test_the_apis_form_is_taken_as_it_is():
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    assert to_prompt(prompt, KNOWN) == prompt


@pytest.mark.parametrize("workflow", [{}, [], "text", {"a": 1}, {"1": {"inputs": {}}}, None])
def test_what_is_no_workflow_is_refused(workflow):
    with pytest.raises(GraphRefusedError, match="is not a ComfyUI workflow"):
        to_prompt(workflow, KNOWN)


def test_nodes_that_the_server_lacks_and_subgraphs_are_named():
    with pytest.raises(GraphRefusedError, match="does not have: Unknown"):
        to_prompt(drawn([{"id": 1, "type": "Unknown"}]), KNOWN)
    with pytest.raises(GraphRefusedError, match="does not have: Other"):
        to_prompt({"1": {"class_type": "Other", "inputs": {}}}, KNOWN)
    nested = {**drawn([{"id": 1, "type": "abc"}]), "definitions": {"subgraphs": [{"id": "abc"}]}}
    with pytest.raises(GraphRefusedError, match="has subgraphs"):
        to_prompt(nested, KNOWN)


def prompt():
    return {
        "2": {
            "class_type": "KSampler",
            "_meta": {"title": "Draw"},
            "inputs": {"steps": 1, "target.scale": 2.0, "model": ["1", 0]},
        },
        "10": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    }


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ("2.steps=20", "steps", 20),
        ("Draw.steps=20.5", "steps", 20.5),
        ("KSampler.target.scale=4", "target.scale", 4),
        ("2.steps=a b=c", "steps", "a b=c"),
        ('2.steps="7"', "steps", "7"),
        ("2.steps=true", "steps", True),
    ],
)
def test_a_setting_is_changed_by_number_title_or_kind(change, name, value):
    graph = prompt()
    set_input(graph, change)
    assert graph["2"]["inputs"][name] == value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("steps=20", "is not a setting"),
        ("2.steps", "is not a setting"),
        ("2.cfg=1", "KSampler has no input 'cfg'; it has steps, target.scale"),
        ("LoadImage.image=b", "2 nodes are called 'LoadImage'"),
        ("Nobody.x=1", "no nodes are called 'Nobody'"),
    ],
)
def test_a_setting_that_is_not_there_is_refused(change, words):
    with pytest.raises(GraphRefusedError, match=words):
        set_input(prompt(), change)


def test_pictures_go_into_loaders_in_order_of_number():
    graph = prompt()
    set_pictures(graph, ["first.png", "second.png"])
    assert (graph["3"]["inputs"]["image"], graph["10"]["inputs"]["image"]) == ("first.png", "second.png")
    with pytest.raises(GraphRefusedError, match="3 images for 2 nodes"):
        set_pictures(graph, ["a", "b", "c"])


def test_a_refusal_is_told_in_one_line():
    errors = [{"message": "Value not in list", "details": "ckpt_name: 'x'\nnot in []"}]
    answer = {"error": {"message": "failed"}, "node_errors": {"4": {"class_type": "Loader", "errors": errors}}}
    assert describe_refusal(answer) == "node 4 (Loader): Value not in list (ckpt_name: 'x' not in [])"
    assert describe_refusal({"error": {"message": "no prompt"}}) == "no prompt"
    assert json.loads(json.dumps(describe_refusal({"error": "text"}))) == "text"


def test_what_a_browser_alone_can_run_is_not_sent():
    compare = {"id": 4, "type": "ImageCompare", "inputs": [{"name": "image_a", "type": "IMAGE", "link": 6}]}
    links = [[5, 1, 0, 9, 0, "IMAGE"], [6, 1, 0, 4, 0, "IMAGE"]]
    assert set(to_prompt(drawn([LOADER, compare, shown(5)], links), KNOWN)) == {"1", "9"}
