"""Trains a network that restores damaged images, with a shared body and one head each for x1, x2 and x4.

    python -m tools.training.restore --banks FOLDER/*.npy --state FOLDER/state.pt --steps 20000
    python -m tools.training.restore --banks FOLDER/*drawn*.npy --state FOLDER/state.pt --anneal 4000
        --scales 1 --through fidelity/networks/weights/drawn-x4.safetensors --output OUT

Each image is downscaled and damaged once; the three heads restore it at one, two and four times its size. The body removes the
damage for all three, so that is learned only once. The learning rate stays constant, so a run can be of any length. `--anneal`
lowers it to zero on a copy of the state and writes weights from that, for some banks and scales only if so asked. `--through`
names the network that will enlarge what is restored at its own size: the error of its result then counts as well. `--teachers`
names weights of x1 networks. Their mean over four views of the image is closer to the truth than any one of them: a network
that goes on from one of them (`--begin`) learns from that mean as much as from the truth. In chroma, only the first one counts.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from fidelity.imaging.color import LUMA_WEIGHTS
from fidelity.networks.backends.compact import Compact
from tools.training.bank import SIDE_PX, Bytes
from tools.training.degradations import Pixels, degrade
from tools.training.train import charbonnier, descend

SCALES = (1, 2, 4)
MARGIN_PX = 8
"""Border of the damaged image that is cropped off, since damage differs near the border."""


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result, except the banks and the number of steps."""

    features: int = 64
    """Width: channels between two convolutions."""
    convolutions: int = 14
    """Depth: convolutions of that width."""
    fold: int = 1
    """Side of the squares of pixels that become channels before the first convolution, and pixels again after the last: with 2
    the body sees four images of half the size, so that it reaches twice as far at a quarter of the cost."""
    batch: int = 12
    patch_px: int = 48
    """Side of the damaged window."""
    learning_rate: float = 5e-4
    """Learning rate after the warm-up."""
    warmup: int = 300
    """Number of steps over which the learning rate rises to its full value."""
    slopes: float = 0.5
    """Weight of the error in differences between neighboring samples, relative to the error of the samples."""
    average: float = 0.999
    """Decay of the running mean of the weights, which is exported."""
    seed: int = 1


class Restorer(nn.Module):
    """The body of a Compact network (Real-ESRGAN's SRVGGNet) with a separate last convolution for each scale."""

    def __init__(self, features: int, convolutions: int, fold: int = 1) -> None:
        super().__init__()
        self.fold = fold
        layers: list[nn.Module] = [nn.Conv2d(3 * fold**2, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layer = nn.Conv2d(features, features, 3, 1, 1)
            with torch.no_grad():  # near the identity, so that a deep network learns from the first step
                layer.weight.mul_(0.5)
                layer.weight[:, :, 1, 1] += torch.eye(features)
            layers += [layer, nn.PReLU(features)]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({str(scale): nn.Conv2d(features, 3 * (scale * fold) ** 2, 3, 1, 1) for scale in SCALES})
        with torch.no_grad():
            for head in self.heads.values():
                for parameter in head.parameters():
                    parameter.mul_(0.1)

    def forward(self, image: Tensor, scales: Sequence[int] = SCALES) -> dict[int, Tensor]:
        """The restored image at some scales, in float32."""
        seen = self.body(functional.pixel_unshuffle(image, self.fold))
        return {
            scale: functional.pixel_shuffle(self.heads[str(scale)](seen).float(), scale * self.fold)
            + functional.interpolate(image, scale_factor=scale)
            for scale in scales
        }

    def load_weights_at(self, scale: int, weights: dict[str, Tensor]) -> None:
        """Loads the state dict of a Compact network of one scale; the other heads stay as they are."""
        last = f"body.{len(self.body)}."
        known = self.state_dict()
        for name, value in weights.items():
            known[f"heads.{scale}.{name.removeprefix(last)}" if name.startswith(last) else name] = value.float()
        self.load_state_dict(known)

    def weights_at(self, scale: int) -> dict[str, Tensor]:
        """The state dict of a Compact network of one scale."""
        weights = {f"body.{name}": value for name, value in self.body.state_dict().items()}
        for name, value in self.heads[str(scale)].state_dict().items():
            weights[f"body.{len(self.body)}.{name}"] = value
        return weights


@dataclass(frozen=True)
class Bank:
    """Training crops and how to damage them."""

    crops: Bytes
    drawn: bool
    """Whether the crops are drawings."""
    share: float
    """Share of a batch taken from this bank."""


def open_banks(paths: Sequence[Path]) -> list[Bank]:
    """Memory-maps banks; banks of drawings have "drawn" in their names.

    Photographs and drawings each fill half of a batch. Within each half, a bank's share is proportional to the square root of
    its size, so that small banks are not repeated often enough to overfit.
    """
    crops: list[Bytes] = [np.load(path, mmap_mode="r") for path in paths]
    drawn = ["drawn" in path.stem for path in paths]
    roots = [len(bank) ** 0.5 for bank in crops]
    halves = {sort: sum(root for root, other in zip(roots, drawn, strict=True) if other == sort) for sort in set(drawn)}
    shares = [root / halves[sort] / len(halves) for root, sort in zip(roots, drawn, strict=True)]
    return [Bank(bank, sort, share) for bank, sort, share in zip(crops, drawn, shares, strict=True)]


def draw_batches(banks: Sequence[Bank], settings: Settings, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields endless batches, starting at a step: damaged ``(B, 3, P, P)`` and clean ``(B, 3, 4P, 4P)``."""
    shares = [bank.share for bank in banks]
    step = first
    while True:
        draw = np.random.default_rng((settings.seed, 2, step))
        chosen = draw.choice(len(banks), settings.batch, p=np.array(shares) / sum(shares))
        pairs = [_draw_pair(banks[index], settings.patch_px, draw) for index in chosen]
        lows, highs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) for images in zip(*pairs, strict=True))
        yield lows, highs
        step += 1


def _draw_pair(bank: Bank, patch_px: int, draw: np.random.Generator) -> tuple[Pixels, Pixels]:
    largest = SCALES[-1]
    low_px = patch_px + MARGIN_PX
    side = low_px * largest
    top, left = draw.integers(0, SIDE_PX - side + 1, 2)
    crop = bank.crops[draw.integers(len(bank.crops)), top : top + side, left : left + side]
    crop = np.asarray(np.rot90(crop, int(draw.integers(4))), np.uint8)
    high = _recolor(np.ascontiguousarray(crop[:, ::-1] if draw.random() < 0.5 else crop), draw)
    low = degrade(high, (low_px, low_px), draw, bank.drawn)
    top, left = (int(start) for start in draw.integers(1, MARGIN_PX, 2))
    high_part = tuple(slice(start * largest, (start + patch_px) * largest) for start in (top, left))
    return low[top : top + patch_px, left : left + patch_px], high[high_part]


def _recolor(crop: Bytes, draw: np.random.Generator) -> Pixels:
    """Varies colors at random: swaps channels, changes saturation and gamma."""
    image = crop.astype(np.float32) / 255
    if draw.random() < 0.3:
        image = image[..., draw.permutation(3)]
    if draw.random() < 0.5:
        gray = image.mean(axis=2, keepdims=True)
        image = gray + (image - gray) * np.float32(draw.uniform(0, 1.5))
    if draw.random() < 0.3:
        image = np.clip(image, 0, 1) ** np.float32(draw.uniform(0.75, 1.35))
    return np.clip(image, 0, 1, dtype=np.float32)


def measure_loss(results: Sequence[Tensor], high: Tensor, slopes: float, texture: float = 0.0) -> Tensor:
    """The mean over results of the error in samples, in the differences between neighbors and in texture.

    Args:
        results: ``(B, 1 or 3, h, w)``, of any size.
        high: ``(B, 3, H, W)``, the truth.
        slopes: Weight of the error in differences between neighbors.
        texture: Weight of `miss_texture`.
    """
    total = torch.zeros(())
    for result in results:
        target, size = high, tuple(result.shape[2:])
        if size != tuple(high.shape[2:]):
            target = functional.interpolate(high, size, mode="bicubic", antialias=True).clamp(0, 1)
        if result.shape[1] == 1:
            target = luma_of(target)
        total = total + charbonnier(result, target)
        for axis in (2, 3):
            total = total + slopes / 2 * charbonnier(result.diff(dim=axis), target.diff(dim=axis))
        if texture:
            total = total + texture * miss_texture(result, target)
    return total / len(results)


def miss_texture(result: Tensor, target: Tensor) -> Tensor:
    """How far a result's texture is from the truth's: 1 - SSIM of luma, with the term for contrast counted once more by half.

    The error in samples alone is least if all texture that cannot be told from noise is smoothed away; this also counts how
    much of it there is. SSIM by Wang et al., 2004, with a uniform window of 7 px.
    """
    pair = [image if image.shape[1] == 1 else luma_of(image) for image in (result, target)]
    means = [functional.avg_pool2d(image, 7, 1) for image in pair]
    first, second = (
        (functional.avg_pool2d(image.square(), 7, 1) - mean.square()).clamp(min=1e-7)
        for image, mean in zip(pair, means, strict=True)
    )
    both = functional.avg_pool2d(pair[0] * pair[1], 7, 1) - means[0] * means[1]
    light = (2 * means[0] * means[1] + 1e-4) / (means[0].square() + means[1].square() + 1e-4)
    alike = light * (2 * both + 9e-4) / (first + second + 9e-4)
    contrast = (2 * (first * second).sqrt() + 9e-4) / (first + second + 9e-4)
    return (1 - alike).mean() + (1 - contrast).mean() / 2


@dataclass(frozen=True)
class Teachers:
    """Frozen networks for x1 to learn from: the mean of what they restore in luma, and what the first restores in chroma."""

    networks: Sequence[Restorer]

    @torch.no_grad()
    def restore(self, image: Tensor) -> Tensor:
        """What they restore of ``(B, 3, H, W)``, each by four views: as it is, transposed, and both turned by a half."""
        means = [_mean_of_views(network, image) for network in self.networks]
        return means[0] + luma_of(torch.stack(means).mean(dim=0) - means[0])


def _mean_of_views(network: Restorer, image: Tensor) -> Tensor:
    total = torch.zeros_like(image, dtype=torch.float32)
    for turns in (0, 2):
        view = image.rot90(turns, (2, 3))
        total += network(view.contiguous(memory_format=torch.channels_last), (1,))[1].rot90(turns, (2, 3))
        turned = network(view.mT.contiguous(memory_format=torch.channels_last), (1,))[1].mT
        total += turned.rot90(turns, (2, 3))
    return total / 4


def load_teachers(paths: Sequence[Path]) -> Teachers:
    """Loads weights for x1, as `save_weights` writes them, each with its settings beside it."""
    networks: list[Restorer] = []
    for path in paths:
        settings = Settings(**json.loads(path.with_suffix(".json").read_text())["settings"])
        network = Restorer(settings.features, settings.convolutions, settings.fold)
        network.load_weights_at(1, load_file(path))
        networks.append(network.eval().to(memory_format=torch.channels_last))  # pyright: ignore[reportCallIssue]
    return Teachers(networks)


def load_enlarger(path: Path) -> nn.Module:
    """Loads a shipped network, frozen: luma in, luma out."""
    network = Compact.load(load_file(path))
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def enlarge_luma(enlarger: nn.Module, image: Tensor) -> Tensor:
    """The luma of an enlargement, as the pipeline computes it, in float32."""
    return luma_of(enlarger(luma_of(image).expand(-1, 3, -1, -1)).float())


def luma_of(image: Tensor) -> Tensor:
    """Luma as `fidelity.imaging.color.rgb_to_luma` computes it, with a gradient."""
    return functional.conv2d(image, image.new_tensor(LUMA_WEIGHTS["bt601"]).reshape(1, 3, 1, 1))


def train(
    settings: Settings,
    banks: Sequence[Bank],
    state_path: Path,
    steps: int,
    anneal: int = 0,
    scales: Sequence[int] = SCALES,
    enlarger: nn.Module | None = None,
    texture: float = 0.0,
    every: int = 200,
    teachers: Teachers | None = None,
) -> tuple[Restorer, dict[str, Any]]:
    """Trains up to a step, resuming from the state file if it exists.

    Args:
        settings: What to train, and how; must equal the settings of a state to resume.
        banks: Training crops; they may change between runs.
        state_path: Where to save and resume the state; not written while annealing.
        steps: The step to reach, counted from the start of the first run.
        anneal: If not 0, continue from the state for this many steps while the learning rate falls to zero; saves no state.
        scales: The heads to train.
        enlarger: A frozen network that enlarges the image restored at its own size; the error of its result counts as well.
        texture: Weight of the error in texture; see `measure_loss`.
        every: Number of steps between saved states.
        teachers: If given, half of the loss is the distance at x1 to what they restore.

    Returns:
        The network with averaged weights, and a record of how it was trained.
    """
    torch.manual_seed(settings.seed)
    network = Restorer(settings.features, settings.convolutions, settings.fold)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    averaged = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    first, curve = 0, []
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        if state["settings"] != asdict(settings):
            raise SystemExit(f"{state_path} was written with other settings: {state['settings']}")
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        first, curve = state["step"], state["curve"]
    stop = first + anneal if anneal else steps
    total, counted, started = 0.0, 0, time.perf_counter()
    for step, (low, high) in zip(range(first, stop), draw_batches(banks, settings, first), strict=False):
        rate = settings.learning_rate * min(1.0, (step + 1) / settings.warmup)
        if anneal:
            rate *= (stop - step) / anneal
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            restored: dict[int, Tensor] = network(low.contiguous(memory_format=torch.channels_last), scales)
            results = list(restored.values())
            if enlarger:
                results.append(enlarge_luma(enlarger, restored[1]))
            taught = teachers.restore(low) if teachers else None
        loss = measure_loss(results, high, settings.slopes, texture)
        if taught is not None:
            loss = (loss + measure_loss([restored[1]], taught.float(), settings.slopes)) / 2
        descend(loss, network, averaged, optimizer, step, settings.average, max_norm=0.5)
        total, counted = total + loss.item(), counted + 1
        if (step + 1) % every == 0 or step + 1 == stop:
            mean = total / counted
            total, counted = 0.0, 0
            curve.append([step + 1, round(mean, 6)])
            print(f"{step + 1}/{stop} loss {mean:.5f} {time.perf_counter() - started:.0f} s", flush=True)
            if not anneal:
                state = {"network": network, "averaged": averaged, "optimizer": optimizer}
                saved = {name: part.state_dict() for name, part in state.items()}
                temporary = state_path.with_suffix(".part")
                torch.save({**saved, "settings": asdict(settings), "step": step + 1, "curve": curve}, temporary)
                temporary.replace(state_path)
    record = {"settings": asdict(settings), "steps": stop, "annealed": anneal, "torch": torch.__version__}
    return averaged, {**record, "loss_curve": curve}


def save_checkpoint(state_path: Path, output: Path) -> None:
    """Writes the averaged weights of a run in half precision, with its settings and its curve, to begin another run from."""
    state = torch.load(state_path, weights_only=True)
    weights = {name: value.half().contiguous() for name, value in state["averaged"].items()}
    save_file(weights, output)
    output.chmod(0o644)
    record = {"settings": state["settings"], "steps": state["step"], "loss_curve": state["curve"]}
    output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def begin_from(checkpoint: Path, state_path: Path, settings: Settings) -> None:
    """Writes the state that a run resumes from, with the weights of a checkpoint or of an x1 network and a fresh optimizer.

    Raises:
        SystemExit: If they are of another network.
    """
    record = json.loads(checkpoint.with_suffix(".json").read_text())
    shape = ("features", "convolutions", "fold")
    if any(record["settings"].get(name, 1) != getattr(settings, name) for name in shape):
        raise SystemExit(f"{checkpoint} was written with other settings: {record['settings']}")
    network = Restorer(settings.features, settings.convolutions, settings.fold)
    weights = {name: value.float() for name, value in load_file(checkpoint).items()}
    if any(name.startswith("heads.") for name in weights):
        network.load_state_dict(weights)
    else:
        network.load_weights_at(1, weights)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    parts = {"network": network, "averaged": network, "optimizer": optimizer}
    saved = {name: part.state_dict() for name, part in parts.items()}
    told = {"settings": asdict(settings), "step": record["steps"], "curve": record["loss_curve"]}
    torch.save({**saved, **told}, state_path)


def save_weights(network: Restorer, record: dict[str, Any], output: Path, scales: Sequence[int] = SCALES) -> None:
    """Writes one half-precision Compact network per scale (`OUTPUT-x1.safetensors` and so on), each with its record."""
    output.parent.mkdir(parents=True, exist_ok=True)
    for scale in scales:
        weights = {name: value.detach().half().contiguous() for name, value in network.weights_at(scale).items()}
        path = output.with_name(f"{output.name}-x{scale}.safetensors")
        save_file(weights, path)
        path.chmod(0o644)
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=Path, nargs="+", default=[], help="files written by tools.training.bank")
    parser.add_argument("--state", type=Path, required=True, help="file to save the run to and resume it from")
    parser.add_argument("--steps", type=int, default=100_000, help="the step to reach")
    parser.add_argument("--anneal", type=int, default=0, help="number of steps to anneal a copy of the state")
    parser.add_argument("--scales", type=int, nargs="+", choices=SCALES, default=SCALES, help="heads to train")
    parser.add_argument("--through", type=Path, help="weights of the network that will enlarge the restored image")
    parser.add_argument("--texture", type=float, default=0.0, help="weight of the error in texture")
    parser.add_argument("--output", type=Path, help="path of the weights to write, without the suffix -x1.safetensors")
    parser.add_argument("--checkpoint", type=Path, help="file to write the state's weights to instead of training")
    parser.add_argument("--begin", type=Path, help="checkpoint or x1 weights to begin from, if there is no state yet")
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="weights of x1 networks to learn from as well")
    parser.add_argument("--threads", type=int, default=1)
    names = ("features", "convolutions", "fold", "batch", "patch_px", "learning_rate")
    for name in names:
        default = getattr(Settings(), name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"see Settings; default {default}")
    options = parser.parse_args()
    settings = Settings(*(getattr(options, name) for name in names))
    torch.set_num_threads(options.threads)
    if options.checkpoint:
        save_checkpoint(options.state, options.checkpoint)
        return
    if options.begin and not options.state.exists():
        begin_from(options.begin, options.state, settings)
    if not options.banks:
        parser.error("--banks: wanted files written by tools.training.bank")
    banks = open_banks(options.banks)
    enlarger = load_enlarger(options.through) if options.through else None
    chosen = (options.anneal, options.scales, enlarger, options.texture)
    teachers = load_teachers(options.teachers) if options.teachers else None
    network, record = train(settings, banks, options.state, options.steps, *chosen, teachers=teachers)
    if options.output:
        record |= {"scales": list(options.scales), "through": options.through.name if options.through else None}
        record |= {"texture": options.texture, "teachers": [path.stem for path in options.teachers]}
        record["banks"] = [f"{path.name}: {len(bank.crops)} crops" for path, bank in zip(options.banks, banks, strict=True)]
        save_weights(network, record, options.output, options.scales)


if __name__ == "__main__":
    main()
