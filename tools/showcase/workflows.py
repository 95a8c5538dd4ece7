"""Lays out the workflows of tools/showcase/graphs.py in a browser on a real host; writes both formats and a picture of each.

    python -m tools.showcase.workflows --server http://127.0.0.1:8188 [--names photo auto] [--chromium /usr/bin/chromium]

Requires Playwright. The host's own frontend creates the saved file from the graph. If a workflow runs with only the pack
installed, it runs on that host on a scene drawn here, and the picture shows the result beside a bicubic enlargement.
Otherwise, the picture is a card that tells what the workflow does and needs.
"""

import argparse
import json
import tempfile
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from torch import Tensor

from fidelity import __version__
from fidelity.comfy.client import ComfyClient
from fidelity.comfy.graphs import BROWSER_ONLY
from tools.showcase.graph import Graph, Link
from tools.showcase.graphs import GRAPHS
from tools.showcase.scenes import CARDS, CAT, SCENES, before_and_after, draw_card
from tools.showcase.thumbnail import to_pillow

FOLDER = Path(__file__).parents[2] / "workflows"
PACK = "fidelity-upscale"
VERSIONS = {PACK: __version__, "comfy-core": "0.33.0"}
_COLORS = ("#3f789e", "#8A8", "#b58b2a", "#a1309b", "#b06634")

_UNFOLDS = ("FidelityAutoUpscale", "FidelityPlanPasses", "FidelityPrepare", "FidelityUpscale", "FidelityConsistency")
"""Nodes that have many advanced inputs."""

_ARRANGE = """
({groups, notes, titles, models, versions, colors, unfolds}) => {
  const graph = window.app.graph, gap = 40, column = 60, top = 80;
  for (const node of graph.nodes) {
    const size = node.computeSize();
    node.size = [Math.max(340, Math.min(420, size[0])), Math.max(size[1], node.size[1] > 700 ? 700 : 0)];
    if ((node.widgets || []).some((widget) => widget.name === "result")) node.size[1] += 40; // the Vue renderer's badge
    const ours = node.type.startsWith("Fidelity");
    node.properties.cnr_id = ours ? "fidelity-upscale" : "comfy-core";
    node.properties.ver = versions[node.properties.cnr_id];
    if (titles[node.id]) node.title = titles[node.id];
    if (models[node.id]) node.properties.models = models[node.id];
    if (["FidelityBeforeAfter", "PreviewImage"].includes(node.type)) node.size[1] = Math.max(node.size[1], 420);
    if (["FidelityLoadVideo", "SaveVideo"].includes(node.type)) node.size[1] = Math.max(node.size[1], 460);
    if (node.type === "FidelitySaveImage") node.size[1] = 580;
    if (["FidelityLoadImage"].includes(node.type)) node.size[1] = Math.max(node.size[1], 420);
    if (["PreviewAny", "CLIPTextEncode"].includes(node.type)) node.size[1] = Math.max(node.size[1], 180);
  }
  graph._groups.length = 0;
  let left = 0;
  groups.forEach(([title, ids], index) => {
    const nodes = ids.map((id) => graph.getNodeById(id));
    if (notes[title]) {
      const note = window.LiteGraph.createNode("MarkdownNote");
      graph.add(note);
      note.widgets[0].value = notes[title];
      note.size = [380, 60 + 20 * Math.ceil(notes[title].length / 50)];
      nodes.push(note);
    }
    const width = Math.max(...nodes.map((node) => node.size[0]));
    let y = top + 40;
    for (const node of nodes) {
      node.pos = [left + 20, y];
      node.size = [width, node.size[1]];
      y += node.size[1] + gap + (unfolds.includes(node.type) ? 200 : 50); // the Vue renderer unfolds advanced inputs
    }
    const group = new window.LiteGraph.LGraphGroup(title);
    group.pos = [left, top - 60];
    group.size = [width + 40, y - top + 40];
    group.color = colors[index];
    graph.add(group);
    left += width + 40 + column;
  });
  const canvas = window.app.canvas;
  canvas.ds.scale = 0.6;
  canvas.ds.offset = [150, 130];
  graph.setDirtyCanvas(true, true);
  return graph.serialize();
}
"""


def build_prompt(graph: Graph, known: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Converts a graph to API format with all defaults written out; returns it and the node number of each key."""
    steps = {key: step for group in graph.groups.values() for key, step in group.items()}
    numbers = {key: str(index + 1) for index, key in enumerate(steps)}
    prompt: dict[str, Any] = {}
    for key, step in steps.items():
        declared = known[step.kind]["input"]
        inputs: dict[str, Any] = {}
        for name, (kind, *options) in {**declared.get("required", {}), **declared.get("optional", {})}.items():
            given = step.inputs.get(name)
            if isinstance(given, tuple):
                inputs[name] = _linked(given, numbers)
            elif given is not None:
                inputs[name] = given
            else:
                default = _default(kind, options[0] if options else {})
                if default is not None:
                    inputs[name] = default
            inputs |= _nested(name, kind, options[0] if options else {}, inputs.get(name), step.inputs)
            inputs |= _grown(name, kind, step.inputs, numbers)
        missing = set(step.inputs) - set(inputs)
        if missing:
            raise ValueError(f"{key}: {step.kind} has no inputs {', '.join(sorted(missing))}")
        prompt[numbers[key]] = {
            "class_type": step.kind,
            "_meta": {"title": step.title or known[step.kind]["display_name"]},
            "inputs": inputs,
        }
    return prompt, numbers


def _default(kind: Any, options: dict[str, Any]) -> Any:
    if options.get("forceInput"):
        return None
    if kind == "COMFY_DYNAMICCOMBO_V3":
        return options["options"][0]["key"]
    if isinstance(kind, list):
        return options.get("default", kind[0] if kind else None)
    if kind == "COMBO":
        return options.get("default", options["options"][0] if options.get("options") else None)
    return options.get("default") if kind in ("INT", "FLOAT", "STRING", "BOOLEAN") else None


def _nested(name: str, kind: Any, options: dict[str, Any], chosen: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the selected option of a dynamic input."""
    if kind != "COMFY_DYNAMICCOMBO_V3":
        return {}
    option = next(one for one in options["options"] if one["key"] == chosen)
    found: dict[str, Any] = {}
    for group in option["inputs"].values():
        for inner, (inner_kind, *rest) in group.items():
            full = f"{name}.{inner}"
            found[full] = given.get(full, _default(inner_kind, rest[0] if rest else {}))
    return found


def _grown(name: str, kind: Any, given: dict[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    """The links to an input of which there are as many as are used."""
    if kind != "COMFY_AUTOGROW_V3":
        return {}
    return {key: _linked(link, numbers) for key, link in given.items() if key.startswith(f"{name}.")}


def _linked(link: Link, numbers: dict[str, str]) -> list[Any]:
    return [numbers[link[0]], link[1]]


def draw(page: Page, graph: Graph, prompt: dict[str, Any], numbers: dict[str, str]) -> dict[str, Any]:
    """Lays the graph out and returns it as the frontend saves it."""
    page.evaluate("async (prompt) => { await window.app.loadApiJson(prompt, 'workflow') }", prompt)
    time.sleep(1.5)
    steps = {key: step for group in graph.groups.values() for key, step in group.items()}
    drawn = page.evaluate(
        _ARRANGE,
        {
            "groups": [[title, [int(numbers[key]) for key in group]] for title, group in graph.groups.items()],
            "notes": graph.notes,
            "titles": {numbers[key]: step.title for key, step in steps.items() if step.title},
            "models": {numbers[key]: list(step.models) for key, step in steps.items() if step.models},
            "versions": VERSIONS,
            "colors": _COLORS,
            "unfolds": _UNFOLDS,
        },
    )
    drawn["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(prompt, sort_keys=True)))
    drawn.pop("extra", None)
    drawn["extra"] = {"ds": {"scale": 0.6, "offset": [150, 130]}}
    return drawn


@contextmanager
def open_frontend(server: str, chromium: str | None) -> Generator[Page, None, None]:
    """Opens the host's frontend in a browser.

    Args:
        server: Address of the host.
        chromium: Path of a Chromium; None for Playwright's own.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(server, timeout=60_000)
        page.wait_for_function("window.app && window.app.graph && window.app.extensionManager", timeout=90_000)
        time.sleep(4)
        yield page
        browser.close()


def run(client: ComfyClient, prompt: dict[str, Any]) -> Image.Image:
    """Runs a prompt and returns the last picture that it saves or shows."""
    results = client.wait(client.queue(prompt), prompt)
    with tempfile.TemporaryDirectory() as folder:
        path = client.download(results[-1], Path(folder))
        if path.suffix == ".mp4":
            with av.open(str(path)) as container:
                return next(container.decode(video=0)).to_image()
        return Image.open(path).convert("RGB")


def make_clip(source: Tensor, folder: Path) -> Path:
    """Writes a clip of a scene that moves a little, (1, 3, h, w)."""
    path = folder / "fidelity-scene.mp4"
    samples = to_pillow(source)
    width, height = samples.width // 2 * 2 - 8, samples.height // 2 * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(8):
            frame = av.VideoFrame.from_image(samples.crop((index, 0, index + width, height)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def upload(client: ComfyClient, picture: Image.Image) -> str:
    """Uploads a picture to the host's input folder and returns its name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fidelity-scene.png"
        picture.save(path)
        return client.upload(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--names", nargs="+", default=list(GRAPHS))
    parser.add_argument("--chromium", default=None, help="path of a Chromium to use instead of Playwright's")
    options = parser.parse_args()
    client = ComfyClient(options.server)
    known = client.known_nodes()
    with open_frontend(options.server, options.chromium) as page:
        for name in options.names:
            graph, shown = GRAPHS[name], SCENES.get(name, CAT)
            source = shown.draw()
            scene = upload(client, to_pillow(source))
            prompt, numbers = build_prompt(graph, known)
            drawn = draw(page, graph, prompt, numbers)
            (FOLDER / f"{name}.json").write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            asked = {key: node for key, node in prompt.items() if node["class_type"] not in BROWSER_ONLY}
            (FOLDER / "api" / f"{name}.json").write_text(
                json.dumps(asked, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            if graph.runs:
                if name == "video":
                    with tempfile.TemporaryDirectory() as folder:
                        prompt[numbers["source"]]["inputs"]["file"] = client.upload(make_clip(source, Path(folder)))
                else:
                    prompt[numbers["source"]]["inputs"]["image"] = scene
                result = run(client, prompt)
                picture = result if name == "compare-models" else before_and_after(source, result, shown.center)
            else:
                picture = draw_card(source, shown.center, *CARDS[name])
            picture.thumbnail((800, 800), Image.Resampling.LANCZOS)
            picture.save(FOLDER / f"{name}.jpg", quality=86)
            print(name, "run" if graph.runs else "laid out", flush=True)


if __name__ == "__main__":
    main()
