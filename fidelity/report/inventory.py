"""Lists the installed models and examines this machine."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..choices import Domain
from ..decide.catalogue import DOWNLOADS, KNOWN_MODELS, RESTORERS, Download, KnownModel, matches
from ..decide.domain import DOMAINS
from ..decide.model_choice import shipped_model, shipped_restorer
from ..decide.recipes import RECIPES
from ..files.paths import one_line
from ..limits import free_bytes, total_bytes
from ..networks.device import choose_device, list_precisions
from ..networks.loader import SHIPPED_WEIGHTS, load_model
from ..networks.memory import free_memory_bytes
from ..networks.runner import Runner

_PROBE_SIZE = (1080, 1920)
_LIBRARIES = ("torch", "torchvision", "spandrel", "pillow", "av", "numpy", "safetensors", "openvino", "onnxruntime")


@dataclass(frozen=True)
class InstalledModel:
    """A model file and what it is used for."""

    name: str
    """The name users select it by."""
    path: str
    """Location of the file."""
    architecture: str | None = None
    """None if the file cannot be used."""
    scale: int | None = None
    """Enlargement of one pass; 1 for models that restore."""
    parameters: int | None = None
    """Number of parameters."""
    channels: int | None = None
    """Input channels: 1 for luma, 3 for RGB."""
    receptive_field_px: int | None = None
    """Radius of the receptive field, in input pixels; None if it is too large to cover with tile context."""
    multiple_of: int | None = None
    """Image sides are padded to a multiple of this."""
    half: tuple[str, ...] = ()
    """Half precisions that the model declares: "fp16", "bf16"."""
    domains: tuple[Domain, ...] = ()
    """Domains whose recipe selects it automatically."""
    restores: tuple[str, ...] = ()
    """Types of restoration that recipes use it for: "denoise", "deblock"."""
    licence: str | None = None
    """None if unknown."""
    refused: str | None = None
    """Why it cannot be used; None if it can."""


def inspect_models(models: Mapping[str, Path]) -> Iterator[InstalledModel]:
    """Loads every model file in turn and describes it; a file that fails to load is described by the reason.

    Args:
        models: Files by name, from `fidelity.networks.loader.list_models`.
    """
    for name, path in models.items():
        try:
            found = _describe_file(name, path)
        except Exception as error:  # files come from anywhere, and one bad file must not hide the rest
            found = InstalledModel(name, str(path), refused=one_line(error))
        yield found


def _describe_file(name: str, path: Path) -> InstalledModel:
    model = load_model(path)
    reach = model.reach_px
    known = _titles_of(path.stem)
    is_shipped = path.parent == SHIPPED_WEIGHTS
    return InstalledModel(
        name,
        str(path),
        model.architecture,
        model.scale,
        model.parameters,
        model.channels_in,
        reach,
        model.multiple_of,
        tuple(precision for precision in model.precisions if precision != "fp32"),
        domains=tuple(domain for domain in DOMAINS if _fits(path, domain, known, is_shipped)),
        restores=tuple(what for what, ones in RESTORERS.items() if _restores(path, ones.values())),
        licence="MIT" if is_shipped else _licence(path.stem, known),
    )


def _titles_of(stem: str) -> list[str]:
    """The names that recipes know a file by."""
    return [title for title, one in KNOWN_MODELS.items() if matches(stem, one)]


def _licence(stem: str, known: list[str]) -> str | None:
    return DOWNLOADS[stem].licence if stem in DOWNLOADS else next((KNOWN_MODELS[title].licence for title in known), None)


def _restores(path: Path, known: Iterable[KnownModel]) -> bool:
    is_shipped = path in (shipped_restorer(recipe.shipped) for recipe in RECIPES.values())
    return is_shipped or any(matches(path.stem, one) for one in known)


def _fits(path: Path, domain: Domain, known: list[str], is_shipped: bool) -> bool:
    recipe = RECIPES[domain]
    return path.stem.startswith(recipe.shipped) if is_shipped else any(title in recipe.models for title in known)


def examine_machine() -> dict[str, Any]:
    """What this machine has, what is used of it and why, as JSON values."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "cpu": {
            "cores": os.cpu_count(),
            "threads_used": torch.get_num_threads(),
            "memory_bytes": total_bytes(),
            "free_bytes": free_bytes(),
            "bf16_is_fast": _has_fast_bf16(),
        },
        "devices": [_examine_device(device) for device in _devices()],
        "chosen": _name_device(choose_device()),
    }


def describe_machine(report: Mapping[str, Any]) -> str:
    """The result of `examine_machine` as lines for a terminal."""
    cpu = report["cpu"]
    lines = [
        f"fidelity {report['version']}, Python {report['python']}, {report['platform']}",
        ", ".join(f"{name} {number or 'missing'}" for name, number in report["libraries"].items()),
        f"{cpu['cores']} cores, {cpu['free_bytes'] / 2**30:.1f} of {cpu['memory_bytes'] / 2**30:.1f} GiB of memory free",
    ]
    for device in report["devices"]:
        star = "*" if device["device"] == report["chosen"] else " "
        words = [device["name"]]
        words += [f"compute capability {device['compute_capability']}"] if device["compute_capability"] else []
        words += [_describe_memory(device["free_bytes"], device["memory_bytes"])] if device["free_bytes"] is not None else []
        can = "/".join(device["precisions"])
        lines.append(
            f"{star} {device['device']}: {', '.join(words)}, supports {can}; uses {device['precision']}: {device['why']}"
        )
    return "\n".join(lines)


def describe_model(model: InstalledModel) -> str:
    """One model as a line for a terminal."""
    if model.refused:
        return f"{model.name}: cannot be used ({model.refused})"
    use = ", ".join((*model.domains, *model.restores)) or "by name only"
    parameters = f", {model.parameters / 1e6:.2f} M parameters" if model.parameters else ""
    licence = f", {model.licence}" if model.licence else ""
    return f"{model.name}: {model.architecture} x{model.scale}{parameters}{licence}; {use}"


def list_missing(models: Mapping[str, Path]) -> list[Download]:
    """The networks of the catalogue that are not among these files, which `inspect_models` takes."""
    stems = {path.stem for path in models.values()}
    return [one for one in DOWNLOADS.values() if one.name not in stems]


def describe_download(one: Download) -> str:
    """A network that can be downloaded, as a line for a terminal."""
    known = _titles_of(one.name)
    domains = [domain for domain in DOMAINS if any(title in RECIPES[domain].models for title in known)]
    use = f"used by default for {', '.join(domains)}" if domains else "by name only"
    size = (one.member.package if one.member else one.file).size_bytes / 2**20
    return f"{one.name}: {one.purpose}; {use}; {one.licence}; {size:.0f} MiB"


def report_models(models: Iterator[InstalledModel]) -> list[dict[str, Any]]:
    """Models as JSON values."""
    return [asdict(model) for model in models]


def _devices() -> list[torch.device]:
    found = [torch.device("cuda", index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*found, *([torch.device("mps")] if torch.backends.mps.is_available() else []), torch.device("cpu")]


def _name_device(device: torch.device) -> str:
    """The device with its index: "cuda" alone means the current one."""
    return f"cuda:{torch.cuda.current_device()}" if str(device) == "cuda" else str(device)


def _describe_memory(free_bytes: int, memory_bytes: int | None) -> str:
    whole = f" of {memory_bytes / 2**30:.1f}" if memory_bytes else ""
    return f"{free_bytes / 2**30:.1f}{whole} GiB free"


def _examine_device(device: torch.device) -> dict[str, Any]:
    model = load_model(shipped_model("natural", 4))
    runner = Runner(model, device)
    window, batch = runner.recommend(_PROBE_SIZE)
    precision = runner.precision
    tiles = f"tiles of {window[1]}x{window[0]} px, {batch} at once" if window else "simple models row by row, others in tiles"
    free_bytes = free_memory_bytes(device)
    entry: dict[str, Any] = {
        "device": _name_device(device),
        "name": platform.processor() or platform.machine(),
        "memory_bytes": None,
        "free_bytes": free_bytes,
        "compute_capability": None,
        "precisions": list(list_precisions(device)),
        "precision": precision,
        "tile": list(window) if window else None,
        "tiles_at_once": batch,
        "work": tiles,
    }
    kind = "float32" if precision == "fp32" else "half precision"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        entry |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
        kind = f"{kind} on compute capability {entry['compute_capability']}"
    elif device.type == "mps":
        entry |= {"name": "Apple GPU", "memory_bytes": torch.mps.recommended_max_memory()}
    if free_bytes is not None:
        return entry | {"why": f"{kind}, {_describe_memory(free_bytes, None)}: {tiles}"}
    if precision == "bf16":
        return entry | {"why": f"faster on this processor, no visible difference; {tiles}"}
    bf16 = "is fast here, too (--precision bf16)" if _has_fast_bf16() else "is not known to be faster here"
    return entry | {"why": f"bf16 {bf16}; {tiles}"}


def _has_fast_bf16() -> bool:
    """Whether the processor has bfloat16 instructions."""
    known = Path("/proc/cpuinfo")
    if sys.platform != "linux" or not known.exists():
        return False
    text = known.read_text()
    return "bf16" in text  # as avx512_bf16, amx_bf16, or bf16 alone on ARM


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
