"""A page holds every picture and figure, and no name can break out of it."""

import base64
import io
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity.imaging.resample import resize
from fidelity.report.comparison import Compared, compare_models
from fidelity.report.page import build_page


def data_of(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def picture_of(url):
    samples = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return torch.from_numpy(np.asarray(samples.convert("RGB")).copy()).float()


@pytest.fixture
def results(compact_file, photo, tmp_path):
    (tmp_path / "text.pth").write_text("no model")
    small = resize(photo, (48, 56)).clamp(0, 1)
    return small, compare_models(small, {"two": compact_file(2), "</script>": tmp_path / "text.pth"}, (96, 112), photo)


def test_it_shows_what_was_made_to_the_sample(results, photo):
    _, compared = results
    data = data_of(build_page(compared, "a <b>title</b>", photo))
    assert data["title"] == "a <b>title</b>"
    assert [one["name"] for one in data["results"]] == ["reference", "bicubic", "two", "</script>"]
    shown = picture_of(data["results"][2]["picture"])
    assert (shown - compared[1].image[0].permute(1, 2, 0).mul(255).round()).abs().max() <= 1
    assert data["results"][2]["figures"]["psnr_y"] == compared[1].quality["psnr_y"]
    assert "damaged" in data["results"][3]["failed"]
    assert {"drift_mean", "psnr_y", "seconds", "peak_memory_mib"} <= {key for key, _, _ in data["columns"]}


def test_nothing_comes_from_elsewhere_and_there_is_one_script_of_data(results):
    page = build_page(results[1], "</script><script>alert(1)</script>")
    assert page.count("</script>") == 2
    assert not re.search(r"https?://", page)


def test_what_differs_from_the_reference_is_a_column(results, photo):
    data = data_of(build_page(results[1], "title", photo))
    assert {"ciede2000_mean", "ciede2000_p99", "ciede2000_max"} <= {key for key, _, _ in data["columns"]}
    assert data["results"][2]["figures"]["ciede2000_max"] == results[1][1].quality["ciede2000_max"]


@pytest.fixture
def touch_page():
    """Opens a page in Chromium with a touch screen."""
    reason = "no browser found: set CHROMIUM to one, or install Debian's chromium, and Playwright"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip(reason)
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield opened.new_context(has_touch=True, viewport={"width": 800, "height": 700}).new_page()
        opened.close()


def drag(page, start, stop):
    fingers = page.context.new_cdp_session(page)
    points = [[a + (b - a) * step / 10 for a, b in zip(start, stop, strict=True)] for step in range(11)]
    for index, (x, y) in enumerate(points):
        kind = "touchMove" if index else "touchStart"
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    fingers.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(1000)  # for the page to come to rest


def test_a_finger_moves_the_divider_and_scrolls_everywhere_else(touch_page):
    image = torch.rand(1, 3, 400, 600)
    touch_page.set_content(build_page([Compared("bicubic", image), Compared("other", 1 - image)], "title"))
    touch_page.select_option("#zoom", "4")

    def state():
        return touch_page.evaluate(
            "[document.getElementById('stage').scrollLeft, Number(document.getElementById('divider').value)]"
        )

    assert state() == [0, 50]
    drag(touch_page, (500, 400), (200, 400))
    scrolled, divider = state()
    assert (scrolled > 100, divider) == (True, 50)
    touch_page.evaluate("document.getElementById('stage').scrollLeft = 800")
    box = touch_page.locator("#handle").bounding_box()
    middle = box["x"] + box["width"] / 2
    drag(touch_page, (middle, 400), (middle - 240, 400))
    assert state() == [800, pytest.approx(40, abs=0.2)]
    touch_page.touchscreen.tap(middle, 400)
    assert state()[1] == pytest.approx(50, abs=0.2)


def test_columns_that_nothing_has_are_left_out(results):
    _, compared = results
    page = build_page([replace(one, quality={}) for one in compared], "title")
    assert [key for key, _, _ in data_of(page)["columns"]] == [
        *("drift_mean", "drift_p99", "drift_max", "sharpness", "overshoot_percent", "seconds", "peak_memory_mib")
    ]


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_transparent_and_very_large_results_are_shown_by_their_middle(channels):
    large = torch.rand(1, channels, 30, 2100)
    data = data_of(build_page([Compared("bicubic", large)], "wide"))
    assert (data["width"], data["height"]) == (2048, 30)
    assert "Shown: the center 2048x30 px of 2100x30." in data["note"]
