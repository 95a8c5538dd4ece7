"""Target sizes. Pure integers."""

from dataclasses import dataclass
from math import inf, sqrt

from ..steps.upscale import check_target


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

    def __post_init__(self) -> None:
        given = [name for name in ("scale", "size", "long_edge", "megapixels") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} were given; wanted one of them")
        for name in given:
            value = getattr(self, name)
            if not all(0 < side < inf for side in (value if isinstance(value, tuple) else (value,))):
                raise ValueError(f"{name} is {value}; wanted more than 0, and finite")


def resolve_target(source: tuple[int, int], target: Target, model_scale: int) -> tuple[int, int]:
    """The exact (height, width) of the result; the aspect is kept unless `size` says otherwise.

    Args:
        source: (height, width) of the source.
        target: What is wanted.
        model_scale: Factor to use where nothing is wanted in particular.

    Raises:
        ValueError: If the result would be larger than can be written.
    """
    if target.size is not None:
        result = target.size
    else:
        scale = target.scale if target.scale is not None else float(model_scale)
        if target.long_edge is not None:
            scale = target.long_edge / max(source)
        elif target.megapixels is not None:
            scale = sqrt(target.megapixels * 1e6 / (source[0] * source[1]))
        result = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
    check_target(result)
    return result
