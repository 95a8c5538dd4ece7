"""Files and folders: finding inputs, naming results, and atomic writes."""

import errno
import os
import re
import stat
import threading
import time
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from types import MappingProxyType
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from ..choices import ExistingChoice
from ..errors import RefusedError

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jxl")
"""File name endings looked for in folders; a file given by name is read whatever its ending."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mkv", ".mov", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
)
"""Endings of videos, where they are looked for among images."""

UNREAD_SUFFIXES = (
    *(".jp2", ".jpx", ".psd", ".exr", ".hdr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"),
)
"""Those of pictures that are not read."""


class FileRefusedError(RefusedError):
    """An image file that cannot be read or written, with the reason in one line."""


def check_folder(path: Path) -> None:
    """Refuses a path early if no file of that name can be written, or its folder can be neither written to nor created."""
    if exists(path):
        check_regular(path)
    folder = next((parent for parent in path.absolute().parents if exists(parent)), None)
    if folder is None:
        raise FileRefusedError(f"{path}: there is no such drive")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FileRefusedError(f"{path}: {folder} is not a writable folder")
    probe = _temporary_in(folder)
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:  # some file systems say that they may be written to, and refuse
        raise FileRefusedError(f"{path}: {folder} is not a writable folder ({error.strerror})") from error


def check_regular(path: Path) -> None:
    """Refuses what exists and is no file: a folder, a pipe, a device.

    Raises:
        FileRefusedError: If it is something else.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        raise FileRefusedError(f"{path}: is {kinds.get(stat.S_IFMT(mode), 'not a regular file')}; wanted a file")


Keys = Mapping[tuple[str, str], Path]
"""Paths by what some systems take for equal; see `keys_of`."""


def keys_of(paths: Iterable[Path]) -> Keys:
    """Paths, and what they link to, by what some systems take for equal."""
    keys: dict[tuple[str, str], Path] = {}
    for path in paths:
        keys[_key(path)] = path
        if path.is_symlink():
            with suppress(OSError, RuntimeError):
                keys[_key(path.resolve())] = path
    return keys


def check_apart(inputs: Keys, outputs: Sequence[Path]) -> None:
    """Refuses to write over a file that is read, or twice to one, before the work begins.

    Names that differ only in case, in Unicode's form or in dots and spaces at the end count as one, as some systems take them.

    Raises:
        FileRefusedError: If so; the message names both.
    """
    written: dict[tuple[str, str], Path] = {}
    for path in outputs:
        key = _key(path)
        if key in inputs:
            source = inputs[key]
            which = "the source itself" if path.resolve() == source.resolve() else f"one name with the source {source}"
            raise FileRefusedError(f"{path}: is {which}; wanted another file name")
        if key in written:
            raise FileRefusedError(f"{path}: would be written twice, as {written[key]} too; wanted another name")
        written[key] = path


def _key(path: Path, known: dict[Path, str] | None = None) -> tuple[str, str]:
    """What is equal for paths that some systems take for one; `known` are folders that were resolved before."""
    folder = known.get(path.parent) if known is not None else None
    if folder is None:
        folder = _resolve(path.parent)
        if known is not None:
            known[path.parent] = folder
    return folder, unicodedata.normalize("NFC", path.name).casefold().rstrip(". ")


def _resolve(folder: Path) -> str:
    try:
        return str(folder.resolve())
    except (OSError, RuntimeError):
        return str(folder.absolute())


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
    return folder / f".{uuid.uuid4().hex}{_PART}"


_PART = ".fidelity-part"
_swept: set[Path] = set()


def _sweep(folder: Path) -> None:
    """Removes what runs that were killed left in a folder, once; parts that a process still writes are locked."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):
        for part in folder.glob(f".*{_PART}"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > _SETTLED_SECONDS and _is_abandoned(part):
                    part.unlink()


_SETTLED_SECONDS = 24 * 3600
"""Not all drives have locks that hold between machines, so that a part has to be old too."""


def _is_abandoned(part: Path) -> bool:
    with part.open("rb") as file:
        return hold(file)


def hold(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed.

    Returns:
        False if another process holds it. True where there are no locks, as on some network drives.
    """
    if fcntl is None:
        return _hold_on_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _hold_on_windows(file: IO[bytes]) -> bool:
    import msvcrt  # noqa: PLC0415 there alone

    try:
        file.seek(_FAR)  # a lock there keeps out who asks for it, and nobody who reads or writes
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    finally:
        file.seek(0, os.SEEK_END)
    return True


_FAR = 2**30


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file atomically: under a temporary name in the same folder, then renamed.

    Raises:
        FileRefusedError: If the file cannot be written; nothing is left behind.
    """
    temporary = _temporary_in(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        with temporary.open("wb") as file:
            hold(file)
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
class FoundImages:
    """Image files to read, as found by `find_images`."""

    files: list[Path]
    """Sorted by folder and name. Images of formats that are not read are among them, so that each is refused by its name."""
    folders: list[Path]
    """For each file, its folder within the one that was searched."""
    other_files: int = 0
    """Number of other files there, without hidden ones and those that systems leave."""
    unread_folders: list[Path] = field(default_factory=list[Path])
    """Subfolders that cannot be read."""
    videos: int = 0
    """Those of the other files that are videos, by their ending."""
    broken_links: list[Path] = field(default_factory=list[Path])
    """Those of the other files that have the name of an image and are links to nothing."""


def find_images(path: Path, recursive: bool = False, excluded: Path | None = None, others: Sequence[str] = ()) -> FoundImages:
    """The file itself, or the images in a folder.

    Args:
        path: A file or a folder.
        recursive: Whether to search the folders in it too; not hidden ones, nor through links.
        excluded: A folder that is not searched, such as the one for results.
        others: Endings of files that are looked for besides images.

    Raises:
        FileRefusedError: If there is no such file or folder, or the folder contains no image.
    """
    if not exists(path):
        raise FileRefusedError(f"{path}: no such file")
    if not path.is_dir():
        return FoundImages([path], [Path()])
    found: list[Path] = []
    left = videos = 0
    left_out = excluded.resolve() if excluded else None
    unread: list[Path] = []
    broken: list[Path] = []
    for folder, subfolders, names in os.walk(path, onerror=lambda error: unread.append(Path(error.filename))):
        subfolders[:] = sorted(name for name in subfolders if recursive and _is_visible(name))
        subfolders[:] = [name for name in subfolders if (Path(folder) / name).resolve() != left_out]
        for name in sorted(filter(_is_visible, names)):
            item = Path(folder) / name
            if item.suffix.lower() in (*READ_SUFFIXES, *UNREAD_SUFFIXES, *others) and item.is_file():
                found.append(item)
            else:
                left += 1
                videos += item.suffix.lower() in VIDEO_SUFFIXES
                broken += [item] if item.suffix.lower() in (*READ_SUFFIXES, *others) and is_broken_link(item) else []
    if path in unread:
        raise FileRefusedError(f"{path}: is a folder that cannot be read")
    if not found:
        hint = "" if recursive else "; --recursive searches subfolders too"
        raise FileRefusedError(f"{path}: no images in this folder; wanted {', '.join(READ_SUFFIXES)}{hint}")
    return FoundImages(found, [item.parent.relative_to(path) for item in found], left, unread, videos, broken)


def is_broken_link(path: Path) -> bool:
    """Whether a path is a link to nothing, or to itself."""
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110  which fails at no loop


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM_NAMES


_SYSTEM_NAMES = ("thumbs.db", "desktop.ini", "__macosx")


def name_outputs(
    inputs: Sequence[Path],
    out: Path,
    is_folder: bool,
    suffix: str = ".png",
    folders: Sequence[Path] | None = None,
    kept: Mapping[int, Path] = MappingProxyType({}),
    others: Sequence[Path] = (),
) -> list[Path]:
    """One result file for each input, with that ending.

    Args:
        inputs: The files to read.
        out: The file to write, or a folder.
        is_folder: Whether it is a folder.
        suffix: Ending of files in a folder.
        folders: For each input, the folder in it for its result; all in the folder itself if not given.
        kept: By the place of an input: the path in the folder, without ending, that its result has had before, and keeps.
        others: Paths in the folder, without ending, of other results, which no input gets.

    Returns:
        Paths that differ: inputs of one folder that differ only in their ending keep it in the name, others of one name are
        numbered.
    """
    if not is_folder:
        return [out]
    places = [out / folder for folder in folders] if folders else [out] * len(inputs)
    pairs = list(zip(places, inputs, strict=True))
    known: dict[Path, str] = {}
    taken = {_key(out / name, known) for name in (*kept.values(), *others)}
    stems = Counter(_key(place / path.stem, known) for place, path in pairs)

    def is_alone(stem: Path) -> bool:
        key = _key(stem, known)
        return stems[key] == 1 and key not in taken

    names = [place / (path.stem if is_alone(place / path.stem) else path.name.replace(".", "_")) for place, path in pairs]
    reserved = {_key(name, known) for index, name in enumerate(names) if index not in kept}
    outputs: list[Path] = []
    for index, name in enumerate(names):
        chosen, number = (out / kept[index], 1) if index in kept else (name, 1)
        while index not in kept and (_key(chosen, known) in taken or (number > 1 and _key(chosen, known) in reserved)):
            number += 1
            chosen = _with_end(name, f"_{number}")
        taken.add(_key(chosen, known))
        outputs.append(_with_end(chosen, suffix))
    return outputs


def _with_end(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def refuse_existing(paths: Sequence[Path], sources: Keys | None = None) -> None:
    """Raises a FileRefusedError if any of several results exists, before the work on any begins.

    Those that are sources too are left out: each is refused by `check_apart` for its own image, and the others go on.
    """
    there = [path for path in paths if (exists(path) or path.is_symlink()) and _key(path) not in (sources or {})]
    if there:
        seen = "already exists" if len(there) == 1 else f"and {len(there) - 1} more of {len(paths)} results already exist"
        other = "name" if len(paths) == 1 else "folder"  # several results lie in one
        raise FileRefusedError(f"{there[0]} {seen}; choose another {other}, or --existing overwrite, skip or rename")


def check_report(path: Path, first: bytes = b"[") -> None:
    """Refuses to replace a file that is no report by one.

    Args:
        path: The file to write.
        first: The byte that a report begins with: that of a list in JSON, or of an object.

    Raises:
        FileRefusedError: If the file exists and does not begin so.
    """
    if exists(path) and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(1) != first:
                raise FileRefusedError(f"{path}: exists and is no report; wanted another name")


class SkippedError(RefusedError):
    """An image that is not enlarged because the file for its result exists, and is kept."""


def settle_output(path: Path, existing: ExistingChoice, source: object = None) -> Path:
    """The file to write in place of one that may exist.

    Args:
        path: The file that was asked for.
        existing: What is done if it exists.
        source: What it is made from; see `claim_free`.

    Raises:
        FileRefusedError: If it exists, and that is refused.
        SkippedError: If it exists, and its image is to be skipped.
    """
    if existing == "rename":
        return claim_free(path, source)
    if existing == "overwrite" or not (exists(path) or path.is_symlink()):
        return path
    if existing == "refuse":
        refuse_existing([path])
    raise SkippedError(f"{path}: exists, skipped")


def claim_free(path: Path, source: object) -> Path:
    """The path, or it with a number, that neither exists nor was claimed in this process for another source."""
    with _claiming:
        numbered = (_with_end(path.with_suffix(""), f"_{number}{path.suffix}") for number in count(2))
        free = next(other for other in chain([path], numbered) if _is_free(other, source))
        _claimed[_key(free)] = source
    return free


def _is_free(path: Path, source: object) -> bool:
    return _claimed.get(_key(path), source) == source and not exists(path)


_claiming = threading.Lock()
_claimed: dict[tuple[str, str], object] = {}


def number_key(path: Path) -> tuple[list[str | int], str]:
    """Sorts names by the numbers in them: frame-2 before frame-10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if part.isdecimal() else part for part in parts], path.name


def one_line(error: BaseException) -> str:
    """The first line of an exception's message; the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
