// Shows on a node what it decided: the domain, the drift, what the gate did, and its heat map.
//
// A node with a result sends `fidelity`, a text whose first line is a headline that starts with a mark; `fidelity_workflow`,
// the id of the workflow it ran in; and optionally `fidelity_map`, a picture that the host keeps temporarily, or
// `fidelity_pair`, two such pictures to compare. They are stored in the node's properties, and so in the saved workflow. A
// result that arrives while another workflow is open waits until its own is open again. While a prompt runs, what stands on
// the nodes is dimmed until it is confirmed. The host sends nothing for a node whose result it has cached: what that node told
// last is looked up in the host's history.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { make_slider } from "./slider.js";

const MIN_HEIGHTS = {
  FidelityAutoUpscale: 150,
  FidelityBeforeAfter: 260,
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
const PAIR = "fidelity_pair";
const EMPTY = "· shows here what was decided, after Run";
const NO_PAIR = "· shows both with a slider between them, after Run";
const LEGEND = "color drift: black is none, red is CIEDE2000 of 3 or more";
const HISTORY = "/history?max_items=64";
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
  const { headline, details, map, legend, slider } = node.fidelity;
  const text = node.properties[RESULT], place = node.properties[MAP];
  const [first, ...rest] = (typeof text === "string" && text ? text : slider ? NO_PAIR : EMPTY).split("\n");
  headline.textContent = first;
  headline.style.color = COLORS[first[0]] || "inherit";
  details.textContent = rest.join("\n");
  const kept = typeof place?.filename === "string" && first[0] !== "✓"; // a map of what passed is black
  map.style.display = kept ? "block" : "none";
  legend.textContent = kept ? LEGEND : "";
  if (kept) {
    map.src = picture_url(place);
  }
  const pair = node.properties[PAIR];
  slider?.compare(Array.isArray(pair) && pair.every((one) => typeof one?.filename === "string") ? pair.map(picture_url) : null);
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

// All nodes that show a result, those in subgraphs too.
function result_nodes(graph = whole_graph()) {
  return (graph?.nodes ?? []).flatMap((node) => [...(node.fidelity ? [node] : []), ...result_nodes(node.subgraph ?? null)]);
}

function dim(nodes, share) {
  for (const node of nodes) {
    node.fidelity.box.style.opacity = share;
  }
}

// Puts a result onto a node, if it is of the node's kind.
function place_result(node, result) {
  if (!node?.fidelity || !result || node.comfyClass !== result.kind) {
    return;
  }
  node.properties[RESULT] = result.text;
  node.properties[MAP] = result.map;
  node.properties[PAIR] = result.pair;
  dim([node], 1);
  show(node);
}

function read_result(output) {
  return {
    kind: output.fidelity_workflow?.[1], text: output.fidelity[0], map: output.fidelity_map?.[0], pair: output.fidelity_pair,
  };
}

// Shows again what nodes told last in the open workflow, by their execution ids.
async function recall(numbers) {
  const workflow = whole_graph().id, wanted = numbers.filter((number) => find_node(number)?.fidelity);
  if (!wanted.length) {
    return;
  }
  const told = Object.values(await (await api.fetchApi(HISTORY)).json());
  if (whole_graph().id !== workflow) {
    return; // another one was opened meanwhile
  }
  for (const number of wanted) {
    const outputs = told.map((one) => one.outputs?.[number]);
    const last = outputs.filter((output) => output?.fidelity && output.fidelity_workflow?.[0] === workflow).pop();
    place_result(find_node(number), last && read_result(last));
  }
  leave_history();
}

// Puts the results of the open workflow onto its nodes.
function place_results() {
  for (const [number, result] of results.get(whole_graph().id) ?? []) {
    place_result(find_node(number), result);
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
  const legend = element("div", { opacity: "0.7", fontSize: "11px" });
  map.addEventListener("error", () => { // the host no longer has the picture
    map.style.display = "none";
    legend.textContent = "";
  });
  box.setAttribute("role", "status");
  const slider = node.comfyClass === "FidelityBeforeAfter" ? make_slider() : null;
  if (slider) { // the pictures take all the room that the text leaves
    Object.assign(box.style, { display: "flex", flexDirection: "column" });
  }
  box.append(headline, details, ...(slider ? [slider.box] : []), map, legend);
  node.fidelity = { box, headline, details, map, legend, slider };
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
      const [workflow] = output?.fidelity_workflow ?? [];
      if (!output?.fidelity || !workflow) {
        return;
      }
      if (!results.has(workflow)) {
        results.set(workflow, new Map());
      }
      const result = read_result(output);
      results.get(workflow).set(String(detail.display_node ?? detail.node), result);
      if (workflow === whole_graph().id) {
        place_results();
        leave_history();
      }
    });
    api.addEventListener("execution_start", () => dim(result_nodes(), 0.45));
    api.addEventListener("execution_cached", ({ detail }) => recall(detail.nodes ?? []));
    for (const ending of ["execution_success", "execution_error", "execution_interrupted"]) {
      api.addEventListener(ending, () => dim(result_nodes(), 1));
    }
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
