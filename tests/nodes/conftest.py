"""A real ComfyUI on the CPU, with the pack in custom_nodes, for as long as the tests here run."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.RestoreFormer import RestoreFormer

from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.architectures.waifu2x import UpConv7

PACK = Path(__file__).parents[2]
NO_HOST = "no ComfyUI found: set COMFYUI_PATH to a checkout whose .venv (or COMFYUI_PYTHON) has its requirements"


def find_host():
    """The host by COMFYUI_PATH, else the folder whose custom_nodes the pack lies in, else comfy-cli's default."""
    named = os.environ.get("COMFYUI_PATH")
    for folder in [Path(named)] if named else [PACK.parents[1], Path.home() / "comfy/ComfyUI"]:
        if (folder / "main.py").is_file() and (folder / "comfy").is_dir():
            return folder
    return None


def find_python(host):
    """A Python with the host's requirements."""
    candidates = [os.environ.get("COMFYUI_PYTHON"), host / ".venv/bin/python", host / "venv/bin/python", sys.executable]
    for python in candidates:
        if python and Path(python).is_file():
            check = [str(python), "-c", "import torch, torchvision, torchaudio, aiohttp, av, comfy_kitchen, spandrel"]
            if subprocess.run(check, capture_output=True, check=False).returncode == 0:
                return str(python)
    return None


class Host:
    """Talks to a server over its HTTP API."""

    def __init__(self, url, models, python):
        self.url = url
        self.models = models
        self.python = python

    def has(self, library):
        """Whether the host's Python has a library."""
        check = f"import importlib.util; raise SystemExit(importlib.util.find_spec({library!r}) is None)"
        return subprocess.run([self.python, "-c", check], check=False).returncode == 0

    def read(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def get(self, path):
        return json.loads(self.read(path))

    def post(self, path, content):
        data = json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        return json.loads(body) if body else {}

    def upload(self, image, name=None):
        """Uploads a (1, C, H, W) image and returns the name it has there."""
        samples = (image[0].movedim(0, -1) * 255).round().to(torch.uint8).numpy()
        buffer = io.BytesIO()
        Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(buffer, "PNG")
        return self.upload_file(buffer.getvalue(), name or f"{uuid.uuid4().hex}.png")

    def upload_file(self, content, name):
        """Uploads a file as it is and returns the name it has there."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with urllib.request.urlopen(urllib.request.Request(self.url + "/upload/image", body, kind), timeout=60) as answer:
            return json.load(answer)["name"]

    def start(self, graph):
        answer = self.post("/prompt", {"prompt": graph})
        assert "prompt_id" in answer, answer
        return answer["prompt_id"]

    def wait(self, prompt, seconds=180):
        """The finished prompt's (status, outputs, error message)."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            history = self.get(f"/history/{prompt}")
            if prompt in history:
                entry = history[prompt]
                messages = dict(entry["status"]["messages"])
                return entry["status"]["status_str"], entry["outputs"], messages
            time.sleep(0.05)
        raise TimeoutError(f"prompt {prompt} took more than {seconds} s")

    def run(self, graph):
        """Runs a graph that must succeed, and returns its outputs."""
        status, outputs, messages = self.wait(self.start(graph))
        assert status == "success", messages.get("execution_error", messages)
        return outputs

    def fetch(self, outputs, node):
        """The first image that a node saved, (1, C, H, W)."""
        place = outputs[node]["images"][0]
        query = urllib.parse.urlencode({key: place[key] for key in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{self.url}/view?{query}", timeout=60) as answer:
            samples = np.asarray(Image.open(io.BytesIO(answer.read())))
        return torch.from_numpy(samples.copy()).movedim(-1, 0)[None].float() / 255


def start_host(base, *options, pack=PACK):
    host = find_host()
    python = find_python(host) if host else None
    if not python:
        pytest.skip(NO_HOST)
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes/fidelity-upscale").symlink_to(pack)
    (base / "custom_nodes/tiny_models").symlink_to(Path(__file__).parent / "tiny_models")
    models = base / "models/upscale_models"
    models.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(Compact(num_feat=8, num_conv=2, upscale=2).state_dict(), models / "small.safetensors")
    save_file(UpConv7(3, (4, 4, 8, 8, 8, 8)).state_dict(), models / "upconv.safetensors")
    save_file(FFDNet(3, 8, 12).state_dict(), models / "restores.safetensors")
    face = RestoreFormer(ch=32, z_channels=32, embed_dim=32, n_embed=8, num_res_blocks=1, ch_mult=(1,) * 6)
    save_file({key: value.clone().contiguous() for key, value in face.state_dict().items()}, models / "face.safetensors")
    (models / "text.pth").write_text("no model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (base / "host.log").open("w")
    command = [python, "main.py", "--cpu", "--port", str(port), "--base-directory", str(base), *options]
    if frontend := os.environ.get("COMFYUI_FRONTEND"):
        command += ["--front-end-root", frontend]
    process = subprocess.Popen(command, cwd=host, stdout=log, stderr=subprocess.STDOUT)
    client = Host(f"http://127.0.0.1:{port}", models, python)
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            client.get("/system_stats")
            return process, client
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    process.kill()
    pytest.fail("the host did not start:\n" + (base / "host.log").read_text(encoding="utf-8")[-3000:])


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    process, client = start_host(tmp_path_factory.mktemp("host"))
    yield client
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="session")
def half_host(tmp_path_factory):
    """A host that keeps images in float16."""
    process, client = start_host(tmp_path_factory.mktemp("half-host"), "--fp16-intermediates")
    yield client
    process.terminate()
    process.wait(30)
