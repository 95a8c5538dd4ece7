"""What is the same in describing every network to spandrel."""

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
    """A network that takes and gives as many channels.

    Args:
        architecture: Which it is one of.
        network: The network.
        weights: By its own parameter names.
        purpose: What it is for.
        scale: Enlargement of one pass; 1 for restoration.
        channels: 1 for luma, 3 for RGB.
        tags: What tells it from others of its architecture, for people.
        supports_half: Whether float16 holds its values.
        multiple_of: Of what its grid is, in pixels: sides are padded to it, and tiles begin on it.
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
