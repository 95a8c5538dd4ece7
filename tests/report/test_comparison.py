"""Several networks on one image: figures that agree with the metrics, failures told, a sheet of equal cells."""

from types import SimpleNamespace

import pytest
import torch
from PIL import ImageFont
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact

from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.networks.loader import load_model
from fidelity.report import comparison as comparing
from fidelity.report.comparison import (
    COLUMNS,
    Compared,
    compare_models,
    describe_compared,
    draw_difference,
    draw_sheet,
    match_for_screen,
    report_compared,
)
from fidelity.report.measure import measure_images
from fidelity.steps.upscale import upscale

LINE_PX, GAP_PX = 18, 4


@pytest.fixture
def models(compact_file, tmp_path):
    (tmp_path / "text.pth").write_text("no model")
    return {"two": compact_file(2), "text": tmp_path / "text.pth", "four": compact_file(4)}


@pytest.fixture
def small(photo):
    return resize(photo, (48, 56)).clamp(0, 1)


def cell_of(sheet, side, column, row, rows):
    """One picture of a sheet, by its place."""
    top = sheet.shape[2] - (rows - row) * (side + GAP_PX)
    return sheet[..., top : top + side, column * (side + GAP_PX) : column * (side + GAP_PX) + side]


def test_each_gets_the_same_size_and_its_own_figures(models, small, photo):
    seen = []
    results = compare_models(small, models, (96, 112), photo, progress=lambda done, total: seen.append((done, total)))
    assert [one.name for one in results] == ["bicubic", "two", "text", "four"]
    two = results[1]
    expected = upscale(small, load_model(models["two"]), (96, 112), "rgb").image
    assert torch.equal(two.image, expected)
    assert two.drift == measure_drift(small, expected)
    assert two.quality["psnr_y"] == pytest.approx(psnr(photo, expected, luma=True))
    flat = report_compared(results)[1]
    assert (flat["name"], flat["failed"], flat["drift_p99"], flat["psnr_y"]) == (
        "two",
        None,
        two.drift.p99,
        two.quality["psnr_y"],
    )
    assert not any(isinstance(value, dict | list) for value in flat.values())
    assert results[3].image.shape == expected.shape
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_that_fails_is_told_and_does_not_stop_the_rest(models, small):
    results = compare_models(small, models, (96, 112))
    assert results[2].image is None
    assert "damaged or not a model file" in describe_compared(results[2])
    assert results[3].seconds > 0
    assert "psnr" not in results[0].quality and "dB" not in describe_compared(results[0])


def test_the_sheet_shows_the_middle_of_each_at_its_own_pixels(models, small):
    results = compare_models(small, models, (96, 112))
    sheet = draw_sheet(results)
    side = 96
    top = sheet.shape[2] - 2 * (side + GAP_PX)
    assert sheet.shape[3] == 4 * (side + GAP_PX)
    for column, one in enumerate(results):
        cell = cell_of(sheet, side, column, 0, rows=2)
        if one.image is None:
            assert cell.min() == 1
        else:
            assert (cell - one.image[..., 8 : 8 + side]).abs().max() <= 0.5001 / 255
    lines = max(len(comparing._wrap(describe_compared(one), ImageFont.load_default(14), side)) for one in results)
    assert top == lines * LINE_PX + GAP_PX


def test_titles_are_shown_to_their_last_word_and_longer_ones_make_room():
    image = torch.rand(1, 3, 40, 96)
    short, long = (draw_sheet([Compared("bicubic", image), Compared("x", None, failed=words)]) for words in ("no", "no " * 60))
    assert long.shape[2] > short.shape[2] + 10 * LINE_PX
    last = long[0, :, long.shape[2] - 2 * 44 - LINE_PX - GAP_PX : long.shape[2] - 2 * 44, 44:]
    assert last.min() < 0.5


@pytest.mark.parametrize("name", ["a_name_of_one_word_that_is_wider_than_a_line.safetensors", "short"])
def test_no_line_of_a_title_is_wider_than_its_column_and_no_letter_is_lost(name):
    font = ImageFont.load_default(14)
    lines = comparing._wrap(f"{name}: drift 0.12 mean", font, 96)
    assert all(font.getlength(line) <= 96 for line in lines)
    assert "".join(lines).replace(" ", "") == f"{name}:drift0.12mean"
    assert comparing._wrap("ab", font, 1) == ["a", "b"]


def test_with_a_reference_it_comes_first_and_a_third_row_shows_the_difference_from_it(models, small, photo):
    results = compare_models(small, models, (96, 112), photo)
    sheet, side = draw_sheet(results, photo), 96
    assert sheet.shape[3] == 5 * (side + GAP_PX)
    assert (cell_of(sheet, side, 0, 0, rows=3) - photo[..., 8 : 8 + side]).abs().max() <= 0.5001 / 255
    expected = 4 * (results[1].image - photo).abs().mean(dim=1, keepdim=True).clamp(max=0.25)[..., 8 : 8 + side]
    assert (cell_of(sheet, side, 2, 2, rows=3) - expected).abs().max() <= 0.5001 / 255
    assert cell_of(sheet, side, 3, 2, rows=3).min() == 1
    with pytest.raises(ValueError, match="reference is 56x48 px; wanted 112x96"):
        draw_sheet(results, small)


def test_a_difference_counts_what_is_seen_through_alpha_over_grey(random_image):
    image, alpha = random_image(1, 3, 5, 6), torch.zeros(1, 1, 5, 6)
    clear = torch.cat((image, alpha), dim=1)
    assert draw_difference(clear, torch.full((1, 1, 5, 6), 0.5)).max() == 0
    assert draw_difference(image[:, :1], image[:, :1] + 0.1).sub(0.4).abs().max() < 1e-5


def test_what_differs_from_the_reference_is_told_in_ciede2000_as_measuring_does(models, small, photo):
    results = compare_models(small, models, (96, 112), photo)
    two = report_compared(results)[1]
    full = measure_images(photo, results[1].image)["ciede2000"]
    assert (two["ciede2000_mean"], two["ciede2000_p99"], two["ciede2000_max"]) == (full["mean"], full["p99"], full["max"])
    assert {"ciede2000_mean", "ciede2000_p99", "ciede2000_max"} <= {column.key for column in COLUMNS}
    assert f"CIEDE2000 {full['mean']:.2f} mean" in describe_compared(results[1])
    assert "ciede2000_mean" not in report_compared(compare_models(small, models, (96, 112)))[1]


def test_every_row_has_the_same_keys(models, small, photo):
    rows = report_compared(compare_models(small, models, (96, 112), photo))
    assert {tuple(row) for row in rows} == {tuple(rows[1])}
    assert (rows[2]["psnr_y"], rows[2]["seconds"], rows[0]["seconds"]) == (None, None, None)


def test_a_network_of_four_channels_is_told_too(models, small, tmp_path):
    network = Compact(num_in_ch=4, num_out_ch=4, num_feat=8, num_conv=2, upscale=2)
    save_file(network.state_dict(), tmp_path / "rgba.safetensors")
    results = compare_models(small, {"rgba": tmp_path / "rgba.safetensors", **models}, (96, 112))
    assert results[1].failed and "\n" not in results[1].failed
    assert results[2].image is not None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("shapes differ\nTraceback of something"), "shapes differ"),
        (torch.OutOfMemoryError("CUDA out of memory"), "CUDA out of memory"),
        (AttributeError("no such thing"), "no such thing"),
        (KeyError("scale"), "'scale'"),
        (AssertionError(), "AssertionError"),
        (TypeError("wanted int"), "wanted int"),
    ],
)
def test_whatever_a_network_raises_becomes_its_line(models, small, monkeypatch, error, words):
    def fail(image, model, *_):
        if model.scale == 2:
            raise error
        return upscale(image, model, (96, 112))

    monkeypatch.setattr(comparing, "upscale", fail)
    results = compare_models(small, models, (96, 112))
    assert describe_compared(results[1]) == f"two: {words}"
    assert results[3].image is not None
    assert draw_sheet(results).shape[3] == 4 * 100


def test_cancelling_is_not_taken_for_a_failure(models, small, monkeypatch):
    class CancelledError(Exception):
        pass

    def cancel(done, total):
        raise CancelledError

    with pytest.raises(CancelledError):
        compare_models(small, models, (96, 112), progress=cancel)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "upscale", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare_models(small, models, (96, 112))


def test_the_clock_starts_on_a_device_that_is_ready_and_stops_when_it_is_done(models, small, monkeypatch):
    seen = []

    def note(name, result=None):
        return lambda *_: seen.append(name) or result

    monkeypatch.setattr(comparing, "_warm_up", note("ready"))
    monkeypatch.setattr(comparing, "_synchronize", note("done"))
    monkeypatch.setattr(comparing, "upscale", note("work", SimpleNamespace(image=torch.rand(1, 3, 96, 112))))
    monkeypatch.setattr(comparing, "time", SimpleNamespace(perf_counter=note("clock", 1.0)))
    compare_models(small, {"two": models["two"]}, (96, 112))
    assert seen == ["ready", "clock", "work", "done", "clock"]


def test_only_a_gpu_is_waited_for(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "synchronize", seen.append)
    for name in ("cpu", "cuda:1"):
        comparing._synchronize(torch.device(name))
    assert seen == [torch.device("cuda:1")]


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images_are_compared_too(models, random_image, channels):
    image = random_image(1, channels, 20, 24)
    assert draw_sheet(compare_models(image, models, (40, 48))).shape[1] == 3


def test_a_reference_of_another_size_is_refused(models, small, photo):
    with pytest.raises(ValueError, match="reference is 112x96 px; wanted 56x48"):
        compare_models(small, models, (48, 56), photo)


def test_a_pair_for_the_screen_has_one_size_that_a_screen_has_room_for(random_image):
    before, after = match_for_screen(random_image(1, 3, 10, 12), random_image(1, 4, 40, 48))
    assert before.shape == after.shape == (1, 3, 40, 48)
    before, after = match_for_screen(random_image(1, 1, 10, 20), random_image(1, 3, 1500, 3000))
    assert before.shape == after.shape == (1, 3, 1024, 2048)
