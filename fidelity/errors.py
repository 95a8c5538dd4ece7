"""What the engine says when it refuses what it was given, apart from every fault of its own."""


class RefusedError(ValueError):
    """An input that cannot be used: the message says in one line what was seen and what was wanted."""
