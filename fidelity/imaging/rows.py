"""Images as rows that are read and written in bands, so that a large one need not be in memory.

A tensor is the simplest form; `FileRows` keeps an image in a temporary file.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, overload

import torch
from torch import Tensor

from ..errors import RefusedError
from .bands import best_band_bytes, iterate_bands, iterate_bands_around
from .color import is_grey
from .resample import RowReducer, apply_columns, block_of_outputs, resize_weights

Shape = tuple[int, int, int, int]
"""``(B, C, H, W)``."""


class RowSource(Protocol):
    """An image of ``(B, C, H, W)`` samples that is read in bands of whole rows."""

    @property
    def shape(self) -> Shape:
        """``(B, C, H, W)``."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that bands are read to."""
        ...

    def read(self, rows: slice) -> Tensor:
        """Returns some rows, ``(B, C, rows, W)``, in float32; the caller must not change them."""
        ...


class Rows(RowSource, Protocol):
    """An image that is also written in bands."""

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows."""
        ...


class TensorRows:
    """A tensor as rows."""

    def __init__(self, image: Tensor) -> None:
        """Reads and writes an image, ``(B, C, H, W)``, in place."""
        self.image = image

    @property
    def shape(self) -> Shape:
        """``(B, C, H, W)``."""
        batch, channels, height, width = self.image.shape
        return batch, channels, height, width

    @property
    def device(self) -> torch.device:
        """The tensor's device."""
        return self.image.device

    def read(self, rows: slice) -> Tensor:
        """Returns some rows in float32: a view if the tensor is float32."""
        return self.image[:, :, rows].float()

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows."""
        self.image[:, :, rows] = values


_HALF = 2**15


class FileRows:
    """One image in a temporary file, 16 bits per sample; the file disappears with the object."""

    def __init__(self, shape: Shape, low: float = 0.0, high: float = 1.0, folder: Path | None = None) -> None:
        """Creates the file.

        Args:
            shape: ``(1, C, H, W)``.
            low: The smallest value that is stored; smaller ones are clipped.
            high: The largest value that is stored; larger ones are clipped.
            folder: Folder of the file; the system's folder for temporary files if not given.

        Raises:
            OSError: If the file cannot be created.
        """
        self.shape = shape
        self.device = torch.device("cpu")
        self._low, self._step = low, (high - low) / 65535
        self._row_bytes = 2 * shape[1] * shape[3]
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open as long as the object lives)
        self._file.truncate(shape[2] * self._row_bytes)

    def read(self, rows: slice) -> Tensor:
        """Returns some rows in float32."""
        start, stop, _ = rows.indices(self.shape[2])
        self._file.seek(start * self._row_bytes)
        content = bytearray((stop - start) * self._row_bytes)
        self._file.readinto(content)
        codes = torch.frombuffer(content, dtype=torch.int16).reshape(stop - start, self.shape[1], self.shape[3])
        values = torch.empty((1, self.shape[1], stop - start, self.shape[3]))
        values[0].copy_(codes.movedim(1, 0))
        return values.mul_(self._step).add_(self._low + _HALF * self._step)

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows; values are rounded to the nearest of 65536 steps."""
        scaled = torch.sub(values[0].float(), self._low).div_(self._step).sub_(_HALF).round_().clamp_(-_HALF, _HALF - 1)
        codes = torch.empty((scaled.shape[1], *self.shape[1::2]), dtype=torch.int16)
        codes.movedim(0, 1).copy_(scaled)
        self._file.seek(rows.indices(self.shape[2])[0] * self._row_bytes)
        self._file.write(codes.numpy().tobytes())


NewMap = Callable[[Shape], Rows]
"""Creates rows for intermediate values in [-1, 2]: in memory, or in a file."""


def maps_in_memory(device: torch.device) -> NewMap:
    """Returns what creates such rows in a device's memory."""
    return lambda shape: TensorRows(torch.empty(shape, device=device))


def check_room(folder: Path, needed_bytes: int) -> None:
    """Refuses work whose temporary files do not fit on the disk of a folder.

    Raises:
        RefusedError: If there is too little room.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        gib = 2**30
        raise RefusedError(
            f"{folder}: needs {needed_bytes / gib:.1f} GiB for temporary files, {free / gib:.1f} GiB are free; "
            "wanted more room, or more memory"
        )


class MappedSource:
    """Another image through a function of each sample or pixel."""

    def __init__(self, rows: RowSource, function: Callable[[Tensor], Tensor], channels: int) -> None:
        """Wraps an image.

        Args:
            rows: The image.
            function: Maps ``(B, C, rows, W)`` to ``(B, channels, rows, W)``.
            channels: Number of channels after the function.
        """
        self._source, self._function = rows, function
        batch, _, height, width = rows.shape
        self.shape: Shape = (batch, channels, height, width)
        self.device = rows.device

    def read(self, rows: slice) -> Tensor:
        """Returns some rows after the function."""
        return self._function(self._source.read(rows))


class MappedRows(MappedSource):
    """Another image through a function of each sample or pixel, and back when rows are written."""

    def __init__(
        self, rows: Rows, function: Callable[[Tensor], Tensor], channels: int, back: Callable[[Tensor], Tensor]
    ) -> None:
        """Wraps an image.

        Args:
            rows: The image.
            function: Maps ``(B, C, rows, W)`` to ``(B, channels, rows, W)``.
            channels: Number of channels after the function.
            back: Maps ``(B, channels, rows, W)`` to what is written to the image.
        """
        super().__init__(rows, function, channels)
        self._rows, self._back = rows, back

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows of the wrapped image."""
        self._rows.write(rows, self._back(values))


class PartSource(MappedSource):
    """Some channels of another image."""

    def __init__(self, rows: RowSource, channels: slice) -> None:
        """Wraps an image.

        Args:
            rows: The image.
            channels: The channels to read.
        """
        super().__init__(rows, lambda band: band[:, channels], len(range(*channels.indices(rows.shape[1]))))


class PartRows(PartSource):
    """Some channels of another image; the others keep their values when rows are written."""

    def __init__(self, rows: Rows, channels: slice) -> None:
        """Wraps an image.

        Args:
            rows: The image.
            channels: The channels to read and write.
        """
        super().__init__(rows, channels)
        self._rows, self._channels = rows, channels

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows of these channels."""
        whole = self._rows.read(rows).clone()
        whole[:, self._channels] = values
        self._rows.write(rows, whole)


class WindowRows:
    """A rectangle of another image."""

    def __init__(self, rows: Rows, down: slice, across: slice) -> None:
        """Wraps an image.

        Args:
            rows: The image.
            down: Its rows that belong to the rectangle, start and stop given and not negative.
            across: Its columns that do.
        """
        self._rows, self._first, self._across = rows, down.start, across
        batch, channels, _, _ = rows.shape
        self.shape: Shape = (batch, channels, down.stop - down.start, across.stop - across.start)
        self.device = rows.device

    def read(self, rows: slice) -> Tensor:
        """Returns some rows of the rectangle."""
        return self._rows.read(self._place(rows))[..., self._across]

    def write(self, rows: slice, values: Tensor) -> None:
        """Replaces some rows of the rectangle."""
        place = self._place(rows)
        whole = self._rows.read(place).clone()
        whole[..., self._across] = values
        self._rows.write(place, whole)

    def _place(self, rows: slice) -> slice:
        start, stop, _ = rows.indices(self.shape[2])
        return slice(self._first + start, self._first + stop)


def band_rows(rows: RowSource) -> Iterator[slice]:
    """Yields slices that cover an image's height in bands of the best size for its device."""
    batch, channels, height, width = rows.shape
    return iterate_bands(height, batch * channels * width * 4, best_band_bytes(rows.device))


def band_rows_around(rows: RowSource, reach_px: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yields such bands with context: (rows, rows with context, rows within that context)."""
    batch, channels, height, width = rows.shape
    return iterate_bands_around(height, batch * channels * width * 4, reach_px, best_band_bytes(rows.device))


def has_grey_rows(rows: RowSource) -> bool:
    """Whether an image is grey; see `fidelity.imaging.color.is_grey`."""
    return all(is_grey(rows.read(part)) for part in band_rows(rows))


@overload
def image_of(rows: Rows, index: int) -> Rows: ...
@overload
def image_of(rows: RowSource, index: int) -> RowSource: ...
def image_of(rows: RowSource, index: int) -> RowSource:
    """Returns one image of a batch in memory; anything else is one image."""
    return TensorRows(rows.image[index : index + 1]) if isinstance(rows, TensorRows) else rows


def read_all(rows: RowSource) -> Tensor:
    """Returns a whole image as a tensor; the wrapped tensor itself where there is one."""
    return rows.image if isinstance(rows, TensorRows) else rows.read(slice(0, rows.shape[2]))


class Resized:
    """An image resized with the antialiased bicubic filter of `fidelity.imaging.resample.resize`, for access by bands."""

    def __init__(self, rows: RowSource, size: tuple[int, int]) -> None:
        """Prepares the weights.

        Args:
            rows: The image to resize.
            size: (height, width) of the result.
        """
        self._source = rows
        batch, channels, height, width = rows.shape
        self.shape: Shape = (batch, channels, *size)
        self.device = rows.device
        self.weights = resize_weights(height, size[0]), resize_weights(width, size[1])
        """The operators along the height and the width."""

    def read(self, rows: slice) -> Tensor:
        """Returns some rows of the resized image, not clamped."""
        inputs, matrix = block_of_outputs(self.weights[0], rows, self.device)
        return matrix @ apply_columns(self._source.read(inputs), self.weights[1])

    def reducer(self) -> RowReducer:
        """Returns a reducer that takes the source's bands one after another, where they are at hand anyway."""
        return RowReducer(*self.weights)


def copy_rows(source: RowSource, target: Rows) -> None:
    """Copies an image of the same shape."""
    for rows in band_rows(target):
        target.write(rows, source.read(rows))


def resize_rows(source: RowSource, target: Rows) -> None:
    """Resizes an image to the size of another and writes it there, clamped to [0, 1].

    Args:
        source: The image to read, once, from top to bottom.
        target: The image to write.
    """
    resized = Resized(source, target.shape[2:])
    if target.shape[2] >= source.shape[2]:
        for rows in band_rows(target):
            target.write(rows, resized.read(rows).clamp_(0, 1))
        return
    reducer = resized.reducer()
    for rows in band_rows(source):
        done = reducer.add(source.read(rows))
        if done:
            target.write(done[0], done[1].clamp_(0, 1))
