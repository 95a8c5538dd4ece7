"""Builds banks of clean training crops: generated, or cropped from a folder of freely licensed images.

    python -m tools.training.bank generated natural 1500 --output FOLDER/generated-natural.npy
    python -m tools.training.bank folder FOLDER/photo --output FOLDER/photo.npy

A bank is one memory-mapped file of ``(N, 320, 320, 3)`` bytes, so only the disk limits its size.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from tools.training.data import GENERATORS

Bytes = NDArray[np.uint8]

SIDE_PX = 320
CROPS = 10
"""Maximum number of crops per image."""
LEAST_DEVIATION = 4.0
"""Minimum standard deviation of a crop's brightness, in 1/255; flatter crops teach nothing."""


def generated(name: str, count: int, seed: int) -> Iterator[Bytes]:
    """Yields color images from a generator, one per crop."""
    for index in range(count):
        image = GENERATORS[name](SIDE_PX, np.random.default_rng((seed, index)), 3)
        yield np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)


def cut(folder: Path, seed: int, least: float = 1.0) -> Iterator[Bytes]:
    """Yields crops of each image in a folder, at random positions and sizes; downscaled crops hold finer detail.

    Args:
        folder: Folder of clean images.
        seed: Seed of the positions and sizes.
        least: Minimum downscaling factor; a factor above 1 removes compression artifacts.
    """
    for index, path in enumerate(sorted(folder.iterdir())):
        draw = np.random.default_rng((seed, index))
        image = Image.open(path).convert("RGB")
        largest = min(image.size) / SIDE_PX
        wanted = min(CROPS, max(1, round(image.width * image.height / SIDE_PX**2)))
        for _ in range(wanted if largest >= 1 else 0):
            side = round(SIDE_PX * min(largest, least * float(draw.choice((1, 1, 1.3, 1.7, 2.2)))))
            left, top = (int(draw.integers(0, length - side + 1)) for length in image.size)
            crop = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
            pixels = np.asarray(crop)
            if pixels.mean(axis=2).std() >= LEAST_DEVIATION:
                yield pixels


def write(crops: Iterator[Bytes], output: Path) -> int:
    """Writes a bank in shuffled order, so that any part of it is a fair sample; returns the number of crops."""
    found = list(crops)
    order = np.random.default_rng(0).permutation(len(found))
    temporary = output.with_suffix(".part")
    bank = open_memmap(temporary, "w+", np.uint8, (len(found), SIDE_PX, SIDE_PX, 3))
    for place, index in enumerate(order):
        bank[place] = found[index]
    bank.flush()
    temporary.replace(output)
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    drawing = ways.add_parser("generated")
    drawing.add_argument("name", choices=list(GENERATORS))
    drawing.add_argument("count", type=int)
    cutting = ways.add_parser("folder")
    cutting.add_argument("folder", type=Path)
    cutting.add_argument("--reduce", type=float, default=1.0, help="minimum downscaling factor")
    for way in (drawing, cutting):
        way.add_argument("--output", type=Path, required=True)
        way.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.way == "generated":
        crops = generated(options.name, options.count, options.seed)
    else:
        crops = cut(options.folder, options.seed, options.reduce)
    print(f"{write(crops, options.output)} crops in {options.output}")


if __name__ == "__main__":
    main()
