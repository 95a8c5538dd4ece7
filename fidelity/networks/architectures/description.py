"""Code shared by all architectures to describe a network to spandrel."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from spandrel import Architecture, ImageModelDescriptor, SizeRequirements, StateDict
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def describe(
    architecture: Architecture[Network],
    network: Network,
    weights: StateDict,
    purpose: Literal["SR", "Restoration"],
    scale: int,
    channels: int,
    tags: Sequence[str] = (),
    supports_half: bool = True,
    multiple_of: int = 1,
) -> ImageModelDescriptor[Network]:
    """Describes a network with equal numbers of input and output channels.

    Args:
        architecture: Architecture of the network.
        network: The network.
        weights: Weights by the network's own parameter names.
        purpose: "SR" for upscaling, else "Restoration".
        scale: Scale factor of one pass; 1 for restoration.
        channels: 1 for luma, 3 for RGB.
        tags: Labels for users that distinguish it from others of its architecture.
        supports_half: Whether its values fit float16.
        multiple_of: Grid it works on, in pixels: sides are padded to it, and tiles start on it.
    """
    return ImageModelDescriptor(
        network,
        weights,
        architecture=architecture,
        purpose=purpose,
        tags=list(tags),
        supports_half=supports_half,
        supports_bfloat16=True,
        scale=scale,
        input_channels=channels,
        output_channels=channels,
        size_requirements=SizeRequirements(multiple_of=multiple_of),
    )
