"""Queues many prompts on a ComfyUI of its own, interrupts some of them, and prints the memory of its process.

    COMFYUI_PATH=/path/to/ComfyUI python -m tools.benchmarks.host_soak [--prompts 200] [--interrupts 0.3] [--side 500]

Prompts take turns between Auto Upscale and the keep-colors workflow, each with another size, so that nothing comes from the
host's cache. Some are interrupted after a random time. Between them, one prompt that never changes is run again from the
beginning: its result must stay equal to the bit. If memory stays flat after the first prompts, nothing leaks.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.nodes.conftest import start_host

_ROOT = Path(__file__).parents[2]
_EVERY = 10
"""Prompts between two rows of the table, and between two runs of the prompt that never changes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--interrupts", type=float, default=0.3, help="share of prompts that are interrupted")
    parser.add_argument("--side", type=int, default=500, help="side of the picture, in pixels")
    options = parser.parse_args()
    draw, counted = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        server, host = start_host(Path(folder))
        try:
            process = psutil.Process(server.pid)
            picture = _make_picture(options.side)
            name = host.upload(picture)
            _time(host, _graph(name, -1, options.side))  # loads all that is loaded once
            longest = max(_time(host, _graph(name, -2 - index, options.side)) for index in range(2))
            first = _fixed(host, name)
            print(
                "| prompt | finished | interrupted | failed | other results | memory MiB |\n|---|---|---|---|---|---|",
                flush=True,
            )
            for index in range(1, options.prompts + 1):
                prompt = host.start(_graph(name, index, options.side))
                if draw.random() < options.interrupts:
                    time.sleep(draw.uniform(0, longest))
                    host.post("/interrupt", {})
                status, _, messages = host.wait(prompt, 600)
                counted["interrupted" if "execution_interrupted" in messages else status] += 1
                if index % _EVERY == 0:
                    counted["other"] += not torch.equal(_fixed(host, name), first)
                    memory = process.memory_info().rss / 2**20
                    shown = (counted[kind] for kind in ("success", "interrupted", "error", "other"))
                    print(f"| {index} | {' | '.join(map(str, shown))} | {memory:.0f} |", flush=True)
        finally:
            server.terminate()
            server.wait()


def _make_picture(side: int) -> torch.Tensor:
    """Coarse and fine noise, (1, 3, side, side)."""
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), (side, side), mode="bicubic")
    return (coarse + 0.02 * torch.randn(1, 3, side, side)).clamp(0, 1)


def _graph(name: str, index: int, side: int) -> dict[str, Any]:
    workflow = ("auto", "keep-colors-after-any-upscaler")[index % 2]
    graph = json.loads((_ROOT / f"workflows/api/{workflow}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        if node["class_type"] in ("LoadImage", "FidelityLoadImage"):
            node["inputs"]["image"] = name
        if "target" in node["inputs"]:
            node["inputs"] |= {"target": "long edge", "target.long_edge": 2 * side + index}
    return graph


def _fixed(host: Any, name: str) -> torch.Tensor:
    """The result of a prompt that is the same each time; the host is made to forget it."""
    host.post("/free", {"free_memory": True})
    time.sleep(0.5)
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "FidelityLoadUpscaleModel", "inputs": {"model_name": "small.safetensors"}},
        "3": {
            "class_type": "FidelityUpscale",
            "inputs": {"upscale_model": ["2", 0], "image": ["1", 0], "target": "model scale", "channels": "rgb", "tile": 0},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "fixed"}},
    }
    return host.fetch(host.run(graph), "9")


def _time(host: Any, graph: dict[str, Any]) -> float:
    began = time.monotonic()
    host.run(graph)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
