"""Generators of training images. They return float32 arrays in [0, 1] and are deterministic for a given seed."""
