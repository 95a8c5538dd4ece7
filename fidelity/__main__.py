"""`python -m fidelity`: the command."""

from .cli import main

main()
