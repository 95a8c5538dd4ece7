"""Makes the sheet of generated training images in tools/training/README.md.

python -m tools.showcase.generated tools/training/generated.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tools.training.data import GENERATORS

SIDE_PX = 200
ROWS, COLUMNS = 2, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    rows = [
        np.concatenate([draw(SIDE_PX, np.random.default_rng((5, row, index)), 1)[0] for index in range(COLUMNS)], axis=1)
        for draw in GENERATORS.values()
        for row in range(ROWS)
    ]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(parser.parse_args().output, quality=88)


if __name__ == "__main__":
    main()
