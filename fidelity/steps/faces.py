"""Restores faces with a face network (GFPGAN, RestoreFormer, CodeFormer) and changes nothing else.

Such networks know only faces that fill a square of 512 pixels, and they invent detail freely. So they run only on the given
faces, color consistency keeps the image's colors, and their output fades out toward the edge of each square.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import RefusedError
from ..imaging.resample import resize
from ..imaging.tensors import check_finite, check_image
from ..imaging.tiling import fade_at_ends
from ..networks.network import Network, NonFiniteOutputError
from ..networks.runner import ModelOutputError
from ..progress import Progress
from .consistency import project

FACE_PX = 512
"""Side of the square that these networks were trained on."""
FACE_MARGIN = 0.4
"""Margin around a box on each side, as a share of its longer side: the networks expect hair and chin in the square."""
FADE_SHARE = 0.12
"""Share of a square's side over which the output fades into the image, at each edge."""
_HELD_PX = 64
"""Side of a square at which colors and tones are preserved: eyes may change at this size, cheeks may not."""
_MASK_CELLS = 128
_SMALLEST_FACE_PX = 8


@dataclass(frozen=True)
class Box:
    """A rectangle in an image, in pixels."""

    left: int
    """First column."""
    top: int
    """First row."""
    width: int
    """At least 1."""
    height: int
    """At least 1."""

    def square(self, margin: float) -> "Box":
        """The square around the box with a margin on each side; it may extend beyond the image."""
        side = max(1, round(max(self.width, self.height) * (1 + 2 * margin)))
        return Box(self.left + (self.width - side) // 2, self.top + (self.height - side) // 2, side, side)


def restore_faces(
    image: Tensor,
    model: Network,
    boxes: list[Box],
    mask: Tensor | None = None,
    strength: float = 1.0,
    margin: float = FACE_MARGIN,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restores faces with a network and preserves their colors.

    Args:
        image: ``(B, 1, 3 or 4, H, W)`` in [0, 1]; the boxes apply to every image of a batch.
        model: A network at x1 for faces in a square of `FACE_PX`.
        boxes: Boxes around the faces, from chin to forehead.
        mask: ``(1 or B, 1, H, W)`` in [0, 1]: opacity of the restored faces at each pixel; 1 everywhere if not given.
        strength: Overall opacity, in [0, 1].
        margin: See `FACE_MARGIN`.
        device: Device that the network runs on; the image's if not given.
        progress: Called with (faces done, faces in all).

    Returns:
        The image, with the same shape, dtype and device; alpha and everything outside the squares are preserved bit for bit.

    Raises:
        RefusedError: If there is no box, a box is outside the image or too small, the mask has another size, or the network
            enlarges.
        ModelOutputError: If the network's output is not finite.
    """
    check_image(image)
    check_finite(image)
    if model.scale != 1:
        raise RefusedError(f"{model.name} enlarges by {model.scale}; wanted a network at x1 for faces")
    height, width = image.shape[2:]
    if mask is not None and tuple(mask.shape[2:]) != (height, width):
        raise RefusedError(f"mask is {mask.shape[3]}x{mask.shape[2]} px; wanted {width}x{height}, the size of the image")
    if mask is not None and mask.shape[0] not in (1, image.shape[0]):
        raise RefusedError(f"{mask.shape[0]} masks for {image.shape[0]} images; wanted one, or one for each")
    if not boxes:
        raise RefusedError(f"no faces given; wanted boxes, or a mask with areas of at least {_SMALLEST_FACE_PX} px per side")
    for box in boxes:
        if not (0 <= box.left < box.left + box.width <= width and 0 <= box.top < box.top + box.height <= height):
            raise RefusedError(f"face of {_describe(box)} is outside the image; wanted it within {width}x{height} px")
        if min(box.width, box.height) < _SMALLEST_FACE_PX:
            raise RefusedError(f"face of {_describe(box)} is too small; wanted at least {_SMALLEST_FACE_PX} px per side")
    result = image.clone()
    place = device or image.device
    network = model.to(place, "fp32")
    for index, box in enumerate(boxes):
        square = box.square(margin)
        rows, columns = _within(square.top, square.height, height), _within(square.left, square.width, width)
        inner_rows = slice(rows.start - square.top, rows.stop - square.top)
        inner_columns = slice(columns.start - square.left, columns.stop - square.left)
        before = result[:, :3, rows, columns].float()
        drawn = torch.cat([_draw(network, face, square, rows, columns) for face in before.split(1)])
        held = project(drawn[..., inner_rows, inner_columns].to(before.device), _shrink(before, square.width))
        share = _fade(square.width).to(before.device)[..., inner_rows, inner_columns] * strength
        if mask is not None:
            share = share * mask[:, :, rows, columns].to(before.device)
        result[:, :3, rows, columns] = torch.lerp(before, held, share).to(result.dtype)
        if progress:
            progress(index + 1, len(boxes))
    return result


def find_boxes(mask: Tensor) -> list[Box]:
    """A box around each separate area of a mask, largest first.

    Args:
        mask: ``(1, 1, H, W)`` in [0, 1]; pixels of 0.5 and more count.

    Returns:
        Boxes of at least 8 pixels per side; areas closer than 1/128 of the image are merged.
    """
    height, width = mask.shape[2:]
    cells = functional.adaptive_max_pool2d((mask >= 0.5).float(), (min(height, _MASK_CELLS), min(width, _MASK_CELLS)))[0, 0] > 0
    boxes: list[Box] = []
    for area in _areas(cells):
        chosen = torch.zeros_like(cells)
        chosen[tuple(zip(*area, strict=True))] = True
        wide = functional.interpolate(chosen[None, None].float(), (height, width))[0, 0].bool() & (mask[0, 0] >= 0.5)
        rows, columns = wide.any(dim=1).nonzero().flatten(), wide.any(dim=0).nonzero().flatten()
        box = Box(int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1)
        if min(box.width, box.height) >= _SMALLEST_FACE_PX:
            boxes.append(box)
    return sorted(boxes, key=lambda box: -box.width * box.height)


def clip_box(left: float, top: float, width: float, height: float, image: Tensor) -> Box | None:
    """The part of a box that lies within an image; None if it is too small for a face."""
    columns = max(0, round(left)), min(image.shape[3], round(left + width))
    rows = max(0, round(top)), min(image.shape[2], round(top + height))
    box = Box(columns[0], rows[0], columns[1] - columns[0], rows[1] - rows[0])
    return box if min(box.width, box.height) >= _SMALLEST_FACE_PX else None


def parse_boxes(text: str) -> list[Box]:
    """Parses boxes from text: left, top, width, height in pixels, one box per line or separated by semicolons.

    Raises:
        RefusedError: If a line is not four whole numbers.
    """
    boxes: list[Box] = []
    for line in text.replace(";", "\n").splitlines():
        words = line.replace(",", " ").split()
        if not words:
            continue
        if len(words) != 4 or not all(word.isdigit() for word in words):
            raise RefusedError(
                f"{line.strip()!r} is not a box; wanted left, top, width, height in pixels, as in 120, 80, 200, 240"
            )
        boxes.append(Box(*map(int, words)))
    return boxes


def _draw(network: Network, face: Tensor, square: Box, rows: slice, columns: slice) -> Tensor:
    """The network's output for a whole square; beyond the image, its input repeats the border."""
    beyond = (
        *(columns.start - square.left, square.left + square.width - columns.stop),
        *(rows.start - square.top, square.top + square.height - rows.stop),
    )
    whole = functional.pad(face.expand(-1, 3, -1, -1), beyond, mode="replicate").clamp(0, 1)
    seen = resize(whole, (FACE_PX, FACE_PX)).clamp(0, 1).to(network.device)
    try:
        drawn = network.run(seen).float()
    except NonFiniteOutputError as error:
        raise ModelOutputError(f"{error}; the file may be damaged") from error
    drawn = resize(drawn, (square.height, square.width)).clamp(0, 1)
    return drawn.mean(dim=1, keepdim=True) if face.shape[1] == 1 else drawn


def _shrink(face: Tensor, side: int) -> Tensor:
    """The reference of color consistency: small enough to keep colors and tones but not the blur or damage of the face."""
    factor = min(1, _HELD_PX / side)
    return resize(face, (max(1, round(face.shape[2] * factor)), max(1, round(face.shape[3] * factor)))).clamp(0, 1)


def _fade(side: int) -> Tensor:
    """1 in the middle of a square, falling to 0 at its edges, ``(1, 1, side, side)``."""
    fade = fade_at_ends(side, max(1, round(side * FADE_SHARE)))
    return (fade[:, None] * fade)[None, None]


def _within(start: int, length: int, limit: int) -> slice:
    return slice(max(0, start), min(limit, start + length))


def _areas(cells: Tensor) -> list[list[tuple[int, int]]]:
    """Connected components of cells, with 8-connectivity."""
    left = {(int(row), int(column)) for row, column in cells.nonzero()}
    areas: list[list[tuple[int, int]]] = []
    while left:
        area = [left.pop()]
        for row, column in area:
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            area += near
        areas.append(area)
    return areas


def _describe(box: Box) -> str:
    return f"{box.width}x{box.height} px at {box.left}, {box.top}"
