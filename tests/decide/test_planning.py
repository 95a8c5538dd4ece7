"""Target sizes, and the passes that reach them."""

import pytest

from fidelity.decide.planning import Network, Target, parse_memory, plan_passes, resolve_target


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), (400, 604)),
        (Target(scale=1.5), (150, 226)),
        (Target(scale=0.001), (1, 1)),
        (Target(size=(7, 9)), (7, 9)),
        (Target(long_edge=302), (200, 302)),
        (Target(megapixels=0.0604), (200, 302)),
    ],
)
def test_targets_resolve_to_exact_sizes(target, expected):
    assert resolve_target((100, 151), target, 4) == expected


def test_two_targets_at_once_are_refused():
    with pytest.raises(ValueError, match="scale and long_edge were given; wanted one of them"):
        Target(scale=2, long_edge=100)


@pytest.mark.parametrize("target", [{"scale": 0}, {"scale": -1.0}, {"size": (0, 5)}, {"long_edge": 0}, {"megapixels": -2.0}])
def test_targets_that_are_not_positive_are_refused(target):
    with pytest.raises(ValueError, match="wanted more than 0"):
        Target(**target)


def test_a_result_too_large_to_write_is_refused():
    with pytest.raises(ValueError, match="wanted at most 65500 a side"):
        resolve_target((1000, 20_000), Target(), 4)


GIB = 2**30
DOUBLE = Network("double", 2, 1.0, 100 * 2**20)
QUADRUPLE = Network("quadruple", 4, 1.1, 200 * 2**20)
RESTORER = Network("restorer", 1, 1.0, 0)


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
        ValueError, match=r"60000x40000 px needs about 10\d\.\d GiB of memory, 8\.0 GiB may be used; wanted at"
    ) as no:
        plan((40_000, 60_000))
    width, height = str(no.value).rsplit("about ", 1)[1].removesuffix(" px").split("x")
    assert plan((int(height), int(width))).peak_bytes <= 8 * GIB
    with pytest.raises(ValueError, match="at most 65500 a side"):
        plan((100, 65_501))
    with pytest.raises(ValueError, match="wanted at least one"):
        plan((200, 300), [])


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * GIB), ("8 GiB", 8 * GIB), ("512m", 512 * 2**20), ("1.5g", 3 * GIB // 2), ("100", 100)]
)
def test_memory_is_read_from_words(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8 apples", "0GB", "1e9"])
def test_memory_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="wanted a size, as in 8GB"):
        parse_memory(text)
