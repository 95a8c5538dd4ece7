"""Ctrl-C ends a command with one line and exit code 130."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_AT_IMPORT = """
import sys
from importlib.abc import MetaPathFinder

class Interrupting(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from fidelity.cli import main
main()
"""
_AT_WORK = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import fidelity.{module} as patched
def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause() if hasattr(signal, "pause") else None
patched.{name} = interrupt
from fidelity.cli import main
main()
"""


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("command", ["upscale", "video", "classify", "plan"])
def test_an_interruption_while_the_engine_is_imported_is_told_in_one_line(command, image_file, tmp_path):
    outs = ["-o", tmp_path / "out.mp4"] if command in ("upscale", "video") else []
    done = run(_AT_IMPORT.format(name="torch"), command, image_file(), *outs)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_interruption_before_the_command_is_known_is_told_in_one_line():
    done = run(_AT_IMPORT.format(name="typer"), "video")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "module", "told"),
    [
        (("upscale", "IMAGE", "-o", "out.png"), "job", "interrupted; 0 of 1 finished\n"),
        (("classify", "IMAGE"), "files.read", "interrupted\n"),
        (("measure", "IMAGE", "IMAGE"), "files.read", "interrupted\n"),
        (("compare", "IMAGE", "--models", "drawn-x2", "-o", "out.png"), "files.read", "interrupted\n"),
        (("plan", "IMAGE"), "files.read", "interrupted\n"),
    ],
)
def test_an_interrupted_command_exits_with_130_and_one_line(arguments, module, told, image_file, tmp_path):
    given = {"IMAGE": image_file(), "out.png": tmp_path / "out.png"}
    done = run(_AT_WORK.format(module=module, name="read_image"), *(given.get(one, one) for one in arguments))
    assert (done.returncode, done.stdout + done.stderr) == (130, told)
