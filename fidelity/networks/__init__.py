"""Loads super-resolution networks and runs them tile by tile."""
