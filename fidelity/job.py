"""One file from input to output: read, decide, enlarge, write, and report."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .choices import DEFAULT_EXISTING, ColorSpace, ExistingChoice, HdrChoice
from .decide.decision import Decision
from .errors import MemoryLimitError, RefusedError
from .files.icc import from_srgb, read_profile
from .files.metadata import read_provenance
from .files.paths import Keys, check_apart, keys_of, settle_output
from .files.read import SourceFile, read_image
from .files.save import choose_depth, save_result
from .files.write import AVIF_NEEDS, DEFAULT_EXPORT, Export, check_writable, is_deep, stored_bits, writer_bytes_per_pixel
from .report.report import Report, facts_of, report_input, report_output
from .session import Session, StageProgress
from .steps.alpha import flatten


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written."""

    export: Export = DEFAULT_EXPORT
    """How results are stored; `bits` applies to sources that are no deeper."""
    keeps_depth: bool = True
    """Whether a source of more than 8 bits per channel gives a result with all bits that the format stores."""
    color_space: ColorSpace = "source"
    """See `fidelity.files.read.ColorSpace`."""
    keep_gps: bool = True
    """Whether results keep the GPS location of their source."""
    size_suffix: bool = False
    """Whether the size of a result is added to its file name."""
    existing: ExistingChoice = DEFAULT_EXISTING
    """What is done if the file of a result exists."""
    hdr: HdrChoice = "auto"
    """What becomes of PQ and HLG."""
    sources: Keys = field(default_factory=dict[tuple[str, str], Path])
    """All files that are read together, from `fidelity.files.paths.keys_of`; no result is written over one."""
    flatten: tuple[float, float, float] | None = None
    """The color, in sRGB in [0, 1], that transparent pixels are laid on; None keeps transparency."""
    max_megapixels: float | None = field(default=None, repr=False)
    """Sources of more are refused, by their header alone; results do not depend on it, so `repr` leaves it out."""


DEFAULT_FILE_OPTIONS = FileOptions()


@dataclass(frozen=True)
class FileJob:
    """One image file, read and decided on, with the file to write."""

    source: Path
    output: Path
    """Where its result goes; nothing has been written yet."""
    file: SourceFile
    """The picture."""
    decision: Decision
    """How it will be enlarged."""
    export: Export
    """How its result will be stored."""


def prepare_file(source: Path, output: Path, session: Session, options: FileOptions = DEFAULT_FILE_OPTIONS) -> FileJob:
    """Reads an image file, decides how to enlarge it, and checks that the result can be written.

    Args:
        source: File to read.
        output: File to write; its extension chooses the format.
        session: Settings, networks and compute.
        options: How to read and write.

    Raises:
        SkippedError: If the output exists, and such images are to be skipped.
        RefusedError: If the file, the target or a network is refused.
    """
    if not options.size_suffix:
        output = _settle(source, output, options)
    file = read_image(source, options.color_space, options.hdr)
    if file.signal and output.suffix.lower() not in (".png", ".avif"):
        raise RefusedError(f"{output}: cannot hold high dynamic range; wanted .png or .avif, or --hdr sdr")
    if file.signal and not is_deep(output.suffix):
        raise RefusedError(f"{output}: {AVIF_NEEDS}; or wanted .png")
    if file.signal and file.image.shape[1] == 4:
        raise RefusedError(f"{source}: has high dynamic range and transparency, which are kept only apart; wanted --hdr sdr")
    if options.flatten:
        file = _flatten(file, options.flatten)
    if output.suffix.lower() in (".jpg", ".jpeg") and file.image.shape[1] == 4:
        if not bool((file.image[:, 3] == 1).all()):
            raise RefusedError(
                f"{output}: JPEG does not support transparency; wanted .png, .webp, .avif or .tif, or --flatten white"
            )
        file = replace(file, image=file.image[:, :3])  # transparency that hides nothing need not be stored
    channels = file.image.shape[1]
    export = choose_depth(options.export, file, output) if options.keeps_depth else options.export
    export = replace(export, bits=16) if file.signal else export
    writer = writer_bytes_per_pixel(output, channels, export)
    view = file.as_seen() if file.signal else None
    decision = replace(session.decide(file.image, read_provenance(source), writer, view), signal=file.signal)
    height, width = decision.target
    if options.size_suffix:
        output = _settle(source, output.with_name(f"{output.stem}_{width}x{height}{output.suffix}"), options)
    check_writable(output, (height, width), channels, export)
    bits = stored_bits(output.suffix, export)
    if options.keeps_depth and file.bits > bits:
        hint = f" ({AVIF_NEEDS})" if output.suffix.lower() == ".avif" and not is_deep(output.suffix) else ""
        note = f"the source has {file.bits} bits per channel, the result {bits}{hint}"
        file = replace(file, notes=(*file.notes, note))
    return FileJob(source, output, file, decision, export)


def _flatten(file: SourceFile, color: tuple[float, float, float]) -> SourceFile:
    background = torch.tensor(color).reshape(1, 3, 1, 1)
    profile = read_profile(file.icc_profile) if file.icc_profile else None
    if profile and profile.matrix is not None:
        background = from_srgb(background, profile)
    return replace(file, image=flatten(file.image, background))


def _settle(source: Path, output: Path, options: FileOptions) -> Path:
    if options.existing != "rename":
        check_apart(options.sources or keys_of([source]), [output])
    return settle_output(output, options.existing, source)


def upscale_file(
    source: Path,
    output: Path,
    session: Session,
    options: FileOptions = DEFAULT_FILE_OPTIONS,
    progress: StageProgress | None = None,
    in_memory: bool = False,
) -> Report:
    """Enlarges one image file and writes the result to another.

    Args:
        source: File to read.
        output: File to write; its extension chooses the format.
        session: Settings, networks and compute.
        options: How to read and write.
        progress: Called with (stage, units done, units in total).
        in_memory: Whether to refuse a result that would go through temporary files.

    Raises:
        SkippedError: If the output exists, and such images are to be skipped.
        MemoryLimitError: If the work does not fit in the session's memory limit; nothing is written then.
        RefusedError: If the file, the target or a network is refused; nothing is written then.
    """
    job = prepare_file(source, output, session, options)
    plan, file, export = job.decision.planned.plan, job.file, job.export
    if in_memory and plan.in_files:
        raise MemoryLimitError(f"{source}: its result fits only in temporary files; wanted more memory")
    scratch = job.output.parent if plan.in_files else None
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
    enlargement = session.carry_out(file.image, job.decision, progress, scratch)
    report = replace(
        Report.of(enlargement, session.settings, session.compute),
        input=report_input(source, job.decision.source, file.notes),
        output=report_output(job.output, job.decision.target, stored_bits(job.output.suffix, export)),
    )
    sheet = session.settings.target.print_size
    dpi = sheet.dpi if sheet else None
    save_result(job.output, enlargement.rows, file, facts_of(report), export, options.color_space, options.keep_gps, dpi=dpi)
    return report
