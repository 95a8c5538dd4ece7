"""What the registry's archive holds, and that it works where nothing else is."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import PACK, start_host

LIMIT_BYTES = 16 * 2**20
NEEDED = (
    "__init__.py",
    "LICENSE",
    "README.md",
    "fidelity/decide/domains.safetensors",
    "fidelity/decide/embedding.safetensors",
    "fidelity/networks/weights/natural-x4.safetensors",
    "js/docs/FidelityUpscale.md",
    "js/results.js",
    "locales/zh/nodeDefs.json",
    "nodes/__init__.py",
    "pyproject.toml",
    "requirements.txt",
    "subgraphs/Auto Upscale Steps (Fidelity).json",
    "workflows/auto.json",
    "workflows/auto.jpg",
)
LEFT_OUT = ("tests/", "tools/", "typings/", ".github/", ".ci/", "docs/", "Makefile")


def list_files(*options):
    if not (PACK / ".git").exists():
        pytest.skip("no git repository: its files are what the archive is made of")
    listed = subprocess.run(["git", "ls-files", "-z", *options], cwd=PACK, capture_output=True, check=True)
    return set(listed.stdout.decode().split("\0")) - {""}


@pytest.fixture(scope="module")
def archived():
    """The files of the archive: all that git tracks, without what .comfyignore names in gitignore's own words."""
    return sorted(list_files() - list_files("-ci", "--exclude-from=.comfyignore"))


def test_it_has_what_runs_and_nothing_else(archived):
    assert set(NEEDED) <= set(archived)
    assert not [name for name in archived if name.startswith(LEFT_OUT)]


def test_it_is_small(archived):
    assert sum((PACK / name).stat().st_size for name in archived) < LIMIT_BYTES


def test_a_workflow_runs_from_it_on_a_clean_host(archived, tmp_path, photo):
    pack: Path = tmp_path / "unpacked"
    for name in archived:
        target = pack / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / name, target)
    process, host = start_host(tmp_path / "base", pack=pack)
    try:
        graph = json.loads((pack / "workflows/api/auto.json").read_text(encoding="utf-8"))
        graph["1"]["inputs"]["image"] = host.upload(photo[..., :40, :50])
        outputs = host.run(graph)
        (saved,) = [key for key, node in graph.items() if node["class_type"] == "FidelitySaveImage"]
        assert host.fetch(outputs, saved).shape == (1, 3, 160, 200)
        assert "auto" in host.get("/workflow_templates")["fidelity-upscale"]
    finally:
        process.terminate()
        process.wait(30)
