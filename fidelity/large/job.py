"""One picture of any size from file to file: decided by a sample, enlarged piece by piece, joined at the end."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .. import __version__
from ..choices import AUTO_SCALE
from ..decide.decision import Decision, find_telling
from ..decide.target import Target
from ..errors import RefusedError
from ..files.journal import Journal, OtherRunError, discard_parts, fingerprint, parts_folder, sync
from ..files.metadata import read_provenance
from ..files.paths import FileRefusedError, check_apart, check_folder, keys_of, settle_output
from ..files.save import make_extras
from ..files.vips import has_vips
from ..imaging.drift import Drift
from ..imaging.resample import resize
from ..imaging.rows import PartRows, PartSource, Rows, RowSource, check_room
from ..job import FileOptions
from ..limits import allow_open_files
from ..networks.memory import free_host_bytes
from ..report.memory import peak_memory_bytes
from ..report.report import DriftReport, GateReport, Report, facts_of, report_input, report_output
from ..session import Session, StageProgress, run_passes
from ..steps.chain import Pass
from ..steps.consistency import find_thresholds
from .pieces import GRID_PX, Cut, Piece, cut
from .sinks import Joined, bytes_needed, can_join, check_suffix, join, write_piece
from .source import UNPACKED_NAME, LargeSource, count_readable_pixels
from .web import is_web

SOURCE_BYTES_PER_PIXEL = 40
"""Of a source that is read whole and judged: its samples in float32, and copies for the measurements."""
_CONTEXT_PX = 64
"""Source pixels around a piece that are enlarged with it: what networks and the projection of colors look at, and more."""
_SAMPLE_PX, _SAMPLE_PLACES = 1024, (1 / 6, 1 / 2, 5 / 6)
_VIEW_PX = 1024
_LONGEST_SIDE_PX, _SHORTEST_SIDE_PX = 3072, 512
_MEMORY_SHARE = 0.6
_PART_FILES = ("piece-*.tif", "part-*", "joined.*", UNPACKED_NAME)
_STAGES = {"unpack": (0.0, 0.02), "decide": (0.02, 0.03), "pieces": (0.03, 0.95), "join": (0.95, 1.0)}
_UNITS = 10_000
_WITH_ALPHA = 4
_OTHER_FILES = 64
"""Files that the process has open besides the pieces, at most."""


@dataclass(frozen=True)
class LargeJob:
    """A picture that will be enlarged in pieces, with the file to write."""

    source: LargeSource
    output: Path
    """Where its result goes; nothing has been written yet."""
    scale: int
    bits: Literal[8, 16]
    """Bits per channel of the result."""

    @property
    def target(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.scale * self.source.size[0], self.scale * self.source.size[1]

    @property
    def disk_bytes(self) -> int:
        """About how much room it needs on the disk of the result, at most; the result is part of that."""
        return bytes_needed(self.target, self.source.channels, self.bits, self.source.unpacked_bytes)


@dataclass(frozen=True)
class Sampled:
    """How a picture is enlarged, decided by a part of it."""

    sample: Tensor
    """``(1, C, h, w)``, the most telling of nine parts."""
    decision: Decision
    """For the sample."""
    side_px: int
    """The longest side of pieces that fit in memory."""


def needs_pieces(source: Path, output: Path, session: Session, options: FileOptions) -> bool:
    """Whether a file is enlarged in pieces: it does not fit in memory but can be cut, or the result is only made of pieces."""
    if is_web(output) or options.export.pyramid:
        return True
    memory = session.compute.memory_bytes or free_host_bytes()
    if SOURCE_BYTES_PER_PIXEL * count_readable_pixels(source) <= memory or not has_vips():
        return False
    target = session.settings.target
    is_whole = target == Target() or (target.scale is not None and target.scale == round(target.scale) >= 1)
    return is_whole and can_join(output) and not _inapplicable(session, options)


def prepare_large(path: Path, output: Path, session: Session, options: FileOptions) -> LargeJob:
    """Opens a picture and checks that it can be enlarged and written.

    Raises:
        SkippedError: If the output exists, and such images are to be skipped.
        RefusedError: If the file, the target or a setting is refused.
    """
    check_suffix(output)
    _check_options(output, session, options)
    source = LargeSource(path)
    scale = _read_scale(path, source.size, session)
    if options.size_suffix:
        height, width = (scale * length for length in source.size)
        output = output.with_name(f"{output.stem}_{width}x{height}{output.suffix}")
    if options.existing != "rename":
        check_apart(options.sources or keys_of([path]), [output])
    output = settle_output(output, options.existing, path)
    check_folder(output)
    is_deep = options.export.bits == 16 or (options.keeps_depth and source.bits > 8)
    return LargeJob(source, output, scale, 16 if is_deep and not is_web(output) else 8)


def _check_options(output: Path, session: Session, options: FileOptions) -> None:
    if options.export.pyramid and output.suffix.lower() not in (".tif", ".tiff"):
        raise FileRefusedError(f"{output}: has no smaller copies of itself; wanted .tif with --pyramid")
    names = _inapplicable(session, options)
    if names:
        raise FileRefusedError(f"{output}: is made in pieces, to which {names[0]} does not apply; wanted it left out")


def _inapplicable(session: Session, options: FileOptions) -> list[str]:
    """What was asked for and needs the whole picture."""
    asked = {
        "--color-space srgb": options.color_space == "srgb",
        "--hdr keep": options.hdr == "keep",
        "--flatten": options.flatten is not None,
        "--tileable": session.settings.tileable != "off",
        "--grain keep": session.settings.grain == "keep",
    }
    return [name for name, is_asked in asked.items() if is_asked]


def _read_scale(path: Path, size: tuple[int, int], session: Session) -> int:
    target, fixed = session.settings.target, session.chooser.fixed
    asked = target.scale or (fixed.scale if fixed else AUTO_SCALE)
    if target.size:
        ratios = {whole / part for whole, part in zip(target.size, size, strict=True)}
        asked = ratios.pop() if len(ratios) == 1 else 0.0
    if _is_flexible(target) or asked != round(asked) or asked < 1:
        raise RefusedError(f"{path}: is enlarged in pieces; wanted a whole --scale, such as 2 or 4")
    return round(asked)


def _is_flexible(target: Target) -> bool:
    """Whether a target is neither a factor nor an exact size."""
    return any((target.long_edge, target.megapixels, target.print_size, target.fit, target.screen))


def decide_large(job: LargeJob, session: Session) -> Sampled:
    """Decides how a picture is enlarged: its domain by a small copy of it, everything else by its most telling part.

    Raises:
        RefusedError: If a network is refused.
    """
    settings = replace(session.settings, target=replace(session.settings.target, scale=float(job.scale), size=None))
    parts = _read_parts(job.source)
    sample, view = parts[find_telling(torch.cat(parts))], job.source.shrink(_VIEW_PX)
    if view is None:  # the parts beside each other stand for the whole
        small = [resize(part[:, :3], (part.shape[2] // 3, part.shape[3] // 3)).clamp_(0, 1) for part in parts]
        view = torch.cat([torch.cat(small[start : start + 3], dim=3) for start in (0, 3, 6)], dim=2)
    deciding = Session(settings, session.compute, session.chooser.models)
    decision = deciding.decide(sample, read_provenance(job.source.path), None, view, is_whole=False)
    decision = replace(decision, recipe=replace(decision.recipe, grain="off"))
    per_pixel = decision.planned.plan.peak_bytes / (sample.shape[2] * sample.shape[3])
    memory = session.compute.memory_bytes or free_host_bytes()
    side = (_MEMORY_SHARE * memory / per_pixel) ** 0.5 - 2 * _CONTEXT_PX
    side = round(min(_LONGEST_SIDE_PX, max(_SHORTEST_SIDE_PX, side))) // GRID_PX * GRID_PX
    return Sampled(sample, decision, side)


def _read_parts(source: LargeSource) -> list[Tensor]:
    """Nine parts spread over a picture, row by row."""
    part = [min(_SAMPLE_PX, length) for length in source.size]
    starts = [
        [min(max(0, round(share * length - size / 2)), length - size) // GRID_PX * GRID_PX for share in _SAMPLE_PLACES]
        for length, size in zip(source.size, part, strict=True)
    ]
    return [source.read(slice(top, top + part[0]), slice(left, left + part[1])) for top in starts[0] for left in starts[1]]


def cut_for(job: LargeJob, side_px: int) -> Cut:
    """The pieces of a picture."""
    return cut(job.source.size, side_px, _CONTEXT_PX)


def with_thresholds(decision: Decision, sample: Tensor, session: Session) -> Decision:
    """The decision with the overshoot thresholds of the sample, which hold for all pieces."""
    mode = decision.recipe.consistency
    if mode != "color":
        return decision
    raw = run_passes(sample, decision, session.compute)
    rows: Rows = raw.rows
    reference: RowSource = raw.reference_rows
    if rows.shape[1] == _WITH_ALPHA:
        rows, reference = PartRows(rows, slice(0, 3)), PartSource(reference, slice(0, 3))
    return replace(decision, thresholds=find_thresholds(rows, reference, mode))


def decision_for(piece: Piece, decision: Decision, scale: int) -> Decision:
    """The decision for a piece with its context, which is enlarged like the sample."""
    height, width = piece.wide_size
    plan = replace(decision.planned.plan, source=(height, width), target=(scale * height, scale * width))
    return replace(decision, planned=replace(decision.planned, plan=plan))


def upscale_large(
    path: Path, output: Path, session: Session, options: FileOptions, progress: StageProgress | None = None
) -> Report:
    """Enlarges a picture in pieces; an interrupted run resumes after its last finished piece.

    Args:
        path: File to read.
        output: File to write.
        session: Settings, networks and compute.
        options: How to read and write.
        progress: Called with (what is done, units done, units in total).

    Raises:
        SkippedError: If the output exists, and such images are to be skipped.
        RefusedError: If the file, the target, a setting or a network is refused, or the disk has too little room.
    """
    job = prepare_large(path, output, session, options)
    folder = parts_folder(job.output)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        check_room(job.output.parent, job.disk_bytes)
    journal = _open_journal(job, session, options)
    try:
        return _Run(job, journal, folder, session, options, progress).finish()
    finally:
        journal.close()


def _open_journal(job: LargeJob, session: Session, options: FileOptions) -> Journal:
    folder = parts_folder(job.output)
    identity = {
        "version": __version__,
        "source": fingerprint(job.source.path),
        "settings": str(session.settings),
        "compute": str(replace(session.compute, memory_bytes=None)),
        "bits": job.bits,
        "models": {name: path.stat().st_size for name, path in sorted(session.chooser.models.items())},
    }
    try:
        return Journal(folder, identity)
    except OtherRunError:
        if options.existing != "overwrite":
            raise
        discard_parts(folder, _PART_FILES)
        return Journal(folder, identity)


class _Run:
    def __init__(
        self,
        job: LargeJob,
        journal: Journal,
        folder: Path,
        session: Session,
        options: FileOptions,
        progress: StageProgress | None,
    ) -> None:
        self.job, self.journal, self.folder, self.session, self.options = job, journal, folder, session, options
        self.progress = progress

    def finish(self) -> Report:
        job = self.job
        job.source.unpack(self.folder, self._stage("unpack"))
        sampled = decide_large(job, self.session)
        entries = self.journal.entries
        side_px = int(entries[0]["side_px"]) if entries else sampled.side_px
        parts = cut_for(job, side_px)
        needed = len(parts.pieces) + _OTHER_FILES
        allowed = allow_open_files(needed)  # all are open while they are joined
        if allowed < needed:
            raise RefusedError(
                f"{job.source.path}: needs {needed} files open at once, the limit is {allowed}; wanted a higher one "
                f"(ulimit -n {needed}), or more --memory for fewer pieces"
            )
        if not entries:
            self.journal.add({"side_px": side_px})
        done = self._count_whole(entries[1:], len(parts.pieces))
        self.journal.keep(1 + done)
        decision, report = self._try_sample(sampled)
        for number in range(done, len(parts.pieces)):
            self._make(number, parts.pieces, decision)
        described = job.source.describe(sampled.sample)
        report = self._combine(report, entries[1:])
        files = [self.folder / str(entry["file"]) for entry in entries[1:]]
        extras = make_extras(described, job.target, job.output.suffix, facts_of(report), self.options.keep_gps)
        joined = Joined(files, parts.across, job.target)
        join(joined, self.folder, job.output, replace(extras, dpi=described.dpi), self.options.export, self._stage("join"))
        sync(job.output.parent)
        self.journal.close()
        discard_parts(self.folder, _PART_FILES)
        return report

    def _count_whole(self, entries: Sequence[dict[str, Any]], pieces: int) -> int:
        """How many pieces are finished."""
        for count, entry in enumerate(entries[:pieces]):
            path = self.folder / str(entry.get("file", ""))
            if not path.is_file() or path.stat().st_size != entry.get("bytes"):
                return count
        return min(len(entries), pieces)

    def _stage(self, stage: str, within: tuple[float, float] = (0.0, 1.0), told: str = "") -> Callable[[int, int], None]:
        start, stop = _STAGES[stage]

        def report(done: int, total: int) -> None:
            share = within[0] + (within[1] - within[0]) * done / max(1, total)
            if self.progress:
                self.progress(told or stage, round(_UNITS * (start + (stop - start) * share)), _UNITS)

        return report

    def _try_sample(self, sampled: Sampled) -> tuple[Decision, Report]:
        """Enlarges the sample, whose report begins that of the whole."""
        decision = with_thresholds(sampled.decision, sampled.sample, self.session)
        made = self.session.carry_out(sampled.sample, decision)
        self._stage("decide")(1, 1)
        return decision, Report.of(made, self.session.settings, self.session.compute)

    def _make(self, number: int, pieces: Sequence[Piece], decision: Decision) -> None:
        """Enlarges a piece, writes it, and notes it."""
        piece, count, job = pieces[number], len(pieces), self.job
        within = (number / count, (number + 1) / count)
        part = self._stage("pieces", within, f"piece {number + 1} of {count}")

        def report_part(_stage: str, done: int, total: int) -> None:
            part(done, total)

        image = job.source.read(piece.wide_rows, piece.wide_columns)
        made = self.session.carry_out(image, decision_for(piece, decision, job.scale), report_part)
        rows, columns = piece.core(job.scale)
        path = self.folder / f"piece-{number + 1:06}.tif"
        write_piece(path, made.rows.read(rows)[..., columns], job.bits)
        sync(path)
        report = Report.of(made, self.session.settings, self.session.compute)
        facts = {
            "file": path.name,
            "bytes": path.stat().st_size,
            "pixels": piece.pixels,
            "drift": asdict(report.drift),
            "sharpness_ratio": report.sharpness_ratio,
            "overshoot_percent": report.overshoot_percent,
            "gate": asdict(report.gate),
            "passes": [asdict(one) for one in report.passes],
            "notes": list(made.notes),
            "seconds": report.seconds,
        }
        self.journal.add(facts)

    def _combine(self, report: Report, entries: Sequence[dict[str, Any]]) -> Report:
        """The report of the whole, from that of the sample and what was noted of the pieces."""
        job = self.job
        weights = [float(entry["pixels"]) for entry in entries]

        def mean(values: Iterable[float]) -> float:
            return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)

        def combine(drifts: Sequence[dict[str, float]]) -> Drift:
            largest = (max(one[name] for one in drifts) for name in ("p99", "max"))
            return Drift(mean(one["mean"] for one in drifts), *largest)

        gates = [entry["gate"] for entry in entries]
        gate = report.gate
        if all(one["after"] for one in gates):
            gate = GateReport(
                max((one["action"] for one in gates), key=_ACTIONS.index),
                all(one["passed"] for one in gates),
                gate.mean_limit,
                gate.max_limit,
                combine([one["before"] for one in gates]),
                combine([one["after"] for one in gates]),
                mean(one["blended_share"] for one in gates),
                gate.reference,
            )
        count = len(entries)
        notes = dict.fromkeys(note for entry in entries for note in entry["notes"])
        return replace(
            report,
            drift=DriftReport(*(combine([entry["drift"][band] for entry in entries]) for band in ("color", "full", "held"))),
            sharpness_ratio=mean(entry["sharpness_ratio"] for entry in entries),
            overshoot_percent=mean(entry["overshoot_percent"] for entry in entries),
            gate=gate,
            passes=_add_up([one for entry in entries for one in entry["passes"]]),
            switched=(*report.switched, *(note for note in notes if note not in report.switched)),
            seconds=sum(entry["seconds"] for entry in entries),
            peak_memory_bytes=peak_memory_bytes(),
            input=report_input(job.source.path, job.source.size, (f"enlarged in {count} piece{'s' if count > 1 else ''}",)),
            output=report_output(job.output, job.target, job.bits),
        )


_ACTIONS = ("off", "pass", "report", "blend", "reject")
"""What a gate does, the gravest last."""


def _add_up(passes: Sequence[dict[str, Any]]) -> tuple[Pass, ...]:
    """The same steps of all pieces as one, with the time of all."""
    found: dict[tuple[str, str | None], Pass] = {}
    for facts in passes:
        tile = facts["tile"] and (int(facts["tile"][0]), int(facts["tile"][1]))
        one = Pass(**{name: value for name, value in facts.items() if name != "tile"}, tile=tile)
        before = found.get((one.kind, one.model))
        found[one.kind, one.model] = replace(one, seconds=one.seconds + before.seconds) if before else one
    return tuple(found.values())
