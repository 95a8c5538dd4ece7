"""What is installed is what runs: every file of the engine that is no code is named as package data."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_data_file_is_installed():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["fidelity"]
    installed = {path for pattern in patterns for path in (ROOT / "fidelity").glob(pattern)}
    files = {path for path in (ROOT / "fidelity").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} <= installed
