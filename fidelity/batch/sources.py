"""What a batch is made of: files, folders, patterns, manifests, archives and places that fsspec reads."""

import glob
import tarfile
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from ..choices import VideoCodec
from ..errors import RefusedError
from ..files.paths import READ_SUFFIXES, VIDEO_SUFFIXES, FileRefusedError, find_images, is_broken_link, name_outputs
from .items import MEMBER, Endings, Item, is_file, is_remote, is_there, place_of
from .journal import read_last_rows
from .manifest import read_manifest

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_MAGIC = "*?["


@dataclass
class Found:
    """What was found where a batch looks."""

    items: list[Item] = field(default_factory=list[Item])
    """Pictures and videos."""
    other_files: int = 0
    """Files that are neither."""


def find_items(sources: Sequence[str], manifest: Path | None, suffix: str, out: Path, codec: VideoCodec | None = None) -> Found:
    """Lists all pictures and videos of a batch.

    A result has the name that the batch in that folder has given it before. The others have free names that follow from their
    sources': see `fidelity.files.paths.name_outputs`.

    Args:
        sources: Files, folders (with all that is in them), patterns such as "scans/**/*.png", zip and tar archives, and URLs.
        manifest: See `fidelity.batch.manifest.read_manifest`.
        suffix: Ending of results; a video keeps its own if that container holds the codec, else it becomes .mkv.
        out: Folder of results, which is not searched.
        codec: What videos are encoded as; None to look for images alone.

    Raises:
        FileRefusedError: If a source does not exist or holds no picture, or the manifest cannot be read.
    """
    listed = (*READ_SUFFIXES, *(VIDEO_SUFFIXES if codec else ()))
    places = [_expand(source, out, listed) for source in sources]
    found = [picture for place in places for picture in place.pictures]
    found += [(item, Path()) for item in (read_manifest(manifest) if manifest else ())]
    endings = Endings(suffix, codec)
    names = iter(_name(found, out))
    items = [
        item if item.output or item.refused else replace(item, output=next(names) + endings.of(item.source))
        for item, _ in found
    ]
    return Found(items, sum(place.other_files for place in places))


def _name(found: Sequence[tuple[Item, Path]], out: Path) -> list[str]:
    """Names without ending of the results that have no name yet, each in the folder that it comes with."""
    unnamed = [(item.source, folder) for item, folder in found if not (item.output or item.refused)]
    given = {_without_ending(item.output) for item, _ in found if item.output}
    earlier: dict[str, list[Path]] = {}
    for row in read_last_rows(out):
        if row["output"]:
            names, name = earlier.setdefault(place_of(row["source"]), []), _without_ending(row["output"])
            names += [] if name in names else [name]
    kept: dict[int, Path] = {}
    for number, (source, _) in enumerate(unnamed):
        names = earlier.get(place_of(source), [])
        name = next((one for one in names if one not in given and _follows_from(one.name, _last_part(source))), None)
        if name:
            names.remove(name)
            kept[number] = name
    there = {place_of(source) for source, _ in unnamed}
    others = [name for place, names in earlier.items() if place in there or is_there(place) for name in names]
    inputs = [_last_part(source) for source, _ in unnamed]
    outputs = name_outputs(inputs, Path(), True, "", [folder for _, folder in unnamed], kept, [*given, *others])
    return [output.as_posix() for output in outputs]


def _without_ending(output: str) -> Path:
    path = Path(output)
    return path.with_name(path.stem)


def _last_part(source: str) -> Path:
    return Path(source.rpartition(MEMBER)[2].rpartition("/")[2])


def _follows_from(name: str, source: Path) -> bool:
    """Whether a result has the name of its source, perhaps with its ending and a number, and not one from a manifest."""
    own = (source.stem, source.name.replace(".", "_"))
    return any(name == one or (name.startswith(f"{one}_") and name[len(one) + 1 :].isdecimal()) for one in own)


@dataclass(frozen=True)
class _Place:
    """What is in a source that the command was given."""

    pictures: list[tuple[Item, Path]]
    """Each picture or video, without an output, with the folder of its result."""
    other_files: int = 0


def _expand(source: str, out: Path, listed: Sequence[str]) -> _Place:
    if is_remote(source):
        return _list_remote(source, listed)
    if any(one in source for one in _MAGIC) and not Path(source).exists():
        return _list_pattern(source, listed)
    if Path(source).suffix.lower() in _ARCHIVES and Path(source).is_file():
        return _list_archive(Path(source), listed)
    images = find_images(Path(source), recursive=True, excluded=out, others=listed)
    pictures = [(Item(str(path), ""), folder) for path, folder in zip(images.files, images.folders, strict=True)]
    pictures += [(_broken_link(path), Path()) for path in images.broken_links]
    pictures += [(Item(str(path), "", refused="is a folder that cannot be read"), Path()) for path in images.unread_folders]
    return _Place(pictures, images.other_files - len(images.broken_links))


def _broken_link(path: Path) -> Item:
    return Item(str(path), "", refused="is a link to a file that does not exist")


def _list_pattern(pattern: str, listed: Sequence[str]) -> _Place:
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207  absolute ones too
    files = [path for path in paths if not path.is_dir()]
    kept = [path for path in files if path.suffix.lower() in listed and (path.is_file() or is_broken_link(path))]
    if not kept:
        raise FileRefusedError(f"{pattern}: matches no image or video; wanted one of {', '.join(listed)}")
    fixed = Path(*_before_magic(Path(pattern).parts))
    pictures = [
        (Item(str(path), ""), path.parent.relative_to(fixed) if path.is_relative_to(fixed) else Path())
        if path.is_file()
        else (_broken_link(path), Path())
        for path in kept
    ]
    return _Place(pictures, len(files) - len(kept))


def _before_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if any(one in part for one in _MAGIC):
            return
        yield part


def _list_archive(path: Path, listed: Sequence[str]) -> _Place:
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [one.filename for one in archive.infolist() if not one.is_dir()]
        else:
            with tarfile.open(path) as archive:
                names = [one.name for one in archive if one.isfile()]
    except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError) as error:
        raise FileRefusedError(f"{path}: cannot be read as an archive ({error})") from error
    kept = sorted(name for name in names if PurePosixPath(name).suffix.lower() in listed)
    if not kept:
        raise FileRefusedError(f"{path}: holds no image or video; wanted one of {', '.join(listed)}")
    pictures: list[tuple[Item, Path]] = []
    for name in kept:
        parts = [part for part in PurePosixPath(name).parent.parts if part not in ("..", "/")]
        pictures.append((Item(f"{path}{MEMBER}{name}", ""), Path(*parts)))
    return _Place(pictures, len(names) - len(kept))


def _list_remote(url: str, listed: Sequence[str]) -> _Place:
    system, place = _filesystem(url)
    protocol = url.partition("://")[0]
    try:
        if any(one in place for one in _MAGIC):
            names = system.glob(place)
        else:
            names = system.find(place) if system.isdir(place) else [place] if system.exists(place) else []
    except Exception as error:  # whatever a storage raises
        raise FileRefusedError(f"{url}: cannot be listed ({type(error).__name__}: {error})") from error
    kept = sorted(name for name in names if PurePosixPath(name).suffix.lower() in listed)
    if not kept:
        raise FileRefusedError(f"{url}: holds no image or video; wanted one of {', '.join(listed)}")
    urls = (f"{protocol}://{name.lstrip('/') if protocol != 'file' else name}" for name in kept)
    return _Place([(Item(url, ""), Path()) for url in urls], len(names) - len(kept))


def _filesystem(url: str) -> tuple[Any, str]:
    if not find_spec("fsspec"):
        raise FileRefusedError(f"{url}: needs fsspec: pip install fsspec, and the package of that storage, such as s3fs")
    try:
        return import_module("fsspec.core").url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise FileRefusedError(f"{url}: cannot be opened ({error})") from error


@contextmanager
def local_copy(source: str, base: Path) -> Generator[Path, None, None]:
    """The file of a picture; one in an archive or a storage is copied for as long as it is needed.

    Args:
        source: Of an `Item`.
        base: Folder that paths are relative to.

    Raises:
        RefusedError: If it cannot be had.
    """
    if is_file(source):
        yield base / source
        return
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        path = Path(folder) / PurePosixPath(source.rpartition(MEMBER)[2]).name
        try:
            if is_remote(source):
                system, place = _filesystem(source)
                system.get_file(place, str(path))
            else:
                archive, name = source.split(MEMBER, 1)
                path.write_bytes(_read_member(str(base / archive), name))
        except RefusedError:
            raise
        except Exception as error:  # whatever a storage or a damaged archive raises
            raise RefusedError(f"{source}: cannot be read ({type(error).__name__}: {error})") from error
        yield path


def _read_member(archive: str, name: str) -> bytes:
    if archive.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            return opened.read(name)
    with tarfile.open(archive) as opened:
        file = opened.extractfile(name)
        if file is None:
            raise RefusedError(f"{archive}{MEMBER}{name}: is no file")
        return file.read()
