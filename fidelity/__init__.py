"""Colour-faithful image enlargement: the engine under the Fidelity Upscale node pack and command."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fidelity-upscale")
except PackageNotFoundError:  # inside ComfyUI the pack is a folder, not an installed distribution
    __version__ = "0.1.0"
