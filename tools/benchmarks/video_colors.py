"""Compares the conversion of video's planes to RGB and back with zimg, the library behind ffmpeg's zscale filter.

    python -m tools.benchmarks.video_colors

Needs an ffmpeg with zscale on the path. Prints the largest difference in steps of the format's bits.
"""

import itertools
import subprocess

import numpy as np
import torch

from fidelity.imaging.yuv import Matrix, PlaneFormat, levels_to_planes, planes_to_levels, planes_to_rgb, rgb_to_planes

SIZE = (96, 128)
FORMATS = {(2, 2): "420", (1, 2): "422", (1, 1): "444"}
MATRICES: dict[Matrix, str] = {
    "bt601": "smpte170m",
    "bt709": "bt709",
    "bt2020": "2020_ncl",
}
"""Names of the matrices in zscale."""


def main() -> None:
    print("matrix range bits chroma siting | to RGB: largest, mean | from RGB: luma, chroma (steps of the format's bits)")
    cases = itertools.product(MATRICES, (False, True), (8, 10), FORMATS, ("left", "center", "topleft"))
    for matrix, is_full, bits, subsampling, siting in cases:
        if siting != "left" and subsampling != (2, 2):
            continue
        form = PlaneFormat(matrix, is_full, bits, subsampling, siting)
        levels = draw(form)
        ours = planes_to_rgb(levels_to_planes(levels, form), form)[0].double().clamp(0, 1)
        theirs = torch.from_numpy(to_rgb(levels, form)).double() / 65535
        apart = (ours - theirs).abs() * (2**bits - 1)
        back = [plane.double() for plane in planes_to_levels(rgb_to_planes(theirs.float()[None], form), form)]
        errors = [(a - b).abs().max().item() for a, b in zip(back, from_rgb(theirs, form), strict=True)]
        what = f"{matrix} {'full' if is_full else 'limited'} {bits} {FORMATS[subsampling]} {siting}"
        print(f"{what:32} | {apart.max():.2f} {apart.mean():.3f} | {errors[0]:.0f} {max(errors[1:]):.0f}", flush=True)


def draw(form: PlaneFormat) -> list[torch.Tensor]:
    """Smooth colors with edges, well within the range of RGB."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    image = torch.stack((0.2 + 0.6 * columns, 0.3 + 0.4 * rows, 0.7 - 0.4 * columns * rows))
    image[:, 20:50, 30:80] = torch.tensor([0.7, 0.3, 0.35])[:, None, None]
    image[:, 60:, 90:] = torch.tensor([0.25, 0.5, 0.7])[:, None, None]
    return planes_to_levels(rgb_to_planes(image[None], form), form)


def pixel_format(form: PlaneFormat) -> str:
    depth = "" if form.bits == 8 else f"{form.bits}le"
    return f"yuv{FORMATS[form.subsampling]}p{depth}"


def zscale(form: PlaneFormat, towards_rgb: bool) -> str:
    name = MATRICES[form.matrix]
    what = (
        f"matrix{'in' if towards_rgb else ''}={name}:range{'in' if towards_rgb else ''}={'full' if form.is_full else 'limited'}"
    )
    other = "matrix=gbr:range=full" if towards_rgb else "matrixin=gbr:rangein=full"
    where = f"chromal{'in' if towards_rgb else ''}={form.siting}"
    same = "primaries=709:transfer=709:primariesin=709:transferin=709"
    return f"zscale={what}:{other}:{where}:filter=bicubic:param_a=0:param_b=0.5:{same}"


def run(data: bytes, given: str, wanted: str, filters: str) -> bytes:
    size = f"{SIZE[1]}x{SIZE[0]}"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", given, "-s", size, "-i", "-"]
    command += ["-vf", f"{filters},format={wanted}", "-f", "rawvideo", "-pix_fmt", wanted, "-"]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def to_rgb(levels: list[torch.Tensor], form: PlaneFormat) -> np.ndarray:
    kind = np.uint8 if form.bits == 8 else np.uint16
    data = b"".join(plane.numpy().astype(kind).tobytes() for plane in levels)
    planes = np.frombuffer(run(data, pixel_format(form), "gbrp16le", zscale(form, True)), np.uint16)
    return planes.reshape(3, *SIZE)[[2, 0, 1]].astype(np.float64)


def from_rgb(image: torch.Tensor, form: PlaneFormat) -> list[torch.Tensor]:
    levels = (image * 65535).round().numpy().astype(np.uint16)[[1, 2, 0]]
    kind = np.uint8 if form.bits == 8 else np.uint16
    result = np.frombuffer(run(levels.tobytes(), "gbrp16le", pixel_format(form), zscale(form, False)), kind)
    sizes = [SIZE, form.chroma_size(SIZE), form.chroma_size(SIZE)]
    parts = np.split(result, np.cumsum([h * w for h, w in sizes])[:-1])
    return [torch.from_numpy(part.reshape(size).astype(np.float64)) for part, size in zip(parts, sizes, strict=True)]


if __name__ == "__main__":
    main()
