"""Loads networks of every architecture that spandrel or this package supports. Importing this imports spandrel's registry."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from spandrel import (
    MAIN_REGISTRY,
    ImageModelDescriptor,
    ModelLoader,
    StateDict,
    UnsupportedModelError,
    canonicalize_state_dict,
)
from spandrel.architectures.Compact import CompactArch
from torch import Tensor

from ..errors import ModelRefusedError
from .architectures import register_architectures
from .backends.compact import SPANDREL, CompactDescriptor
from .backends.torch import LumaAdapter, TorchNetwork
from .network import Network
from .pickles import check_names, check_pickles


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
    if isinstance(descriptor, CompactDescriptor):
        return _describe(descriptor)
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


def detect(path: Path) -> str | None:
    """Detects the architecture of a file of weights without building the network; None if it is unknown.

    Raises:
        ModelRefusedError: If the file is damaged, no state dict, or contains code.
    """
    state_dict = read_state_dict(path)
    register_architectures()
    try:
        found = (support for support in MAIN_REGISTRY.architectures("detection") if support.detect(state_dict))
        return next((support.architecture.name for support in found), None)
    except Exception:  # a file that only resembles an architecture can fail in any way; treat it as unknown
        return None


def load_descriptor(path: Path) -> ImageModelDescriptor[Any]:
    """Loads a file of weights.

    Raises:
        ModelRefusedError: If the file is not a network, has an unknown architecture, or contains code.
    """
    state_dict = read_state_dict(path)
    register_architectures()
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state_dict)
    except UnsupportedModelError as error:
        raise ModelRefusedError(f"{path.name}: unknown architecture; wanted one that spandrel or this pack supports") from error
    except Exception as error:  # spandrel detects architectures by key names; a file that only resembles one fails in any way
        raise ModelRefusedError(f"{path.name}: looks like a network but does not load ({_first_line(error)})") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ModelRefusedError(f"{path.name}: needs a mask besides the image; wanted a network that takes one image")
    return descriptor


def _describe(descriptor: CompactDescriptor) -> ImageModelDescriptor[Any]:
    """Spandrel's descriptor of a shipped network; always the same one, which the host may hang its own things on."""
    known = vars(descriptor).get(SPANDREL)
    if known is None:
        known = ImageModelDescriptor(
            descriptor.model,
            descriptor.model.state_dict(),
            architecture=CompactArch(),
            purpose="Restoration" if descriptor.scale == 1 else "SR",
            tags=[],
            supports_half=descriptor.supports_half,
            supports_bfloat16=descriptor.supports_bfloat16,
            scale=descriptor.scale,
            input_channels=descriptor.input_channels,
            output_channels=descriptor.output_channels,
        ).eval()
        vars(descriptor)[SPANDREL] = known
    return known


def read_state_dict(path: Path) -> StateDict:
    """Reads a file of weights, without running any code in it.

    Raises:
        ModelRefusedError: If it holds anything else, or is damaged.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            content = load_file(path, device="cpu")
        else:
            check_pickles(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModelRefusedError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise ModelRefusedError(
                f"{path.name}: contains code ({named[1]}), not only weights, and was not loaded; "
                "wanted a state dict or .safetensors"
            ) from error
        raise ModelRefusedError(f"{path.name}: damaged or not a model file") from error
    except Exception as error:  # a damaged file makes either library fail in any way
        raise ModelRefusedError(f"{path.name}: damaged or not a model file ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise ModelRefusedError(f"{path.name}: contains {type(content).__name__}; wanted a state dict")
    try:
        weights = canonicalize_state_dict(content)
    except Exception as error:
        raise ModelRefusedError(f"{path.name}: contains something other than named tensors; wanted a state dict") from error
    check_names(path, weights)
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            continue
        if value.layout != torch.strided:
            raise ModelRefusedError(f"{path.name}: {name} is a sparse tensor; wanted dense ones")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ModelRefusedError(f"{path.name}: {name} claims more numbers than are stored")
    return weights


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
