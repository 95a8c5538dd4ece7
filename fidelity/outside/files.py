"""Reading and writing image files with Pillow: whole or not at all, colours as they are."""

import errno
import io
import os
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import psutil
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..imaging.bands import iterate_bands

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
"""Endings that are looked for in folders; a file named on its own is read whatever it is called."""

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Formats that results are written in, by ending."""

_LONGEST_SIDE_PX = {"JPEG": 65_500, "WEBP": 16_383}
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "WEBP": {"lossless": True, "quality": 60},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
_MEMORY_SHARE = 0.6
_BYTES_PER_SAMPLE = 12  # the float32 source, a copy to work on, and Pillow's own


class FileRefusedError(ValueError):
    """An image file that cannot be read or written, with the reason in one line."""


@dataclass(frozen=True)
class SourceFile:
    """A decoded image file."""

    path: Path
    """Where it came from."""
    image: Tensor
    """``(1, C, H, W)`` float32 in [0, 1]; C is 1, 3 or 4. Samples are as stored, in the space of `icc_profile`."""
    icc_profile: bytes | None
    """Embedded colour profile, to be carried to the result; None means sRGB."""
    notes: tuple[str, ...]
    """What a user should know: a frame chosen, a conversion made."""


def read_image(path: Path) -> SourceFile:
    """Reads an image file.

    EXIF orientation is applied. Palettes become RGB, CMYK is converted to sRGB, the first frame of an animation
    is taken, grey of 16 bits keeps its depth.

    Raises:
        FileRefusedError: If there is no such file, or it is not an image, damaged, or too large for the memory.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileRefusedError(f"{path}: no such file") from error
    except OSError as error:
        raise FileRefusedError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise FileRefusedError(f"{path}: is empty; wanted an image")
    limit = max_source_pixels()
    try:
        with _no_pixel_limit(), Image.open(io.BytesIO(content)) as opened:
            width, height = opened.size
            if width * height > limit:
                raise Image.DecompressionBombError
            notes = _frame_notes(opened)
            opened.load()
            profile = opened.info.get("icc_profile")
            upright = ImageOps.exif_transpose(opened)
            array, profile = _to_array(upright, profile, notes)
    except Image.DecompressionBombError as error:
        raise FileRefusedError(
            f"{path}: more than {limit / 1e6:.0f} megapixels, too large for the memory of this machine"
        ) from error
    except _RangeError as error:
        raise FileRefusedError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise FileRefusedError(f"{path}: not an image, or of no known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:  # Pillow's decoders raise all of these
        raise FileRefusedError(f"{path}: damaged or truncated ({_one_line(error)})") from error
    tensor = torch.from_numpy(array).movedim(-1, 0).unsqueeze(0).contiguous()
    return SourceFile(path, tensor, profile, tuple(notes))


def write_image(path: Path, image: Tensor, icc_profile: bytes | None = None) -> None:
    """Writes an image as 8 bits, rounded to nearest; the file appears whole or not at all.

    Args:
        path: Where to; the ending chooses the format.
        image: ``(1, C, H, W)`` in [0, 1].
        icc_profile: Colour profile to embed.

    Raises:
        FileRefusedError: If the format cannot hold the image, or the disk cannot hold the file.
    """
    check_writable(path, (image.shape[2], image.shape[3]), image.shape[1])
    samples = _to_bytes(image[0])
    picture = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    kind = FORMATS[path.suffix.lower()]
    profile = {"icc_profile": icc_profile} if icc_profile else {}
    write_whole(path, lambda file: picture.save(file, kind, **_SAVE_OPTIONS[kind], **profile))


def check_writable(path: Path, size: tuple[int, int], channels: int) -> None:
    """Refuses early, before any work is done, what `write_image` could not write."""
    check_folder(path)
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise FileRefusedError(f"{path}: cannot write {path.suffix or 'a file without ending'}; wanted {', '.join(FORMATS)}")
    if kind == "JPEG" and channels == 4:
        raise FileRefusedError(f"{path}: JPEG holds no transparency; wanted .png, .webp or .tif")
    longest = _LONGEST_SIDE_PX.get(kind)
    if longest and max(size) > longest:
        raise FileRefusedError(
            f"{path}: {kind} holds at most {longest} px a side, not {size[1]}x{size[0]}; wanted .png or .tif"
        )


def check_folder(path: Path) -> None:
    """Refuses early a file whose folder can be neither written to nor made."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FileRefusedError(f"{path}: {folder} is not a folder that can be written to")


def free_memory_bytes() -> int:
    """Memory of this machine that is free for an image and its result."""
    return psutil.virtual_memory().available


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file under a temporary name beside its place, then renames it.

    Raises:
        FileRefusedError: If the folder or the disk refuses; nothing is left behind.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or _one_line(error)
        raise FileRefusedError(f"{path}: cannot be written ({reason})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def expand_input(path: Path) -> list[Path]:
    """A file as it is, a folder as the images directly in it, in order of name.

    Raises:
        FileRefusedError: If a folder holds no image.
    """
    if not path.is_dir():
        return [path]
    found = sorted(item for item in path.iterdir() if item.suffix.lower() in READ_SUFFIXES and item.is_file())
    if not found:
        raise FileRefusedError(f"{path}: no images in this folder; wanted {', '.join(READ_SUFFIXES)}")
    return found


def name_outputs(inputs: list[Path], out: Path, is_folder: bool) -> list[Path]:
    """One result file for each input; inputs that share a name keep apart by their ending."""
    if not is_folder:
        return [out]
    stems = [path.stem for path in inputs]
    names = [stem if stems.count(stem) == 1 else path.name.replace(".", "_") for stem, path in zip(stems, inputs, strict=True)]
    seen: dict[str, int] = {}
    outputs: list[Path] = []
    for name in names:  # inputs of one name from several folders are numbered
        seen[name] = seen.get(name, 0) + 1
        outputs.append(out / (f"{name}.png" if seen[name] == 1 else f"{name}_{seen[name]}.png"))
    return outputs


def max_source_pixels() -> int:
    """Pixels of a source that the memory of this machine can hold, with room to work."""
    return int(psutil.virtual_memory().total * _MEMORY_SHARE / (3 * _BYTES_PER_SAMPLE))


def _to_bytes(image: Tensor) -> np.ndarray:
    """``(C, H, W)`` in [0, 1] as ``(H, W, C)`` bytes, rounded; in bands, because every step of it is a copy."""
    channels, height, width = image.shape
    samples = np.empty((height, width, channels), dtype=np.uint8)
    for rows in iterate_bands(height, channels * width * 4):
        samples[rows] = image[:, rows].float().clamp(0, 1).mul(255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
    return samples


@contextmanager
def _no_pixel_limit() -> Generator[None, None, None]:
    """Lifts Pillow's own limit, which is the same on every machine, for the time of a read that has its own."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _frame_notes(opened: Image.Image) -> list[str]:
    frames = getattr(opened, "n_frames", 1)
    return [f"animated: the first of {frames} frames is taken"] if frames > 1 else []


def _to_array(picture: Image.Image, profile: bytes | None, notes: list[str]) -> tuple[np.ndarray, bytes | None]:
    mode = picture.mode
    if mode in ("I;16", "I;16B", "I;16L", "I"):
        return _scaled(np.asarray(picture), 65535), _fitting(profile, b"GRAY")
    if mode == "F":
        return _scaled(np.asarray(picture), 1), _fitting(profile, b"GRAY")
    if mode == "CMYK":
        picture, profile = _cmyk_to_srgb(picture, profile, notes), None
    elif mode in ("1", "L") and "transparency" not in picture.info:
        picture = picture.convert("L")
        return (np.asarray(picture).astype(np.float32) / 255)[..., None], _fitting(profile, b"GRAY")
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    return np.asarray(picture).astype(np.float32) / 255, _fitting(profile, b"RGB ")


def _scaled(samples: np.ndarray, white: int) -> np.ndarray:
    """Grey samples of a deep format as (H, W, 1) in [0, 1].

    Raises:
        _RangeError: If some are not finite or outside [0, white]: what they mean cannot be known.
    """
    if not np.isfinite(samples).all():
        raise _RangeError("holds samples that are not finite (NaN or infinite); wanted numbers")
    lowest, highest = samples.min(), samples.max()
    if lowest < 0 or highest > white:
        raise _RangeError(f"holds samples from {lowest:g} to {highest:g}; wanted 0 to {white} for this format")
    return (samples.astype(np.float32) / white)[..., None]


class _RangeError(Exception):
    """Samples whose meaning cannot be known."""


def _cmyk_to_srgb(picture: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            notes.append("CMYK converted to sRGB by its embedded profile")
            return converted
    notes.append("CMYK without a usable profile converted to RGB by formula: colours are approximate")
    return picture.convert("RGB")


def _fitting(profile: bytes | None, space: bytes) -> bytes | None:
    """The profile if it describes samples of that colour space (bytes 16 to 19 of its header), else None."""
    return profile if profile and profile[16:20] == space else None


def _one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
