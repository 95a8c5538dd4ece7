"""Writes the subgraph blueprint of the whole pipeline, step by step, in a browser on a real host.

    python -m tools.showcase.blueprint --server http://127.0.0.1:8188 [--chromium /usr/bin/chromium]

The subgraph contains the steps of Auto Upscale, each open to change. One thing differs: here, the measured enlargement decides
the cleanup; in Auto Upscale, the measured source does.
"""

import argparse
import json
import time
import uuid
from pathlib import Path

from fidelity.comfy.client import ComfyClient
from tools.showcase.graph import Graph, Step, save_step, source_step
from tools.showcase.workflows import VERSIONS, build_prompt, open_frontend

NAME = "Auto Upscale Steps (Fidelity)"
TARGET = Path(__file__).parents[2] / "subgraphs" / f"{NAME}.json"
DESCRIPTION = "The steps of Auto Upscale, open to change: plan, upscale, preserve colors, clean up, check."
STEPS = {
    "plan": Step("FidelityPlanPasses", {"image": ("source", 0), "source": ("source", 2), "target": "scale by"}),
    "run": Step("FidelityRunPasses", {"plan": ("plan", 0), "image": ("source", 0)}),
    "hold": Step("FidelityConsistency", {"image": ("run", 0), "reference": ("run", 1)}),
    "clean": Step("FidelityCleanup", {"image": ("hold", 0), "domain": ("plan", 1)}),
    "gate": Step("FidelityDeltaEGate", {"image": ("clean", 0), "reference": ("run", 1)}),
}
GRAPH = Graph({"": {"source": source_step(), **STEPS, "save": save_step(("gate", 0), "auto", ("gate", 2))}}, {})
SHOWN = (("plan", "target.scale", "scale"), ("plan", "domain", "domain"), ("plan", "model_name", "model_name"))
"""Settings exposed on the subgraph: node, input, and label."""

_FOLD = """
({numbers, shown, name, description, versions, id}) => {
  const graph = window.app.graph, nodes = numbers.map((number) => graph.getNodeById(number));
  const {subgraph, node} = graph.convertToSubgraph(new Set(nodes));
  for (const [number, input, label] of shown) {
    const inner = subgraph.getNodeById(number), slot = inner.inputs.find((one) => one.name === input);
    subgraph.addInput(label, String(slot.type)).connect(slot, inner);
  }
  subgraph.nodes.forEach((inner) => {
    const place = numbers.indexOf(Number(inner.id));
    inner.pos = [380 * place, 0];
    inner.size = [320, inner.computeSize()[1]];
    inner.properties.cnr_id = "fidelity-upscale";
    inner.properties.ver = versions["fidelity-upscale"];
  });
  subgraph.inputNode.pos = [-220, 0];
  subgraph.outputNode.pos = [380 * numbers.length, 0];
  Object.assign(subgraph, {name});
  node.title = name;
  const drawn = graph.serialize(), inside = drawn.definitions.subgraphs[0];
  const kept = drawn.nodes.find((one) => one.type === subgraph.id);
  kept.inputs.forEach((input) => { input.link = null; });
  kept.outputs.forEach((output) => { output.links = []; });
  Object.assign(kept, {pos: [0, 0], order: 0, type: id});
  Object.assign(inside, {id, category: "Fidelity", description});
  return {
    revision: 0, last_node_id: drawn.last_node_id, last_link_id: drawn.last_link_id, nodes: [kept], links: [], version: 0.4,
    definitions: {subgraphs: [inside]},
  };
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--chromium", default=None, help="path of a Chromium to use instead of Playwright's")
    options = parser.parse_args()
    prompt, numbers = build_prompt(GRAPH, ComfyClient(options.server).known_nodes())
    with open_frontend(options.server, options.chromium) as page:
        page.evaluate("async (prompt) => { await window.app.loadApiJson(prompt, 'blueprint') }", prompt)
        time.sleep(1.5)
        settings = {
            "numbers": [int(numbers[key]) for key in STEPS],
            "shown": [(int(numbers[key]), name, label) for key, name, label in SHOWN],
            **{"name": NAME, "description": DESCRIPTION, "versions": VERSIONS},
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, NAME)),
        }
        drawn = page.evaluate(_FOLD, settings)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(drawn, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
