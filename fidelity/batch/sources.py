"""What a batch is made of: files, folders, patterns, manifests, archives and places that fsspec reads."""

import csv
import glob
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from ..choices import VideoCodec
from ..errors import RefusedError
from ..files.paths import READ_SUFFIXES, VIDEO_SUFFIXES, FileRefusedError, find_images, name_outputs
from ..video.codecs import CODECS

MEMBER = "::"
"""Between an archive and the name of a picture in it."""
ROW_OPTIONS = ("scale", "size", "long_edge", "megapixels", "domain", "model", "restore", "channels", "consistency", "gate")
"""What a row of a manifest may set, as the options of the command are named."""

_SOURCE_COLUMNS = ("source", "path", "file")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")
_MAGIC = "*?["
_ANY_VIDEO = ".mkv"  # Matroska holds whatever there is


@dataclass(frozen=True)
class Item:
    """One picture or video to enlarge."""

    source: str
    """A path; an archive and a member, joined by `MEMBER`; or a URL."""
    output: str
    """Path of its result, relative to the folder of results; empty if there will be none."""
    options: dict[str, str] = field(default_factory=dict[str, str])
    """What its row of a manifest sets, of `ROW_OPTIONS`."""
    refused: str = ""
    """Why it cannot be done, if its row cannot be read."""

    @property
    def key(self) -> str:
        """Tells it from all others of a batch."""
        return key_of(self.source, self.output)

    @property
    def is_video(self) -> bool:
        """Whether it is one, by its ending."""
        return is_video(self.source)

    @property
    def is_file(self) -> bool:
        """Whether its source is a file by itself, which every worker can open."""
        return _is_file(self.source)


def _is_file(source: str) -> bool:
    return "://" not in source and MEMBER not in source


def is_video(name: str) -> bool:
    """Whether a file is a video, by its ending."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def key_of(source: str, output: str) -> str:
    """What tells pictures of a batch apart: one source may have several results."""
    return f"{source}\n{output}"


def find_items(
    sources: Sequence[str], manifest: Path | None, suffix: str, out: Path, codec: VideoCodec | None = None
) -> list[Item]:
    """Lists all pictures and videos of a batch.

    Args:
        sources: Files, folders (with all that is in them), patterns such as "scans/**/*.png", zip and tar archives, and URLs.
        manifest: A CSV or JSONL file with a row a picture: its source, and optionally output and `ROW_OPTIONS`. Paths are
            relative to its folder.
        suffix: Ending of results; a video keeps its own if that container holds the codec, else it becomes .mkv.
        out: Folder of results, which is not searched.
        codec: What videos are encoded as; None to look for images alone.

    Raises:
        FileRefusedError: If a source does not exist or holds no picture, or the manifest cannot be read.
    """
    videos = VIDEO_SUFFIXES if codec else ()
    found = [pair for source in sources for pair in _expand(source, out, videos)]
    inputs = [Path(name.rpartition("/")[2]) for name, _ in found]
    names = name_outputs(inputs, Path(), True, "", [folder for _, folder in found])
    endings = _Endings(suffix, codec)
    items = [Item(source, f"{name.as_posix()}{endings.of(source)}") for (source, _), name in zip(found, names, strict=True)]
    if manifest:
        items += _read_manifest(manifest, endings, {item.output for item in items})
    return items


@dataclass(frozen=True)
class _Endings:
    """Which endings results get."""

    image: str
    codec: VideoCodec | None

    def of(self, source: str) -> str:
        """The ending of a source's result."""
        if self.codec is None or not is_video(source):
            return self.image
        own = PurePosixPath(source).suffix.lower()
        return own if own in CODECS[self.codec].containers else _ANY_VIDEO


def _expand(source: str, out: Path, videos: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Each picture or video of a source, with the folder of its result."""
    listed = (*READ_SUFFIXES, *videos)
    if "://" in source:
        yield from _list_remote(source, listed)
    elif any(one in source for one in _MAGIC) and not Path(source).exists():
        paths = [Path(path) for path in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207  absolute ones too
        kept = [path for path in paths if path.suffix.lower() in listed and path.is_file()]
        if not kept:
            raise FileRefusedError(f"{source}: matches no image or video; wanted one of {', '.join(listed)}")
        fixed = Path(*_before_magic(Path(source).parts))
        yield from ((str(path), path.parent.relative_to(fixed) if path.is_relative_to(fixed) else Path()) for path in kept)
    elif Path(source).suffix.lower() in _ARCHIVES and Path(source).is_file():
        yield from _list_archive(Path(source), listed)
    else:
        images = find_images(Path(source), recursive=True, excluded=out, others=videos)
        yield from ((str(path), folder) for path, folder in zip(images.files, images.folders, strict=True))


def _before_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if any(one in part for one in _MAGIC):
            return
        yield part


def _list_archive(path: Path, listed: Sequence[str]) -> Iterator[tuple[str, Path]]:
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
    for name in kept:
        parts = [part for part in PurePosixPath(name).parent.parts if part not in ("..", "/")]
        yield f"{path}{MEMBER}{name}", Path(*parts)


def _list_remote(url: str, listed: Sequence[str]) -> Iterator[tuple[str, Path]]:
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
    yield from ((f"{protocol}://{name.lstrip('/') if protocol != 'file' else name}", Path()) for name in kept)


def _filesystem(url: str) -> tuple[Any, str]:
    if not find_spec("fsspec"):
        raise FileRefusedError(f"{url}: needs fsspec: pip install fsspec, and the package of that storage, such as s3fs")
    try:
        return import_module("fsspec.core").url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise FileRefusedError(f"{url}: cannot be opened ({error})") from error


def _read_manifest(path: Path, endings: _Endings, taken: set[str]) -> Iterator[Item]:
    """A picture for each row; a row that cannot be read becomes one that is refused."""
    for number, row in enumerate(_read_rows(path), 1):
        told = f"{path.name}, row {number}"
        if isinstance(row, str):
            yield Item(told, "", refused=row)
            continue
        values = {str(name).strip(): str(value).strip() for name, value in row.items() if name and value not in (None, "")}
        column = next((name for name in _SOURCE_COLUMNS if name in values), None)
        if column is None:
            yield Item(told, "", refused=f"has no source; wanted a column named {', '.join(_SOURCE_COLUMNS)}")
            continue
        source = values.pop(column)
        output = values.pop("output", "") or f"{PurePosixPath(source.rpartition(MEMBER)[2]).stem}{endings.of(source)}"
        unknown = sorted(set(values) - set(ROW_OPTIONS))
        if "://" not in source and not Path(source).is_absolute():
            source = str(path.parent / source)
        refused = f"sets {', '.join(unknown)}; wanted {', '.join(ROW_OPTIONS)}" if unknown else ""
        if Path(output).is_absolute() or ".." in Path(output).parts:
            refused = f"output is {output}; wanted a path within the folder of results"
        elif output in taken:
            refused = f"output {output} is that of another picture; wanted another name"
        if not refused:
            taken.add(output)
        yield Item(source, "" if refused else output, values, refused)


def _read_rows(path: Path) -> Iterator[dict[str, Any] | str]:
    """The rows of a manifest; in place of one that is no row, the reason."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileRefusedError(f"{path}: cannot be read as a manifest ({error})") from error
    if path.suffix.lower() == ".csv":
        yield from csv.DictReader(text.splitlines())
        return
    if path.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        raise FileRefusedError(f"{path}: has an unknown ending; wanted a manifest as .csv or .jsonl")
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield f"is not JSON ({error})"
            continue
        yield row if isinstance(row, dict) else "is no JSON object"


@contextmanager
def local_copy(source: str, base: Path) -> Generator[Path, None, None]:
    """The file of a picture; one in an archive or a storage is copied for as long as it is needed.

    Args:
        source: Of an `Item`.
        base: Folder that paths are relative to.

    Raises:
        RefusedError: If it cannot be had.
    """
    if _is_file(source):
        yield base / source
        return
    with tempfile.TemporaryDirectory(prefix="fidelity-") as folder:
        path = Path(folder) / PurePosixPath(source.rpartition(MEMBER)[2]).name
        try:
            if "://" in source:
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
