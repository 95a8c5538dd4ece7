"""Files and folders: finding inputs, naming results, and atomic writes."""

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ..errors import RefusedError

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jxl")
"""File name endings looked for in folders; a file given by name is read whatever its ending."""
UNREAD_SUFFIXES = (
    *(".jp2", ".jpx", ".psd", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"),
)
"""Those of pictures that are not read."""


class FileRefusedError(RefusedError):
    """An image file that cannot be read or written, with the reason in one line."""


def check_folder(path: Path) -> None:
    """Refuses a path early if no file of that name can be written, or its folder can be neither written to nor created."""
    if exists(path) and path.is_dir():
        raise FileRefusedError(f"{path}: is a folder; wanted a file")
    folder = next(parent for parent in path.absolute().parents if exists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FileRefusedError(f"{path}: {folder} is not a writable folder")
    probe = _temporary_in(folder)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:  # some file systems say that they may be written to, and refuse
        raise FileRefusedError(f"{path}: {folder} is not a writable folder ({error.strerror})") from error


def exists(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
        FileRefusedError: If there cannot be, for example because its name is too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise FileRefusedError(f"{_shorten(path)}: not a possible file name ({reason})") from error
    return True


def _shorten(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN // 2]}…{text[-_LONGEST_SHOWN // 2 :]}"


_LONGEST_SHOWN = 120


def _temporary_in(folder: Path) -> Path:
    return folder / f".{uuid.uuid4().hex}.part"


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file atomically: under a temporary name in the same folder, then renamed.

    Raises:
        FileRefusedError: If the file cannot be written; nothing is left behind.
    """
    temporary = _temporary_in(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or one_line(error)
        raise FileRefusedError(f"{path}: cannot be written ({reason})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def expand_input(path: Path) -> list[Path]:
    """The file itself, or the images directly in a folder, sorted by name, without hidden ones.

    Images of formats that are not read are among them, so that each is refused by its name.

    Raises:
        FileRefusedError: If there is no such file or folder, or the folder contains no image.
    """
    if not exists(path):
        raise FileRefusedError(f"{path}: no such file")
    if not path.is_dir():
        return [path]
    visible = (item for item in path.iterdir() if not item.name.startswith("."))
    found = sorted(item for item in visible if item.suffix.lower() in (*READ_SUFFIXES, *UNREAD_SUFFIXES) and item.is_file())
    if not found:
        raise FileRefusedError(f"{path}: no images in this folder; wanted {', '.join(READ_SUFFIXES)}")
    return found


def name_outputs(inputs: list[Path], out: Path, is_folder: bool, suffix: str = ".png") -> list[Path]:
    """One result file for each input, with that ending; inputs that differ only in their ending keep it in the name."""
    if not is_folder:
        return [out]
    stems = [path.stem for path in inputs]
    names = [stem if stems.count(stem) == 1 else path.name.replace(".", "_") for stem, path in zip(stems, inputs, strict=True)]
    seen: dict[str, int] = {}
    outputs: list[Path] = []
    for name in names:  # inputs with the same name from several folders are numbered
        seen[name] = seen.get(name, 0) + 1
        outputs.append(out / (f"{name}{suffix}" if seen[name] == 1 else f"{name}_{seen[name]}{suffix}"))
    return outputs


def one_line(error: BaseException) -> str:
    """The first line of an exception's message; the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
