"""Banks of clean crops to learn from: generated, or cut from a folder of listed images under free licences.

    python -m tools.training.bank generated natural 1500 --output FOLDER/generated-natural.npy
    python -m tools.training.bank folder FOLDER/photo --output FOLDER/photo.npy

A bank is one file of ``(N, 320, 320, 3)`` bytes, mapped into memory, so that its size is bounded by the disk alone.
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
"""Crops of one image at most."""
LEAST_DEVIATION = 4.0
"""Of a crop's brightness, in 1/255: flatter ones teach nothing."""


def generated(name: str, count: int, seed: int) -> Iterator[Bytes]:
    """Images that a generator draws in colour, one a crop."""
    for index in range(count):
        image = GENERATORS[name](SIDE_PX, np.random.default_rng((seed, index)), 3)
        yield np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)


def cut(folder: Path, seed: int, least: float = 1.0) -> Iterator[Bytes]:
    """Crops of each image of a folder, at random places and sizes; a reduced one shows more and finer detail.

    Args:
        folder: Of clean images.
        seed: Of the places and sizes.
        least: By how much each is reduced at least; more than 1 takes traces of compression away.
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
    """Writes a bank in an order of its own, so that a part of it is a fair sample; returns the number of crops."""
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
    cutting.add_argument("--reduce", type=float, default=1.0, help="by how much at least")
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
