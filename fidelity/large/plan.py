"""What enlarging a picture in pieces will take: time, memory and room on the disk."""

from dataclasses import replace

from ..forecast import forecast
from ..report.report import Forecast, PlanReport, SizeReport
from ..session import Session
from .job import LargeJob, cut_for, decide_large


def plan_large(job: LargeJob, session: Session, starts: bool = False) -> PlanReport:
    """Plans a picture by its most telling part, which alone is read.

    Args:
        job: From `prepare_large`.
        session: Settings, networks and compute.
        starts: Whether the time that this process has taken so far counts, since another one will do the same.

    Raises:
        RefusedError: If a network is refused.
    """
    sampled = decide_large(job, session)
    decision, plan = sampled.decision, sampled.decision.planned.plan
    parts = cut_for(job, sampled.side_px)
    expected = forecast(decision, session.compute, job.source.channels, starts)
    sampled_pixels = plan.source[0] * plan.source[1]
    sizes = [piece.wide_size for piece in parts.pieces]
    times = sum(height * width for height, width in sizes) / sampled_pixels
    scaled = Forecast(
        tuple(times * one for one in expected.network_seconds),
        times * expected.step_seconds,
        expected.start_seconds,
        expected.process_bytes,
    )
    largest = max(sizes, key=lambda size: size[0] * size[1])
    report = PlanReport.of(decision, scaled)
    passes = (
        replace(one, source=_grown(one.source, plan.source, job), result=_grown(one.result, plan.source, job))
        for one in report.passes
    )
    share = largest[0] * largest[1] / sampled_pixels
    height, width = largest
    return replace(
        report,
        source=SizeReport.of(job.source.size),
        target=SizeReport.of(job.target),
        passes=tuple(replace(one, peak_memory_bytes=round(share * one.peak_memory_bytes)) for one in passes),
        peak_memory_bytes=round(share * plan.peak_bytes) + expected.process_bytes,
        scratch_bytes=job.disk_bytes,
        notes=(*report.notes, f"in {len(sizes)} pieces of at most {width}x{height}; an interrupted run resumes"),
    )


def _grown(size: SizeReport, sample: tuple[int, int], job: LargeJob) -> SizeReport:
    """The size of the whole where the sample has that size."""
    height, width = job.source.size
    return SizeReport(round(size.width * width / sample[1]), round(size.height * height / sample[0]))
