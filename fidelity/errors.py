"""The error for input that the engine refuses, as opposed to a bug in the engine."""


class RefusedError(ValueError):
    """An unusable input; the message says in one line what was seen and what was wanted."""
