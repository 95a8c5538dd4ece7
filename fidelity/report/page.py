"""A comparison as one self-contained HTML file: a slider between any two results, and a sortable table."""

import base64
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ..files.write import quantise
from .comparison import COLUMNS, Compared, crop_middle, draw_heat, figures_of

_TEMPLATE = Path(__file__).with_name("comparison.html")
_PLACE = "@DATA@"
_LONGEST_PX = 2048
"""Larger results are cropped to their center: a browser cannot show dozens of 8K bitmaps."""


def build_page(results: list[Compared], title: str, reference: Tensor | None = None) -> str:
    """Builds a page with every result at 1:1.

    Args:
        results: From `compare_models`.
        title: Title of the page.
        reference: The ground truth at the same size, if there is one; the slider offers it too.

    Returns:
        HTML that contains all pictures and metrics.
    """
    size = next((one.image.shape[2], one.image.shape[3]) for one in results if one.image is not None)
    entries: list[dict[str, Any]] = []
    if reference is not None:
        entries.append({"name": "reference", "figures": {}, "picture": _as_url(crop_middle(reference, _LONGEST_PX))})
    for one in results:
        entry: dict[str, Any] = {"name": one.name, "figures": figures_of(one), "failed": one.failed}
        for name, picture in (("picture", one.image), ("heat", draw_heat(one))):
            if picture is not None:
                entry[name] = _as_url(crop_middle(picture, _LONGEST_PX))
        entries.append(entry)
    height, width = (min(side, _LONGEST_PX) for side in size)
    part = "" if max(size) <= _LONGEST_PX else f" Shown: the center {width}x{height} px of {size[1]}x{size[0]}."
    data = {
        "title": title,
        "note": "Drift is CIEDE2000 of the color band at the source's size; about 1 is just visible. Heat maps run from black "
        f"(no drift) to red (3 or more). Click a column header to sort.{part}",
        "width": width,
        "height": height,
        "columns": [[column.key, column.title, column.digits] for column in COLUMNS if _is_known(column.key, results)],
        "results": entries,
    }
    text = json.dumps(data).replace("<", "\\u003c")  # a name must not close the script element
    return _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, text)


def _is_known(key: str, results: list[Compared]) -> bool:
    return any(figures_of(one).get(key) is not None for one in results)


def _as_url(image: Tensor) -> str:
    samples = quantise(image, 8)
    picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
