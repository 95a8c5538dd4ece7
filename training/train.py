"""Trains one luma super-resolution network on generated images and writes it as safetensors.

Example: python -m training.train --scale 4 --output fidelity/models/weights/natural-x4.safetensors
A run that was stopped goes on where it was.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor, nn

from fidelity.imaging.resample import resize
from training.generators.natural import dead_leaves


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    scale: int
    features: int
    convolutions: int
    steps: int
    batch: int
    patch_px: int
    """Side of the low-resolution training window."""
    learning_rate: float
    bank: int
    """Generated images to draw windows from."""
    seed: int


def make_bank(settings: Settings) -> list[tuple[Tensor, Tensor]]:
    """Pairs of (low resolution, high resolution), each ``(1, 1, H, W)``, the low one rounded to 8 bits."""
    pairs: list[tuple[Tensor, Tensor]] = []
    side = 240  # divisible by 2, 3 and 4
    for index in range(settings.bank):
        generator = np.random.default_rng((settings.seed, index))
        high = torch.from_numpy(dead_leaves(side, generator))[None, None]
        low = resize(high, (side // settings.scale, side // settings.scale)).clamp(0, 1)
        pairs.append(((low * 255).round() / 255, high))
    return pairs


def draw_batch(pairs: list[tuple[Tensor, Tensor]], settings: Settings, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of aligned windows, flipped and turned at random."""
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    scale, patch = settings.scale, settings.patch_px
    for index in generator.integers(0, len(pairs), settings.batch):
        low, high = pairs[index]
        top, left = generator.integers(0, low.shape[2] - patch + 1, 2)
        low = low[..., top : top + patch, left : left + patch]
        high = high[..., top * scale : (top + patch) * scale, left * scale : (left + patch) * scale]
        turns, flip = int(generator.integers(4)), bool(generator.integers(2))
        low, high = (torch.rot90(image, turns, (2, 3)) for image in (low, high))
        if flip:
            low, high = low.flip(3), high.flip(3)
        lows.append(low)
        highs.append(high)
    return torch.cat(lows), torch.cat(highs)


def charbonnier(result: Tensor, target: Tensor) -> Tensor:
    """A smooth absolute error (Charbonnier et al., 1994)."""
    return torch.sqrt((result - target).square() + 1e-6).mean()


def learning_rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up over 2 % of the steps, then a cosine down to 1 % of the peak."""
    warmup = max(1, settings.steps // 50)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, settings.steps - warmup)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(
    settings: Settings,
    output: Path,
    device: torch.device,
    every: int = 200,
    on_save: Callable[[int], None] | None = None,
) -> None:
    """Trains, resuming from the `.state` file beside the output when it is there, and writes weights and a record.

    Args:
        settings: What to train, and how.
        output: The `.safetensors` file to write.
        device: Where to train.
        every: Steps between one saved state and the next.
        on_save: Called with the step after each.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = Compact(
        num_in_ch=1, num_out_ch=1, num_feat=settings.features, num_conv=settings.convolutions, upscale=settings.scale
    )
    network = network.to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average: nn.Module = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    state_path = output.with_suffix(".state")
    first, curve = 0, []
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        if state["settings"] != asdict(settings):
            raise SystemExit(f"{state_path} was written with other settings; remove it to start anew")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, curve = state["step"], state["curve"]
    pairs = make_bank(settings)
    total, started = 0.0, time.perf_counter()
    for step in range(first, settings.steps):
        generator = np.random.default_rng((settings.seed, 1, step))
        low, high = (image.to(device) for image in draw_batch(pairs, settings, generator))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = charbonnier(network(low.contiguous(memory_format=torch.channels_last)), high)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for kept, current in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(current, 1 - decay)
        total += loss.item()
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            count = (step - first) % every + 1
            curve.append([step + 1, round(total / count, 6)])
            print(f"{step + 1}/{settings.steps} loss {total / count:.5f} {time.perf_counter() - started:.0f} s", flush=True)
            total = 0.0
            torch.save(
                {
                    "settings": asdict(settings),
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "curve": curve,
                },
                state_path,
            )
            save_weights(average, output)
            if on_save:
                on_save(step + 1)
    record = {"settings": asdict(settings), "loss_curve": curve, "torch": torch.__version__}
    output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    state_path.unlink(missing_ok=True)


def save_weights(network: nn.Module, output: Path) -> None:
    """Writes float16 weights: half the size, and nothing lost that anyone could see."""
    output.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, output)
    output.chmod(0o644)  # safetensors makes files for their owner alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--convolutions", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch-px", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--bank", type=int, default=800)
    parser.add_argument("--seed", type=int, default=1)
    options = vars(parser.parse_args())
    output = options.pop("output")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train(Settings(**options), output, device)


if __name__ == "__main__":
    main()
