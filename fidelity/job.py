"""One file from input to output: read, decide, enlarge, write, and report."""

from dataclasses import dataclass, replace
from pathlib import Path

from .choices import ColorSpace
from .errors import MemoryLimitError, RefusedError
from .files.metadata import read_provenance
from .files.read import read_image
from .files.save import choose_depth, save_result
from .files.write import DEEP_SUFFIXES, DEFAULT_EXPORT, Export, check_writable, writer_bytes_per_pixel
from .report.report import Report, facts_of, report_input, report_output
from .session import Session, StageProgress


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written."""

    export: Export = DEFAULT_EXPORT
    """How results are stored; `bits` applies to sources that are no deeper."""
    keeps_depth: bool = True
    """Whether a source with 16 bits per channel gives a 16-bit result, if the format can store it."""
    color_space: ColorSpace = "source"
    """See `fidelity.files.read.ColorSpace`."""
    keep_gps: bool = True
    """Whether results keep the GPS location of their source."""
    size_suffix: bool = False
    """Whether the size of a result is added to its file name."""


DEFAULT_FILE_OPTIONS = FileOptions()


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
        MemoryLimitError: If the work does not fit in the session's memory limit; nothing is written then.
        RefusedError: If the file, the target or a network is refused; nothing is written then.
    """
    file = read_image(source, options.color_space)
    if output.suffix.lower() in (".jpg", ".jpeg") and file.image.shape[1] == 4 and bool((file.image[:, 3] == 1).all()):
        file = replace(file, image=file.image[:, :3])  # transparency that hides nothing need not be stored
    channels = file.image.shape[1]
    export = choose_depth(options.export, file, output) if options.keeps_depth else options.export
    decision = session.decide(file.image, read_provenance(source), writer_bytes_per_pixel(output, channels, export))
    height, width = decision.planned.plan.target
    if options.size_suffix:
        output = output.with_name(f"{output.stem}_{width}x{height}{output.suffix}")
    if output.resolve() == source.resolve():
        raise RefusedError(f"{output}: is the source itself; wanted another file name")
    check_writable(output, (height, width), channels, export)
    if options.keeps_depth and file.bits > 8 and export.bits == 8:
        file = replace(file, notes=(*file.notes, f"the source has {file.bits} bits per channel, this format stores 8"))
    if in_memory and decision.planned.plan.in_files:
        raise MemoryLimitError(f"{source}: its result fits only in temporary files; wanted more memory")
    scratch = output.parent if decision.planned.plan.in_files else None
    if scratch:
        scratch.mkdir(parents=True, exist_ok=True)
    enlargement = session.carry_out(file.image, decision, progress, scratch)
    report = replace(
        Report.of(enlargement, session.settings, session.compute),
        input=report_input(source, decision.planned.plan.source, file.notes),
        output=report_output(output, (height, width), export.bits if output.suffix.lower() in DEEP_SUFFIXES else 8),
    )
    sheet = session.settings.target.print_size
    dpi = sheet.dpi if sheet else None
    save_result(output, enlargement.rows, file, facts_of(report), export, options.color_space, options.keep_gps, dpi=dpi)
    return report
