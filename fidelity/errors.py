"""The errors for input that the engine refuses, as opposed to bugs in the engine."""


class RefusedError(ValueError):
    """An unusable input; the message says in one line what was seen and what was wanted."""


def check_type(value: object, wanted: type, name: str) -> None:
    """Raises a RefusedError unless a value is of a type; for callers that do not check types."""
    if not isinstance(value, wanted):
        raise RefusedError(f"{name} is {value!r}, of type {type(value).__name__}; wanted {wanted.__name__}")


class MemoryLimitError(RefusedError):
    """The work does not fit in the memory that it may use."""


class ModelNotFoundError(RefusedError, FileNotFoundError):
    """No model file has that path or name."""


class ModelRefusedError(RefusedError):
    """The file is not a usable image network, or reading it would execute code."""
