"""The shipped workflows in a real browser on a real host: opened, without a missing node or an error, and run by its button."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
import typer

from fidelity.commands import ui
from tools.showcase.graphs import GRAPHS

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
        page.keyboard.press("Escape")  # a new user is shown the templates
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
        "async (graph) => { await window.app.loadGraphData(graph) }",
        json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8")),
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


def press_run(page, image, video="none.mp4"):
    """Puts an image, or a video, into the workflow that is open, and runs it by the button."""
    page.evaluate(
        """([image, video]) => {
          for (const node of window.app.graph.nodes) {
            const clip = (node.widgets || []).find((one) => one.name === "file");
            if (clip && node.type.includes("LoadVideo")) { clip.value = video; }
            const widget = (node.widgets || []).find((one) => one.name === "image");
            if (widget && node.type.includes("LoadImage")) { widget.value = image; }
          }
          window.ended = null;
          for (const kind of ["execution_success", "execution_error"]) {
            const end = (event) => { window.ended = kind + JSON.stringify(event.detail); };
            window.app.api.addEventListener(kind, end, { once: true });
          }
        }""",
        [image, video],
    )
    page.get_by_role("button", name="Run", exact=True).first.click(timeout=10_000)
    page.wait_for_function("() => window.ended", timeout=120_000)
    assert page.evaluate("() => window.ended").startswith("execution_success")


@pytest.mark.parametrize("name", RUNNING)
def test_it_runs_by_the_run_button(page, host, photo, make_clip, name):
    load(page, name, "canvas")
    press_run(page, host.upload(photo), host.upload_file(make_clip(frames=3).read_bytes(), "example.mp4"))


@pytest.mark.parametrize("renderer", ["canvas", "vue"])
def test_nodes_show_what_they_decided_also_after_a_reload(page, host, photo, renderer):
    load(page, "keep-colors-after-any-upscaler", renderer)
    host.post("/free", {"free_memory": True})  # what the host remembers of earlier runs it does not tell again
    time.sleep(1)
    press_run(page, host.upload(photo))
    told = page.locator("[role=status]", has_text="drift")
    told.wait_for(timeout=10_000)
    shown = told.inner_text()
    assert "limits 1 on average, 3 at most" in shown
    assert page.locator("[role=status]", has_text="shipped model").count() == 1
    map_shown = "(box) => box.querySelector('img').style.display !== 'none'"
    assert not told.evaluate(map_shown) and "black is none" not in shown  # that of colors that are held is black
    saved = page.evaluate("() => window.app.graph.serialize()")
    page.evaluate("async () => { await window.app.loadGraphData({nodes: [], links: [], version: 0.4}) }")
    assert told.count() == 0
    page.evaluate("async (graph) => { await window.app.loadGraphData(graph) }", saved)
    told.wait_for(timeout=10_000)
    assert told.inner_text() == shown
    asked = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert not any("result" in node["inputs"] for node in asked.values())
    assert page.evaluate("() => window.app.graph.serialize().nodes.map((node) => node.widgets_values)") == [
        node.get("widgets_values") for node in saved["nodes"]
    ]


@pytest.mark.parametrize("renderer", ["canvas", "vue"])
def test_a_slider_shows_before_and_after_and_follows_the_pointer(page, host, photo, renderer):
    load(page, "keep-colors-after-any-upscaler", renderer)
    host.post("/free", {"free_memory": True})
    time.sleep(1)
    press_run(page, host.upload(photo))
    told = page.locator("[role=status]", has_text="enlarged bicubically, on the left")
    told.wait_for(timeout=10_000)
    pictures = [told.get_by_alt_text(name).element_handle() for name in ("before", "after")]
    sizes = []
    for picture in pictures:
        page.wait_for_function("(one) => one.complete && one.naturalWidth > 0", arg=picture, timeout=10_000)
        sizes.append(picture.evaluate("(one) => [one.naturalWidth, one.naturalHeight]"))
    assert sizes[0] == sizes[1]
    clipped = "(one) => parseFloat(one.style.clipPath.split(' ')[1])"
    middle, box = pictures[0].evaluate(clipped), pictures[1].bounding_box()
    assert 45 < middle < 55
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    assert 60 < pictures[0].evaluate(clipped) < 80  # the rest of the picture before is cut off


def test_a_result_stays_with_its_workflow_and_out_of_the_history(page, host, photo):
    """It may come while another workflow is open, and is no step that could be undone."""
    host.post("/free", {"free_memory": True})
    load(page, "keep-colors-after-any-upscaler", "canvas")
    press_run(page, host.upload(photo))
    told = page.locator("[role=status]", has_text="drift")
    told.wait_for(timeout=10_000)
    time.sleep(0.5)
    tracked = page.evaluate(
        """() => {
          const tracker = window.app.extensionManager.workflow.activeWorkflow.changeTracker;
          const gate = tracker.activeState.nodes.find((node) => node.type === "FidelityDeltaEGate");
          return gate.properties.fidelity_result;
        }"""
    )
    assert tracked.startswith("✓ colors preserved")
    event = page.evaluate(
        """() => {
          const gate = window.app.graph.nodes.find((node) => node.type === "FidelityDeltaEGate");
          const detail = (workflow, text) => ({
            node: String(gate.id), output: {fidelity: [text], fidelity_workflow: [workflow, "FidelityDeltaEGate"]},
          });
          window.app.api.dispatchCustomEvent("executed", detail("another", "✗ of another workflow"));
          const kept = gate.properties.fidelity_result;
          window.app.api.dispatchCustomEvent("executed", detail(window.app.graph.id, "✓ of this one"));
          return [kept, gate.properties.fidelity_result];
        }"""
    )
    assert event[0].startswith("✓ colors preserved")
    assert event[1] == "✓ of this one"


def test_a_heat_map_is_shown_with_its_legend_where_something_drifted(page, host, photo):
    load(page, "keep-colors-after-any-upscaler", "canvas")
    host.post("/free", {"free_memory": True})
    time.sleep(1)
    page.evaluate(
        """() => {
          const gate = window.app.graph.nodes.find((node) => node.type === "FidelityDeltaEGate");
          for (const widget of gate.widgets) {
            if (widget.name === "action") { widget.value = "report"; }
            if (widget.name.endsWith("_limit")) { widget.value = 0.001; }
          }
        }"""
    )
    press_run(page, host.upload(photo))
    told = page.locator("[role=status]", has_text="beyond the limits")
    told.wait_for(timeout=10_000)
    assert "black is none" in told.inner_text()
    image = told.locator("img").element_handle()
    page.wait_for_function("(map) => map.complete && map.naturalWidth > 0", arg=image, timeout=10_000)


def test_a_cached_result_is_shown_again_and_an_old_one_is_dim_while_a_prompt_runs(page, host, photo):
    """The host sends nothing for a node whose result it has cached."""
    name, find = "auto", "window.app.graph.nodes.find((node) => node.type === 'FidelityAutoUpscale')"
    load(page, name, "canvas")
    press_run(page, host.upload(photo))
    told = page.locator("[role=status]", has_text="drift")
    told.wait_for(timeout=60_000)
    text = page.evaluate(f"() => {find}.properties.fidelity_result")
    assert text.startswith("✓ colors preserved")
    uploaded = page.evaluate("() => window.app.graph.nodes.find((node) => node.type.includes('LoadImage')).widgets[0].value")
    page.reload()
    page.wait_for_function("window.app && window.app.graph && window.app.extensionManager", timeout=90_000)
    time.sleep(3)
    page.keyboard.press("Escape")
    load(page, name, "canvas")
    assert not page.evaluate(f"() => {find}.properties.fidelity_result")
    assert page.locator("[role=status]", has_text="what was decided, after Run").count() == 1
    press_run(page, uploaded)
    page.wait_for_function(f"() => {find}.properties.fidelity_result", timeout=60_000)
    assert page.evaluate(f"() => {find}.properties.fidelity_result") == text
    page.evaluate("() => window.app.api.dispatchCustomEvent('execution_start', {})")
    assert page.evaluate(f"() => {find}.fidelity.box.style.opacity") == "0.45"
    page.evaluate("() => window.app.api.dispatchCustomEvent('execution_success', {})")
    assert page.evaluate(f"() => {find}.fidelity.box.style.opacity") == "1"


def test_a_file_with_nonsense_for_a_result_opens(page):
    graph = json.loads((WORKFLOWS / "keep-colors-after-any-upscaler.json").read_text(encoding="utf-8"))
    for node in graph["nodes"]:
        node["properties"] |= {"fidelity_result": 5, "fidelity_map": "x"}
    page.errors.clear()
    page.evaluate("async (graph) => { await window.app.loadGraphData(graph) }", graph)
    time.sleep(1)
    assert [error for error in page.errors if not any(part in error for part in EXPECTED_ERRORS)] == []
    assert page.evaluate("() => window.app.graph.nodes.length") == len(graph["nodes"])


def test_the_blueprint_is_placed_from_the_library_and_runs(page, host, photo):
    page.evaluate("async () => { await window.app.loadGraphData({nodes: [], links: [], version: 0.4}) }")
    page.get_by_role("button", name="Node Library").click(timeout=10_000)
    page.get_by_placeholder("Search").first.fill("Auto Upscale Steps")
    page.get_by_text("Auto Upscale Steps (Fidelity)").first.click(timeout=10_000)
    page.mouse.click(900, 500)
    page.wait_for_function("() => window.app.graph.nodes.length === 1", timeout=10_000)
    page.evaluate("() => { window.app.extensionManager.sidebarTab.activeSidebarTabId = null; }")
    faces = page.evaluate(
        """() => {
          const graph = window.app.graph, [steps] = graph.nodes;
          const [source, save] = ["FidelityLoadImage", "FidelitySaveImage"].map((kind) => {
            const node = window.LiteGraph.createNode(kind);
            graph.add(node);
            return node;
          });
          source.connect(0, steps, 0);
          source.connect(2, steps, 1);
          steps.connect(0, save, 0);
          return steps.widgets.map((widget) => [widget.name, widget.value]);
        }"""
    )
    assert faces == [["scale", 4], ["domain", "auto"], ["model_name", "auto"]]
    press_run(page, host.upload(photo[..., :24, :24]))
    inner = "() => window.app.graph.nodes[0].subgraph.nodes.map((node) => node.properties.fidelity_result || '')"
    assert any("24x24" in text or "96x96" in text for text in page.evaluate(inner))


def test_models_that_are_missing_are_offered_for_download(page):
    load(page, "photo-supir", "canvas")
    page.get_by_role("button", name="View details").click(timeout=10_000)
    for name in ("sd_xl_base_1.0.safetensors", "SUPIR-v0Q_fp16.safetensors"):
        page.get_by_role("button", name=f"Download {name}").wait_for(timeout=10_000)
    page.get_by_role("button", name="Toggle properties panel").click()


def test_it_opens_from_the_template_browser(page):
    page.evaluate("async () => { await window.app.loadGraphData({nodes: [], links: [], version: 0.4}) }")
    page.get_by_role("button", name="Templates").click(timeout=10_000)
    page.get_by_text("fidelity-upscale", exact=True).first.click(timeout=10_000)
    card = page.get_by_test_id("template-workflow-auto")
    card.wait_for(timeout=10_000)
    page.wait_for_function(
        "() => document.querySelector('[data-testid=template-workflow-auto] img')?.naturalWidth === 400", timeout=10_000
    )
    card.click()
    page.wait_for_function("() => window.app.graph.nodes.some((node) => node.type === 'FidelityAutoUpscale')", timeout=10_000)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RUNNING])
def test_models_that_are_wanted_are_named_with_links(name):
    drawn = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    loaders = [
        node
        for node in drawn["nodes"]
        if node["type"]
        in (
            *("CheckpointLoaderSimple", "ControlNetLoader", "ModelPatchLoader", "UNETLoader", "VAELoader"),
            "FrameInterpolationModelLoader",
        )
    ]
    assert loaders
    for node in loaders:
        model, *_others = node["properties"]["models"]
        assert node["widgets_values"][0] == model["name"]
        assert model["url"].startswith("https://")
        assert model["url"].endswith(model["name"])


def test_the_command_opens_a_workflow_of_the_pack(host, page, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(ui.webbrowser, "open", lambda address: opened.append(address) or True)
    ui.ui_command(host.url, "auto")
    assert capsys.readouterr().out.strip() == opened[0] == f"{host.url}/?template=auto&source=fidelity-upscale"
    page.goto(opened[0], timeout=60_000)
    page.wait_for_function(
        "window.app && window.app.graph && window.app.graph.nodes.some((node) => node.type === 'FidelityAutoUpscale')",
        timeout=60_000,
    )
    with pytest.raises(typer.Exit):
        ui.ui_command("http://127.0.0.1:9", "auto")
    assert "wanted ComfyUI started, or its address with --server" in capsys.readouterr().err
