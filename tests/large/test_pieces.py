import pytest

from fidelity.large.pieces import GRID_PX, cut


@pytest.mark.parametrize(("size", "side"), [((1000, 700), 256), ((64, 64), 512), ((1, 1), 64), ((513, 2049), 512)])
def test_pieces_cover_every_pixel_once_and_have_their_context(size, side):
    parts = cut(size, side, 64)
    seen = [[0] * size[1] for _ in range(size[0])]
    for piece in parts.pieces:
        assert piece.rows.start % GRID_PX == 0 and piece.columns.start % GRID_PX == 0
        assert piece.rows.stop - piece.rows.start <= side and piece.columns.stop - piece.columns.start <= side
        for part, wide, length in zip((piece.rows, piece.columns), (piece.wide_rows, piece.wide_columns), size, strict=True):
            assert (wide.start, wide.stop) == (max(0, part.start - 64), min(length, part.stop + 64))
        for row in range(piece.rows.start, piece.rows.stop):
            for column in range(piece.columns.start, piece.columns.stop):
                seen[row][column] += 1
    assert all(count == 1 for row in seen for count in row)
    assert len(parts.pieces) % parts.across == 0


def test_the_core_of_a_result_is_where_the_piece_is():
    piece = cut((1000, 700), 256, 64).pieces[4]
    rows, columns = piece.core(2)
    assert rows.start == 2 * (piece.rows.start - piece.wide_rows.start)
    assert columns.stop - columns.start == 2 * (piece.columns.stop - piece.columns.start)
