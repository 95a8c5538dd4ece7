"""How the shipped weights are made, from nothing but generated images."""
