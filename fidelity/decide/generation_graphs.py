"""Reads the ComfyUI graphs embedded in images: which model generated the picture, and from which prompt.

The graph is walked upstream from its outputs, so only nodes that contributed to the picture count. A loader that is not
connected, or whose result went elsewhere, is ignored.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MODEL_FILE = re.compile(r"\.(safetensors|ckpt|gguf|pt|pth|bin|sft)$", re.IGNORECASE)
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_path", "base_ckpt_name", "model_name", "diffusion_model", "ckpt", "model")
_LOADER = re.compile(r"checkpoint|unet|dit|diffusion ?model|gguf|flux|loader.*model|efficient", re.IGNORECASE)
_SIDE_LOADER = re.compile(
    r"lora|vae|clip|control|upscale|adapter|style|embed|ultralytics|sam|detector|face|redux", re.IGNORECASE
)
_SIDE_FILE = re.compile(r"vae|clip|lora|t5", re.IGNORECASE)
_SAMPLER = re.compile(r"sampler|sample|denoise", re.IGNORECASE)
_OUTPUT = re.compile(r"save|preview|output|display|compare|show", re.IGNORECASE)
_FLUX_NODE = re.compile(r"flux|kontext", re.IGNORECASE)
_BYPASSED = (2, 4)
"""LiteGraph's mode values for muted and bypassed nodes."""


@dataclass(frozen=True)
class Generation:
    """How a picture was generated."""

    models: tuple[str, ...]
    """Names of the checkpoints or diffusion models."""
    loras: tuple[str, ...]
    """Names of the LoRAs applied to them."""
    prompt: str
    """The positive prompt."""
    flux_nodes: bool
    """Whether FLUX-only nodes or settings were used."""


@dataclass(frozen=True)
class _Node:
    kind: str
    links: dict[str, str]
    """Input name to the id of its source node."""
    values: dict[str, str]
    """Input name to text."""


def read_prompt_graph(prompt: dict[str, Any]) -> Generation | None:
    """Reads the API format, as in the `prompt` chunk; returns None if the graph has no sampler."""
    nodes: dict[str, _Node] = {}
    for key, entry in prompt.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("inputs"), dict):
            continue
        inputs: dict[str, Any] = entry["inputs"]
        links = {name: _id(value[0]) for name, value in inputs.items() if isinstance(value, list) and len(value) == 2}
        values = {name: value for name, value in inputs.items() if isinstance(value, str)}
        nodes[key] = _Node(_id(entry.get("class_type")), links, values)
    return _read_nodes(nodes)


def read_workflow_graph(workflow: dict[str, Any]) -> Generation | None:
    """Reads the format that the frontend saves, as in the `workflow` chunk; returns None if the graph has no sampler."""
    origins: dict[str, str] = {}
    for link in _list(workflow.get("links")):
        if isinstance(link, list) and len(link) >= 4:
            origins[_id(link[0])] = _id(link[1])
        elif isinstance(link, dict):
            origins[_id(link.get("id"))] = _id(link.get("origin_id"))
    origins.pop("", None)
    nodes: dict[str, _Node] = {}
    for entry in _list(workflow.get("nodes")):
        if not isinstance(entry, dict) or entry.get("mode") in _BYPASSED:
            continue
        links: dict[str, str] = {}
        for slot in _list(entry.get("inputs")):
            if isinstance(slot, dict) and _id(slot.get("link")) in origins:
                links[_id(slot.get("name"))] = origins[_id(slot["link"])]
        widgets = entry.get("widgets_values")
        named = widgets if isinstance(widgets, dict) else dict(enumerate(_list(widgets)))
        values = {str(name): value for name, value in named.items() if isinstance(value, str)}
        nodes[_id(entry.get("id"))] = _Node(_id(entry.get("type")), links, values)
    return _read_nodes(nodes)


def _read_nodes(nodes: dict[str, _Node]) -> Generation | None:
    ends = [key for key, node in nodes.items() if _OUTPUT.search(node.kind)] or list(nodes)
    used = set(_upstream(nodes, ends))
    samplers = [key for key in used if _SAMPLER.search(nodes[key].kind) and {"model", "guider", "pipe"} & set(nodes[key].links)]
    if not samplers:
        return None
    models: list[str] = []
    loras: list[str] = []
    for key in sorted(used):
        node = nodes[key]
        files = [(name, value) for name, value in node.values.items() if _MODEL_FILE.search(value)]
        if re.search("lora", node.kind, re.IGNORECASE):
            loras += [value for _, value in files]
        elif _LOADER.search(node.kind) and not _SIDE_LOADER.search(node.kind):
            named = [value for name, value in files if name in _MODEL_INPUTS]
            models += named or [
                value for name, value in files if not re.search("vae|clip|lora", f"{name} {value}", re.IGNORECASE)
            ]
    refused = set(_upstream(nodes, _ends_of(nodes, samplers, "negative")))
    wanted = set(_upstream(nodes, _ends_of(nodes, samplers, "positive"))) or used - refused
    words = [value for key in wanted for name, value in nodes[key].values.items() if _is_prompt(nodes[key], name)]
    flux = any(_FLUX_NODE.search(nodes[key].kind) or "flux" in nodes[key].values.values() for key in used)
    return Generation(tuple(dict.fromkeys(models)), tuple(loras), " ".join(words), flux)


def _is_prompt(node: _Node, name: str) -> bool:
    value = node.values[name]
    return not _MODEL_FILE.search(value) and (" " in value or "," in value)


def _ends_of(nodes: dict[str, _Node], samplers: list[str], side: str) -> list[str]:
    return [node.links[side] for key in samplers if side in (node := nodes[key]).links]


def _upstream(nodes: dict[str, _Node], ends: list[str]) -> Iterator[str]:
    """Yields the nodes upstream of `ends`, including these, each once."""
    waiting, seen = list(ends), set[str]()
    while waiting:
        key = waiting.pop()
        if key in seen or key not in nodes:
            continue
        seen.add(key)
        yield key
        waiting += nodes[key].links.values()


def _id(value: object) -> str:
    """A number or a text as text; nothing for whatever else a damaged graph has in its place."""
    return str(value) if isinstance(value, str | int | float) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
