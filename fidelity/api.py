"""The library in three functions: for paths, PIL images, numpy arrays and tensors."""

import io
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .decide.domain import Verdict
from .decide.domain import classify as classify_image
from .decide.provenance import Provenance
from .decide.settings import Settings
from .decide.target import Target
from .errors import RefusedError, check_type
from .files.metadata import provenance_of, provenance_of_picture, read_provenance
from .files.paths import check_folder
from .files.read import UNNAMED, SourceFile, read_content, read_image, take_picture
from .files.save import choose_depth, save_result
from .files.tags import Captions
from .files.write import DEFAULT_EXPORT, check_options, check_writable, quantise
from .imaging.tensors import check_finite, check_image, check_range
from .networks.compute import AUTO_COMPUTE, Compute
from .networks.device import choose_device
from .networks.loader import find_installed
from .report.measure import measure_images
from .report.report import Report, facts_of, report_input
from .session import Session, StageProgress

Picture = str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image | NDArray[Any] | Tensor
"""An image as callers have it:

- a path: any file that `fidelity upscale` reads;
- the content of such a file: bytes, or a file open for reading in binary mode, such as an upload;
- a PIL image of any mode: its orientation, ICC profile, EXIF and texts count as in a file, other color tags do not;
- a numpy array ``(H, W)`` or ``(H, W, C)``, C being 1, 3 or 4: uint8, uint16, or floats in [0, 1];
- a tensor ``(B, C, H, W)`` of floats in [0, 1].
"""


ImageT = TypeVar("ImageT", Image.Image, NDArray[Any], Tensor)


@dataclass(frozen=True, eq=False)
class Upscaled(Generic[ImageT]):
    """An enlarged image and its report.

    Attributes:
        image: An array or a tensor of the type and dtype that was given; a PIL image for anything else.
        tensor: The same as ``(B, C, H, W)`` in [0, 1].
        report: What was decided, done and measured.
    """

    image: ImageT
    tensor: Tensor
    report: Report
    _source: SourceFile | None

    def __repr__(self) -> str:
        _, channels, height, width = self.tensor.shape
        model, drift = self.report.model.name or "resized only", self.report.held_drift.mean
        return f"<Upscaled {width}x{height}, {channels} channels, {model}, color drift {drift:.2f}>"

    def save(self, path: str | PathLike[str], *, quality: int | None = None, bits: Literal[8, 16] | None = None) -> Path:
        """Writes the image; the ending chooses the format. A file of that name is replaced.

        The source's color profile, EXIF and text are carried over where there was a file or a PIL image. The file appears
        whole or not at all.

        Args:
            path: The file to write.
            quality: Quality of JPEG, AVIF and lossy WebP, 1 to 100; 95 if not given,
                and WebP is lossless then.
            bits: Bits per channel in PNG, TIFF and AVIF; as many as the source has if not given.

        Returns:
            The path.

        Raises:
            RefusedError: If the image is a batch, or the format or the folder cannot hold it.
        """
        target = _as_path(path)
        check_options(target.suffix.lower(), bits, quality)
        if self.tensor.shape[0] != 1:
            raise RefusedError(f"{self.tensor.shape[0]} images; wanted one to save")
        check_folder(target)
        export = DEFAULT_EXPORT if quality is None else replace(DEFAULT_EXPORT, quality=quality, lossless=False)
        export = replace(export, bits=bits) if bits else choose_depth(export, self._source, target)
        check_writable(target, (self.tensor.shape[2], self.tensor.shape[3]), self.tensor.shape[1], export)
        save_result(target, self.tensor, self._source, facts_of(self.report), export)
        return target


@overload
def upscale(
    picture: str | PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    settings: Settings | None = None,
    compute: Compute = AUTO_COMPUTE,
    models_dir: str | PathLike[str] | None = None,
    progress: StageProgress | None = None,
) -> Upscaled[Image.Image]: ...
@overload
def upscale(
    picture: NDArray[Any],
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    settings: Settings | None = None,
    compute: Compute = AUTO_COMPUTE,
    models_dir: str | PathLike[str] | None = None,
    progress: StageProgress | None = None,
) -> Upscaled[NDArray[Any]]: ...
@overload
def upscale(
    picture: Tensor,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    settings: Settings | None = None,
    compute: Compute = AUTO_COMPUTE,
    models_dir: str | PathLike[str] | None = None,
    progress: StageProgress | None = None,
) -> Upscaled[Tensor]: ...
def upscale(
    picture: Picture,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    settings: Settings | None = None,
    compute: Compute = AUTO_COMPUTE,
    models_dir: str | PathLike[str] | None = None,
    progress: StageProgress | None = None,
) -> Upscaled[Any]:
    """Enlarges an image and preserves its colors.

    Safe to call from several threads at once; models are loaded once per process.

    Args:
        picture: See `Picture`.
        scale: Factor on both sides; 4, or that of the model the settings name, if neither this nor `size` is given.
        size: Exact (height, width) in pixels instead.
        settings: Everything else; its target applies only if neither `scale` nor `size` is given.
        compute: Where and how to compute. If it names no device, a tensor is processed on its own device, and anything else on
            the best device available.
        models_dir: A folder of models beside the shipped ones.
        progress: Called with (stage, done, total); raising in it cancels the work.

    Raises:
        RefusedError: If the picture, a setting or a model is refused, or the result does not fit into memory.
    """
    given = _settle(picture)
    image, source = _open(given)
    settings = settings or Settings()
    check_type(settings, Settings, "settings")
    check_type(compute, Compute, "compute")
    if progress is not None and not callable(progress):  # pyright: ignore[reportUnnecessaryComparison]  callers may not check types
        raise RefusedError(f"progress is {progress!r}; wanted a function of (stage, done, total)")
    if scale is not None or size is not None:
        settings = replace(settings, target=Target(scale, size))
    if compute.device is None and not isinstance(picture, Tensor):
        compute = replace(compute, device=choose_device())
    session = Session(settings, compute, find_installed(_extra_folder(models_dir)))
    made = session.run(image, _provenance(given), progress)
    report = Report.of(made, session.settings, session.compute)
    path = source.path if source and source.path is not UNNAMED else None
    read = report_input(path, (image.shape[2], image.shape[3]), source.notes if source else ())
    report = replace(report, input=read)
    return Upscaled(_like(made.image, given, source), made.image, report, source)


def _extra_folder(models_dir: str | PathLike[str] | None) -> Path | None:
    if models_dir is None:
        return None
    folder = _as_path(models_dir)
    if not folder.is_dir():
        raise RefusedError(f"models_dir is {folder}, which is no folder; wanted one that holds models")
    return folder


def classify(picture: Picture, *, ignore_metadata: bool = False) -> Verdict:
    """Detects the domain of an image: photo, anime_flux, anime_sd, line_art or painting.

    Args:
        picture: See `Picture`; of a batch, the first image is judged.
        ignore_metadata: Whether to judge a file by its pixels alone.

    Returns:
        The label, its probability, the scores of all domains and the reasons.

    Raises:
        RefusedError: If the picture is refused.
    """
    given = _settle(picture)
    image, _ = _open(given)
    return classify_image(image[:1], None if ignore_metadata else _provenance(given))


def measure(reference: Picture, candidate: Picture) -> dict[str, Any]:
    """Compares two images: PSNR, SSIM, CIEDE2000 and more at one size, else the drift at the smaller size.

    Args:
        reference: The source or ground truth; see `Picture`.
        candidate: The image to judge.

    Raises:
        RefusedError: If a picture is refused, or is a batch.
    """
    images = [_open(_settle(picture), "srgb")[0] for picture in (reference, candidate)]
    for image in images:
        if image.shape[0] != 1:
            raise RefusedError(f"{image.shape[0]} images in one tensor; wanted one to measure")
    return measure_images(*images)


def _open(picture: "Picture | _Content", color_space: Any = "source") -> tuple[Tensor, SourceFile | None]:
    """``(B, C, H, W)`` in [0, 1], and what it is the image of, with its depth; None for a tensor."""
    if isinstance(picture, str | PathLike):
        source = read_image(_as_path(picture), color_space)
        return source.image, source
    if isinstance(picture, Image.Image):
        source = take_picture(picture, color_space)
        return source.image, source
    if isinstance(picture, _Content):
        source = read_content(picture.content, picture.name, color_space)
        return source.image, source
    if isinstance(picture, Tensor):
        image, source = picture.detach(), None
    elif isinstance(picture, np.ndarray):
        image = _from_array(picture)
        source = SourceFile(UNNAMED, image, None, None, _depth_of(picture), None, None, {}, Captions(), ())
    else:
        seen = type(picture).__name__
        raise RefusedError(f"a picture of type {seen}; wanted a path, bytes, a PIL image, an array or a tensor")
    check_image(image)
    check_finite(image)
    check_range(image)
    return image, source


def _as_path(path: str | PathLike[str]) -> Path:
    if not isinstance(path, str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
        raise RefusedError(f"a path of type {type(path).__name__}; wanted a string or a path")
    text = fspath(path)
    if "\0" in text:
        raise RefusedError(f"a path with a null character ({text!r}); wanted that of a file")
    if not text:
        raise RefusedError("an empty path; wanted that of a file")
    if "://" in text:
        raise RefusedError(f"{text}: an address; wanted a file, or its content as bytes")
    return Path(text)


@dataclass(frozen=True)
class _Content:
    """The content of a file, and what messages name it by."""

    content: bytes
    name: Path


def _settle(picture: Picture) -> "Picture | _Content":
    """Reads what can be read only once."""
    if isinstance(picture, bytes | bytearray | memoryview):
        return _Content(bytes(picture), UNNAMED)
    if not hasattr(picture, "read"):
        return picture
    stream, name = cast("IO[bytes]", picture), getattr(picture, "name", None)
    try:
        content = stream.read()
        was_read = not content and stream.seekable() and stream.tell() > 0
    except (OSError, ValueError) as error:
        raise RefusedError(f"an open file that cannot be read ({error}); wanted one open in binary mode") from error
    if was_read:
        raise RefusedError("an open file that was read to its end before; wanted it at its start, by seek(0)")
    if not isinstance(content, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
        raise RefusedError("a file open as text; wanted one open in binary mode")
    return _Content(content, Path(name) if isinstance(name, str) and name else UNNAMED)


def _depth_of(array: NDArray[Any]) -> int:
    """Bits per channel that hold an array's samples: floats may be those of 8 bits."""
    if array.dtype == np.uint8:
        return 8
    if array.dtype.kind == "f":
        levels = array.astype(np.float32) * 255
        return 8 if float(np.abs(levels - np.rint(levels)).max(initial=0)) < _EIGHT_BITS else 16
    return 16


_EIGHT_BITS = 1e-3


def _provenance(picture: "Picture | _Content") -> Provenance | None:
    if isinstance(picture, str | PathLike):
        return read_provenance(Path(picture))
    if isinstance(picture, _Content):
        return provenance_of(io.BytesIO(picture.content))
    return provenance_of_picture(picture) if isinstance(picture, Image.Image) else None


def _from_array(array: NDArray[Any]) -> Tensor:
    if array.ndim not in (2, 3):
        raise RefusedError(f"an array of shape {array.shape}; wanted (height, width) or (height, width, channels)")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        samples = array.astype(np.float32) / np.iinfo(array.dtype).max
    elif np.issubdtype(array.dtype, np.floating):
        samples = array.astype(np.float32)
    else:
        raise RefusedError(f"an array of {array.dtype}; wanted uint8, uint16, or floats in [0, 1]")
    stacked = samples[..., None] if samples.ndim == 2 else samples
    return torch.from_numpy(np.ascontiguousarray(stacked)).movedim(-1, 0)[None]


def _like(image: Tensor, picture: "Picture | _Content", source: SourceFile | None) -> Any:
    """A result as its source was given."""
    if isinstance(picture, Tensor):
        return image
    if isinstance(picture, np.ndarray):
        if np.issubdtype(picture.dtype, np.floating):
            array: NDArray[Any] = image[0].movedim(0, -1).cpu().numpy().astype(picture.dtype)
        else:
            array = quantise(image, 8 if cast(Any, picture).dtype == np.uint8 else 16)
        return array[..., 0] if picture.ndim == 2 else array
    deep = image.shape[1] == 1 and source is not None and source.bits > 8  # Pillow has no 16 bits of color
    array = quantise(image, 16 if deep else 8)
    made = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if source and source.icc_profile:
        made.info["icc_profile"] = source.icc_profile
    return made
