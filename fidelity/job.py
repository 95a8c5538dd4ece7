"""One file from input to output: read, decide, enlarge, write, and say what was done."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .decide.model_choice import ModelChooser
from .files.icc import from_srgb, read_profile
from .files.metadata import read_provenance
from .files.paths import FileRefusedError, free_memory_bytes
from .files.read import ColorSpace, SourceFile, read_image
from .files.tags import Extras, correct_exif, describe_in_xmp
from .files.write import DEEP_SUFFIXES, DEFAULT_EXPORT, Export, check_writable, max_exif_bytes, write_image
from .imaging.color import is_grey
from .networks.device import Precision
from .pipeline import Order, StageProgress, decide, enlarge
from .report.report import report_file


@dataclass(frozen=True)
class Job:
    """What to do with every file of one run."""

    chooser: ModelChooser
    """Which networks there are."""
    order: Order
    """What the user asked for."""
    device: torch.device
    """Where to compute."""
    precision: Precision = "auto"
    """Arithmetic of the networks."""
    tile: int | None = None
    """Side of a tile in pixels of the source; None for auto."""
    export: Export = DEFAULT_EXPORT
    """How results are stored; `bits` is that of sources that are no deeper."""
    keeps_depth: bool = True
    """Whether a source of 16 bits a channel gives a result of 16, where the format holds them."""
    color_space: ColorSpace = "source"
    """See `fidelity.files.read.ColorSpace`."""
    keep_gps: bool = True
    """Whether results say where their source was taken."""
    size_suffix: bool = False
    """Whether the size of a result is added to its name."""


def upscale_file(source: Path, output: Path, job: Job, progress: StageProgress | None = None) -> dict[str, Any]:
    """Enlarges one file into another.

    Args:
        source: File to read.
        output: File to write; its ending chooses the format.
        job: What to do.
        progress: Called with (stage, units done, units in all).

    Returns:
        The report.

    Raises:
        ValueError: If the file, the target or a network is refused; nothing is written then.
    """
    file = read_image(source, job.color_space)
    if output.suffix.lower() in (".jpg", ".jpeg") and file.image.shape[1] == 4 and bool((file.image[:, 3] == 1).all()):
        file = replace(file, image=file.image[:, :3])  # transparency that hides nothing need not be held
    decision = decide(file.image, job.chooser, job.order, free_memory_bytes(), read_provenance(source))
    height, width = decision.planned.plan.target
    if job.size_suffix:
        output = output.with_name(f"{output.stem}_{width}x{height}{output.suffix}")
    if output.resolve() == source.resolve():
        raise FileRefusedError(f"{output}: is the source itself; wanted another name")
    export = choose_depth(job.export, file, output) if job.keeps_depth else job.export
    check_writable(output, (height, width), file.image.shape[1], export)
    if job.keeps_depth and file.bits > 8 and export.bits == 8:
        file = replace(file, notes=(*file.notes, f"{file.bits} bits a channel, of which this format holds 8"))
    enlargement = enlarge(file.image, decision, job.device, job.precision, job.tile, progress)
    used = {"target": asdict(job.order.target), "tile": job.tile, "device": str(job.device), "precision": job.precision}
    report = report_file(source, output, decision, enlargement, used, file.notes)
    report["output"]["bits"] = export.bits if output.suffix.lower() in DEEP_SUFFIXES else 8
    sheet = job.order.target.print_size
    facts, dpi = summarise(report), sheet.dpi if sheet else None
    save_result(output, enlargement.image, file, facts, export, job.color_space, job.keep_gps, dpi=dpi)
    return report


def save_result(
    path: Path,
    image: Tensor,
    source: SourceFile | None,
    facts: Mapping[str, str | float],
    export: Export = DEFAULT_EXPORT,
    color_space: ColorSpace = "source",
    keep_gps: bool = True,
    graphs: Mapping[str, str] | None = None,
    dpi: float | None = None,
) -> None:
    """Writes a result with what belongs beside its pixels.

    Args:
        path: File to write; its ending chooses the format.
        image: ``(1, C, H, W)`` in the space that the source's image is in.
        source: The file that it was made from, if there is one.
        facts: What was done, for the XMP packet.
        export: How to store it.
        color_space: "source" carries the source's embedded profile back, converting to it what was converted to sRGB.
        keep_gps: Whether to keep where the source was taken.
        graphs: See `make_extras`.
        dpi: Dots to an inch that it is to be printed at.
    """
    if source and color_space == "source" and source.embedded_profile and not source.icc_profile:
        image = _to_embedded(path, image, source.embedded_profile)
        source = replace(source, icc_profile=source.embedded_profile)
    size = (image.shape[2], image.shape[3])
    extras = make_extras(source, size, path.suffix, facts, keep_gps, graphs)
    write_image(path, image, replace(extras, dpi=dpi or (source.dpi if source else None)), export)


def _to_embedded(path: Path, image: Tensor, embedded: bytes) -> Tensor:
    """An sRGB image in the space of a source's profile; grey that was expanded is grey again."""
    profile = read_profile(embedded)
    if profile is None:
        raise FileRefusedError(f"{path}: the source's colour profile is made of tables; wanted color_space srgb")
    if len(profile.curves) == 1 and image.shape[1] > 1:
        if image.shape[1] == 4 or not is_grey(image):
            raise FileRefusedError(
                f"{path}: the source's colour profile is of grey and the image is not; wanted color_space srgb"
            )
        image = image[:, :1]
    return from_srgb(image.float(), profile)


def choose_depth(export: Export, source: SourceFile | None, output: Path) -> Export:
    """16 bits where the source has them and the format holds them."""
    return replace(export, bits=16) if source and source.bits >= 16 and output.suffix.lower() in DEEP_SUFFIXES else export


def make_extras(
    source: SourceFile | None,
    size: tuple[int, int],
    suffix: str,
    facts: Mapping[str, str | float],
    keep_gps: bool = True,
    graphs: Mapping[str, str] | None = None,
) -> Extras:
    """What belongs beside the pixels of a result.

    Args:
        source: The file that it was made from, if there is one.
        size: (height, width) of the result.
        suffix: Ending of the result's file.
        facts: What was done, for the XMP packet.
        keep_gps: Whether to keep where the source was taken.
        graphs: ComfyUI's "prompt" and "workflow"; the source's own if not given.
    """
    texts = dict(source.texts if source else {}) if graphs is None else dict(graphs)
    is_png = suffix.lower() == ".png"
    named = {} if is_png else {name: text for name, text in texts.items() if name in ("prompt", "workflow")}
    return Extras(
        icc_profile=source.icc_profile if source else None,
        exif=correct_exif(source.exif if source else None, size, keep_gps, named, max_exif_bytes(suffix)),
        xmp=describe_in_xmp(facts),
        texts=texts if is_png else {},
    )


def summarise(report: Mapping[str, Any]) -> dict[str, str | float]:
    """The figures of a report that a result carries in itself.

    Args:
        report: Of the whole way (`fidelity.report.report.report_enlargement`), or one that has the gate's decision in it, or
            is that (`fidelity.steps.gate.report_gate`).

    Raises:
        KeyError, TypeError: If it is another.
    """
    decision = report.get("gate", report)
    color = report["drift"]["color"] if "drift" in report else decision["after"]
    facts: dict[str, str | float] = {}
    if "model" in report:
        facts |= {"model": report["model"]["name"] or "none", "recipe": report["recipe"]["domain"]}
    facts |= {"driftMean": color["mean"], "driftP99": color["p99"], "driftMax": color["max"]}
    return facts | {"gate": decision["action"]}
