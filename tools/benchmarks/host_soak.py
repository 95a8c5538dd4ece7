"""Queues the keep-colors workflow many times on a running ComfyUI and prints the memory of its process.

    python -m tools.benchmarks.host_soak --server http://127.0.0.1:8188 --pid PID --image NAME [--prompts 50]

NAME is an image in the host's input folder. Every prompt requests a different size, so that nothing comes from the
host's cache. If memory stays flat after the tenth prompt, nothing leaks.
"""

import argparse
import json
import time
import urllib.request
from pathlib import Path

import psutil


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--prompts", type=int, default=50)
    options = parser.parse_args()
    process = psutil.Process(options.pid)
    graph = json.loads(
        (Path(__file__).parents[2] / "workflows/api/keep-colors-after-any-upscaler.json").read_text(encoding="utf-8")
    )
    graph["1"]["inputs"]["image"] = options.image
    print("prompt  seconds  memory MiB")
    for index in range(options.prompts):
        graph["3"]["inputs"] |= {"target": "long edge", "target.long_edge": 1000 + index}
        started = time.perf_counter()
        body = json.dumps({"prompt": graph}).encode()
        request = urllib.request.Request(options.server + "/prompt", body, {"Content-Type": "application/json"})
        prompt = json.load(urllib.request.urlopen(request))["prompt_id"]
        while not (history := json.load(urllib.request.urlopen(f"{options.server}/history/{prompt}"))):
            time.sleep(0.05)
        status = history[prompt]["status"]["status_str"]
        if status != "success":
            raise SystemExit(f"prompt {index + 1} ended with status {status}")
        if index % 5 in (0, 4):
            memory = process.memory_info().rss / 2**20
            print(f"{index + 1:>6}{time.perf_counter() - started:>9.2f}{memory:>12.0f}", flush=True)


if __name__ == "__main__":
    main()
