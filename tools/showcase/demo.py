"""Makes the demo: a photograph enlarged by the shipped network, its report, and a labeled before/after sheet.

python -m tools.showcase.demo --output demo
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from skimage import data

CROPS = {"skin and hair": (170, 20), "badge": (130, 330), "helmet": (330, 320)}
SIDE_PX = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    source, result, report = folder / "source.png", folder / "result.png", folder / "report.json"
    Image.fromarray(data.astronaut()).save(source)
    command = [
        sys.executable,
        "-m",
        "fidelity",
        "upscale",
        str(source),
        "-o",
        str(result),
        "--report",
        str(report),
        "--existing",
        "overwrite",
    ]
    code = subprocess.run([*command, "--domain", "photo"], check=False).returncode
    if code:
        raise SystemExit(code)
    (made,) = json.loads(report.read_text())
    print(json.dumps(made, indent=2))
    sheet = draw_sheet(Image.open(source), Image.open(result), made)
    sheet.save(folder / "before-after.png")
    print(f"see {folder / 'before-after.png'}")


def draw_sheet(source: Image.Image, result: Image.Image, made: dict) -> Image.Image:
    """Draws labeled crops of the source, its bicubic enlargement and the result side by side."""
    scale = result.width // source.width
    cell, margin, head = SIDE_PX * scale, 12, 30
    bicubic = source.resize(result.size, Image.Resampling.BICUBIC)
    color = made["drift"]["color"]
    labels = (
        f"source, {source.width}x{source.height}",
        f"bicubic, {result.width}x{result.height}",
        f"Fidelity, color drift {color['mean']:.3f} mean, {color['max']:.2f} max",
    )
    pictures = (source.resize(result.size, Image.Resampling.NEAREST), bicubic, result)
    width = margin + len(pictures) * (cell + margin)
    sheet = Image.new("RGB", (width, head + len(CROPS) * (cell + head) + margin), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, (label, picture) in enumerate(zip(labels, pictures, strict=True)):
        left = margin + column * (cell + margin)
        draw.text((left, 6), label, fill="black", font=font)
        for row, (name, (x, y)) in enumerate(CROPS.items()):
            top = head + row * (cell + head)
            box = (x * scale, y * scale, (x + SIDE_PX) * scale, (y + SIDE_PX) * scale)
            sheet.paste(picture.crop(box), (left, top))
            draw.text((left, top + cell + 4), name, fill="dimgray", font=font)
    return sheet


if __name__ == "__main__":
    main()
