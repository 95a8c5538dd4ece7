// Shows on a node what it decided: the domain, the drift, what the gate did, and its heat map.
//
// A node with a result sends `fidelity`, a text whose first line is a headline that starts with a mark; `fidelity_workflow`,
// the id of the workflow it ran in; and optionally `fidelity_map`, a picture that the host keeps temporarily. They are stored
// in the node's properties, and so in the saved workflow. A result that arrives while another workflow is open waits until its
// own is open again.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const MIN_HEIGHTS = {
  FidelityAutoUpscale: 110,
  FidelityClassifyDomain: 90,
  FidelityClipQuality: 90,
  FidelityDeltaEGate: 180,
  FidelityDiffusionPass: 90,
  FidelityLoadUpscaleModel: 80,
  FidelityMeasure: 160,
  FidelityLoadVideo: 90,
  FidelityPlanPasses: 90,
  FidelityVideoUpscale: 110,
}; // of the result widget, in pixels
const COLORS = { "✓": "#5fb865", "≈": "#d9a441", "✗": "#e0625a", "·": "#8ab4d8" };
const RESULT = "fidelity_result";
const MAP = "fidelity_map";
const results = new Map(); // by workflow id: results by node id

function element(kind, style) {
  const made = document.createElement(kind);
  Object.assign(made.style, style);
  return made;
}

function picture_url({ filename, subfolder, type }) {
  return api.apiURL("/view?" + new URLSearchParams({ filename, subfolder, type }));
}

// The root graph, even while one of its subgraphs is open.
function whole_graph() {
  return app.rootGraph ?? app.graph;
}

function show(node) {
  if (!node.fidelity) {
    return;
  }
  const { headline, details, map } = node.fidelity;
  const text = node.properties[RESULT], place = node.properties[MAP];
  const [first, ...rest] = (typeof text === "string" && text ? text : "· –").split("\n");
  headline.textContent = first;
  headline.style.color = COLORS[first[0]] || "inherit";
  details.textContent = rest.join("\n");
  const kept = typeof place?.filename === "string";
  map.style.display = kept ? "block" : "none";
  if (kept) {
    map.src = picture_url(place);
  }
}

// Finds a node by its execution id; inside a subgraph, the ids of the enclosing nodes come first.
function find_node(number) {
  let graph = whole_graph(), node = null;
  for (const part of String(number).split(":")) {
    node = graph?.getNodeById(Number(part)) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

// Puts the results of the open workflow onto its nodes.
function place_results() {
  for (const [number, { kind, text, map }] of results.get(whole_graph().id) ?? []) {
    const node = find_node(number);
    if (node?.comfyClass === kind) {
      node.properties[RESULT] = text;
      node.properties[MAP] = map;
      show(node);
    }
  }
}

// Keeps our writes out of the host's undo history.
function leave_history() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  if (tracker?.activeState) {
    tracker.activeState = JSON.parse(JSON.stringify(whole_graph().serialize()));
  }
}

function add_result(node, height) {
  const box = element("div", {
    overflow: "auto", padding: "4px 8px", boxSizing: "border-box", fontSize: "12px", lineHeight: "1.35",
    color: "var(--input-text, #ddd)", background: "var(--comfy-input-bg, #222)", borderRadius: "6px",
  });
  const headline = element("div", { fontWeight: "600" });
  const details = element("div", { whiteSpace: "pre-wrap", opacity: "0.85" });
  const map = element("img", { display: "none", maxWidth: "100%", maxHeight: "160px", marginTop: "4px" });
  map.alt = "heat map of the color drift";
  map.addEventListener("error", () => { map.style.display = "none"; }); // the host no longer has the picture
  box.setAttribute("role", "status");
  box.append(headline, details, map);
  node.fidelity = { headline, details, map };
  const widget = node.addDOMWidget("result", "fidelity_result", box, {
    serialize: false, hideOnZoom: false, getMinHeight: () => height, getValue: () => node.properties[RESULT] || "",
  });
  widget.serialize = false;
  show(node);
}

app.registerExtension({
  name: "fidelity-upscale.results",

  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const output = detail.output;
      const [workflow, kind] = output?.fidelity_workflow ?? [];
      if (!output?.fidelity || !workflow) {
        return;
      }
      if (!results.has(workflow)) {
        results.set(workflow, new Map());
      }
      const result = { kind, text: output.fidelity[0], map: output.fidelity_map?.[0] };
      results.get(workflow).set(String(detail.display_node ?? detail.node), result);
      if (workflow === whole_graph().id) {
        place_results();
        leave_history();
      }
    });
  },

  afterConfigureGraph() {
    place_results();
    setTimeout(leave_history, 0); // after the host has finished configuring
  },

  nodeCreated(node) {
    const height = MIN_HEIGHTS[node.comfyClass];
    if (!height) {
      return;
    }
    add_result(node, height);
    const configured = node.onConfigure;
    node.onConfigure = function (...given) {
      configured?.apply(this, given);
      show(this);
    };
  },
});
