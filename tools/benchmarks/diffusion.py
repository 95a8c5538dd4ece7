"""Compares time and peak memory of tiled diffusion at SDXL's real size with untiled and tile-by-tile sampling.

Run it with the Python that runs ComfyUI:

    COMFYUI_PATH=COMFYUI python -m tools.benchmarks.diffusion --sizes 2048 4096 [--control] [--supir] [--output FILE.md]

Weights are random; they cost as much as trained ones. "tiles" is the pack's Tiled Diffusion; "whole" is the same sampler
without it; "one by one" samples each tile to the end before the next, as tile scripts do, with the same number of tiles. The
last rows decode the latent: in tiles that share their normalization, and by the host. On a GPU, every method runs one step
before it is measured, and memory is freed between methods. Remarks report smaller tiles, a switch to tiles, and values that are
not finite. To check on a CPU that it runs, use --channels 32 --sizes 512 --tile 256; SUPIR has only one size.
"""

import argparse
import gc
import importlib
import importlib.util
import platform
import shlex
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from fidelity.report.memory import MemoryWatch
from fidelity.steps.diffusion import spread_tiles
from tools.benchmarks.speed import load_host

ROOT = Path(__file__).parents[2]
_CONTEXT, _POOLED = 2048, 1280


def load_pack() -> None:
    """Makes the pack importable, as the host does."""
    places = [str(ROOT)]
    spec = importlib.util.spec_from_file_location("fidelity-upscale", ROOT / "__init__.py", submodule_search_locations=places)
    assert spec and spec.loader
    sys.modules["fidelity-upscale"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fidelity-upscale"])


def pack(name: str) -> Any:
    """A module of the pack, imported as part of the package that the host sees."""
    return importlib.import_module(f"fidelity-upscale.{name}")


def fill(network: torch.nn.Module) -> torch.nn.Module:
    """Fills a network with random weights that keep values in range."""
    for parameter in network.parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
            else:
                parameter.fill_(0.5)
    return network.eval().requires_grad_(False)


def settings(channels: int) -> dict[str, Any]:
    """Configuration of SDXL's UNet with another width."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": channels,
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "channel_mult": [1, 2, 4],
        "transformer_depth_middle": 10,
        "use_linear_in_transformer": True,
        "context_dim": _CONTEXT,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
        "use_temporal_attention": False,
        "use_spatial_transformer": True,
        "legacy": False,
    }


def make_parts(channels: int, device: torch.device, control: bool) -> tuple[Any, Any, Any, Any]:
    """Makes MODEL, positive and negative conditioning, and VAE."""
    models, cldm, autoencoder = (
        importlib.import_module(name) for name in ("comfy.supported_models", "comfy.cldm.cldm", "comfy.ldm.models.autoencoder")
    )
    patcher, controls, sd = (importlib.import_module(f"comfy.{name}") for name in ("model_patcher", "controlnet", "sd"))
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    heads = min(64, channels)
    config = models.SDXL(settings(channels))
    config.unet_config["num_head_channels"] = heads
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, device=device)
    fill(model.diffusion_model)
    patched = patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
    texts = [[[torch.randn(1, 77, _CONTEXT), {"pooled_output": torch.randn(1, _POOLED)}]] for _ in range(2)]
    if control:
        left_out = ("out_channels", "transformer_depth_output")
        options = {key: value for key, value in settings(channels).items() if key not in left_out}
        options |= {"num_head_channels": heads, "dtype": dtype, "device": device}
        options["operations"] = importlib.import_module("comfy.ops").disable_weight_init
        held = controls.ControlNet(fill(cldm.ControlNet(**options, hint_channels=3)), load_device=device)
        extra = {"control": held.copy().set_cond_hint(torch.rand(1, 3, 512, 512)), "control_apply_to_uncond": False}
        texts = [[[text, {**pooled, **extra}] for text, pooled in entries] for entries in texts]
    described = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": max(32, 128 * channels // 320 // 32 * 32),
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    weights = fill(autoencoder.AutoencoderKL(ddconfig=described, embed_dim=4)).state_dict()
    vae = sd.VAE(sd=weights, config={"params": {"ddconfig": described, "embed_dim": 4}}, device=device)
    return patched, texts[0], texts[1], vae


def make_supir(device: torch.device) -> Any:
    """Makes the host's SUPIR network at its real size, as the host's loader returns it."""
    modules, ops, patcher = (
        importlib.import_module(f"comfy.{name}") for name in ("ldm.supir.supir_modules", "ops", "model_patcher")
    )
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    network = fill(modules.SUPIR(device=device, dtype=dtype, operations=ops.manual_cast))
    return patcher.CoreModelPatcher(network, load_device=device, offload_device=torch.device("cpu"))


def apply_supir(model: Any, holder: Any, latent: torch.Tensor) -> Any:
    """Clones a MODEL and patches it as the host's node does, so that a latent guides it through SUPIR."""
    hinted = importlib.import_module("comfy.ldm.supir.supir_patch").SUPIRPatch(
        holder, holder.model.project_modules, latent, 1.0, 1.0
    )
    patched = model.clone()
    hinted.register(patched)
    return patched


def sample(model: Any, latent: torch.Tensor, texts: tuple[Any, Any], steps: int) -> torch.Tensor:
    """Samples with the host's sampler."""
    sampling = importlib.import_module("comfy.sample")
    noise = sampling.prepare_noise(latent, 0)
    return sampling.sample(model, noise, steps, 5.0, "euler", "normal", *texts, latent, denoise=0.4, disable_pbar=True, seed=0)


def one_by_one(model: Any, latent: torch.Tensor, texts: tuple[Any, Any], steps: int, tile: int, overlap: int) -> torch.Tensor:
    """Samples one tile after another, each to the end."""
    result = latent.clone()
    for rows, columns in product(*(spread_tiles(length, tile, overlap) for length in latent.shape[-2:])):
        part = (..., slice(*rows), slice(*columns))
        result[part] = sample(model, result[part], texts, steps).to(result)
    return result


def list_ways(
    model: Any, texts: tuple[Any, Any], vae: Any, latent: torch.Tensor, options: Any
) -> dict[str, tuple[Callable[[int], tuple[torch.Tensor, str]], int]]:
    """The methods to measure by name, each with its number of steps; a method returns its result and a remark."""
    tiled = pack("nodes.diffusion.denoise").TiledDenoiser(options.tile, options.overlap)
    coding, tile, overlap = pack("nodes.diffusion.latents"), options.tile // 8, options.overlap // 8

    def in_tiles(steps: int) -> tuple[torch.Tensor, str]:
        made = sample(tiled.patch(model), latent, texts, steps)
        at_once = f", {tiled._most} at once" if tiled._most else ""
        return made, "" if tiled.used_px == options.tile and not at_once else f"shrunk to {tiled.used_px} px{at_once}"

    def decoded(_steps: int) -> tuple[torch.Tensor, str]:
        with patch.object(vae, "decode_tiled_", wraps=vae.decode_tiled_) as in_tiles:
            made = vae.decode(latent)
        return made, "switched to tiles" if in_tiles.called else ""

    ways: dict[str, tuple[Callable[[int], tuple[torch.Tensor, str]], int]] = {
        f"tiles of {options.tile}, {options.overlap} shared": (in_tiles, options.steps),
        "whole": (lambda steps: (sample(model, latent, texts, steps), ""), options.steps),
    }
    if not options.supir:  # SUPIR needs its hint cropped per tile, which tile scripts do not do
        ways["one by one"] = (lambda steps: (one_by_one(model, latent, texts, steps, tile, overlap), ""), options.steps)
        ways["decode, tiles of one normalization"] = (lambda _: (coding.decode_latent(vae, latent, whole=False), ""), 1)
        ways["decode, the host's tiles"] = (
            lambda _: (vae.decode_tiled(latent, tile_x=128, tile_y=128, overlap=24), ""),
            1,
        )
        ways["decode, the host"] = (decoded, 1)
    return ways


def measure(work: Callable[[int], tuple[torch.Tensor, str]], steps: int, device: torch.device) -> str:
    """Measures seconds per step and peak MiB; returns them as table cells, or the error."""
    try:
        if device.type == "cuda":
            work(1)  # reloads what the previous method evicted, and lets libraries autotune
        give_back(device)
        with MemoryWatch(device) as watch:
            started = time.perf_counter()
            made, remark = work(steps)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
    except RuntimeError as error:
        return f"{str(error).splitlines()[0][:60]} | "
    finally:
        give_back(device)
    remark = remark if made.isfinite().all() else f"{remark} not finite"
    return f"{seconds / steps:.3g} {remark}".strip() + f" | {watch.peak_bytes / 2**20:.0f}"


def give_back(device: torch.device) -> None:
    """Returns freed memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 4096], help="side lengths of the image in pixels")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--overlap", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--channels", type=int, default=320, help="width of the UNet; SDXL has 320")
    parser.add_argument("--control", action="store_true", help="add a ControlNet of the same size")
    parser.add_argument("--supir", action="store_true", help="add the host's SUPIR; measures sampling only")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    load_host(device)
    load_pack()
    machine = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    model, positive, negative, vae = make_parts(options.channels, device, options.control)
    texts = (positive, negative)
    supir = make_supir(device) if options.supir else None
    lines = [
        f"# Tiled diffusion, {machine}, torch {torch.__version__}",
        "",
        f"`python -m tools.benchmarks.diffusion {shlex.join(sys.argv[1:])}`",
        "",
        "| image | method | seconds per step | peak MiB |",
        "|---|---|---|---|",
    ]
    with torch.inference_mode():
        for size in options.sizes:
            latent = torch.randn(1, 4, size // 8, size // 8) * 0.1
            patched = apply_supir(model, supir, latent) if supir else model
            for way, (work, steps) in list_ways(patched, texts, vae, latent, options).items():
                lines.append(f"| {size}x{size} | {way} | {measure(work, steps, device)} |")
                print(lines[-1], flush=True)
                if options.output:
                    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
