"""Generated drawings: vector line work, cel shading, screentones, flat fills, gradients and lettering.

What anime, manga and line art have in common is drawn here and nothing else: outlines of varying weight that taper, areas
of one tone with a hard or soft shadow, tones made of dots and lines, bundles of strands, straight construction lines,
lettering. Every image is drawn at four times its size and reduced, so that edges are as smooth as in a finished drawing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from scipy import ndimage

Image = NDArray[np.float32]
Points = NDArray[np.float64]
"""``(N, 2)`` positions as x, y in canvas pixels."""
Mask = NDArray[np.bool_]

_SUPERSAMPLE = 4
_LETTERS = "ABCDEFGHKMNPRSTWXYZabcdefghkmnpqrstwxyz0123456789!?&%"


@dataclass
class _Sheet:
    """The canvas and the style of one drawing."""

    canvas: Image
    """``(channels, side, side)``."""
    generator: np.random.Generator
    pen_px: float
    """Typical width of an outline, in pixels of the finished drawing."""
    ink: float
    """Tone of the darkest line."""

    @property
    def side(self) -> int:
        return self.canvas.shape[1]

    def tone(self, value: float) -> Image:
        """A tone as one value per channel, with a random hue if there are several channels."""
        channels = self.canvas.shape[0]
        hue = self.generator.normal(0, 0.15, (channels, 1, 1)) if channels > 1 else np.zeros((1, 1, 1))
        return np.clip(value + hue - hue.mean(), 0, 1).astype(np.float32)

    def paint(self, mask: Mask, fill: Image) -> None:
        """Paints a fill where the mask is set: a tone or a whole ``(channels, side, side)`` picture."""
        np.copyto(self.canvas, fill, where=mask[None])

    def ramp(self) -> Image:
        """A linear or radial gradient from 0 to 1, with a random direction or center."""
        rows, columns = np.mgrid[0 : self.side, 0 : self.side].astype(np.float32) / self.side
        if self.generator.random() < 0.7:
            angle = self.generator.uniform(0, 2 * np.pi)
            distance = np.cos(angle) * (columns - 0.5) + np.sin(angle) * (rows - 0.5) + 0.5
        else:
            y, x = self.generator.uniform(0, 1, 2)
            distance = np.hypot(rows - y, columns - x)
        return np.clip(distance, 0, 1, dtype=np.float32)[None]

    def gradient(self, start: float, end: float) -> Image:
        first, last = self.tone(start), self.tone(end)
        return np.asarray(first + (last - first) * self.ramp(), np.float32)


def drawing(size_px: int, generator: np.random.Generator, channels: int = 1) -> Image:
    """Draws one square drawing: an anime frame, a manga panel, a line drawing or a lineless illustration.

    Args:
        size_px: Side of the image in pixels.
        generator: Source of all randomness.
        channels: 1 for luma, 3 for colors.

    Returns:
        ``(channels, size_px, size_px)`` float32, sRGB-like, in [0, 1].
    """
    side = size_px * _SUPERSAMPLE
    sheet = _Sheet(
        canvas=np.zeros((channels, side, side), np.float32),
        generator=generator,
        pen_px=float(generator.choice([0.7, 1.0, 1.4, 2.0, 3.0])),
        ink=float(generator.choice([0.0, 0.03, 0.08, 0.15, 0.3])),
    )
    styles: tuple[Callable[[_Sheet], None], ...] = (_anime, _manga, _line_drawing, _illustration)
    styles[generator.choice(len(styles), p=[0.45, 0.2, 0.15, 0.2])](sheet)
    canvas = sheet.canvas
    if generator.random() < 0.6:  # softness of the ink, the scan or the rendering
        softness = generator.uniform(0.2, 1.0) * _SUPERSAMPLE
        canvas = _soften(canvas, softness)
    small = canvas.reshape(channels, size_px, _SUPERSAMPLE, size_px, _SUPERSAMPLE).mean(axis=(2, 4))
    if generator.random() < 0.3:
        small = small + generator.normal(0, generator.uniform(0, 0.004), small.shape)
    return np.clip(small, 0, 1).astype(np.float32)


# Styles


def _anime(sheet: _Sheet) -> None:
    draw = sheet.generator
    _ground(sheet)
    if draw.random() < 0.5:
        _straight_lines(sheet)
    for _ in range(draw.integers(5, 22)):
        _figure(sheet, outlined=draw.random() < 0.85)
    for _ in range(draw.integers(0, 4)):
        _lock(sheet)
    for _ in range(draw.integers(0, 4)):
        _eye(sheet)
    _pen_strokes(sheet, int(draw.integers(3, 25)))
    if draw.random() < 0.3:
        _glow(sheet)
    if draw.random() < 0.15:
        _lettering(sheet)


def _manga(sheet: _Sheet) -> None:
    draw = sheet.generator
    sheet.ink = draw.uniform(0, 0.1)
    sheet.canvas[:] = sheet.tone(draw.uniform(0.88, 1))
    if draw.random() < 0.5:
        sheet.paint(_screentone(sheet) & _blob(sheet, sheet.side * 0.5), sheet.tone(sheet.ink))
    for _ in range(draw.integers(4, 14)):
        _figure(sheet, outlined=True, paper=True)
    for _ in range(draw.integers(0, 4)):
        _lock(sheet)
    if draw.random() < 0.5:
        _hatching(sheet)
    _pen_strokes(sheet, int(draw.integers(5, 40)))
    if draw.random() < 0.4:
        _straight_lines(sheet)
    if draw.random() < 0.6:
        _lettering(sheet)


def _line_drawing(sheet: _Sheet) -> None:
    draw = sheet.generator
    paper = sheet.tone(draw.uniform(0.85, 1))
    sheet.canvas[:] = paper
    for _ in range(draw.integers(4, 20)):
        outline = _closed_curve(sheet, _place(sheet), _reach(sheet, 0.03, 0.4))
        sheet.paint(_filled(sheet, outline), paper)
        sheet.paint(_inked(sheet, [outline], taper=False), sheet.tone(sheet.ink))
    for _ in range(draw.integers(0, 4)):
        _eye(sheet)
    if draw.random() < 0.6:
        _hatching(sheet)
    _pen_strokes(sheet, int(draw.integers(10, 60)))
    if draw.random() < 0.3:
        _straight_lines(sheet)
    if draw.random() < 0.2:
        _lettering(sheet)


def _illustration(sheet: _Sheet) -> None:
    draw = sheet.generator
    _ground(sheet)
    for _ in range(draw.integers(10, 50)):
        _figure(sheet, outlined=draw.random() < 0.15)
        if draw.random() < 0.04:
            blur = draw.uniform(1, 6) * _SUPERSAMPLE
            sheet.canvas[:] = _soften(sheet.canvas, blur)
    _pen_strokes(sheet, int(draw.integers(0, 25)))
    if draw.random() < 0.5:
        _glow(sheet)


# Elements of a drawing


def _ground(sheet: _Sheet) -> None:
    """Paints a flat background, a gradient, or an out-of-focus scene."""
    draw = sheet.generator
    if draw.random() < 0.3:
        sheet.canvas[:] = sheet.tone(draw.uniform(0.05, 1))
        return
    sheet.canvas[:] = sheet.gradient(draw.uniform(0.05, 1), draw.uniform(0.05, 1))
    if draw.random() < 0.4:
        for _ in range(draw.integers(4, 20)):
            sheet.paint(_blob(sheet, draw.uniform(0.03, 0.3) * sheet.side), sheet.tone(draw.uniform(0, 1)))
        blur = draw.uniform(1, 10) * _SUPERSAMPLE
        sheet.canvas[:] = _soften(sheet.canvas, blur)


def _figure(sheet: _Sheet, outlined: bool, paper: bool = False) -> None:
    """Draws a closed shape filled with a tone or a gradient, with shadow and highlight, and with a darker outline."""
    draw = sheet.generator
    outline = _closed_curve(sheet, _place(sheet), _reach(sheet, 0.02, 0.4))
    inside = _filled(sheet, outline)
    value = draw.uniform(0.8, 1) if paper else draw.uniform(0.05, 1)
    fill = sheet.tone(value)
    if draw.random() < 0.25 and not paper:
        fill = sheet.gradient(value, draw.uniform(0.05, 1))
    sheet.paint(inside, fill)
    for _ in range(draw.integers(0, 3)):
        part = inside & _blob(sheet, _reach(sheet, 0.02, 0.3), near=outline)
        if paper:
            sheet.paint(part & _screentone(sheet) if draw.random() < 0.7 else part, sheet.tone(sheet.ink))
        elif draw.random() < 0.7:
            sheet.paint(part, np.clip(fill * draw.uniform(0.5, 0.92), 0, 1))
        elif draw.random() < 0.5:
            sheet.paint(part, np.clip(fill + draw.uniform(0.05, 0.4), 0, 1))
        else:  # an airbrushed shadow: hard at the shape's edge, soft inside it
            blur = draw.uniform(1, 8) * _SUPERSAMPLE
            weight = _soften(part[None].astype(np.float32), blur) * inside * draw.uniform(0.1, 0.6)
            sheet.canvas *= 1 - weight
    if outlined:
        dark = min(sheet.ink, value) if paper or draw.random() < 0.6 else value * draw.uniform(0.2, 0.7)
        sheet.paint(_inked(sheet, [outline], taper=False), sheet.tone(dark))


def _lock(sheet: _Sheet) -> None:
    """Draws strands of hair from one root: pointed shapes, lines along them, and a highlight band."""
    draw = sheet.generator
    root, heading = _place(sheet), draw.uniform(0, 2 * np.pi)
    length, spread = draw.uniform(0.2, 0.7) * sheet.side, draw.uniform(0.02, 0.2) * sheet.side
    bend = draw.uniform(-1.2, 1.2)
    value = draw.uniform(0.05, 0.95)
    lines: list[Points] = []
    for offset in np.sort(draw.uniform(-1, 1, draw.integers(3, 14))):
        start = root + spread * offset * np.array([-np.sin(heading), np.cos(heading)])
        way = np.linspace(0, 1, 40)
        angle = heading + (bend + draw.normal(0, 0.1)) * way
        step = length * draw.uniform(0.7, 1) / 40
        middle = start + np.cumsum(step * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
        across = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * (spread * 0.35 * (1 - way**2))[:, None]
        shape = np.concatenate([middle + across, (middle - across)[::-1]])
        sheet.paint(_filled(sheet, shape), sheet.tone(np.clip(value + draw.normal(0, 0.03), 0, 1)))
        if draw.random() < 0.5:
            light = slice(10, 10 + int(draw.integers(3, 9)))
            band = np.concatenate([(middle + across * 0.8)[light], (middle - across * 0.8)[light][::-1]])
            sheet.paint(_filled(sheet, band), sheet.tone(min(1, value + draw.uniform(0.1, 0.4))))
        lines += [middle + across, middle - across]
    sheet.paint(_inked(sheet, lines, taper=True), sheet.tone(min(sheet.ink, value * 0.5)))


def _eye(sheet: _Sheet) -> None:
    """Draws an eye: nested ellipses, a gradient, highlights and a heavy lash."""
    draw = sheet.generator
    center, radius = _place(sheet), draw.uniform(0.02, 0.12) * sheet.side
    squash, tilt = draw.uniform(0.6, 1.4), draw.uniform(-0.5, 0.5)
    iris = draw.uniform(0.2, 0.8)
    for share, value in ((1.8, draw.uniform(0.9, 1)), (1.0, sheet.ink), (0.88, iris), (0.45, sheet.ink)):
        shape = _ellipse(center, radius * share, squash * (0.6 if share > 1 else 1), tilt)
        fill = sheet.gradient(value, min(1, value + 0.4)) if share == 0.88 else sheet.tone(value)
        sheet.paint(_filled(sheet, shape), fill)
    for _ in range(draw.integers(1, 4)):
        place = center + draw.normal(0, 0.4, 2) * radius
        sheet.paint(_filled(sheet, _ellipse(place, radius * draw.uniform(0.08, 0.3), 1, 0)), sheet.tone(1))
    lid = _ellipse(center, radius * 1.85, squash * 0.62, tilt)[32:]
    pen, sheet.pen_px = sheet.pen_px, sheet.pen_px * 2
    sheet.paint(_inked(sheet, [lid], taper=True), sheet.tone(sheet.ink))
    sheet.pen_px = pen


def _pen_strokes(sheet: _Sheet, count: int) -> None:
    """Draws free strokes, mostly in ink, some in white."""
    draw = sheet.generator
    for value, share in ((sheet.ink, 0.8), (1.0, 0.2)):
        lines = [_open_curve(sheet) for _ in range(int(count * share))]
        if lines:
            sheet.paint(_inked(sheet, lines, taper=draw.random() < 0.8), sheet.tone(value))


def _hatching(sheet: _Sheet) -> None:
    """Draws fine hatching or cross-hatching within a shape."""
    draw = sheet.generator
    area = _blob(sheet, draw.uniform(0.1, 0.4) * sheet.side)
    for _ in range(draw.integers(1, 3)):
        angle = draw.uniform(0, np.pi)
        gap = draw.uniform(2.5, 8) * _SUPERSAMPLE
        rows, columns = np.mgrid[0 : sheet.side, 0 : sheet.side].astype(np.float32)
        phase = (np.cos(angle) * columns + np.sin(angle) * rows) / gap
        sheet.paint(area & (phase % 1 < draw.uniform(0.15, 0.4)), sheet.tone(sheet.ink))


def _straight_lines(sheet: _Sheet) -> None:
    """Draws the straight lines of buildings, frames and motion: parallels, a grid, or lines that converge at a point."""
    draw = sheet.generator
    side, count = sheet.side, int(draw.integers(3, 25))
    lines: list[Points] = []
    if draw.random() < 0.5:
        angle = draw.choice([0, np.pi / 2, draw.uniform(0, np.pi)])
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        gap, start = draw.uniform(4, 40) * _SUPERSAMPLE, _place(sheet)
        for index in range(count):
            middle = start + across * gap * index
            lines.append(np.stack([middle - along * side * draw.uniform(0.1, 1), middle + along * side * draw.uniform(0.1, 1)]))
    else:
        point = draw.uniform(-0.5, 1.5, 2) * side
        for angle in draw.uniform(0, 2 * np.pi, count * 2):
            direction = np.array([np.cos(angle), np.sin(angle)])
            lines.append(np.stack([point + direction * side * draw.uniform(0.3, 1), point + direction * side * 2.5]))
    value = sheet.ink if draw.random() < 0.8 else 1.0
    sheet.paint(_inked(sheet, lines, taper=draw.random() < 0.3), sheet.tone(value))


def _lettering(sheet: _Sheet) -> None:
    """Draws letters of a typeface, or characters made of a few strokes in a square, with or without an outline."""
    draw = sheet.generator
    picture = Pillow.new("L", (sheet.side, sheet.side))
    pen = ImageDraw.Draw(picture)
    size = draw.uniform(7, 40) * _SUPERSAMPLE
    x, y = draw.uniform(0, 0.6, 2) * sheet.side
    if draw.random() < 0.5:
        font = ImageFont.load_default(size)
        for line in range(draw.integers(1, 6)):
            text = "".join(draw.choice(list(_LETTERS), int(draw.integers(3, 20))))
            pen.text((x, y + line * size * 1.2), text, fill=255, font=font)
    else:
        weight = max(1, int(size * draw.uniform(0.04, 0.12)))
        for index in range(draw.integers(2, 16)):
            left, top = x + (index // 6) * size * 1.2, y + (index % 6) * size * 1.1
            for _ in range(draw.integers(2, 9)):
                _sign_stroke(pen, draw, left, top, size, weight)
    letters = np.asarray(picture) > 127
    if draw.random() < 0.4:
        contour = np.asarray(ndimage.binary_dilation(letters, iterations=int(draw.uniform(1, 3) * _SUPERSAMPLE)), np.bool_)
        sheet.paint(contour, sheet.tone(draw.uniform(0.8, 1)))
    sheet.paint(letters, sheet.tone(sheet.ink if draw.random() < 0.8 else draw.uniform(0.5, 1)))


def _sign_stroke(
    pen: ImageDraw.ImageDraw, draw: np.random.Generator, left: float, top: float, size: float, weight: int
) -> None:
    """One stroke of a character: horizontal, vertical, slanted, or a box; strokes meet on a grid, as in real writing."""
    a, b, c, d = (float(value) * size / 4 for value in draw.integers(0, 5, 4))
    kind = draw.random()
    if kind < 0.35:
        pen.line([(left + min(a, b), top + c), (left + max(a, b) + size / 4, top + c)], fill=255, width=weight)
    elif kind < 0.65:
        pen.line([(left + c, top + min(a, b)), (left + c, top + max(a, b) + size / 4)], fill=255, width=weight)
    elif kind < 0.9:
        pen.line([(left + a, top + b), (left + c, top + d)], fill=255, width=weight)
    else:
        corner = (left + min(a, b), top + min(c, d))
        pen.rectangle([corner, (corner[0] + size / 2, corner[1] + size / 3)], outline=255, width=weight)


def _glow(sheet: _Sheet) -> None:
    """Adds a glow that spills over the drawing."""
    draw = sheet.generator
    y, x = draw.uniform(0, sheet.side, 2)
    rows, columns = np.mgrid[0 : sheet.side, 0 : sheet.side].astype(np.float32)
    reach = draw.uniform(0.05, 0.4) * sheet.side
    light = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * reach**2)) * draw.uniform(0.1, 0.6)
    sheet.canvas[:] = 1 - (1 - sheet.canvas) * (1 - light[None].astype(np.float32))


# Curves and masks


def _place(sheet: _Sheet) -> NDArray[np.float64]:
    return sheet.generator.uniform(-0.05, 1.05, 2) * sheet.side


def _reach(sheet: _Sheet, low: float, high: float) -> float:
    """A length in canvas pixels between two fractions of the side, log-uniformly distributed."""
    return float(np.exp(sheet.generator.uniform(np.log(low), np.log(high)))) * sheet.side


def _smooth(points: Points, closed: bool, count: int) -> Points:
    """A Catmull-Rom curve through the points (Catmull and Rom, 1974)."""
    ends = points[[-1]], points[[0, 1]]
    padded = np.concatenate([ends[0], points, ends[1]] if closed else [points[[0]], points, points[[-1]]])
    position = np.linspace(0, len(padded) - 3, count, endpoint=not closed) * (1 - 1e-9)
    index, part = position.astype(int), (position % 1)[:, None]
    before, first, last, after = (padded[index + step] for step in range(4))
    return 0.5 * (
        2 * first
        + (last - before) * part
        + (2 * before - 5 * first + 4 * last - after) * part**2
        + (3 * first - before - 3 * last + after) * part**3
    )


def _closed_curve(sheet: _Sheet, center: NDArray[np.float64], radius: float) -> Points:
    draw = sheet.generator
    if draw.random() < 0.15:  # corners: boxes, frames, blades
        corners = int(draw.integers(3, 6))
        angle = np.sort(draw.uniform(0, 2 * np.pi, corners))
        points = center + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return np.concatenate([points, points[:1]])
    count = int(draw.integers(4, 12))
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + draw.uniform(0, 2 * np.pi)
    reach = radius * draw.uniform(0.4, 1, count) * draw.choice([1.0, draw.uniform(0.8, 1)])
    squash = draw.uniform(0.4, 1)
    points = center + np.stack([np.cos(angle) * reach, np.sin(angle) * reach * squash], axis=1)
    curve = _smooth(points, closed=True, count=160)
    return np.concatenate([curve, curve[:1]])


def _open_curve(sheet: _Sheet) -> Points:
    draw = sheet.generator
    reach = _reach(sheet, 0.01, 0.15)
    steps = draw.normal(0, reach * draw.uniform(0.2, 1), (int(draw.integers(3, 7)), 2))
    heading = draw.normal(0, reach, 2)
    return _smooth(_place(sheet) + np.cumsum(steps + heading, axis=0), closed=False, count=60)


def _ellipse(center: NDArray[np.float64], radius: float, squash: float, tilt: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 64)
    x, y = radius * np.cos(angle), radius * squash * np.sin(angle)
    return center + np.stack([np.cos(tilt) * x - np.sin(tilt) * y, np.sin(tilt) * x + np.cos(tilt) * y], axis=1)


def _blob(sheet: _Sheet, radius: float, near: Points | None = None) -> Mask:
    center = _place(sheet) if near is None else near[sheet.generator.integers(len(near))]
    return _filled(sheet, _closed_curve(sheet, center, radius))


def _filled(sheet: _Sheet, outline: Points) -> Mask:
    picture = Pillow.new("1", (sheet.side, sheet.side))
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in outline], fill=1)
    return np.asarray(picture)


def _inked(sheet: _Sheet, lines: list[Points], taper: bool) -> Mask:
    """Mask of pen strokes along the lines; their width swells and, if requested, tapers at both ends."""
    draw = sheet.generator
    picture = Pillow.new("1", (sheet.side, sheet.side))
    pen = ImageDraw.Draw(picture)
    for line in lines:
        way = np.linspace(0, 1, len(line))
        swell = 1 + draw.uniform(0, 0.5) * np.sin(2 * np.pi * (way * draw.uniform(0.3, 2) + draw.random()))
        ends = np.minimum(1, 6 * np.minimum(way, 1 - way)) if taper and len(line) > 2 else 1
        widths = sheet.pen_px * draw.lognormal(0, 0.3) * _SUPERSAMPLE * swell * ends
        for (x, y), (next_x, next_y), width in zip(line, line[1:], (widths[:-1] + widths[1:]) / 2, strict=False):
            pen.line([(x, y), (next_x, next_y)], fill=1, width=max(1, round(width)))
            if width > 2:
                pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=1)
    return np.asarray(picture)


def _soften(picture: Image, sigma: float) -> Image:
    """Gaussian blur of a ``(channels, height, width)`` picture; a wide one uses three box filters (Wells, 1986)."""
    if sigma < 4:
        return np.asarray(ndimage.gaussian_filter(picture, sigma, truncate=3, axes=(1, 2)), np.float32)
    width = round(float(np.sqrt(4 * sigma**2 + 1)))
    for _ in range(3):
        picture = np.asarray(ndimage.uniform_filter(picture, width, axes=(1, 2)), np.float32)
    return picture


def _screentone(sheet: _Sheet) -> Mask:
    """A screentone: dots on a rotated grid, or lines."""
    draw = sheet.generator
    period = draw.uniform(3, 9) * _SUPERSAMPLE
    angle = draw.choice([np.pi / 4, 0.0, draw.uniform(0, np.pi)])
    rows, columns = np.mgrid[0 : sheet.side, 0 : sheet.side].astype(np.float32) / period * np.float32(2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    across = -np.sin(angle) * columns + np.cos(angle) * rows
    level = draw.uniform(-0.7, 0.7)
    if draw.random() < 0.3:  # a graded tone
        level = level + draw.uniform(-1, 1) * (sheet.ramp()[0] - 0.5)
    wave = np.cos(along) if draw.random() < 0.2 else (np.cos(along) + np.cos(across)) / 2
    return wave > level
