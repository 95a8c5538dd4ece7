"""Damaged model files, and what the loader makes of them.

    python -m tools.attack.models FIRST COUNT FOLDER

See `tools.attack.trials`.
"""

import io
import random
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.NAFNet import NAFNet
from spandrel.architectures.PLKSR import PLKSR
from spandrel.architectures.RealCUGAN import UpCunet2x
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from fidelity.errors import RefusedError
from fidelity.networks.architectures.edsr import EDSR
from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.architectures.waifu2x import UpConv7
from fidelity.networks.loader import detect_architecture, load_model
from fidelity.networks.ncnn import read_ncnn
from fidelity.steps.upscale import upscale
from tools.attack.formats import as_ncnn, write_graph
from tools.attack.trials import damage, run_trials, told_of_time

NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "Compact": lambda: Compact(num_feat=8, num_conv=2, upscale=2),
    "ESRGAN": lambda: ESRGAN(num_filters=8, num_blocks=1, scale=2),
    "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2),
    "PLKSR": lambda: PLKSR(dim=16, n_blocks=2, upscaling_factor=2),
    "SwinIR": lambda: SwinIR(
        img_size=16,
        embed_dim=12,
        depths=[2],
        num_heads=[2],
        window_size=8,
        upscale=2,
        upsampler="pixelshuffledirect",
        mlp_ratio=2,
    ),
    "DnCNN": lambda: DnCNN(in_nc=1, out_nc=1, nc=8, nb=17, act_mode="R"),
    "NAFNet": lambda: NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]),
    "RealCUGAN": UpCunet2x,
    "EDSR": lambda: EDSR(2, 16, 2, 1.0),
    "FFDNet": lambda: FFDNet(3, 8, 12),
    "waifu2x": lambda: UpConv7(3, (4, 4, 8, 8, 8, 8)),
}
_FORMATS = (".safetensors", ".pth", "old .pth", ".onnx", ".pb", "ncnn")
_TYPES = (torch.int64, torch.uint8, torch.float64, torch.bfloat16, torch.bool)
_MOST_BYTES = 1_500_000_000
"""Address space that one small file may take beyond what the process had before."""


@cache
def weights_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {key: value.clone().contiguous() for key, value in NETWORKS[name]().state_dict().items()}


@cache
def onnx_content() -> bytes:
    buffer: Any = io.BytesIO()
    axes = {"image": {2: "height", 3: "width"}, "result": {2: "height", 3: "width"}}
    torch.manual_seed(0)
    network = Compact(num_feat=4, num_conv=1, upscale=2).eval()
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["result"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(network, (torch.rand(1, 3, 32, 32),), buffer, opset_version=17, **names)
    return buffer.getvalue()


def make_file(seed: int, folder: Path) -> tuple[Path, str]:
    """Writes the damaged model file of a seed.

    Returns:
        Its path, and its format and architecture. Of ncnn's two files, the one with the weights.
    """
    draw = random.Random(seed)
    kind, name = draw.choice(_FORMATS), draw.choice(list(NETWORKS))
    if kind == ".onnx":
        return _write(folder / "a.onnx", damage(onnx_content(), draw)), kind
    if kind == ".pb":
        path = write_graph(folder / "a.pb")
        return _write(path, damage(path.read_bytes(), draw)), kind
    if kind == "ncnn":
        torch.manual_seed(0)
        layers, weights = as_ncnn(NETWORKS["Compact"](), draw.random() < 0.5)
        text = damage(layers.encode(), draw) if draw.random() < 0.7 else layers.encode()
        _write(folder / "a.param", text)
        return _write(folder / "a.bin", damage(weights, draw) if draw.random() < 0.5 else weights), kind
    weights: Any = dict(weights_of(name))
    structure = draw.random() < 0.6
    if structure:
        for _ in range(draw.choice((1, 1, 2, 5))):
            weights = _misshape(weights, draw)
    if kind == ".safetensors":
        tensors = {str(key): value.contiguous() for key, value in weights.items() if isinstance(value, Tensor)}
        content = save({key: value.clone() for key, value in tensors.items()})
        if draw.random() < 0.4:  # the header, which says what follows, is small
            length = int.from_bytes(content[:8], "little")
            content = content[:8] + damage(content[8 : 8 + length], draw) + content[8 + length :]
    else:
        content = _pickle(_wrap(weights, draw) if draw.random() < 0.3 else weights, kind == ".pth", draw)
    path = folder / ("a.safetensors" if kind == ".safetensors" else "a.pth")
    return _write(path, content if structure else damage(content, draw)), f"{kind} of {name}"


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _misshape(weights: dict[Any, Any], draw: random.Random) -> dict[Any, Any]:
    """A state dict with one part renamed, lost, of another shape, type or content."""
    made = dict(weights)
    key = draw.choice(list(made)) if made else "w"
    value = made.get(key, torch.zeros(1))
    changes: tuple[Callable[[], object], ...] = (
        lambda: made.pop(key, None),
        lambda: made.update({f"{key}{draw.choice(('.x', '2', '', '.0.weight'))}": value}),
        lambda: made.update({str(key).replace("0", str(draw.choice((7, 99, 10**9)))): value}),
        lambda: made.update({key: value.flatten()}),
        lambda: made.update({key: value[:1]} if value.ndim else {key: value[None]}),
        lambda: made.update({key: value[:0]} if value.ndim else {}),
        lambda: made.update({key: torch.cat((value, value))} if value.ndim else {}),
        lambda: made.update({key: value.transpose(0, -1)} if value.ndim else {}),
        lambda: made.update({key: value.to(draw.choice(_TYPES))}),
        lambda: (
            made.update({key: torch.full_like(value, draw.choice((float("nan"), float("inf"), 1e30)))})
            if value.is_floating_point()
            else None
        ),
        lambda: made.update({key: torch.zeros(draw.choice(((), (1,), (3, 3), (1, 2, 3, 4, 5))))}),
        lambda: made.update({"params_ema": dict(weights)}),
        made.clear,
        lambda: made.update({f"module.{key}": made.pop(key, value)}),
    )
    if isinstance(value, Tensor):
        draw.choice(changes)()
    return made


def _wrap(weights: dict[Any, Any], draw: random.Random) -> Any:
    """What pickles hold besides a state dict."""
    key = next(iter(weights), "w")
    return draw.choice(
        (
            lambda: [weights],
            lambda: {"state_dict": weights, "epoch": draw.choice((1, float("nan"), None, "x", [1], {}))},
            lambda: {**weights, 7: torch.zeros(1)},
            lambda: {**weights, key: draw.choice((None, "x", 7, [torch.zeros(1)], {"a": 1}))},
            lambda: {**weights, None: None},
            lambda: {"params": {"params": {"params": weights}}},
            lambda: (),
            lambda: torch.zeros(3),
            lambda: {**weights, key: torch.zeros(1).expand(10**5, 10**5)},
            lambda: {**weights, key: torch.eye(3).to_sparse()},
            lambda: {**weights, key: torch.zeros(3, dtype=torch.complex64)},
        )
    )()


def _pickle(content: Any, is_zip: bool, draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
    if not is_zip or draw.random() < 0.5:
        return buffer.getvalue()
    repacked = io.BytesIO()  # the same parts, one of them damaged, in an archive that is whole
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(repacked, "w") as new:
        for part in old.namelist():
            data = old.read(part)
            new.writestr(part, damage(data, draw) if part.endswith("data.pkl") or draw.random() < 0.1 else data)
    return repacked.getvalue()


def find_fault(path: Path) -> tuple[str, str | None]:
    """Loads a damaged file and, if that works, runs it.

    Returns:
        "refused" or "taken"; and what went wrong, if anything did.
    """
    began = time.monotonic()
    try:
        if path.suffix == ".bin":
            read_ncnn(path.with_suffix(".param").read_bytes().decode(errors="replace"), path.read_bytes())
        else:
            detect_architecture(path)
            made = upscale(torch.full((1, 3, 20, 24), 0.5), load_model(path)).image
            if not bool(torch.isfinite(made).all()):
                return "taken", "gave values that are not finite"
    except RefusedError as error:
        text = str(error)
        if "\n" in text or (path.suffix != ".bin" and path.name not in text and "a.p" not in text):
            return "refused", f"gave a message of another form: {text[:200]}"
        fate = "refused"
    except Exception as error:
        return "refused", f"raised {type(error).__name__}: {str(error)[:200]}"
    else:
        fate = "taken"
    return fate, told_of_time(began)


def main() -> None:
    folder = Path(sys.argv[3])
    save_file({"w": torch.zeros(1)}, folder / "a.safetensors")  # what is imported lazily counts as before
    find_fault(folder / "a.safetensors")
    run_trials(make_file, find_fault, _MOST_BYTES)


if __name__ == "__main__":
    main()
