"""What a user may choose between, where the choice needs no engine: imported by the command before PyTorch is."""

from typing import Literal

Domain = Literal["photo", "anime_flux", "anime_sd", "line_art", "painting"]
"""Types of image."""

DomainChoice = Literal["auto", "photo", "anime_flux", "anime_sd", "line_art", "painting"]
"""A domain, or "auto" to detect it."""

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
"""Where to compute."""

Precision = Literal["fp32", "bf16", "fp16"]
"""Arithmetic of a network."""

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16"]
"""A precision, or "auto" to choose by device."""

ColorSpace = Literal["source", "srgb"]
"""source: samples stay as they are stored, in the space of the embedded profile; srgb: they are converted."""

MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pb")
"""File name endings that the loader reads: the next three through PyTorch's tensors-only unpickler, the last through OpenCV."""

AUTO_SCALE = 4
"""Enlargement where neither a size nor a network is asked for."""

MIN_TILE_PX = 32
"""The smallest tile a user may ask for."""
