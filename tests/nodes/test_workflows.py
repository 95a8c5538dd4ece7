"""The shipped workflows use nodes that exist, with the defaults of the recipes."""

import json
from pathlib import Path

import pytest

from fidelity.choices import AUTO_SCALE
from fidelity.decide.recipes import DEFAULT_VALUES, RECIPES, SAFE_DOMAIN

PACK = Path(__file__).parents[2]
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


def test_there_are_workflows_and_each_has_a_picture_and_an_api_form():
    assert WORKFLOWS
    for path in WORKFLOWS:
        assert path.with_suffix(".jpg").is_file()
        assert (path.parent / "api" / path.name).is_file()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_node_says_which_pack_it_is_from(path):
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        if node["type"] != "MarkdownNote":
            expected = "fidelity-upscale" if node["type"].startswith("Fidelity") else "comfy-core"
            assert node["properties"]["cnr_id"] == expected


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_both_forms_have_the_same_settings(path):
    api = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    drawn = {str(node["id"]): node for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    for key, node in api.items():
        assert drawn[key]["type"] == node["class_type"]
        given = [value for value in node["inputs"].values() if not isinstance(value, list)]
        shown = iter(drawn[key].get("widgets_values") or [])  # the frontend adds buttons and what follows a seed
        assert all(any(value == other for other in shown) for value in given), f"{path.stem}: {node['class_type']}"


@pytest.mark.parametrize("path", sorted((PACK / "workflows/api").glob("*.json")), ids=lambda path: path.stem)
def test_settings_are_the_recipes(path):
    domain = {"anime-sdxl-tile": "anime_sd"}.get(path.stem, path.stem.replace("-", "_"))
    domain = domain if domain in RECIPES else SAFE_DOMAIN
    recipe = RECIPES[domain]
    if path.stem.replace("-", "_") in RECIPES:  # the steps of one kind
        kinds = [node["class_type"] for node in json.loads(path.read_text(encoding="utf-8")).values()]
        assert kinds.count("FidelityPrepare") == 1
        assert kinds.count("FidelityCleanup") == (recipe.cleanup != "off")
    for node in json.loads(path.read_text(encoding="utf-8")).values():
        inputs = node["inputs"]
        if node["class_type"] == "FidelityUpscale":
            assert inputs["channels"] == DEFAULT_VALUES["channels"]
        if node["class_type"] == "FidelityConsistency":
            assert inputs["mode"] == recipe.consistency
        if node["class_type"] == "FidelityDeltaEGate":
            limits = recipe.gate_limits
            assert (inputs["action"], inputs["mean_limit"], inputs["max_limit"]) == (recipe.gate, limits.mean, limits.max)
        if node["class_type"] == "FidelityLoadUpscaleModel":
            assert inputs["domain"] == domain
            assert inputs["model_name"] == "auto" or path.stem == "blend-two-models"
            assert inputs["scale"] in (2, AUTO_SCALE)
        if node["class_type"] == "FidelityCleanup":
            assert (inputs["method"], inputs["domain"]) == (recipe.cleanup, domain)
        if node["class_type"] == "FidelityPrepare":
            assert inputs["domain"] == domain
            assert path.stem == "two-pass-restore" or (inputs["restore"], inputs["deband"]) == (recipe.restore, recipe.deband)


def test_the_blueprints_settings_are_the_defaults_of_its_nodes(host):
    known = host.get("/object_info")
    (blueprint,) = (PACK / "subgraphs").glob("*.json")
    inside = json.loads(blueprint.read_text(encoding="utf-8"))["definitions"]["subgraphs"][0]
    for node in inside["nodes"]:
        declared = known[node["type"]]["input"]
        for name, (_, *rest) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
            default = rest[0].get("default") if rest else None
            if default is not None and name in [given["name"] for given in node["inputs"] if given.get("link") is None]:
                assert default in node["widgets_values"], (node["type"], name)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_node_exists_on_the_host(host, path):
    known = host.get("/object_info")
    for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
        assert node["type"] in known or node["type"] == "MarkdownNote"


def test_every_node_of_ours_has_a_help_page_with_a_picture(host):
    ours = [name for name in host.get("/object_info") if name.startswith("Fidelity")]
    assert ours
    for name in ours:
        page = host.read(f"/extensions/fidelity-upscale/docs/{name}.md").decode()
        assert f"![example](pictures/{name}.jpg)" in page, name
        assert host.read(f"/extensions/fidelity-upscale/docs/pictures/{name}.jpg").startswith(b"\xff\xd8"), name


def test_the_template_browser_lists_our_workflows(host):
    assert sorted(path.stem for path in WORKFLOWS) == sorted(host.get("/workflow_templates")["fidelity-upscale"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_template_browser_finds_a_workflow_and_its_picture(host, path):
    served = f"/api/workflow_templates/fidelity-upscale/{path.stem}"
    assert host.get(f"{served}.json") == json.loads(path.read_text(encoding="utf-8"))
    assert host.read(f"{served}.jpg") == path.with_suffix(".jpg").read_bytes()


def test_no_other_folder_is_taken_for_workflows():
    """The host serves the first of these that exists, under one address."""
    others = ("example_workflows", "example", "examples", "workflow")
    assert not any((PACK / name).exists() for name in others)
