"""What became of a batch: the rows as a Parquet table, and a page of the worst and the failed."""

import base64
import heapq
import html
import io
import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from ..errors import RefusedError
from ..files.formats import DECODING_ERRORS
from .items import is_video
from .journal import COLUMNS, RESULTS_NAME, Row, read_last_rows
from .results import Tally

PAGE_NAME, TABLE_NAME = "batch.html", "batch.parquet"

_WORST, _MOST_FAILURES, _THUMBNAIL_PX = 24, 500, 240
_ROWS_AT_ONCE = 10_000


def write_table(out: Path) -> Path | None:
    """Writes the rows as Parquet, a part at a time; returns None if pyarrow is not installed."""
    if not find_spec("pyarrow"):
        return None
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    types = {"string": arrow.string(), "int64": arrow.int64(), "float64": arrow.float64(), "list": arrow.list_(arrow.string())}
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    part = out / f"part-{TABLE_NAME}"
    with parquet.ParquetWriter(str(part), schema) as writer:
        rows: list[Row] = []

        def flush() -> None:
            if rows:
                writer.write_table(
                    arrow.Table.from_pylist([{name: _printable(row.get(name)) for name in COLUMNS} for row in rows], schema)
                )
                rows.clear()

        for row in read_last_rows(out):
            rows.append(row)
            if len(rows) == _ROWS_AT_ONCE:
                flush()
        flush()
    return part.replace(out / TABLE_NAME)


def _printable(value: Any) -> Any:
    """A value with bytes of names that are not UTF-8 escaped, since a table takes none."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def write_page(out: Path, tally: Tally) -> Path:
    """Writes the page: totals over all runs, what the last run did, what drifted most, and what failed with its reason.

    Args:
        out: Folder of the results.
        tally: What became of the last run.
    """
    worst: list[tuple[float, int, Row]] = []
    failed: list[Row] = []
    whole = Tally(0)
    for number, row in enumerate(read_last_rows(out)):
        whole.total += 1
        whole.add(row)
        if row["status"] == "failed":
            failed += [row] if len(failed) < _MOST_FAILURES else []
        elif "drift_mean" in row:
            heapq.heappush(worst, (row["drift_mean"], number, row))
            if len(worst) > _WORST:
                heapq.heappop(worst)
    facts = {
        "pictures": f"{whole.total}",
        "enlarged": f"{whole.done + whole.same}",
        "failed": f"{whole.failed}",
        "color drift": f"mean {whole.drift_mean:.3f}, largest {whole.drift_max:.2f} CIEDE2000"
        if whole.measured
        else "not measured",
        "last run": f"{tally.summarize()}; {60 * tally.done / max(1e-6, tally.elapsed):.1f} pictures a minute",
    }
    rows = "".join(f"<tr><th>{_safe(name)}</th><td>{_safe(value)}</td></tr>" for name, value in facts.items())
    figures = "".join(_figure(out, row) for _, _, row in sorted(worst, reverse=True, key=lambda one: one[:2]))
    reasons = "".join(f"<tr><td>{_safe(row['source'])}</td><td>{_safe(row['reason'])}</td></tr>" for row in failed)
    more = f"<p>and {whole.failed - len(failed)} more, in {RESULTS_NAME}</p>" if whole.failed > len(failed) else ""
    page = _PAGE.format(
        facts=rows,
        worst=figures or "<p>none</p>",
        failed=f"<table><tr><th>picture</th><th>reason</th></tr>{reasons}</table>{more}" if failed else "<p>none</p>",
    )
    path = out / PAGE_NAME
    part = out / f"part-{PAGE_NAME}"
    part.write_text(page, encoding="utf-8", errors="backslashreplace")
    return part.replace(path)


def _safe(text: Any) -> str:
    return html.escape(str(text))


def _figure(out: Path, row: Row) -> str:
    drift = f"drift {row['drift_mean']:.3f} mean, {row['drift_max']:.2f} largest"
    shown = f'<img src="{_thumbnail(out / row["output"])}" alt="">'
    name, address = _safe(row["output"]), quote(os.fsencode(row["output"]))
    return f'<figure><a href="{address}">{shown}</a><figcaption>{name}<br>{drift}</figcaption></figure>'


def _thumbnail(path: Path) -> str:
    buffer = io.BytesIO()
    try:
        with _open_picture(path) as opened:
            opened.draft("RGB", (_THUMBNAIL_PX, _THUMBNAIL_PX))
            small = opened.convert("RGB") if opened.mode in ("RGB", "RGBA", "L", "P") else opened
            small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
            small.convert("RGB").save(buffer, "JPEG", quality=85)
    except (*DECODING_ERRORS, RefusedError):
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _open_picture(path: Path) -> Image.Image:
    """An image, or the first frame of a video."""
    if not is_video(path.name):
        return Image.open(path)
    av = import_module("av")
    try:
        with av.open(str(path)) as container:
            return next(container.decode(video=0)).to_image()
    except (av.error.FFmpegError, StopIteration) as error:
        raise OSError(f"{path}: shows nothing") from error


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Batch</title>
<style>
  body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }}
  th {{ text-align: left; font-weight: 600; padding: 2px 1.5rem 2px 0; vertical-align: top; }}
  td {{ padding: 2px 1.5rem 2px 0; overflow-wrap: anywhere; }}
  .worst {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }}
  figure {{ margin: 0; }} img {{ max-width: 100%; background: #ddd; min-height: 2rem; }}
  figcaption {{ font-size: 13px; color: #555; overflow-wrap: anywhere; }}
</style>
<h1>Batch</h1>
<table>{facts}</table>
<p>Drift compares each result with its color reference: the source or, if that was damaged, the restored source.</p>
<h2>Largest color drift</h2>
<div class="worst">{worst}</div>
<h2>Failed</h2>
{failed}
</html>
"""
