"""Damaged pictures, and what reading them comes to.

    python -m tools.attack.pictures FIRST COUNT FOLDER

See `tools.attack.trials`. To the pictures made here come those of the test data, if `FIDELITY_TEST_DATA` names it.
"""

import io
import os
import random
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from fidelity.errors import RefusedError
from fidelity.files.metadata import read_provenance
from fidelity.files.read import read_image
from fidelity.files.sixteen_bit import encode_tiff
from tools.attack.trials import damage, run_trials, told_of_time

_MOST_BYTES = 4_000_000_000
_LARGEST_BYTES = 300_000
_FOLDERS = ("failing/files", "images/formats")


@cache
def _pictures() -> list[tuple[str, bytes]]:
    """Small pictures of many formats with all that may be in them, by name."""
    draw = np.random.default_rng(0)
    samples = draw.integers(0, 256, (18, 24, 4), np.uint8)
    colors, clear = Image.fromarray(samples[..., :3]), Image.fromarray(samples)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 6, "maker"
    exif[ExifTags.IFD.Exif] = {0xA002: 24, ExifTags.Base.UserComment: b"ASCII\0\0\0words"}
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", '{"1": {"class_type": "KSampler", "inputs": {"model": ["2", 0]}}}', zip=True)
    texts.add_text("parameters", "1girl\nNegative prompt: x\nSteps: 20, Model: animagine-xl, Version: v1.10")
    texts.add(b"cICP", bytes((9, 16, 0, 1)))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags: dict[str, object] = {"exif": exif.tobytes(), "icc_profile": profile}
    kept: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "png": (clear, {"pnginfo": texts, **tags}),
        "palette png": (colors.convert("P"), {"format": "PNG", "transparency": 3}),
        "grey png": (colors.convert("1"), {"format": "PNG"}),
        "jpeg": (colors, {"quality": 90, "comment": b"words", "xmp": b"<x:xmpmeta/>", **tags}),
        "cmyk jpeg": (colors.convert("CMYK"), {"format": "JPEG"}),
        "progressive jpeg": (colors, {"format": "JPEG", "progressive": True}),
        "webp": (clear, tags),
        "gif": (colors.convert("P"), {"save_all": True, "append_images": [colors.convert("P")]}),
        "bmp": (colors, {}),
        "avif": (clear, tags),
        "tiff": (colors, {"compression": "tiff_lzw", "icc_profile": profile}),
        "pages tiff": (colors, {"format": "TIFF", "save_all": True, "append_images": [clear.resize((8, 6))]}),
        "float tiff": (colors.convert("F"), {"format": "TIFF"}),
    }
    made: list[tuple[str, bytes]] = []
    for name, (picture, options) in kept.items():
        buffer = io.BytesIO()
        picture.save(buffer, **({"format": name.upper()} | options))  # pyright: ignore[reportArgumentType]
        made.append((name, buffer.getvalue()))
    deep = draw.integers(0, 65536, (18, 24, 3), np.uint16)
    heic = io.BytesIO()
    pillow_heif.from_pillow(colors).save(heic, quality=90)
    made += [("deep tiff", encode_tiff(deep)), ("heic", heic.getvalue())]
    data = os.environ.get("FIDELITY_TEST_DATA")
    for folder in _FOLDERS if data else ():
        files = sorted(path for path in (Path(data or "") / folder).iterdir() if path.is_file())
        made += [(path.name, path.read_bytes()) for path in files if path.stat().st_size < _LARGEST_BYTES]
    return made


def make_file(seed: int, folder: Path) -> tuple[Path, str]:
    """Writes the damaged picture of a seed; returns its path and what it was."""
    draw = random.Random(seed)
    name, content = draw.choice(_pictures())
    path = folder / "a.picture"
    path.write_bytes(damage(content, draw))
    return path, name


def find_fault(path: Path) -> tuple[str, str | None]:
    """Reads a damaged picture: it is refused in one line, or read with values in [0, 1], without a library's warning.

    Returns:
        "refused" or "read"; and what was wrong, if anything.
    """
    began, fate = time.monotonic(), "read"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_provenance(path)
            image = read_image(path, "srgb").image
        if not (bool(image.isfinite().all()) and image.min() >= 0 and image.max() <= 1):
            return fate, "gave values outside [0, 1]"
    except RefusedError as error:
        fate = "refused"
        if "\n" in str(error) or path.name not in str(error):
            return fate, f"gave a message of another form: {str(error)[:200]}"
    except Exception as error:
        return "refused", f"raised {type(error).__name__}: {str(error)[:200]}"
    return fate, told_of_time(began)


if __name__ == "__main__":
    run_trials(make_file, find_fault, _MOST_BYTES)
