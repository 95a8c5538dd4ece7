"""Training of the shipped weights, on generated images only."""
