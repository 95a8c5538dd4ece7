"""Target sizes."""

import pytest

from fidelity.decide.planning import Target, resolve_target


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
