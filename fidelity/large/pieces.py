"""How a large picture is cut: pieces that overlap, so that each is enlarged with all that it depends on."""

from dataclasses import dataclass

GRID_PX = 64
"""Pieces begin at multiples of this, so that blocks of JPEG lie in each as they do in the whole."""


@dataclass(frozen=True)
class Piece:
    """One piece of a picture."""

    rows: slice
    """Source rows that it contributes to the result."""
    columns: slice
    wide_rows: slice
    """The same with the context around them."""
    wide_columns: slice

    @property
    def pixels(self) -> int:
        """Source pixels that it contributes."""
        return (self.rows.stop - self.rows.start) * (self.columns.stop - self.columns.start)

    @property
    def wide_size(self) -> tuple[int, int]:
        """(height, width) with the context."""
        return self.wide_rows.stop - self.wide_rows.start, self.wide_columns.stop - self.wide_columns.start

    def core(self, scale: int) -> tuple[slice, slice]:
        """Rows and columns that it contributes, within its result at a scale."""
        return _within(self.rows, self.wide_rows, scale), _within(self.columns, self.wide_columns, scale)


def _within(part: slice, wide: slice, scale: int) -> slice:
    return slice(scale * (part.start - wide.start), scale * (part.stop - wide.start))


@dataclass(frozen=True)
class Cut:
    """All pieces of a picture."""

    pieces: tuple[Piece, ...]
    """Row by row."""
    across: int
    """How many there are in a row."""


def cut(size: tuple[int, int], side_px: int, context_px: int) -> Cut:
    """Cuts a picture into pieces of about equal size.

    Args:
        size: (height, width) of the source.
        side_px: The longest side of a piece, without its context; a multiple of `GRID_PX`.
        context_px: Pixels around a piece that are enlarged with it; a multiple of `GRID_PX`.
    """
    down, across = (_stretches(length, side_px, context_px) for length in size)
    pieces = [Piece(rows, columns, wide_rows, wide_columns) for rows, wide_rows in down for columns, wide_columns in across]
    return Cut(tuple(pieces), len(across))


def _stretches(length: int, side: int, context: int) -> list[tuple[slice, slice]]:
    count = -(-length // side)
    step = -(-length // (count * GRID_PX)) * GRID_PX
    return [
        (slice(start, min(start + step, length)), slice(max(0, start - context), min(start + step + context, length)))
        for start in range(0, length, step)
    ]
