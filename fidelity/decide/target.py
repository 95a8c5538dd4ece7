"""The size of a result: what a user may ask for, and the exact pixels that follow."""

import re
from dataclasses import astuple, dataclass, fields
from math import inf, sqrt

from ..errors import RefusedError
from ..steps.upscale import check_target

_CM_PER_INCH = 2.54


@dataclass(frozen=True)
class PrintSize:
    """A sheet to print on."""

    height_cm: float
    """One side of the sheet in centimetres; which of the two is upright does not matter."""
    width_cm: float
    """The other."""
    dpi: float = 300.0
    """Dots to an inch."""

    @property
    def pixels(self) -> tuple[float, float]:
        """Pixels along the shorter and the longer side."""
        short, long = sorted((self.height_cm, self.width_cm))
        return short / _CM_PER_INCH * self.dpi, long / _CM_PER_INCH * self.dpi


@dataclass(frozen=True)
class Target:
    """How large the result is to be; at most one of these is given, and none means the model's own scale."""

    scale: float | None = None
    """Factor on both sides."""
    size: tuple[int, int] | None = None
    """Exact (height, width) in pixels."""
    long_edge: int | None = None
    """Pixels along the longer side."""
    megapixels: float | None = None
    """Millions of pixels."""
    print_size: PrintSize | None = None
    """The largest that fits on a sheet, which is turned as the image is; nothing is cropped."""

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        if len(given) > 1:
            raise RefusedError(f"{' and '.join(given)} were given; wanted one of them")
        for name in given:
            value = getattr(self, name)
            numbers = astuple(value) if isinstance(value, PrintSize) else value if isinstance(value, tuple) else (value,)
            if not all(0 < number < inf for number in numbers):
                raise RefusedError(f"{name} is {value}; wanted more than 0, and finite")


def resolve_target(source: tuple[int, int], target: Target, model_scale: int) -> tuple[int, int]:
    """The exact (height, width) of the result; the aspect is kept unless `size` says otherwise.

    Args:
        source: (height, width) of the source.
        target: What is wanted.
        model_scale: Factor to use where nothing is wanted in particular.

    Raises:
        RefusedError: If the result would be larger than can be written.
    """
    if target.size is not None:
        result = target.size
    else:
        scale = target.scale if target.scale is not None else float(model_scale)
        if target.long_edge is not None:
            scale = target.long_edge / max(source)
        elif target.megapixels is not None:
            scale = sqrt(target.megapixels * 1e6 / (source[0] * source[1]))
        elif target.print_size is not None:
            short, long = target.print_size.pixels
            scale = min(short / min(source), long / max(source))
        result = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
    check_target(result)
    return result


def parse_print_size(text: str) -> PrintSize:
    """A sheet from words such as "30x20cm@300", "8x10in" or "297x210mm@240"; 300 dots to an inch if none are given.

    Raises:
        RefusedError: If it is none.
    """
    number = r"([0-9]+(?:\.[0-9]+)?)"
    match = re.fullmatch(rf"\s*{number}\s*x\s*{number}\s*(cm|mm|in)\s*(?:@\s*{number})?\s*", text, re.IGNORECASE)
    if match is None:
        raise RefusedError(f"print size is {text!r}; wanted two sides, a unit and dots to an inch, as in 30x20cm@300")
    unit = {"cm": 1.0, "mm": 0.1, "in": _CM_PER_INCH}[match[3].lower()]
    dpi = float(match[4]) if match[4] else PrintSize.dpi
    return PrintSize(float(match[1]) * unit, float(match[2]) * unit, dpi)


def parse_memory(text: str) -> int:
    """Bytes from words such as "8GB", "512 MiB" or "6g"; the units are powers of 1024 either way.

    Raises:
        RefusedError: If it is none.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise RefusedError(f"memory is {text!r}; wanted a size, as in 8GB")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))
