"""ComfyUI workflow files: converts the editor's format to the API's, changes settings and inserts pictures."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import RefusedError

Prompt = dict[str, dict[str, Any]]
"""The API's format: nodes by number, each with class_type and inputs."""

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_SEEDS = ("seed", "noise_seed")
BROWSER_ONLY = ("Note", "MarkdownNote", "ImageCompare", "FidelityBeforeAfter")
"""Nodes that only show something in the browser and have no outputs for other nodes."""
_AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
_MUTED, _BYPASSED = 2, 4
_PICTURE_LOADERS = ("LoadImage", "FidelityLoadImage")


class GraphRefusedError(RefusedError):
    """A file that is not a workflow, or a workflow that cannot run as it is."""


def to_prompt(workflow: Any, known: Mapping[str, Any]) -> Prompt:
    """Converts a workflow of either format to the API's.

    Args:
        workflow: The parsed file.
        known: The server's ``/object_info``: the editor's format stores settings without their names.

    Raises:
        GraphRefusedError: If it is not a workflow, has subgraphs, or has nodes that are missing on the server.
    """
    if isinstance(workflow, dict) and isinstance(workflow.get("nodes"), list):
        return _convert(workflow, known)
    if not isinstance(workflow, dict) or not workflow:
        raise GraphRefusedError("is not a ComfyUI workflow; wanted one saved or exported by the editor")
    nodes = {str(key): node for key, node in workflow.items()}
    if not all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in nodes.values()):
        raise GraphRefusedError("is not a ComfyUI workflow; wanted one saved or exported by the editor")
    _check_kinds({key: node["class_type"] for key, node in nodes.items()}, known)
    return nodes


def set_input(prompt: Prompt, change: str) -> None:
    """Changes one setting in place.

    Args:
        prompt: The graph.
        change: ``NODE.INPUT=VALUE``: the node by number, title or type; the value as JSON, otherwise as text.

    Raises:
        GraphRefusedError: If no node or several match, or the input does not exist.
    """
    place, equals, text = change.partition("=")
    name, dot, setting = place.partition(".")
    if not equals or not dot or not name or not setting:
        raise GraphRefusedError(f"{change!r} is not a setting; wanted NODE.INPUT=VALUE, as in KSampler.steps=20")
    node = _find(prompt, name)
    if setting not in node["inputs"]:
        have = ", ".join(key for key, value in node["inputs"].items() if not isinstance(value, list)) or "no settings"
        raise GraphRefusedError(f"{node['class_type']} has no input {setting!r}; it has {have}")
    try:
        node["inputs"][setting] = json.loads(text)
    except ValueError:
        node["inputs"][setting] = text


def set_pictures(prompt: Prompt, names: list[str]) -> None:
    """Assigns uploaded pictures to the nodes that load images, in order of node number.

    Raises:
        GraphRefusedError: If there are more pictures than nodes that load images.
    """
    loaders = [
        node for _, node in sorted(prompt.items(), key=lambda item: _order(item[0])) if node["class_type"] in _PICTURE_LOADERS
    ]
    if len(names) > len(loaders):
        raise GraphRefusedError(f"{len(names)} images for {len(loaders)} nodes that load one ({' or '.join(_PICTURE_LOADERS)})")
    for name, node in zip(names, loaders, strict=False):
        node["inputs"]["image"] = name


def describe_refusal(answer: Mapping[str, Any]) -> str:
    """A server's reasons for refusing a graph, in one line."""
    lines: list[str] = []
    for key, found in answer.get("node_errors", {}).items():
        for error in found.get("errors", ()):
            details = error.get("details") or ""
            lines.append(f"node {key} ({found.get('class_type')}): {error.get('message')}{f' ({details})' if details else ''}")
    if not lines:
        error = answer.get("error")
        lines.append(str(error.get("message") if isinstance(error, Mapping) else error or answer))
    return " ".join("; ".join(lines).split())


def _find(prompt: Prompt, name: str) -> dict[str, Any]:
    if name in prompt:
        return prompt[name]
    found = [node for node in prompt.values() if name in (node.get("_meta", {}).get("title"), node["class_type"])]
    if len(found) != 1:
        kinds = ", ".join(f"{key} ({node['class_type']})" for key, node in prompt.items())
        raise GraphRefusedError(f"{len(found) or 'no'} nodes are called {name!r}; the workflow has {kinds}")
    return found[0]


def _order(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (1 << 60, key)


def _check_kinds(kinds: Mapping[str, str], known: Mapping[str, Any]) -> None:
    missing = sorted({kind for kind in kinds.values() if kind not in known})
    if missing:
        raise GraphRefusedError(
            f"needs nodes that the server does not have: {', '.join(missing)}; install the packs that contain them"
        )


def _convert(workflow: Mapping[str, Any], known: Mapping[str, Any]) -> Prompt:
    subgraphs = {entry.get("id") for entry in (workflow.get("definitions") or {}).get("subgraphs") or ()}
    nodes = {str(node["id"]): node for node in workflow["nodes"] if node.get("type") not in BROWSER_ONLY}
    if any(node["type"] in subgraphs for node in nodes.values()):
        raise GraphRefusedError("has subgraphs; wanted the workflow exported in API format")
    links = {link[0]: (str(link[1]), link[2]) for link in workflow.get("links") or ()}
    running = {
        key: node for key, node in nodes.items() if node.get("mode", 0) not in (_MUTED, _BYPASSED) and node["type"] != "Reroute"
    }
    _check_kinds({key: node["type"] for key, node in running.items()}, known)
    prompt: Prompt = {}
    for key, node in running.items():
        inputs = dict(_read_widgets(node, known[node["type"]]))
        for entry in node.get("inputs") or ():
            source = _follow(entry.get("link"), links, nodes)
            if source:
                inputs[entry["name"]] = source
        prompt[key] = {"class_type": node["type"], "_meta": {"title": node.get("title") or node["type"]}, "inputs": inputs}
    return prompt


def _read_widgets(node: Mapping[str, Any], declared: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings of a node by name: the editor stores values in order, mixed with those of buttons and other widgets."""
    values = node.get("widgets_values") or []
    if isinstance(values, Mapping):
        yield from values.items()
        return
    named = [entry["widget"]["name"] for entry in node.get("inputs") or () if "widget" in entry]
    sections = [declared["input"].get(section) or {} for section in ("required", "optional")]
    accepted = {name for section in sections for name in section}
    remaining = list(values)
    for name in named or _names_in_order([item for section in sections for item in section.items()]):
        if not remaining:
            return
        value = remaining.pop(0)
        if name.partition(".")[0] in accepted:
            yield name, value
        if name in _SEEDS and remaining and remaining[0] in _AFTER_GENERATE:
            remaining.pop(0)


def _names_in_order(inputs: list[tuple[str, Any]]) -> Iterator[str]:
    """The names of the stored values in the format of older editors, which does not list them."""
    for name, (kind, *rest) in inputs:
        options = rest[0] if rest and isinstance(rest[0], Mapping) else {}
        if (isinstance(kind, list) or kind in _WIDGETS) and not options.get("forceInput"):
            yield name
            if options.get("image_upload"):
                yield "upload"


def _follow(link: Any, links: Mapping[Any, tuple[str, int]], nodes: Mapping[str, Any]) -> list[Any] | None:
    """The origin of a link, through reroutes and bypassed nodes; None if no running node is behind it."""
    for _ in range(len(nodes) + 1):
        if link is None or link not in links:
            return None
        key, slot = links[link]
        node = nodes.get(key)
        if node is None or node.get("mode", 0) == _MUTED:
            return None
        if node["type"] == "Reroute":
            link = node["inputs"][0].get("link")
        elif node.get("mode", 0) == _BYPASSED:
            wanted = node["outputs"][slot]["type"]
            link = next((entry.get("link") for entry in node.get("inputs") or () if entry.get("type") == wanted), None)
        else:
            return [key, slot]
    return None
