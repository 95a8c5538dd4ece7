// Shows on a node what it decided: the verdict, the drift, what the gate did, and its heat map.
//
// A node of the pack that has something to tell sends `fidelity`, a text whose first line is a headline with a mark before it,
// and perhaps `fidelity_map`, a picture that the host keeps for a while. Both are remembered in the node's properties, and so
// in the saved workflow.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const TELLING = {
  FidelityAutoUpscale: 110,
  FidelityClassifyDomain: 90,
  FidelityDeltaEGate: 180,
  FidelityDiffusionPass: 90,
  FidelityLoadUpscaleModel: 80,
  FidelityMeasure: 160,
  FidelityPlanPasses: 90,
}; // smallest height of what is shown, in pixels
const COLORS = { "✓": "#5fb865", "≈": "#d9a441", "✗": "#e0625a", "·": "#8ab4d8" };
const RESULT = "fidelity_result";
const MAP = "fidelity_map";

function element(kind, style) {
  const made = document.createElement(kind);
  Object.assign(made.style, style);
  return made;
}

function picture_url({ filename, subfolder, type }) {
  return api.apiURL("/view?" + new URLSearchParams({ filename, subfolder, type }));
}

function show(node) {
  const { headline, details, map } = node.fidelity;
  const [first, ...rest] = (node.properties[RESULT] || "· –").split("\n");
  headline.textContent = first;
  headline.style.color = COLORS[first[0]] || "inherit";
  details.textContent = rest.join("\n");
  const place = node.properties[MAP];
  map.style.display = place ? "block" : "none";
  if (place) {
    map.src = picture_url(place);
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
  map.alt = "heat map of the drift";
  map.addEventListener("error", () => { map.style.display = "none"; }); // the host keeps it no longer
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

  nodeCreated(node) {
    const height = TELLING[node.comfyClass];
    if (!height) {
      return;
    }
    add_result(node, height);
    const configured = node.onConfigure;
    node.onConfigure = function (...given) {
      configured?.apply(this, given);
      show(this);
    };
    const executed = node.onExecuted;
    node.onExecuted = function (output) {
      executed?.call(this, output);
      if (output?.fidelity) {
        this.properties[RESULT] = output.fidelity[0];
        this.properties[MAP] = output.fidelity_map?.[0];
        show(this);
      }
    };
  },
});
