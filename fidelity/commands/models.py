"""`fidelity models`, `fidelity models get` and `fidelity doctor`."""

import json
from functools import partial
from typing import Annotated

import typer

from . import options
from .terminal import refusing, show_progress

models_app = typer.Typer(help="List the installed networks, or get one.", invoke_without_command=True)


@models_app.callback()
def models_command(context: typer.Context, models_dir: options.ModelsDir = None, as_json: options.Json = False) -> None:
    """List the installed networks, with details and the domains that use each by default; or get one."""
    if context.invoked_subcommand:
        return
    from ..report.inventory import describe_download, describe_model, inspect_models, list_missing, report_models

    models = options.find_models(models_dir)
    found = inspect_models(models)
    if as_json:
        print(json.dumps(report_models(found), indent=2))
        return
    for model in found:
        print(describe_model(model), flush=True)
    missing = list_missing(models)
    if missing:
        print("\nNot installed; fidelity models get NAME downloads it:")
    for one in missing:
        print(describe_download(one))


@models_app.command("get")
def get_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Networks to get, as `fidelity models` names them.")],
    models_dir: options.NewModelsDir = None,
) -> None:
    """Get well-known networks: download, check and store them."""
    from ..fetch import fetch_model
    from ..networks.loader import models_folder

    failures = 0
    for name in names:
        with refusing() as refused:
            with show_progress() as bar:
                progress = partial(bar, name) if bar else None
                path = fetch_model(name, models_dir or models_folder(), progress)
            print(f"{name}: {path}", flush=True)
        failures += len(refused)
    if failures:
        raise typer.Exit(1)


def doctor_command(as_json: options.Json = False) -> None:
    """Show what hardware and software this machine has, what is used, and why."""
    from ..report.inventory import describe_machine, examine_machine

    report = examine_machine()
    print(json.dumps(report, indent=2) if as_json else describe_machine(report))
