"""The size of a result: what the user asks for, and the exact pixels that follow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from math import inf, sqrt
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..choices import SizePreset
from ..errors import RefusedError
from ..steps.upscale import check_target

_CM_PER_INCH = 2.54


@dataclass(frozen=True)
class PrintSize:
    """A sheet of paper to print on."""

    height_cm: float
    """One side of the sheet in centimeters; orientation does not matter."""
    width_cm: float
    """The other side in centimeters."""
    dpi: float = 300.0
    """Dots per inch."""

    @property
    def pixels(self) -> tuple[float, float]:
        """Pixels along the shorter and the longer side."""
        short, long = sorted((self.height_cm, self.width_cm))
        return short / _CM_PER_INCH * self.dpi, long / _CM_PER_INCH * self.dpi


@dataclass(frozen=True)
class Target:
    """The wanted size of the result; at most one field is given, and none means the model's own scale."""

    scale: float | None = None
    """Enlargement factor of both sides."""
    size: tuple[int, int] | None = None
    """Exact (height, width) in pixels."""
    long_edge: int | None = None
    """Length of the longer side in pixels."""
    megapixels: float | None = None
    """Total size in megapixels."""
    print_size: PrintSize | None = None
    """The largest size that fits on this sheet, turned to match the image; nothing is cropped."""
    fit: tuple[int, int] | None = None
    """(height, width) in pixels of a box that the result fits into, as large as it can be."""
    screen: tuple[int, int] | None = None
    """(height, width) in pixels of a screen that the result fits on, turned to match the image."""

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) > 1:
            raise RefusedError(f"{' and '.join(given)} were given; wanted only one of them")
        for name in given:
            value = getattr(self, name)
            if name in _PAIRS:
                object.__setattr__(self, name, _check_pair(name, value))
                continue
            if name == "print_size" and not isinstance(value, PrintSize):
                raise RefusedError(f"{name} is {value!r}; wanted a fidelity.PrintSize, as in PrintSize(29.7, 21.0, dpi=300)")
            numbers = astuple(value) if isinstance(value, PrintSize) else (value,)
            if not all(_is_number(number) for number in numbers):
                raise RefusedError(f"{name} is {value!r}; wanted a number")
            if not all(0 < number < inf for number in numbers):
                raise RefusedError(f"{name} is {value}; wanted a finite number above 0")
            if not isinstance(value, PrintSize | int | float):  # NumPy's
                object.__setattr__(self, name, int(value) if isinstance(value, Integral) else float(value))


_PAIRS = ("size", "fit", "screen")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real)  # NumPy's too


def _check_pair(name: str, value: Any) -> tuple[int, int]:
    """Returns two whole numbers of pixels above 0; refuses anything else."""
    sides = tuple(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else ()
    if len(sides) != 2 or not all(_is_number(side) for side in sides):
        raise RefusedError(f"{name} is {value!r}; wanted (height, width) in pixels")
    if not all(0 < side < inf and side == int(side) for side in sides):
        raise RefusedError(f"{name} is {sides[1]}x{sides[0]}; wanted whole numbers of pixels above 0")
    return int(sides[0]), int(sides[1])


_SHEETS_CM = {
    **{"a0": (118.9, 84.1), "a1": (84.1, 59.4), "a2": (59.4, 42.0), "a3": (42.0, 29.7)},
    **{"a4": (29.7, 21.0), "a5": (21.0, 14.8), "a6": (14.8, 10.5)},
}
"""Sides of ISO 216 sheets."""

PRESETS: Mapping[SizePreset, Target] = {
    "web-2k": Target(long_edge=2048),
    "720p": Target(screen=(720, 1280)),
    "1080p": Target(screen=(1080, 1920)),
    "1440p": Target(screen=(1440, 2560)),
    "4k": Target(screen=(2160, 3840)),
    "8k": Target(screen=(4320, 7680)),
    "print-a4-300dpi": Target(print_size=PrintSize(*_SHEETS_CM["a4"], dpi=300)),
    "print-a3-300dpi": Target(print_size=PrintSize(*_SHEETS_CM["a3"], dpi=300)),
}
"""Targets by name."""

_BEYOND_PX = 10**9


def resolve_target(source: tuple[int, int], target: Target, model_scale: int) -> tuple[int, int]:
    """Returns the exact (height, width) of the result; only `size` can change the aspect ratio.

    Args:
        source: (height, width) of the source.
        target: The wanted size.
        model_scale: Enlargement factor if no size is given.

    Raises:
        RefusedError: If the result is too large to be written.
    """
    if target.size is not None:
        result = target.size
    else:
        scale = target.scale if target.scale is not None else float(model_scale)
        if target.long_edge is not None:
            scale = target.long_edge / max(source)
        elif target.fit is not None:
            scale = min(side / given for side, given in zip(target.fit, source, strict=True))
        elif target.screen is not None:
            short, long = sorted(target.screen)
            scale = min(short / min(source), long / max(source))
        elif target.megapixels is not None:
            scale = sqrt(target.megapixels * 1e6 / (source[0] * source[1]))
        elif target.print_size is not None:
            short, long = target.print_size.pixels
            scale = min(short / min(source), long / max(source))
        height, width = (min(source[axis] * scale, _BEYOND_PX) for axis in (0, 1))  # float to int has a limit
        result = (max(1, round(height)), max(1, round(width)))
    check_target(result)
    return result


def parse_print_size(text: str) -> PrintSize:
    """Parses a sheet such as "30x20cm@300", "8x10in", "297x210mm@240" or "a3@300"; 300 dots per inch if none are given.

    Raises:
        RefusedError: If the text is not a print size.
    """
    number = r"([0-9]+(?:\.[0-9]+)?)"
    match = re.fullmatch(rf"\s*{number}\s*x\s*{number}\s*(cm|mm|in)\s*(?:@\s*{number})?\s*", text, re.IGNORECASE)
    named = re.fullmatch(rf"\s*(a[0-6])\s*(?:@\s*{number})?\s*", text, re.IGNORECASE)
    if named:
        return PrintSize(*_SHEETS_CM[named[1].lower()], float(named[2]) if named[2] else PrintSize.dpi)
    if match is None:
        raise RefusedError(f"print size is {text!r}; wanted sides, a unit and dots per inch, as in 30x20cm@300 or a3@300")
    unit = {"cm": 1.0, "mm": 0.1, "in": _CM_PER_INCH}[match[3].lower()]
    dpi = float(match[4]) if match[4] else PrintSize.dpi
    return PrintSize(float(match[1]) * unit, float(match[2]) * unit, dpi)


def parse_memory(text: str) -> int:
    """Parses a memory size such as "8GB", "512 MiB" or "6g" into bytes; all units are powers of 1024.

    Raises:
        RefusedError: If the text is not a memory size.
    """
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([kmgt])i?b?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise RefusedError(f"memory is {text!r}; wanted a number and a unit, as in 8GB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))
