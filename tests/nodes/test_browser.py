"""The shipped workflows in a real browser on a real host: opened, without a missing node or an error, and run by its button."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from examples.graphs import GRAPHS

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
RUNNING = [name for name in NAMES if name not in GRAPHS or GRAPHS[name].runs]
NO_BROWSER = "no browser found: set CHROMIUM to one, or install Debian's chromium, and Playwright"
EXPECTED_ERRORS = ("Failed to load resource", "favicon")


@pytest.fixture(scope="module")
def page(host):
    """The host's frontend, loaded once."""
    playwright = pytest.importorskip("playwright.sync_api", reason=NO_BROWSER)
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not browser:
        pytest.skip(NO_BROWSER)
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": 1600, "height": 1000})
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.goto(host.url, timeout=60_000)
        page.wait_for_function("window.app && window.app.graph && window.app.extensionManager", timeout=90_000)
        time.sleep(3)
        yield page
        opened.close()


def load(page, name, renderer):
    """Opens a workflow in the canvas or the Vue renderer, and closes what the host has to say of missing files."""
    wanted = renderer == "vue"
    page.evaluate(
        "async (wanted) => { await window.app.extensionManager.setting.set('Comfy.VueNodes.Enabled', wanted) }", wanted
    )
    page.errors.clear()
    page.evaluate(
        "async (graph) => { await window.app.loadGraphData(graph) }", json.loads((WORKFLOWS / f"{name}.json").read_text())
    )
    time.sleep(1)
    page.keyboard.press("Escape")
    time.sleep(0.3)


@pytest.mark.parametrize("renderer", ["canvas", "vue"])
@pytest.mark.parametrize("name", NAMES)
def test_it_opens_without_a_missing_node_or_an_error(page, name, renderer):
    load(page, name, renderer)
    kinds = page.evaluate("() => window.app.graph.nodes.map((node) => node.type)")
    missing = page.evaluate(
        "() => window.app.graph.nodes.filter((node) => !LiteGraph.registered_node_types[node.type]).map((node) => node.type)"
    )
    assert len(kinds) > 3
    assert missing == []
    assert [error for error in page.errors if not any(part in error for part in EXPECTED_ERRORS)] == []
    titles = page.evaluate("() => window.app.graph._groups.map((group) => group.title)")
    assert titles == sorted(titles)
    assert len(titles) >= 3


@pytest.mark.parametrize("name", RUNNING)
def test_it_runs_by_the_run_button(page, host, photo, name):
    load(page, name, "canvas")
    image = host.upload(photo)
    page.evaluate(
        """(image) => {
          for (const node of window.app.graph.nodes) {
            const widget = (node.widgets || []).find((one) => one.name === "image");
            if (widget && node.type.includes("LoadImage")) { widget.value = image; }
          }
          window.ended = null;
          for (const kind of ["execution_success", "execution_error"]) {
            const end = (event) => { window.ended = kind + JSON.stringify(event.detail); };
            window.app.api.addEventListener(kind, end, { once: true });
          }
        }""",
        image,
    )
    page.get_by_role("button", name="Run", exact=True).first.click(timeout=10_000)
    page.wait_for_function("() => window.ended", timeout=120_000)
    assert page.evaluate("() => window.ended").startswith("execution_success")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RUNNING])
def test_models_that_are_wanted_are_named_with_links(name):
    drawn = json.loads((WORKFLOWS / f"{name}.json").read_text())
    loaders = [
        node for node in drawn["nodes"] if node["type"] in ("CheckpointLoaderSimple", "ControlNetLoader", "ModelPatchLoader")
    ]
    assert loaders
    for node in loaders:
        (model,) = node["properties"]["models"]
        assert node["widgets_values"] == [model["name"]]
        assert model["url"].startswith("https://")
        assert model["url"].endswith(model["name"])
