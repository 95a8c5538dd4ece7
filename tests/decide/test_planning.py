"""Target sizes, and the passes that reach them."""

from typing import get_args

import pytest

from fidelity.choices import SizePreset
from fidelity.commands.options import read_target
from fidelity.decide.planning import NetworkCost, plan_passes
from fidelity.decide.target import PRESETS, PrintSize, Target, parse_memory, parse_print_size, resolve_target
from fidelity.errors import RefusedError
from fidelity.steps.chain import BLOCK_BYTES


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), (400, 604)),
        (Target(scale=1.5), (150, 226)),
        (Target(scale=0.001), (1, 1)),
        (Target(size=(7, 9)), (7, 9)),
        (Target(long_edge=302), (200, 302)),
        (Target(megapixels=0.0604), (200, 302)),
        (Target(print_size=PrintSize(10, 15, 254)), (993, 1500)),  # 1000 x 1500 dots: the longer sides meet
        (Target(print_size=PrintSize(15, 10, 254)), (993, 1500)),  # the sheet is turned as the image is
        (Target(print_size=PrintSize(20, 20, 127)), (662, 1000)),
        (Target(fit=(500, 302)), (200, 302)),
        (Target(fit=(200, 9000)), (200, 302)),
        (Target(screen=(302, 900)), (302, 456)),
        (Target(screen=(900, 302)), (302, 456)),  # turned
    ],
)
def test_targets_resolve_to_exact_sizes(target, expected):
    assert resolve_target((100, 151), target, 4) == expected


def test_two_targets_at_once_are_refused():
    with pytest.raises(ValueError, match="scale and long_edge were given; wanted only one of them"):
        Target(scale=2, long_edge=100)


@pytest.mark.parametrize("size", [400, "4k", (400,), (300.5, 400), (True, 2), (0, 5), (1, 2, 3)])
def test_a_size_that_is_not_two_whole_numbers_is_refused(size):
    for name in ("size", "fit"):
        with pytest.raises(RefusedError, match=rf"^{name} is .*; wanted "):
            Target(**{name: size})


def test_any_sequence_of_two_is_a_size():
    assert Target(size=[300, 400.0]).size == (300, 400)


@pytest.mark.parametrize("target", [{"scale": 0}, {"scale": -1.0}, {"long_edge": 0}, {"megapixels": -2.0}])
def test_targets_that_are_not_positive_are_refused(target):
    with pytest.raises(ValueError, match="wanted a finite number above 0"):
        Target(**target)


def test_a_result_too_large_to_write_is_refused():
    with pytest.raises(ValueError, match="wanted at most 65500 per side"):
        resolve_target((1000, 20_000), Target(), 4)


GIB = 2**30
DOUBLE = NetworkCost("double", 2, 1.0, 100 * 2**20)
QUADRUPLE = NetworkCost("quadruple", 4, 1.1, 200 * 2**20)
RESTORER = NetworkCost("restorer", 1, 1.0, 0)


def plan(target, networks=(DOUBLE, QUADRUPLE), source=(100, 150), memory=8 * GIB):
    return plan_passes(source, target, networks, memory)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((200, 300), ["double (200, 300)"]),
        ((400, 600), ["quadruple (400, 600)"]),
        ((120, 180), ["double (200, 300)", "resize (120, 180)"]),
        ((300, 450), ["quadruple (400, 600)", "resize (300, 450)"]),  # rather than x2 and a resize that enlarges
        ((600, 900), ["quadruple (400, 600)", "resize (600, 900)"]),  # 1.5 is left to the resize: not worth a second pass
        ((602, 903), ["double (200, 300)", "quadruple (800, 1200)", "resize (602, 903)"]),
        ((800, 1200), ["double (200, 300)", "quadruple (800, 1200)"]),  # the smaller first: the second costs most
        ((1600, 2400), ["quadruple (400, 600)", "quadruple (1600, 2400)"]),
        ((100, 150), ["resize (100, 150)"]),
        ((50, 75), ["resize (50, 75)"]),
        ((400, 150), ["quadruple (400, 600)", "resize (400, 150)"]),  # the larger of the two factors counts
        ((1, 1), ["resize (1, 1)"]),
    ],
)
def test_the_cheapest_chain_is_planned(target, expected):
    planned = plan(target)
    assert [f"{step.network or step.kind} {step.result}" for step in planned.passes] == expected
    assert planned.passes[0].source == (100, 150)
    assert planned.passes[-1].result == target
    for step, following in zip(planned.passes, planned.passes[1:], strict=False):
        assert step.result == following.source


@pytest.mark.parametrize(
    ("networks", "target", "expected"),
    [
        ([DOUBLE], (800, 1200), ["double"] * 3),
        ([QUADRUPLE], (200, 300), ["quadruple", None]),
        ([QUADRUPLE], (800, 1200), ["quadruple", "quadruple", None]),
        ([RESTORER], (100, 150), ["restorer"]),
        ([RESTORER], (200, 300), ["restorer", None]),
        ([RESTORER, DOUBLE], (400, 600), ["restorer", None]),
    ],
)
def test_plans_make_do_with_the_networks_there_are(networks, target, expected):
    assert [step.network for step in plan(target, networks).passes] == expected


def test_work_is_counted_in_pixels_that_go_in():
    assert plan((200, 300)).work == 100 * 150
    assert plan((800, 1200)).work == pytest.approx(100 * 150 + 1.1 * 200 * 300)
    assert plan((50, 75)).work == 0


def test_memory_counts_both_images_the_tile_and_the_last_step():
    planned = plan((400, 600))
    assert planned.passes[0].peak_bytes == 4 * 3 * (100 * 150 + 400 * 600) + QUADRUPLE.tile_bytes
    assert planned.peak_bytes >= planned.passes[0].peak_bytes
    big = plan((20_000, 30_000), source=(5000, 7500), memory=100 * GIB)
    assert big.peak_bytes > big.passes[0].peak_bytes  # holding the colours takes more than the network


def test_less_memory_takes_a_chain_with_smaller_tiles():
    small = plan((400, 600), memory=150 * 2**20)
    assert [step.network for step in small.passes] == ["double", "double"]


def test_what_cannot_be_made_is_refused_with_what_could():
    with pytest.raises(
        ValueError, match=r"60000x40000 px needs about 40\.\d GiB of memory, the limit is 8\.0 GiB; wanted at"
    ) as no:
        plan((40_000, 60_000))
    width, height = str(no.value).rsplit("about ", 1)[1].removesuffix(" px").split("x")
    assert plan((int(height), int(width))).peak_bytes <= 8 * GIB
    with pytest.raises(ValueError, match="at most 65500 per side"):
        plan((100, 65_501))
    with pytest.raises(ValueError, match="wanted at least one"):
        plan((200, 300), [])


@pytest.mark.parametrize(
    ("text", "sheet"),
    [
        ("30x20cm@240", PrintSize(30, 20, 240)),
        ("297 x 210 mm @ 300", PrintSize(29.7, 21, 300)),
        ("8x10in", PrintSize(20.32, 25.4, 300)),
        ("a3@200", PrintSize(42.0, 29.7, 200)),
        ("A6", PrintSize(14.8, 10.5)),
    ],
)
def test_print_sizes_are_read_from_words(text, sheet):
    read = parse_print_size(text)
    assert (read.height_cm, read.width_cm, read.dpi) == pytest.approx((sheet.height_cm, sheet.width_cm, sheet.dpi))


@pytest.mark.parametrize("text", ["", "30x20", "30cm", "30x20cm@", "ax bcm", "a7", "a3@"])
def test_print_sizes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="as in 30x20cm@300"):
        parse_print_size(text)


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        ("web-2k", (1365, 2048)),
        ("720p", (720, 1080)),
        ("1440p", (1440, 2160)),
        ("1080p", (1080, 1620)),
        ("4k", (2160, 3240)),
        ("8k", (4320, 6480)),
        ("print-a4-300dpi", (2339, 3508)),
    ],
)
def test_presets_are_sizes(preset, size):
    height, width = resolve_target((100, 150), PRESETS[preset], 4)
    assert (height, width) == pytest.approx(size, abs=1) and set(PRESETS) == set(get_args(SizePreset))


def test_a_preset_and_another_size_are_refused():
    assert read_target(None, None, None, None, None, "8k") == Target(screen=(4320, 7680))
    with pytest.raises(RefusedError, match="preset 8k and another size were given; wanted only one of them"):
        read_target(2.0, None, None, None, None, "8k")


def test_restoring_comes_first_and_costs_like_a_network():
    planned = plan_passes((100, 150), (400, 600), [QUADRUPLE], 8 * GIB, restorer=RESTORER)
    assert [(step.network, step.result) for step in planned.passes] == [
        ("restorer", (100, 150)),
        ("quadruple", (400, 600)),
    ]
    assert planned.work == pytest.approx((1 + 1.1) * 100 * 150)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((400, 600), ["double", "clean", "double"]),
        ((500, 750), ["double", "clean", "double", "resize"]),
        ((200, 300), ["double"]),
        ((800, 1200), ["double", "clean", "double", "clean", "double"]),
    ],
)
def test_stepwise_doubles_and_cleans_in_between(target, expected):
    planned = plan_passes((100, 150), target, [DOUBLE, QUADRUPLE], 8 * GIB, stepwise=True)
    assert [step.network or step.kind for step in planned.passes] == expected


def test_a_filter_that_mends_is_planned_too_and_costs_no_network():
    planned = plan_passes((100, 150), (400, 600), [QUADRUPLE], 8 * GIB, debands=True)
    assert [(step.kind, step.network) for step in planned.passes] == [("deband", None), ("network", "quadruple")]
    assert planned.work == pytest.approx(1.1 * 100 * 150)


def test_stepwise_makes_do_without_a_doubling_network():
    planned = plan_passes((100, 150), (400, 600), [QUADRUPLE], 8 * GIB, stepwise=True)
    assert [step.network for step in planned.passes] == ["quadruple"]


def test_what_lies_between_is_never_counted_whole():
    near, far = (plan(target, [QUADRUPLE], (2000, 3000), 100 * GIB) for target in ((16_000, 24_000), (30_000, 45_000)))
    for planned, target in ((near, (16_000, 24_000)), (far, (30_000, 45_000))):
        images = 4 * 3 * (2000 * 3000 + target[0] * target[1])
        assert planned.passes[0].peak_bytes == images + BLOCK_BYTES + QUADRUPLE.tile_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * GIB), ("8 GiB", 8 * GIB), ("512m", 512 * 2**20), ("1.5g", 3 * GIB // 2), ("100K", 100 * 2**10)],
)
def test_memory_is_read_from_words(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8 apples", "0GB", "1e9", "4"])
def test_memory_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="wanted a number and a unit, as in 8GB"):
        parse_memory(text)


def test_memory_that_holds_no_enlargement_is_told_without_a_size_of_nothing():
    with pytest.raises(ValueError, match="that is too little to enlarge this image at all"):
        plan_passes((1000, 1000), (4000, 4000), [QUADRUPLE], 10 * 2**20)
