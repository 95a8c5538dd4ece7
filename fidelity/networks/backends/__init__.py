"""Backends that run a network, one per file."""
