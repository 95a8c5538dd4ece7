"""Pictures that never fit in memory: read, enlarged and stored in pieces, with one decision for all of them."""
