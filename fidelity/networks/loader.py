"""Finds and loads networks. Only tensors are read from a file; no code in it is ever executed."""

import pickle
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from spandrel import (
    MAIN_REGISTRY,
    ImageModelDescriptor,
    ModelLoader,
    StateDict,
    UnsupportedModelError,
    canonicalize_state_dict,
)

from ..choices import MODEL_SUFFIXES
from ..errors import RefusedError
from .architectures import register_architectures
from .backends.opencv import GraphError, OpenCVNetwork
from .backends.torch import LumaAdapter, TorchNetwork
from .network import Network

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the networks shipped with the pack."""

SHIPPED_RESTORER = SHIPPED_WEIGHTS / "restore-x1.safetensors"
"""The shipped network that restores a source at x1."""


_GRAPH_SUFFIX = ".pb"


class ModelNotFoundError(RefusedError, FileNotFoundError):
    """No model file has that path or name."""


class ModelRefusedError(RefusedError):
    """The file is not a usable image network, or reading it would execute code."""


def load_model(path: Path | str) -> Network:
    """Loads a network of any architecture that spandrel or `fidelity.networks.architectures` supports.

    Args:
        path: A `.safetensors` file, a `.pth`, `.pt` or `.ckpt` file that contains only tensors, or a `.pb` graph.

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
    if path.suffix.lower() == _GRAPH_SUFFIX:
        return _load_graph(path)
    return TorchNetwork(path.name, _load_descriptor(path).eval())


def accept_rgb(network: Network) -> ImageModelDescriptor[Any]:
    """Returns a network in the form that ComfyUI's own nodes expect: a spandrel descriptor that takes and returns RGB.

    Raises:
        ModelRefusedError: If the network takes neither grey nor RGB images, or does not run in PyTorch.
    """
    if not isinstance(network, TorchNetwork):
        raise ModelRefusedError(
            f"{network.name}: {network.architecture} runs outside PyTorch; wanted a .safetensors or .pth file"
        )
    descriptor = network.descriptor
    channels = (network.channels_in, network.channels_out)
    if channels == (3, 3):
        return descriptor
    if channels != (1, 1):
        raise ModelRefusedError(
            f"{network.name}: takes {channels[0]} channels and returns {channels[1]}; wanted 1 to 1 or 3 to 3"
        )
    adapter = LumaAdapter(descriptor.model, descriptor.scale)
    adapted: ImageModelDescriptor[Any] = ImageModelDescriptor(
        adapter,
        adapter.state_dict(),
        architecture=descriptor.architecture,
        purpose=descriptor.purpose,
        tags=descriptor.tags,
        supports_half=descriptor.supports_half,
        supports_bfloat16=descriptor.supports_bfloat16,
        scale=descriptor.scale,
        input_channels=3,
        output_channels=3,
        size_requirements=descriptor.size_requirements,
        tiling=descriptor.tiling,
    )
    return adapted.eval()


def list_models(folders: Iterable[Path | str]) -> dict[str, Path]:
    """Lists model files by name: shipped ones first, then those in `folders` and their subfolders. The first of a name wins."""
    found: dict[str, Path] = {}
    for folder in map(Path, (SHIPPED_WEIGHTS, *folders)):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix.lower() in MODEL_SUFFIXES and path.is_file():
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


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
    raise ModelNotFoundError(f"{name}: no such model; known models: {', '.join(models) or 'none'}")


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
        if path.suffix.lower() == _GRAPH_SUFFIX:
            return _load_graph(path).architecture
        state_dict = _read_state_dict(path)
    except (ModelRefusedError, OSError):
        return None
    register_architectures()
    try:
        found = (support for support in MAIN_REGISTRY.architectures("detection") if support.detect(state_dict))
        return next((support.architecture.name for support in found), None)
    except Exception:  # a file that only resembles an architecture can fail in any way; treat it as unknown
        return None


def _load_graph(path: Path) -> OpenCVNetwork:
    try:
        return OpenCVNetwork(path.name, path.read_bytes())
    except GraphError as error:
        raise ModelRefusedError(f"{path.name}: {error}") from error


def _load_descriptor(path: Path) -> ImageModelDescriptor[Any]:
    state_dict = _read_state_dict(path)
    register_architectures()
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state_dict)
    except UnsupportedModelError as error:
        raise ModelRefusedError(f"{path.name}: unknown architecture; wanted one that spandrel or this pack supports") from error
    except (RuntimeError, KeyError, TypeError, AttributeError, IndexError, ValueError, AssertionError) as error:
        # Spandrel detects architectures by key names; a file that only resembles one can fail in any way.
        raise ModelRefusedError(f"{path.name}: looks like a network but does not load ({_first_line(error)})") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ModelRefusedError(f"{path.name}: needs a mask besides the image; wanted a network that takes one image")
    return descriptor


def _read_state_dict(path: Path) -> StateDict:
    try:
        if path.suffix.lower() == ".safetensors":
            content = load_file(path, device="cpu")
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise ModelRefusedError(
                f"{path.name}: contains code ({named[1]}), not only weights, and was not loaded; "
                "wanted a state dict or .safetensors"
            ) from error
        raise ModelRefusedError(f"{path.name}: damaged or not a model file") from error
    except (SafetensorError, EOFError, RuntimeError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise ModelRefusedError(f"{path.name}: damaged or not a model file ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelRefusedError(f"{path.name}: contains {type(content).__name__}; wanted a state dict")
    try:
        return canonicalize_state_dict(content)
    except (AttributeError, TypeError, KeyError) as error:
        raise ModelRefusedError(f"{path.name}: contains something other than named tensors; wanted a state dict") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
