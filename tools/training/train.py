"""Trains one super-resolution network on generated images and writes it as safetensors.

Example: python -m tools.training.train --generator natural --scale 4 --output fidelity/networks/weights/natural-x4.safetensors
An interrupted run resumes where it stopped.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tools.training.data import GENERATORS, draw_batch, make_bank
from tools.training.network import Network
from tools.training.widen import as_rgb


@dataclass(frozen=True)
class Settings:
    """Everything that determines the result. The defaults made the shipped weights."""

    generator: str = "natural"
    """Type of the training images: a name in `tools.training.data.GENERATORS`."""
    scale: int = 4
    channels: int = 1
    """1 for luma, 3 for RGB."""
    features: int = 62
    """Width: channels between two convolutions; the exported network has two more, for color."""
    convolutions: int = 6
    """Depth: convolutions of that width."""
    steps: int = 11000
    batch: int = 16
    patch_px: int = 40
    """Side of the low-resolution training window."""
    learning_rate: float = 1e-3
    """Peak learning rate, reached after 2 % of the steps."""
    loss: str = "charbonnier"
    """charbonnier or l1."""
    average: float = 0.999
    """Decay of the running mean of the weights, which is exported; 0 exports the final weights."""
    precision: str = "bf16"
    """bf16 or fp32, for the convolutions; the correction is added to the image in fp32."""
    bank: int = 800
    """Number of generated images to crop windows from."""
    seed: int = 1


def make_network(settings: Settings) -> Network:
    """Makes a freshly initialized network of the size in the settings."""
    torch.manual_seed(settings.seed)
    return Network(
        num_in_ch=settings.channels,
        num_out_ch=settings.channels,
        num_feat=settings.features,
        num_conv=settings.convolutions,
        upscale=settings.scale,
    )


def charbonnier(result: Tensor, target: Tensor) -> Tensor:
    """A smooth absolute error (Charbonnier et al., 1994)."""
    return torch.sqrt((result - target).square() + 1e-6).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"charbonnier": charbonnier, "l1": functional.l1_loss}


def learning_rate_at(step: int, settings: Settings) -> float:
    """Linear warm-up over 2 % of the steps, then a cosine decay to 1 % of the peak."""
    warmup = max(1, settings.steps // 50)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, settings.steps - warmup)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def descend(
    loss: Tensor,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    decay: float,
    max_norm: float,
) -> None:
    """Takes one optimization step and moves the running average of the weights.

    Args:
        loss: A scalar.
        network: The network in training.
        average: Its copy that holds the average.
        optimizer: Over the network's parameters.
        step: Number of steps taken before.
        decay: Share of the average that a step keeps, in [0, 1]; lower during the first steps.
        max_norm: Gradients are scaled down to this norm.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    optimizer.step()
    decay = min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        for kept, current in zip(average.parameters(), network.parameters(), strict=True):
            kept.lerp_(current, 1 - decay)


def train(
    settings: Settings,
    output: Path,
    device: torch.device,
    every: int = 200,
    on_save: Callable[[int], None] | None = None,
) -> Network:
    """Trains, resuming from the `.state` file beside the output if it exists, and writes weights and a record.

    Args:
        settings: What to train, and how.
        output: The `.safetensors` file to write.
        device: Where to train.
        every: Steps between saved states.
        on_save: Called with the step after each save.

    Returns:
        The network, with the number of channels in the settings.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    network = make_network(settings).to(device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    state_path = output.with_suffix(".state")
    first, curve = 0, []
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        if state["settings"] != asdict(settings):
            raise SystemExit(f"{state_path} was written with other settings; delete it to start over")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        first, curve = state["step"], state["curve"]
    pairs = make_bank(settings.generator, settings.scale, settings.channels, settings.bank, settings.seed)
    measure_loss = LOSSES[settings.loss]
    total, started = 0.0, time.perf_counter()
    for step in range(first, settings.steps):
        generator = np.random.default_rng((settings.seed, 1, step))
        batch = draw_batch(pairs, settings.scale, settings.batch, settings.patch_px, generator)
        low, high = (image.to(device) for image in batch)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, settings)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            result = network(low.contiguous(memory_format=torch.channels_last))
        loss = measure_loss(result, high)
        descend(loss, network, average, optimizer, step, settings.average, max_norm=1.0)
        total += loss.item()
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            mean = total / ((step - first) % every + 1)
            curve.append([step + 1, round(mean, 6)])
            print(f"{step + 1}/{settings.steps} loss {mean:.5f} {time.perf_counter() - started:.0f} s", flush=True)
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
    record = {
        "command": command_of(settings, output),
        "settings": asdict(settings),
        "device": device.type,
        "torch": torch.__version__,
        "loss_curve": curve,
    }
    output.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    state_path.unlink(missing_ok=True)
    return average


def save_weights(network: Network, output: Path) -> None:
    """Writes float16 weights of an RGB network: half the size, without visible loss."""
    output.parent.mkdir(parents=True, exist_ok=True)
    if network.num_in_ch == 1:
        network = as_rgb(network)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, output)
    output.chmod(0o644)  # safetensors makes files readable only by their owner


def command_of(settings: Settings, output: Path) -> str:
    """The command line that trains a network with these settings."""
    default = Settings()
    options = [
        f"--{field.name.replace('_', '-')} {value}"
        for field in fields(Settings)
        if (value := getattr(settings, field.name)) != getattr(default, field.name)
    ]
    return " ".join(["python -m tools.training.train", *options, f"--output fidelity/networks/weights/{output.name}"])


def parse_settings(arguments: Sequence[str] | None = None) -> tuple[Settings, Path]:
    """Parses settings and the output file from a command line, by default the one of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    choices = {"generator": list(GENERATORS), "loss": list(LOSSES), "precision": ["bf16", "fp32"]}
    for field in fields(Settings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, choices=choices.get(field.name))
    options = vars(parser.parse_args(arguments))
    output: Path = options.pop("output")
    return Settings(**options), output


def main() -> None:
    settings, output = parse_settings()
    train(settings, output, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


if __name__ == "__main__":
    main()
