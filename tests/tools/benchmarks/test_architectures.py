"""The table of architectures: turns that are paired rightly, arithmetic counted at the real size, failures told."""

import sys
from types import SimpleNamespace

import pytest
import torch
from spandrel.architectures.Compact import Compact

from tools.benchmarks import architectures
from tools.benchmarks.architectures import build, count_flops, median_ratio, more_plain_ways, time_ways

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Has each way take the seconds that it returns, one after another."""
    monkeypatch.setattr(architectures, "measure", lambda work, device: (work(), 1))


def taking(*seconds):
    remaining = list(seconds)
    return lambda: remaining.pop(0)


def test_a_warm_up_counts_where_it_took_long_but_never_what_compiling_took(clock):
    ways = {"plain fp32": taking(30, 40), "ours fp32": taking(9, 5, 6), "compiled fp32": taking(300, 20, 30)}
    seen, failed = time_ways(ways, 2, CPU)
    assert seen["plain fp32"] == {0: (30, 1), 1: (40, 1)}
    assert seen["ours fp32"] == {1: (5, 1), 2: (6, 1)}
    assert seen["compiled fp32"] == {1: (20, 1), 2: (30, 1)}
    assert not failed


def test_ratios_are_of_one_turn():
    base = {0: (30.0, 1), 1: (40.0, 1)}
    assert median_ratio({1: (20.0, 1), 2: (99.0, 1)}, base) == 0.5
    assert median_ratio({2: (70.0, 1)}, base) == 2
    assert median_ratio(base, base) == 1


def test_a_way_that_fails_in_any_way_is_told_and_the_others_go_on(clock):
    def fail():
        raise AssertionError

    seen, failed = time_ways({"plain fp32": taking(1, 2), "ours fp32": fail}, 1, CPU)
    assert (list(seen), failed) == (["plain fp32"], {"ours fp32": "AssertionError"})


@pytest.mark.parametrize(("name", "scale"), [("FSRCNN", 4), ("waifu2x vgg_7", 1), ("LapSRN", 4), ("ESPCN", 4)])
def test_networks_of_random_weights_are_read_at_their_scale(tmp_path, name, scale):
    assert build(name, tmp_path).scale == scale


def test_arithmetic_is_that_of_the_paper_at_the_real_size(tmp_path):
    # Dong, Loy and Tang, 2016: 12464 multiplications for each pixel at 56-12-4 and x4.
    assert count_flops(build("FSRCNN", tmp_path), (40, 50)) == 2 * 12464 * 40 * 50
    cunet = build("waifu2x cunet", tmp_path)  # pads 28 px a side, so small images cost more for each pixel
    assert count_flops(cunet, (64, 64)) / 64**2 > 1.5 * count_flops(cunet, (512, 512)) / 512**2


def test_networks_that_need_numbers_are_counted_on_a_small_image(compact):
    model = compact(2)
    expected = count_flops(model, (64, 128))
    model.descriptor.model.register_forward_pre_hook(lambda _, inputs: inputs[0].mean().item() and None)
    assert count_flops(model, (64, 128)) == expected


def test_plain_ways_agree_and_leave_out_what_a_network_cannot(compact, faulty, random_image):
    image = random_image(1, 3, 9, 10)
    ways = more_plain_ways(compact(2), image, CPU, ["fp32", "bf16"])
    assert list(ways) == ["plain fp32 contiguous", "plain fp32 channels_last", "plain bf16"]
    with torch.inference_mode():
        contiguous, last, half = (work() for work in ways.values())
    assert half.dtype == torch.bfloat16
    assert (last - contiguous).abs().max() < 1e-5
    assert (half.float() - contiguous).abs().max() < 0.05
    assert "plain bf16" not in more_plain_ways(faulty(half=False), image, CPU, ["bf16"])


def test_a_table_is_kept_of_networks_done_and_what_fails_is_a_row(monkeypatch, tmp_path):
    def break_off():
        raise KeyboardInterrupt

    networks = {"small": lambda: Compact(num_feat=8, num_conv=1, upscale=2), "none": lambda: {}["x"], "last": break_off}
    monkeypatch.setattr(architectures, "NETWORKS", networks)
    monkeypatch.setattr(architectures, "peak_flops", lambda device, dtype: 1e12)
    table = tmp_path / "a table.md"
    arguments = ["--size", "12x10", "--rounds", "1", "--no-host", "--device", "cpu", "--output", str(table)]
    monkeypatch.setattr(sys, "argv", ["x", *arguments, "--names", "small", "none", "last"])
    with pytest.raises(KeyboardInterrupt):
        architectures.main()
    text = table.read_text()
    assert "| small | " in text and "| none | | | | 'x' |" in text and "last |" not in text
    assert f"--output '{table}'" in text


def test_an_unknown_name_is_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["x", "--names", "Compact", "Nothing"])
    with pytest.raises(SystemExit):
        architectures.main()
    assert "invalid choice: 'Nothing' (choose from" in capsys.readouterr().err


def test_fp32_is_exact_but_where_tf32_is_asked_for(monkeypatch):
    flags = SimpleNamespace(allow_tf32=True), SimpleNamespace(allow_tf32=False)
    monkeypatch.setattr(torch.backends, "cudnn", flags[0])
    monkeypatch.setattr(torch.backends.cuda, "matmul", flags[1])
    seen = []
    monkeypatch.setattr(architectures, "peak_flops", lambda *_: seen.append([one.allow_tf32 for one in flags]) or 1.0)
    architectures.keep_fp32_exact()
    architectures.measure_peaks(CPU, ["fp32", "tf32", "bf16"])
    assert seen == [[False, False], [True, True], [False, False]]
