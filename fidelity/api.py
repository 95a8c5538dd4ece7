"""The library in three functions: for paths, PIL images, numpy arrays and tensors."""

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, cast

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
from .errors import RefusedError
from .files.metadata import read_provenance
from .files.paths import check_folder
from .files.read import SourceFile, read_image
from .files.save import choose_depth, save_result
from .files.write import DEFAULT_EXPORT, check_writable, quantise
from .imaging.tensors import check_finite, check_image, check_range
from .networks.compute import AUTO_COMPUTE, Compute
from .networks.device import choose_device
from .networks.loader import list_models, models_folder
from .report.measure import measure_images
from .report.report import Report, facts_of, report_input
from .session import Session, StageProgress

Picture = str | PathLike[str] | Image.Image | NDArray[Any] | Tensor
"""An image as callers have it:

- a path: any file that `fidelity upscale` reads;
- a PIL image of any mode;
- a numpy array ``(H, W)`` or ``(H, W, C)``, C being 1, 3 or 4: uint8, uint16, or floats in [0, 1];
- a tensor ``(B, C, H, W)`` of floats in [0, 1].
"""


@dataclass(frozen=True)
class Upscaled:
    """An enlarged image and its report."""

    image: Any
    """Of the type that was given, and for an array or a tensor of its dtype; a PIL image where a path was given."""
    tensor: Tensor
    """The same as ``(B, C, H, W)`` in [0, 1]."""
    report: Report
    """What was decided, done and measured."""
    _source: SourceFile | None

    def __repr__(self) -> str:
        _, channels, height, width = self.tensor.shape
        model, drift = self.report.model.name or "resized only", self.report.held_drift.mean
        return f"<Upscaled {width}x{height}, {channels} channels, {model}, color drift {drift:.2f}>"

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes the image; the ending chooses the format.

        The source's color profile, EXIF and text are carried over where there was a file. The file appears whole or not at
        all.

        Returns:
            The path.

        Raises:
            RefusedError: If the image is a batch, or the format or the folder cannot hold it.
        """
        target = Path(path)
        if self.tensor.shape[0] != 1:
            raise RefusedError(f"{self.tensor.shape[0]} images; wanted one to save")
        check_folder(target)
        export = choose_depth(DEFAULT_EXPORT, self._source, target)
        check_writable(target, (self.tensor.shape[2], self.tensor.shape[3]), self.tensor.shape[1], export)
        save_result(target, self.tensor, self._source, facts_of(self.report), export)
        return target


def upscale(
    picture: Picture,
    scale: float | None = None,
    *,
    size: tuple[int, int] | None = None,
    settings: Settings | None = None,
    compute: Compute = AUTO_COMPUTE,
    models_dir: str | PathLike[str] | None = None,
    progress: StageProgress | None = None,
) -> Upscaled:
    """Enlarges an image and preserves its colors.

    Safe to call from several threads at once; networks are loaded once a process. For many images with the same settings,
    `Session` does without looking the settings up anew.

    Args:
        picture: See `Picture`.
        scale: Factor on both sides; 4, or that of the model the settings name, if neither this nor `size` is given.
        size: Exact (height, width) in pixels instead.
        settings: Everything else; a target in it counts where neither `scale` nor `size` is given.
        compute: Where and how to compute. If it names no device, a tensor is processed on its own device, and anything else on
            the best device available.
        models_dir: A folder of networks beside the shipped ones.
        progress: Called with (stage, done, total); raising in it cancels the work.

    Raises:
        RefusedError: If the picture, a setting or a network is refused, or the result does not fit into memory.
    """
    image, source = _open(picture)
    settings = settings or Settings()
    if scale is not None or size is not None:
        settings = replace(settings, target=Target(scale, size))
    if compute.device is None and not isinstance(picture, Tensor):
        compute = replace(compute, device=choose_device())
    session = Session(settings, compute, list_models([*([Path(models_dir)] if models_dir else []), models_folder()]))
    made = session.run(image, _provenance(picture), progress)
    report = Report.of(made, session.settings, session.compute)
    if source:
        report = replace(report, input=report_input(source.path, (image.shape[2], image.shape[3]), source.notes))
    return Upscaled(_like(made.image, picture), made.image, report, source)


def classify(picture: Picture, *, ignore_metadata: bool = False) -> Verdict:
    """Tells the domain of an image: photo, anime_flux, anime_sd, line_art or painting.

    Args:
        picture: See `Picture`; of a batch, the first image is judged.
        ignore_metadata: Whether to judge a file by its pixels alone.

    Returns:
        The label, its probability, the scores of all domains and the reasons.

    Raises:
        RefusedError: If the picture is refused.
    """
    image, _ = _open(picture)
    return classify_image(image[:1], None if ignore_metadata else _provenance(picture))


def measure(reference: Picture, candidate: Picture) -> dict[str, Any]:
    """Compares two images: PSNR, SSIM, CIEDE2000 and more at one size, else the drift at the smaller size.

    Args:
        reference: The source or ground truth; see `Picture`.
        candidate: The image to judge.

    Raises:
        RefusedError: If a picture is refused, or is a batch.
    """
    images = [_open(picture, "srgb")[0] for picture in (reference, candidate)]
    for image in images:
        if image.shape[0] != 1:
            raise RefusedError(f"{image.shape[0]} images in one tensor; wanted one to measure")
    return measure_images(*images)


def _open(picture: Picture, color_space: Any = "source") -> tuple[Tensor, SourceFile | None]:
    """``(B, C, H, W)`` in [0, 1], and the file if it came from one."""
    if isinstance(picture, str | PathLike):
        source = read_image(Path(picture), color_space)
        return source.image, source
    if isinstance(picture, Tensor):
        image = picture
    elif isinstance(picture, Image.Image):
        image = _from_array(_to_array(picture))
    elif isinstance(picture, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may not check types
        image = _from_array(picture)
    else:
        raise RefusedError(f"a picture of type {type(picture).__name__}; wanted a path, a PIL image, an array or a tensor")
    check_image(image)
    check_finite(image)
    check_range(image)
    return image, None


def _provenance(picture: Picture) -> Provenance | None:
    return read_provenance(Path(picture)) if isinstance(picture, str | PathLike) else None


def _to_array(picture: Image.Image) -> NDArray[Any]:
    if picture.mode.startswith("I;16"):
        return np.asarray(picture, np.uint16)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    has_alpha = "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info
    return np.asarray(picture.convert("RGBA" if has_alpha else "RGB"))


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


def _like(image: Tensor, picture: Picture) -> Any:
    """A result as its source was given."""
    if isinstance(picture, Tensor):
        return image
    deep = isinstance(picture, np.ndarray) and cast(Any, picture).dtype != np.uint8
    if isinstance(picture, np.ndarray) and np.issubdtype(picture.dtype, np.floating):
        array: NDArray[Any] = image[0].movedim(0, -1).cpu().numpy().astype(picture.dtype)
    else:
        array = quantise(image, 16 if deep else 8)
    if isinstance(picture, np.ndarray):
        return array[..., 0] if picture.ndim == 2 else array
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
