"""Writes the nodes' English texts in the frontend's format, and lists texts missing from other languages.

    python -m tools.showcase.locales --server http://127.0.0.1:8188

To add a language, copy locales/en to a folder named after its code (fr, ko, pt-BR) and translate the values, not the keys.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fidelity.comfy.client import ComfyClient

FOLDER = Path(__file__).parents[2] / "locales"
_FILE = "nodeDefs.json"


def collect_texts(known: dict[str, Any]) -> dict[str, Any]:
    """Collects the texts of the pack's nodes.

    Args:
        known: The host's response from /object_info.

    Returns:
        For each node: display_name, description, and the name and tooltip of inputs (by name) and outputs (by index).
    """
    return {name: _node_texts(node) for name, node in sorted(known.items()) if name.startswith("Fidelity")}


def flatten(texts: dict[str, Any], path: str = "") -> dict[str, str]:
    """Flattens nested texts into a dictionary by full key."""
    flat: dict[str, str] = {}
    for key, value in texts.items():
        flat |= flatten(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat


def _node_texts(node: dict[str, Any]) -> dict[str, Any]:
    outputs = zip(node["output_name"], node["output_tooltips"], strict=True)
    return {
        "display_name": node["display_name"],
        "description": node["description"],
        "inputs": {name: _texts(label, tip) for name, label, tip in _inputs(node["input"])},
        "outputs": {str(place): _texts(name, tip) for place, (name, tip) in enumerate(outputs)},
    }


def _texts(name: str, tooltip: str | None) -> dict[str, str]:
    return {"name": name} | ({"tooltip": tooltip} if tooltip else {})


def _inputs(declared: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yields key, label and tooltip of every input; the key of an input inside a choice starts with the choice's name."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in declared.get(group, {}).items():
            options = rest[0] if rest else {}
            yield f"{path}{name}", name, options.get("tooltip")
            if kind == "COMFY_DYNAMICCOMBO_V3":
                for option in options["options"]:
                    yield from _inputs(option["inputs"], f"{path}{name}_")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    texts = collect_texts(ComfyClient(parser.parse_args().server).known_nodes())
    target = FOLDER / "en" / _FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    wanted = flatten(texts)
    for folder in sorted(FOLDER.iterdir()):
        given = flatten(json.loads((folder / _FILE).read_text(encoding="utf-8")))
        for key in sorted(set(wanted) ^ set(given)):
            print(f"{folder.name}: {'missing' if key in wanted else 'no longer needed'}: {key}")


if __name__ == "__main__":
    main()
