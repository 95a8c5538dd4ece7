"""Writes a picture of any size, in tiles: generated textures and drawings beside each other.

python -m tools.benchmarks.mosaic 40000x30000 SOURCE.tif
"""

import argparse
from pathlib import Path

import numpy as np
import pyvips

from ..training.generators.drawn import drawing
from ..training.generators.natural import dead_leaves

CELL_PX, CELLS = 1000, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", help="WIDTHxHEIGHT in pixels")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    draw = np.random.default_rng(0)
    cells = [(drawing if number % 4 == 0 else dead_leaves)(CELL_PX, draw, 3) for number in range(CELLS)]
    images = [pyvips.Image.new_from_array(np.round(255 * np.moveaxis(cell, 0, -1)).astype(np.uint8)) for cell in cells]
    across, down = -(-width // CELL_PX), -(-height // CELL_PX)
    chosen = [images[int(draw.integers(CELLS))] for _ in range(across * down)]
    mosaic = pyvips.Image.arrayjoin(chosen, across=across).crop(0, 0, width, height).copy(interpretation="srgb")
    mosaic.tiffsave(str(options.output), tile=True, tile_width=256, tile_height=256, compression="lzw", bigtiff=True)


if __name__ == "__main__":
    main()
