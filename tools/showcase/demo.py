"""Makes the demo: a damaged photograph, a damaged drawing and a short video, enlarged with the defaults, and a page of them.

python -m tools.showcase.demo --output demo

The command does the work, as a user would run it. The photograph comes with scikit-image; the drawing is this project's own.
"""

import argparse
import html
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data
from torch import Tensor

from tools.showcase.hero import draw_scene
from tools.showcase.thumbnail import to_pillow

_CROPS: dict[str, tuple[tuple[int, int], ...]] = {
    "photo": ((85, 10), (60, 165)),
    "drawing": ((70, 48), (130, 55)),
}
"""(left, top) of what is shown of each source, in its pixels."""
_CROP_PX, _GAP_PX, _HEAD_PX = 88, 10, 30
_SCALE = 4
_FRAMES, _RATE = 24, 12
_FRAME_PX = (180, 320)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    scene = draw_scene()
    photo = Image.fromarray(data.astronaut()).resize((256, 256), Image.Resampling.LANCZOS)
    photo.save(folder / "photo.jpg", quality=50)
    drawing = to_pillow(scene).resize((scene.shape[3] // _SCALE, scene.shape[2] // _SCALE), Image.Resampling.LANCZOS)
    drawing.save(folder / "drawing.jpg", quality=60)
    write_clip(folder / "clip.mp4", scene)
    sources = [str(folder / f"{name}.jpg") for name in _CROPS]
    report, film = folder / "report.json", folder / "video.jsonl"
    common = ["--existing", "overwrite", "--report"]
    run("upscale", *sources, "-o", str(folder / "enlarged"), *common, str(report))
    run("video", str(folder / "clip.mp4"), "-o", str(folder / "clip-2x.mp4"), "--codec", "h264", *common, str(film))
    made = {Path(one["input"]["path"]).stem: one for one in json.loads(report.read_text())}
    for name in _CROPS:
        draw_sheet(folder, name, made[name]).save(folder / f"{name}-before-after.png")
    video = json.loads(film.read_text().splitlines()[-1])
    page = folder / "index.html"
    page.write_text(write_page(made, video), encoding="utf-8")
    print(f"done in {time.perf_counter() - began:.0f} s: open {page.resolve().as_uri()}")


def run(*arguments: str) -> None:
    """Runs the command and shows what it prints; ends if it fails."""
    print(f"$ fidelity {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "fidelity", *arguments], check=False).returncode
    if code:
        raise SystemExit(code)


def write_clip(path: Path, scene: Tensor) -> None:
    """Writes two seconds of a small, compressed video that pans over the scene."""
    height, width = _FRAME_PX
    pixels = np.asarray(to_pillow(scene).resize((480, 320), Image.Resampling.LANCZOS))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "30"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(_FRAMES):
            left, top = 4 * index, 70 + index
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(pixels[top : top + height, left : left + width]), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def draw_sheet(folder: Path, name: str, made: dict[str, Any]) -> Image.Image:
    """Draws labeled crops of a bicubic enlargement and of the result side by side."""
    source, result = (
        Image.open(folder / f"{name}.jpg").convert("RGB"),
        Image.open(folder / f"enlarged/{name}.png").convert("RGB"),
    )
    bicubic = source.resize(result.size, Image.Resampling.BICUBIC)
    drift = made["gate"]["after"]["mean"]
    labels = (f"{source.width}x{source.height} JPEG, bicubic {_SCALE}x", f"Fidelity Upscale; color drift {drift:.2f}")
    cell = _CROP_PX * _SCALE
    crops = _CROPS[name]
    sheet = Image.new("RGB", (2 * cell + _GAP_PX, _HEAD_PX + len(crops) * (cell + _GAP_PX) - _GAP_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, (label, picture) in enumerate(zip(labels, (bicubic, result), strict=True)):
        left = column * (cell + _GAP_PX)
        draw.text((left, 5), label, fill="black", font=font)
        for row, (x, y) in enumerate(crops):
            box = (x * _SCALE, y * _SCALE, (x + _CROP_PX) * _SCALE, (y + _CROP_PX) * _SCALE)
            sheet.paste(picture.crop(box), (left, _HEAD_PX + row * (cell + _GAP_PX)))
    return sheet


def write_page(made: dict[str, Any], video: dict[str, Any]) -> str:
    """The page that shows all of it."""
    sections: list[str] = []
    for name, one in made.items():
        restored = any(step["kind"] == "restore" for step in one["passes"])
        facts = {
            "detected as": f"{one['domain']['label']} ({100 * one['domain']['confidence']:.0f} %)",
            "model": one["model"]["name"],
            "restored first": f"yes, {one['recipe']['restore']}" if restored else "no",
            "color drift": f"{one['gate']['after']['mean']:.2f} CIEDE2000 on average, from the restored source",
            "seconds": f"{one['seconds']:.1f}",
        }
        rows = "".join(
            f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>" for key, value in facts.items()
        )
        picture = f'<img src="{name}-before-after.png" alt="crops before and after">'
        sections.append(
            f'<h2>{name}</h2><table>{rows}</table>{picture}<p><a href="enlarged/{name}.png">the whole result</a></p>'
        )
    told = (
        f"{video['frames']} frames, {video['output']['width']}x{video['output']['height']}, "
        f"{video['frames_per_second']:.1f} frames per second, color drift {video['drift']['mean']:.2f} CIEDE2000 on average"
    )
    players = "".join(f'<video src="{name}" controls loop muted></video>' for name in ("clip.mp4", "clip-2x.mp4"))
    sections.append(f"<h2>video</h2><p>{html.escape(told)}</p>{players}")
    return _PAGE.format("".join(sections))


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Fidelity Upscale: demo</title>
<style>
  body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: #222; }}
  th {{ text-align: left; padding-right: 1.5rem; }}
  img, video {{ max-width: 100%; margin-top: 1rem; }} video {{ width: 49%; }}
</style>
<h1>Fidelity Upscale</h1>
<p>Enlarged with nothing set and nothing downloaded.</p>
{}
</html>
"""


if __name__ == "__main__":
    main()
