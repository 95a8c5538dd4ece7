"""Generators of training images. They return float32 arrays, grey, in [0, 1], and are deterministic given a seed."""
