"""`fidelity classify`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .terminal import refusing, say, say_line


def classify_command(
    inputs: options.Inputs,
    ignore_metadata: Annotated[bool, typer.Option(help="Use only the pixels.")] = False,
    recursive: options.Recursive = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, including the recipe.")] = False,
) -> None:
    """Show the domain of each image, with its confidence, the evidence, and the resulting recipe."""
    from ..decide.damage import measure_conditions
    from ..decide.domain import classify
    from ..decide.features import measure_patch_features
    from ..decide.recipes import RECIPES, settle
    from ..files.metadata import read_provenance
    from ..files.paths import find_images
    from ..files.read import read_image
    from ..report.report import DomainReport, settings_of, to_json

    verdicts: list[dict[str, Any]] = []
    failures = 0
    for path in inputs:
        files: list[Path] = []
        with refusing() as refused:
            files = find_images(path, recursive).files
        failures += len(refused)
        for source in files:
            with refusing(source) as refused:
                image = read_image(source).image
                texture = measure_patch_features(image)
                verdict = classify(image, None if ignore_metadata else read_provenance(source), texture)
                conditions = measure_conditions(image, texture)
                recipe, reasons = settle(RECIPES[verdict.recipe_domain], conditions)
                details = {"conditions": to_json(conditions), "recipe": settings_of(recipe), "switched": list(reasons)}
                verdicts.append({"path": str(source)} | to_json(DomainReport.of(verdict)) | details)
                if not as_json:
                    unsure = "" if verdict.is_sure else f"  (unsure, treated as {verdict.recipe_domain})"
                    why = "; ".join((*verdict.evidence, *reasons))
                    say_line(f"{source}  {verdict.label} {verdict.confidence:.2f}{unsure}  {why}")
            failures += len(refused)
    if as_json:
        say(json.dumps(verdicts, indent=2))
    if failures:
        raise typer.Exit(1)
