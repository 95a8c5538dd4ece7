"""`fidelity queue` against a real server: results as through the API by hand, refusals in one line, cancelling, two at once."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.comfy.client import ComfyClient
from fidelity.comfy.graphs import to_prompt

WORKFLOWS = Path(__file__).parents[2] / "workflows"
API_FORM = WORKFLOWS / "api/keep-colors-after-any-upscaler.json"
QUEUE = (sys.executable, "-m", "fidelity", "queue")


@pytest.fixture
def picture(photo, tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray((photo[0].movedim(0, -1) * 255).round().byte().numpy()).save(path)
    return path


def queue(host, workflow, *arguments):
    return CliRunner().invoke(app, ["queue", str(workflow), "--server", host.url, *map(str, arguments)])


def said(told):
    return " ".join(told.output.split())


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_the_editors_form_is_what_the_apis_form_says(host, path):
    known = ComfyClient(host.url).known_nodes()
    drawn = to_prompt(json.loads(path.read_text(encoding="utf-8")), known)
    api = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    for key, node in api.items():
        assert drawn[key]["class_type"] == node["class_type"]
        for name, value in node["inputs"].items():
            assert drawn[key]["inputs"].get(name) == value, f"{node['class_type']}.{name}"


@pytest.mark.parametrize("form", ["keep-colors-after-any-upscaler.json", "api/keep-colors-after-any-upscaler.json"])
def test_a_workflow_runs_and_its_results_come_down_whole(host, picture, tmp_path, form):
    out = tmp_path / "out"
    told = queue(host, WORKFLOWS / form, "--image", picture, "--set", "FidelityUpscale.channels=rgb", "-o", out)
    assert told.exit_code == 0, told.output
    (made,) = out.iterdir()
    assert str(made) in told.output.replace("\n", "")
    with Image.open(made) as opened:
        assert opened.size == (448, 384)
        assert json.loads(opened.info["prompt"])["3"]["inputs"]["channels"] == "rgb"


@pytest.mark.parametrize(
    ("workflow", "arguments", "words"),
    [
        ("photo-sdxl-tile.json", (), "ckpt_name: 'sd_xl_base_1.0.safetensors' not in"),
        ("keep-colors-after-any-upscaler.json", ("--set", "FidelityConsistency.mode=wrong"), "mode: 'wrong' not in"),
        ("keep-colors-after-any-upscaler.json", ("--set", "Nobody.mode=1"), "no nodes are called 'Nobody'"),
        ("keep-colors-after-any-upscaler.jpg", (), "wanted a ComfyUI workflow"),
        ("nothing.json", (), "no such file"),
    ],
)
def test_what_cannot_run_is_told_in_one_line_and_nothing_is_written(host, picture, tmp_path, workflow, arguments, words):
    told = queue(host, WORKFLOWS / workflow, "--image", picture, *arguments, "-o", tmp_path / "out")
    assert told.exit_code == 1
    assert words in said(told)
    assert "Traceback" not in told.output
    assert not (tmp_path / "out").exists()


def test_every_picture_of_a_folder_is_run_and_a_lost_server_is_done_without(host, picture, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(picture, folder / "a.png")
    shutil.copy(picture, folder / "deep/b.png")
    (folder / "bad.png").write_bytes(b"no picture")
    told = queue(host, API_FORM, "--each", folder, "--server", host.url, "-o", out)
    assert told.exit_code == 1 and "2 enlarged, 1 failed of 3" in said(told), told.output
    for name in ("a.png", "deep/b.png"):
        with Image.open(out / name) as made:
            assert made.size == (448, 384)
    rows = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    assert sorted(row["status"] for row in rows) == ["done", "done", "failed"] and (out / "batch.html").is_file()
    (folder / "bad.png").unlink()
    again = queue(host, API_FORM, "--each", folder, "-o", out)
    assert again.exit_code == 0 and "2 done before" in said(again), again.output
    refused = queue(host, API_FORM, "--each", folder, "--image", picture, "-o", out)
    assert refused.exit_code == 2


def test_a_node_that_fails_is_named(host, picture, tmp_path):
    graph = json.loads(API_FORM.read_text(encoding="utf-8"))
    graph["2"]["inputs"]["model_name"] = "text.pth"
    (tmp_path / "broken.json").write_text(json.dumps(graph))
    told = queue(host, tmp_path / "broken.json", "--image", picture, "-o", tmp_path / "out")
    assert told.exit_code == 1
    assert "node 2 (Load Upscale Model (Fidelity)): text.pth: damaged or not a model file" in said(told)


def test_a_server_that_lacks_the_pack_or_is_not_there_is_told(picture, tmp_path, host):
    (tmp_path / "other.json").write_text(json.dumps({"1": {"class_type": "SomebodyElses", "inputs": {}}}))
    assert "does not have: SomebodyElses" in said(queue(host, tmp_path / "other.json", "-o", tmp_path))
    told = CliRunner().invoke(
        app, ["queue", str(WORKFLOWS / "auto.json"), "--server", "http://127.0.0.1:9", "-o", str(tmp_path / "out")]
    )
    assert told.exit_code == 1
    assert "no answer from ComfyUI" in said(told)
    told = CliRunner().invoke(app, ["queue", str(WORKFLOWS / "auto.json"), "--server", "ftp://x", "-o", str(tmp_path / "out")])
    assert "is not a server address" in said(told)


def test_two_at_once_get_each_their_own(host, photo, tmp_path):
    results = {}

    def run(width):
        path = tmp_path / f"{width}.png"
        Image.fromarray((photo[0, :, :40, :width].movedim(0, -1) * 255).round().byte().numpy()).save(path)
        out = tmp_path / f"out-{width}"
        told = subprocess.run(
            [*QUEUE, str(API_FORM), "--server", host.url, "--image", str(path), "-o", str(out)],
            capture_output=True,
            text=True,
            check=False,
            cwd=WORKFLOWS.parent,
        )
        results[width] = (told.returncode, told.stderr, [Image.open(made).size for made in out.glob("*.png")])

    threads = [threading.Thread(target=run, args=(width,)) for width in (30, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {width: found[2] for width, found in results.items()} == {30: [(120, 160)], 50: [(200, 160)]}, results


def _slow_graph(*, steps: int, seed: int) -> dict:
    """A prompt that takes half a second a step."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
        "2": {"class_type": "TinyModels", "inputs": {"kind": "sd15", "slow": 0.5}},
        "3": {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 0], "vae": ["2", 3]}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["2", 0], "positive": ["2", 1], "negative": ["2", 2], "latent_image": ["3", 0]},
                **{"seed": seed, "steps": steps, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["2", 3]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "slow"}},
    }


def test_a_lost_connection_is_taken_up_again(host, picture, monkeypatch):
    import fidelity.comfy.client as client_module

    broken = []

    def breaking(*arguments):
        if len(broken) < 2:
            broken.append(arguments)
            raise ConnectionResetError("gone")
        return heard(*arguments)

    heard = client_module._hear
    monkeypatch.setattr(client_module, "_hear", breaking)
    monkeypatch.setattr(client_module.time, "sleep", lambda _: None)
    client = ComfyClient(host.url)
    prompt = _slow_graph(steps=4, seed=time.time_ns() % 2**32)  # never cached, and still running at the second break
    prompt["1"]["inputs"]["image"] = client.upload(picture)
    assert client.wait(client.queue(prompt), prompt)
    assert len(broken) == 2


def test_ctrl_c_cancels_on_the_server_too(host, picture, tmp_path):
    graph = _slow_graph(steps=200, seed=1)
    (tmp_path / "slow.json").write_text(json.dumps(graph))
    # A shell's background jobs ignore Ctrl-C, and so would what they start.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from fidelity.cli import main; main()"
    command = [sys.executable, "-c", heed, "queue", str(tmp_path / "slow.json"), "--server", host.url]
    process = subprocess.Popen(
        [*command, "--image", str(picture), "-o", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=WORKFLOWS.parent,
    )
    until = time.monotonic() + 60
    while '"slow"' not in json.dumps(host.get("/queue")["queue_running"]) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told == "interrupted; the run is canceled\n"
    while host.get("/queue")["queue_running"] and time.monotonic() < until:
        time.sleep(0.2)
    assert host.get("/queue")["queue_running"] == []
    assert not (tmp_path / "out").exists()


def test_the_python_example_of_the_docs_runs(host, picture, tmp_path):
    page = (WORKFLOWS.parent / "docs/http-api.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]
    code = (
        example.replace("http://127.0.0.1:8188", host.url)
        .replace("photo.jpg", str(picture))
        .replace('"out"', repr(str(tmp_path)))
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=WORKFLOWS.parent)
    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.glob("keep-colors*.png"))


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="no curl or no jq: install both to run this")
def test_the_curl_example_of_the_docs_runs(host, picture, tmp_path):
    page = (WORKFLOWS.parent / "docs/http-api.md").read_text(encoding="utf-8")
    (example,) = [block for block in page.split("```")[1::2] if "jq " in block]
    (tmp_path / "photo.jpg").write_bytes(picture.read_bytes())
    (tmp_path / "workflows").symlink_to(WORKFLOWS)
    code = example.replace("http://127.0.0.1:8188", host.url)
    ran = subprocess.run(["bash", "-ec", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    answer = json.loads(ran.stdout[ran.stdout.rindex('{"prompt_id"') :])
    assert answer["node_errors"] == {}
    host.wait(answer["prompt_id"])
    told = host.get(f"/history/{answer['prompt_id']}")[answer["prompt_id"]]["outputs"]
    assert any("drift" in output.get("fidelity", [""])[0] for output in told.values())
