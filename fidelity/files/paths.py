"""Files and folders: finding inputs, naming results, and atomic writes."""

import errno
import os
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from ..choices import ExistingChoice
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


@dataclass(frozen=True)
class Found:
    """Image files to read, as found by `find_images`."""

    files: list[Path]
    """Sorted by folder and name. Images of formats that are not read are among them, so that each is refused by its name."""
    folders: list[Path]
    """For each file, its folder within the one that was searched."""
    others: int = 0
    """Number of other files there, without hidden ones and those that systems leave."""


def find_images(path: Path, recursive: bool = False, apart: Path | None = None) -> Found:
    """The file itself, or the images in a folder.

    Args:
        path: A file or a folder.
        recursive: Whether to search the folders in it too; not hidden ones, nor through links.
        apart: A folder that is not searched, such as the one for results.

    Raises:
        FileRefusedError: If there is no such file or folder, or the folder contains no image.
    """
    if not exists(path):
        raise FileRefusedError(f"{path}: no such file")
    if not path.is_dir():
        return Found([path], [Path()])
    found: list[Path] = []
    others = 0
    left_out = apart.resolve() if apart else None
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = sorted(name for name in subfolders if recursive and _is_visible(name))
        subfolders[:] = [name for name in subfolders if (Path(folder) / name).resolve() != left_out]
        for name in sorted(filter(_is_visible, names)):
            item = Path(folder) / name
            if item.suffix.lower() in (*READ_SUFFIXES, *UNREAD_SUFFIXES) and item.is_file():
                found.append(item)
            else:
                others += 1
    if not found:
        hint = "" if recursive else ", or --recursive for those in it"
        raise FileRefusedError(f"{path}: no images in this folder; wanted {', '.join(READ_SUFFIXES)}{hint}")
    return Found(found, [item.parent.relative_to(path) for item in found], others)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM_NAMES


_SYSTEM_NAMES = ("thumbs.db", "desktop.ini", "__macosx")


def name_outputs(
    inputs: Sequence[Path], out: Path, is_folder: bool, suffix: str = ".png", folders: Sequence[Path] | None = None
) -> list[Path]:
    """One result file for each input, with that ending.

    Args:
        inputs: The files to read.
        out: The file to write, or a folder.
        is_folder: Whether it is a folder.
        suffix: Ending of files in a folder.
        folders: For each input, the folder in it for its result; all in the folder itself if not given.

    Returns:
        Paths that differ: inputs of one folder that differ only in their ending keep it in the name, others of one name are
        numbered.
    """
    if not is_folder:
        return [out]
    places = [out / folder for folder in folders] if folders else [out] * len(inputs)
    stems = Counter((place, path.stem) for place, path in zip(places, inputs, strict=True))
    seen: Counter[Path] = Counter()
    outputs: list[Path] = []
    for place, path in zip(places, inputs, strict=True):
        stem = place / (path.stem if stems[place, path.stem] == 1 else path.name.replace(".", "_"))
        seen[stem] += 1
        outputs.append(_with_end(stem, suffix if seen[stem] == 1 else f"_{seen[stem]}{suffix}"))
    return outputs


def _with_end(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raises a FileRefusedError if any of several results exists, before the work on any begins."""
    there = [path for path in paths if exists(path)]
    if there:
        others = f" and {len(there) - 1} more of {len(paths)} exist" if len(there) > 1 else " exists"
        raise FileRefusedError(f"{there[0]}{others}; wanted another name, or --existing overwrite, skip or rename")


class KeptError(RefusedError):
    """An image that is not enlarged because the file for its result exists, and is kept."""


def settle_output(path: Path, existing: ExistingChoice) -> Path:
    """The file to write in place of one that may exist.

    Raises:
        FileRefusedError: If it exists, and that is refused.
        KeptError: If it exists, and its image is to be skipped.
    """
    if existing == "overwrite" or not exists(path):
        return path
    if existing == "refuse":
        refuse_existing([path])
    if existing == "skip":
        raise KeptError(f"{path}: exists, skipped")
    numbered = (_with_end(path.with_suffix(""), f"_{number}{path.suffix}") for number in count(2))
    return next(other for other in numbered if not exists(other))


def one_line(error: BaseException) -> str:
    """The first line of an exception's message; the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
