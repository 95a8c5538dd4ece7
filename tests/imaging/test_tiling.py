"""Plans of tiles: tables by hand, and laws over many sizes."""

import itertools

import pytest
import torch

from fidelity.imaging.tiling import Span, Tile, choose_window, fade_weights, plan_spans, plan_tiles, split_tile

LENGTHS = [1, 7, 33, 100, 257, 960, 1999]
CONTEXTS = [0, 5, 18]
FADES = [0, 8]
WINDOWS = [64, 100, 350]


@pytest.mark.parametrize(
    ("length", "window", "context", "fade", "expected"),
    [
        (50, 64, 8, 0, [((0, 50), (0, 50), 0, 0)]),
        (64, 64, 8, 0, [((0, 64), (0, 64), 0, 0)]),
        (100, 64, 8, 0, [((0, 58), (0, 50), 0, 0), ((42, 100), (50, 100), 0, 0)]),
        (100, 48, 8, 0, [((0, 44), (0, 36), 0, 0), ((28, 72), (36, 64), 0, 0), ((56, 100), (64, 100), 0, 0)]),
        (100, 64, 4, 8, [((0, 58), (0, 54), 0, 8), ((42, 100), (46, 100), 8, 0)]),
    ],
)
def test_spans_lie_where_a_hand_would_put_them(length, window, context, fade, expected):
    assert plan_spans(length, window, context, fade) == [Span(*row) for row in expected]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("multiple", [2, 8])
def test_windows_start_on_the_networks_grid(length, multiple):
    spans = plan_spans(length, 100, 9, 4, multiple)
    check_cover(spans, length, 9)
    assert all(span.window[0] % multiple == 0 for span in spans)
    assert len({span.length for span in spans}) == 1
    assert spans[0].length <= 100


def check_cover(spans, length, context, scale=2):
    """Every sample has weight one, and context on each side that is not a border."""
    total = torch.zeros(length * scale)
    for span in spans:
        start, stop = span.core
        weights = fade_weights(span, scale)
        total[start * scale : stop * scale] += 1 if weights is None else weights
        assert 0 <= span.window[0] <= start < stop <= span.window[1] <= length
        assert span.window[0] == 0 or start - span.window[0] >= context
        assert span.window[1] == length or span.window[1] - stop >= context
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("context", "fade", "window"), list(itertools.product(CONTEXTS, FADES, WINDOWS)))
def test_spans_are_equal_and_cover_every_sample_once_with_context(length, context, fade, window):
    spans = plan_spans(length, window, context, fade)
    check_cover(spans, length, context)
    assert len({span.length for span in spans}) == 1
    assert spans[0].length <= window


@pytest.mark.parametrize("fade", FADES)
def test_tiles_split_twice_still_cover_every_sample_once(fade):
    size, context = (130, 470), 6
    tiles = plan_tiles(size, (100, 200), context, fade)
    for _ in range(2):
        tiles = [part for tile in tiles for part in split_tile(tile, size, context, fade)]
    for axis, length in enumerate(size):
        spans = {(tile.rows, tile.columns)[axis] for tile in tiles}
        check_cover(sorted(spans, key=lambda span: span.core), length, context)


def test_a_half_that_needs_as_large_a_window_is_not_made():
    span = Span((0, 64), (0, 64), 0, 0)
    assert split_tile(Tile(span, span), (64, 64), 32) == []


def test_a_tile_too_small_to_split_gives_none():
    span = Span((0, 10), (0, 10), 0, 0)
    assert split_tile(Tile(span, span), (10, 10), 3) == []


def test_a_window_shorter_than_its_contexts_is_refused():
    with pytest.raises(ValueError, match="window of 30 px keeps nothing between contexts of 18 px"):
        plan_spans(100, 30, 18)


def test_an_image_within_the_budget_is_one_tile():
    assert choose_window((300, 400), 120_000, 18) == (300, 400)


@pytest.mark.parametrize("budget", [20_000, 60_000, 122_000])
def test_no_square_tile_of_the_budget_computes_less(budget):
    size, context = (1080, 1920), 18

    def cost(window):
        return sum(tile.rows.length * tile.columns.length for tile in plan_tiles(size, window, context))

    height, width = choose_window(size, budget, context)
    assert height * width <= budget
    side = int(budget**0.5)
    assert cost((height, width)) <= cost((side, side))


def test_a_budget_too_small_for_any_tile_gives_the_smallest():
    height, width = choose_window((500, 500), 10, 18)
    assert (height, width) == (44, 44)
