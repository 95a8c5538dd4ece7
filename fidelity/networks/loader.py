"""Finds and loads networks. Only tensors are read from a file; no code in it is ever executed."""

import logging
import os
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file

from ..choices import MODEL_SUFFIXES
from ..errors import ModelNotFoundError, ModelRefusedError
from .backends.compact import Compact, CompactDescriptor
from .backends.onnx import ARCHITECTURE as ONNX_ARCHITECTURE
from .backends.onnx import OnnxNetwork, check_graph
from .backends.opencv import OpenCVNetwork
from .backends.torch import TorchNetwork
from .network import GraphError, Network

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the networks shipped with the pack."""

_GRAPHS: dict[str, Callable[[str, bytes], Network]] = {".pb": OpenCVNetwork, ".onnx": OnnxNetwork}
"""What reads files that hold a whole graph, by suffix."""

_log = logging.getLogger("fidelity")

_FOLDER_VARIABLE = "FIDELITY_MODELS"


def load_model(path: Path | str) -> Network:
    """Loads a network of any architecture that spandrel or `fidelity.networks.architectures` supports.

    Args:
        path: A `.safetensors` file, a `.pth`, `.pt` or `.ckpt` file that contains only tensors, or a `.pb` or `.onnx` graph.

    Returns:
        The network on the CPU, in float32.

    Raises:
        ModelNotFoundError: If the file does not exist.
        ModelRefusedError: If the file is not a network, has an unknown architecture, or contains code.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such model file")
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise ModelRefusedError(f"{path.name}: not a model file; wanted {', '.join(MODEL_SUFFIXES)}")
    if path.suffix.lower() in _GRAPHS:
        return _load_graph(path)
    if path.parent == SHIPPED_WEIGHTS:
        network = Compact.load(load_file(path))
        return TorchNetwork(path.name, CompactDescriptor(network, network.upscale))
    from .descriptors import load_descriptor  # imports spandrel, which takes as long as PyTorch

    return TorchNetwork(path.name, load_descriptor(path).eval())


def models_folder() -> Path:
    """The folder for networks of the command and the library: `FIDELITY_MODELS`, or `.fidelity/models` in the home folder."""
    chosen = os.environ.get(_FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".fidelity" / "models"


def list_models(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Lists model files by name: shipped ones first, then those in `folders` and their subfolders. The first of a name wins."""
    found: dict[str, Path] = {}
    for folder in map(Path, (SHIPPED_WEIGHTS, *folders)):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() in MODEL_SUFFIXES and path.is_file():
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def find_installed(models_dir: Path | None = None) -> dict[str, Path]:
    """Lists the shipped networks, those in a folder, and those that `fidelity models get` stored."""
    return list_models([*([models_dir] if models_dir else []), models_folder()])


def find_model(name: str, models: Mapping[str, Path]) -> Path:
    """Finds a model file by path, by file name, or by file name without its suffix.

    Args:
        name: Path or name to look for.
        models: Files by name, from `list_models`.

    Raises:
        ModelNotFoundError: If nothing matches; the message lists the known models.
    """
    if Path(name).is_file():
        return Path(name)
    for known, path in models.items():
        if name in (known, Path(known).name, Path(known).stem):
            return path
    raise ModelNotFoundError(f"{name}: no such model; installed: {', '.join(models) or 'none'}")


def detect_architecture(path: Path) -> str | None:
    """Detects the architecture of a model file without building the network; None if unknown or unreadable.

    Reading many files is slow, so each file is read once and then again only after it changes.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return _detect_architecture(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1024)
def _detect_architecture(path: Path, _changed_ns: int, _size: int) -> str | None:
    try:
        if path.suffix.lower() == ".onnx":
            with _naming(path):
                check_graph(path.read_bytes())
            return ONNX_ARCHITECTURE
        if path.suffix.lower() in _GRAPHS:
            return _load_graph(path).architecture
        from .descriptors import detect

        return detect(path)
    except Exception as error:  # one file must not stop the choice among the others
        _log.warning("%s; it is not used", error)
        return None


def _load_graph(path: Path) -> Network:
    with _naming(path):
        return _GRAPHS[path.suffix.lower()](path.name, path.read_bytes())


@contextmanager
def _naming(path: Path) -> Generator[None, None, None]:
    try:
        yield
    except GraphError as error:
        reason = str(error)
        raise ModelRefusedError(reason if reason.startswith(path.name) else f"{path.name}: {reason}") from error
