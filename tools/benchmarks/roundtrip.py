"""Shows what files preserve: writes and reads every format, image type and bit depth.

python -m tools.benchmarks.roundtrip
"""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from fidelity.files.read import read_image
from fidelity.files.write import Export, write_image

CASES = (
    ("PNG", ".png", Export(8)),
    ("PNG", ".png", Export(16)),
    ("TIFF, deflate", ".tif", Export(8)),
    ("TIFF, LZW", ".tif", Export(8, compression="lzw")),
    ("TIFF, deflate", ".tif", Export(16)),
    ("TIFF, LZW", ".tif", Export(16, compression="lzw")),
    ("TIFF, raw", ".tif", Export(16, compression="raw")),
    ("WebP, lossless", ".webp", Export(8)),
    ("WebP, 95", ".webp", Export(8, lossless=False)),
    ("JPEG, 95", ".jpg", Export(8)),
)
KINDS = {1: "gray", 3: "RGB", 4: "RGBA"}


def sample(channels: int) -> Tensor:
    """Smooth colors with a little noise, as in a photograph."""
    generator = torch.Generator().manual_seed(channels)
    coarse = torch.rand(1, channels, 12, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (240, 320), mode="bicubic")
    return (smooth + torch.randn(smooth.shape, generator=generator) * 0.01).clamp(0, 1)


def main() -> None:
    print("| format | bits | " + " | ".join(KINDS.values()) + " |\n|---" + "|---" * (1 + len(KINDS)) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix, export in CASES:
            cells: list[str] = []
            for channels in KINDS:
                white = 2**export.bits - 1
                image = (sample(channels) * white).round() / white
                path = Path(folder) / f"x{suffix}"
                try:
                    write_image(path, image, export=export)
                except ValueError:
                    cells.append("refused")
                    continue
                source = read_image(path)
                steps = ((source.image - image) * white).abs().max().item()
                cells.append("exact" if steps < 0.01 and source.bits == export.bits else f"within {steps:.0f}")
            print(f"| {name} | {export.bits} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
