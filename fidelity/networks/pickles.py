"""Checks a file of pickled weights before PyTorch reads it, so that reading is bounded in time and memory.

PyTorch's own unpickler for tensors runs no code, but it does all the work that a file asks for. A state dict is flat: names,
and for each a few numbers. This walks through the opcodes without building anything, and refuses what is no such thing: too
many of them, nesting, tuples whose parts repeat so often that hashing them never ends, or parts that unpack to much more than
the file.
"""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

from ..errors import ModelRefusedError

_MOST_OPCODES = 3_000_000
"""The largest networks of restoration have about 200 000."""
_MOST_DEPTH = 64
_MOST_PARTS = 10_000_000
_MOST_PICKLE_BYTES = 2**27
_MOST_UNPACKING = 8
"""How many times larger than the file its parts may be."""
_ROOM_BYTES = 2**26
_PICKLES = 5
"""Of PyTorch's old format: a number, a version, the system, the weights and the names of their storages."""
_LARGEST_LAYER = 2000
_ZIP = b"PK\x03\x04"
_DAMAGED = (ValueError, IndexError, KeyError, OSError, EOFError, OverflowError, NotImplementedError, RuntimeError)


class _Budget:
    """The instructions that a file may still have."""

    def __init__(self) -> None:
        self.left = _MOST_OPCODES


class _Item:
    """What an opcode would build: how deep it is nested, and how many parts it has with all repetitions."""

    __slots__ = ("depth", "parts")

    def __init__(self, inner: "list[_Item]") -> None:
        self.depth = 1 + max((item.depth for item in inner), default=0)
        self.parts = 1 + sum(item.parts for item in inner)

    def take(self, inner: "list[_Item]") -> None:
        """Grows by other items, as a list or a dictionary does."""
        self.depth = max(self.depth, *(1 + item.depth for item in inner), 1)
        self.parts += sum(item.parts for item in inner)


def check_pickles(path: Path) -> None:
    """Refuses a file that would take much more time or memory to read than weights do.

    Args:
        path: A `.pth`, `.pt` or `.ckpt` file.

    Raises:
        ModelRefusedError: If so, or if it is damaged.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        try:
            budget = _Budget()
            if file.read(len(_ZIP)) == _ZIP:  # as PyTorch tells them apart
                _check_archive(path, file, budget)
            else:
                file.seek(0)
                for _ in range(_PICKLES):
                    _walk(file, budget)
        except ModelRefusedError:
            raise
        except (*_DAMAGED, zipfile.BadZipFile) as error:
            raise ModelRefusedError(f"{path.name}: damaged or not a model file") from error
        except _TooMuchError as error:
            raise ModelRefusedError(f"{path.name}: {error}; wanted a state dict or .safetensors") from error


def check_names(path: Path, names: Any) -> None:
    """Refuses weights whose names number more layers than a network has, since building them would not end.

    Raises:
        ModelRefusedError: If so.
    """
    for name in names:
        for part in str(name).split("."):
            if part.isdecimal() and (len(part) > len(str(_LARGEST_LAYER)) or int(part) > _LARGEST_LAYER):
                raise ModelRefusedError(f"{path.name}: names a layer number {part[:20]}; wanted at most {_LARGEST_LAYER}")


class _TooMuchError(Exception):
    """A pickle that asks for more than weights need, with what."""


def _check_archive(path: Path, file: IO[bytes], budget: _Budget) -> None:
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        unpacked = sum(record.file_size for record in records)
        if unpacked > _MOST_UNPACKING * path.stat().st_size + _ROOM_BYTES:
            raise _TooMuchError(f"unpacks to {unpacked / 1e6:.0f} MB, many times its size")
        for record in records:
            if record.filename.lower().endswith(".pkl"):
                if record.file_size > _MOST_PICKLE_BYTES:
                    raise _TooMuchError(f"has {record.file_size / 1e6:.0f} MB beside its weights")
                _walk(io.BytesIO(archive.read(record)), budget)


def _walk(file: IO[bytes], budget: _Budget) -> None:
    stack: list[_Item | None] = []  # None is a mark
    memo: dict[int, _Item] = {}
    for opcode, argument, _ in pickletools.genops(file):
        budget.left -= 1
        if budget.left < 0:
            raise _TooMuchError(f"has more than {_MOST_OPCODES} instructions")
        if opcode.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise _TooMuchError("asks for room of any size (bytearray)")
        _step(opcode.name, opcode, argument, stack, memo)
        if stack and stack[-1] and (stack[-1].depth > _MOST_DEPTH or stack[-1].parts > _MOST_PARTS):
            raise _TooMuchError("is nested more than weights are")


def _step(name: str, opcode: Any, argument: Any, stack: list[_Item | None], memo: dict[int, _Item]) -> None:
    if name == "MARK":
        stack.append(None)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        top = stack[-1]
        assert top is not None
        memo[len(memo) if argument is None else argument] = top
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):
        inner = _pop(stack, None if name.endswith("S") else 2 if name == "SETITEM" else 1)
        target = stack[-1]
        assert target is not None
        if inner:
            target.take(inner)
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        marked = any(part.name == "mark" for part in opcode.stack_before)
        fixed = sum(part.name not in ("mark", "stackslice") for part in opcode.stack_before)
        inner = _pop(stack, None) if marked else _pop(stack, fixed)
        inner += _pop(stack, fixed) if marked and fixed else []
        stack += [_Item(inner) for _ in opcode.stack_after]


def _pop(stack: list[_Item | None], count: int | None) -> list[_Item]:
    """Takes that many items from the stack, or all down to the last mark."""
    taken: list[_Item] = []
    while len(taken) != count:
        item = stack.pop()
        if item is None:
            if count is None:
                break
            raise ValueError("a mark where a value was expected")
        taken.append(item)
    return taken
