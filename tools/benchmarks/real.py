"""Shows what the default makes of real, damaged pictures, beside bicubic and other networks.

    FIDELITY_TEST_DATA=FOLDER python -m tools.benchmarks.real SHEETS [--networks NAME ...] [--installed NAME ...]
    [--side 160] [--names STEM ...]

Every picture of images/real and images/formats is enlarged four times with nothing set, and nothing installed but the networks
after --installed. A table shows what was decided. SHEETS receives one picture each: columns are bicubic, the default and the
networks; rows are crops from the top left, the middle and the bottom right.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files.metadata import read_provenance
from fidelity.files.read import read_image
from fidelity.imaging.drift import flatten_alpha
from fidelity.imaging.resample import resize
from fidelity.networks.loader import find_model, list_models, load_model
from fidelity.session import Session
from fidelity.steps.upscale import upscale
from tools.benchmarks.sources import data_folder

SCALE = 4
_CONTEXT_PX = 24
"""Pixels around a crop that networks see as well."""


def take_crops(image: Tensor, side: int) -> list[tuple[slice, slice]]:
    """Rows and columns of crops from the top left, the middle and the bottom right, at a fifth of the way from the corners."""
    height, width = (min(side, length) for length in image.shape[2:])
    rest = image.shape[2] - height, image.shape[3] - width
    starts = [tuple(round(length * share) for length in rest) for share in (0.2, 0.5, 0.8)]
    return [(slice(top, top + height), slice(left, left + width)) for top, left in dict.fromkeys(starts)]


def enlarge_crop(image: Tensor, crop: tuple[slice, slice], network: str, models: dict[str, Path]) -> Tensor:
    """One crop enlarged by a network, with context around it."""
    loaded = load_model(find_model(network, models))
    wide = [slice(max(0, part.start - _CONTEXT_PX), part.stop + _CONTEXT_PX) for part in crop]
    given = image[:, :, wide[0], wide[1]]
    made = upscale(given, loaded, (given.shape[2] * SCALE, given.shape[3] * SCALE), "rgb").image
    inner = [
        slice((part.start - around.start) * SCALE, (part.stop - around.start) * SCALE)
        for part, around in zip(crop, wide, strict=True)
    ]
    return made[:, :, inner[0], inner[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheets", type=Path, help="folder to write to")
    parser.add_argument("--networks", nargs="*", default=[], help="names of networks in the test data")
    parser.add_argument("--installed", nargs="*", default=[], help="networks in the test data that the default may use")
    parser.add_argument("--side", type=int, default=160, help="side of a crop in pixels of the source")
    parser.add_argument("--names", nargs="*", help="pictures by file name without extension; all if not given")
    options = parser.parse_args()
    options.sheets.mkdir(parents=True, exist_ok=True)
    models = list_models([data_folder() / "models"])
    installed = {find_model(name, models).name: find_model(name, models) for name in options.installed}
    session = Session(Settings(Target(scale=SCALE)), models=list_models([]) | installed)
    print("| picture | size | domain | network | restored | measured | color drift | seconds |\n|" + "---|" * 8)
    for folder in ("real", "formats"):
        for path in sorted((data_folder() / "images" / folder).iterdir()):
            if options.names and path.stem not in options.names:
                continue
            image = read_image(path).image
            made = session.run(image, read_provenance(path))
            decision, seen = made.decision, made.decision.conditions
            strength = f"{decision.recipe.restore} {decision.restore_strength:.2f}" if decision.planned.restorer else "no"
            quality = "–" if seen.jpeg_quality is None else f"{seen.jpeg_quality:.0f}"
            verdict = f"{decision.verdict.label} {decision.verdict.confidence:.2f} → {decision.recipe.domain}"
            measured = (
                f"JPEG {quality}, noise {seen.noise_sigma:.1f}, ringing {seen.ringing:.1f}, cleanup {decision.recipe.cleanup}"
            )
            cells = (
                path.name,
                f"{image.shape[3]}x{image.shape[2]}",
                verdict,
                decision.planned.choice.path.stem,
                strength,
                measured,
            )
            print("| " + " | ".join(cells) + f" | {made.color_drift.mean:.2f} | {made.seconds:.1f} |", flush=True)
            shown, default = flatten_alpha(image), flatten_alpha(made.image)
            bicubic = resize(shown, (shown.shape[2] * SCALE, shown.shape[3] * SCALE)).clamp(0, 1)
            rows: list[Tensor] = []
            for crop in take_crops(shown, options.side):
                rows_px, columns_px = (slice(part.start * SCALE, part.stop * SCALE) for part in crop)
                parts = [whole[:, :, rows_px, columns_px] for whole in (bicubic, default)]
                parts += [enlarge_crop(shown, crop, name, models) for name in options.networks]
                rows.append(torch.cat([part.expand(-1, 3, -1, -1) for part in parts], dim=3))
            sheet = torch.cat(rows, dim=2)[0].clamp(0, 1)
            Image.fromarray((sheet * 255).round().byte().movedim(0, -1).numpy()).save(options.sheets / f"{path.stem}.png")


if __name__ == "__main__":
    main()
