"""`fidelity plan`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import RefusedError
from . import options
from .terminal import as_usage, refusing, say


def plan_command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="An image file.")],
    size: options.Size = None,
    fit: options.Fit = None,
    scale: options.Scale = None,
    long_edge: options.LongEdge = None,
    megapixels: options.Megapixels = None,
    preset: options.Preset = None,
    print_size: options.PrintSheet = None,
    memory: options.Memory = None,
    domain: options.DomainOption = "auto",
    model: options.ModelName = "auto",
    models_dir: options.ModelsDir = None,
    restore: options.Restore = "auto",
    passes: options.Passes = "auto",
    device: options.Device = "auto",
    precision: options.PrecisionOption = "auto",
    backend: options.Backend = "auto",
    as_json: options.Json = False,
) -> None:
    """Show how an image would be enlarged, without doing it: passes, models, memory and time."""
    from ..decide.settings import Settings
    from ..files.metadata import read_provenance
    from ..files.paths import VIDEO_SUFFIXES
    from ..files.read import read_image
    from ..forecast import forecast
    from ..job import FileOptions
    from ..large.job import needs_pieces, prepare_large
    from ..large.plan import plan_large
    from ..report.report import PlanReport, to_json
    from ..report.text import describe_plan
    from ..session import Session

    target = as_usage(lambda: options.read_target(scale, size, long_edge, megapixels, print_size, preset, fit))
    compute = as_usage(lambda: options.read_compute(device, precision, "auto", memory, backend))
    what, strength = as_usage(lambda: options.read_restore(restore))
    with refusing(source) as refused:
        if source.suffix.lower() in VIDEO_SUFFIXES and source.is_file():
            wanted = f"fidelity video {source} -o OUT --dry-run"
            raise RefusedError(f"{source}: is a video; its size, model and time are told by: {wanted}")
        settings = Settings(target, domain, model, restore=what, passes=passes, restore_strength=strength)
        session = Session(settings, compute, options.find_models(models_dir))
        output = source.with_name(f"{source.stem}-large.tif")
        if needs_pieces(source, output, session, FileOptions()):
            plan = plan_large(prepare_large(source, output, session, FileOptions(existing="rename")), session, starts=True)
        else:
            image = read_image(source).image
            decision = session.decide(image, read_provenance(source), writer_bytes_per_pixel=0.0)
            plan = PlanReport.of(decision, forecast(decision, compute, image.shape[1], starts=True))
        say(json.dumps(to_json(plan), indent=2) if as_json else describe_plan(plan))
    if refused:
        raise typer.Exit(1)
