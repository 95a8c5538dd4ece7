"""The options of `fidelity batch` and what it prints, with a driver that does nothing."""

import re
import time

import pytest
from PIL import Image
from typer.testing import CliRunner

from fidelity.batch import driver
from fidelity.batch.results import Tally
from fidelity.cli import app
from fidelity.commands import batch

runner = CliRunner()


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What the driver was asked for."""
    seen = []

    def run_batch(items, work, cluster, progress, say, skip_failed):
        seen.append((items, work, skip_failed))
        work.out.mkdir(exist_ok=True)
        if progress:
            progress("1 of 2", 1, 2)
        return Tally(len(items), done=len(items))

    monkeypatch.setattr(driver, "run_batch", run_batch)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("mine")
    return seen


def call(tmp_path, *options):
    return runner.invoke(app, ["batch", str(tmp_path), "-o", str(tmp_path / "out"), *options])


def said(result):
    """What was printed, without the frame."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


def test_options_reach_the_work_as_those_of_upscale_do(calls, tmp_path):
    chosen = ["--gate", "report", "--consistency", "full", "--channels", "rgb", "--bits", "16", "--flatten", "white"]
    result = call(tmp_path, *chosen, "--max-megapixels", "50", "--skip-failed", "--format", "tiff", "--device", "cpu")
    assert result.exit_code == 0, result.output
    ((item,), work, skip_failed) = calls[0]
    settings, options = work.settings, work.options
    assert (settings.gate, settings.consistency, settings.channels) == ("report", "full", "rgb")
    assert (options.export.bits, options.keeps_depth, options.flatten) == (16, False, (1.0, 1.0, 1.0))
    assert (options.max_megapixels, skip_failed, item.output) == (50.0, True, "a.tif")
    assert "1 enlarged of 1" in result.output and "; 1 other file skipped" in result.output


def test_quiet_prints_nothing(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_SECONDS_BETWEEN_LINES", 0.0)
    assert call(tmp_path, "--quiet").output == ""
    assert "1 of 2\n" in call(tmp_path).stderr  # once a minute, here at once


def test_a_line_of_progress_is_told_once_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with batch.tell_each_minute(quiet=False) as tell:
        for second in range(150):
            now[0] = float(second)
            tell(f"{second} of 150", second, 150)
    assert capsys.readouterr().err == "60 of 150\n120 of 150\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "four"], "--scale is 'four'; wanted a number"),
        (["--long-edge", "1.5"], "--long-edge is '1.5'; wanted a whole number"),
        (["--format", "bmp"], "--format is 'bmp'; wanted png, jpg, jpeg, webp, avif, tif, tiff"),
        (["--workers", "0"], "--workers is 0; wanted at least 1"),
        (["--existing", "skip"], "batch resumes by itself"),
        (["--flatten", "wet"], "--flatten is 'wet'; wanted a color"),
        (["--format", "jpeg", "--bits", "16"], "JPEG stores 8 bits"),
    ],
)
def test_wrong_options_are_told_with_what_was_seen_and_wanted(calls, tmp_path, options, words):
    result = call(tmp_path, *options)
    assert result.exit_code == 2 and words in said(result)
    assert "Input should" not in result.output and "Value error" not in result.output and calls == []


def test_the_known_columns_of_a_manifest_are_in_the_help():
    from fidelity.batch.manifest import ROW_OPTIONS

    told = said(runner.invoke(app, ["batch", "--help"], env={"COLUMNS": "200"}))
    assert f"Columns: source, output, {', '.join(ROW_OPTIONS)}." in told


def test_results_do_not_go_into_the_folder_that_is_searched(calls, tmp_path):
    refused = runner.invoke(app, ["batch", str(tmp_path), "-o", str(tmp_path)])
    assert refused.exit_code == 2 and not calls
    assert "is the input folder" in said(refused)
