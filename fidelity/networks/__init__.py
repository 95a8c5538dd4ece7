"""Loading super-resolution networks and running them tile by tile."""
