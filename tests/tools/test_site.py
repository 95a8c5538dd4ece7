"""The documentation builds as a site without a broken link."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="no MkDocs found: pip install mkdocs-material")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    home = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert 'href="nodes.html"' in home and 'src="before-after.jpg"' in home
    nodes = (tmp_path / "site/nodes.html").read_text(encoding="utf-8")
    assert 'href="nodes/FidelityAutoUpscale.html"' in nodes
    assert 'href="https://github.com/fidelity-upscale/fidelity-upscale/blob/main/tools/benchmarks/README.md"' in (
        tmp_path / "site/measurements.html"
    ).read_text(encoding="utf-8")
