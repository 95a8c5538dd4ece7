"""`fidelity models`, `fidelity models get`, `fidelity accelerate` and `fidelity doctor`."""

import json
from functools import partial
from typing import Annotated

import typer

from ..errors import RefusedError
from . import options
from .terminal import as_usage, refusing, say, say_line, show_progress

models_app = typer.Typer(help="List the installed models, or get one.", invoke_without_command=True)


@models_app.callback()
def models_command(context: typer.Context, models_dir: options.ModelsDir = None, as_json: options.Json = False) -> None:
    """List the installed models, with details and the domains that use each by default; or get one."""
    if context.invoked_subcommand:
        return
    from ..report.inventory import describe_download, describe_model, inspect_models, list_missing, report_models

    models = options.find_models(models_dir)
    found = inspect_models(models)
    if as_json:
        say(json.dumps(report_models(found), indent=2))
        return
    for model in found:
        say_line(describe_model(model))
    missing = list_missing(models)
    if missing:
        say("\nNot installed; fidelity models get NAME downloads it:")
    for one in missing:
        say(describe_download(one))


@models_app.command("get")
def get_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Models to get, as `fidelity models` names them.")],
    models_dir: options.NewModelsDir = None,
) -> None:
    """Get well-known models: download, check and store them."""
    from ..fetch import fetch_model
    from ..networks.loader import models_folder

    failures = 0
    for name in names:
        with refusing() as refused:
            with show_progress() as bar:
                progress = partial(bar, name) if bar else None
                path = fetch_model(name, models_dir or models_folder(), progress)
            say(f"{name}: {path}")
        failures += len(refused)
    if failures:
        raise typer.Exit(1)


def accelerate_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Models, by name or file.")],
    models_dir: options.ModelsDir = None,
    precision: options.PrecisionOption = "auto",
    device: options.Device = "auto",
) -> None:
    """Convert models for OpenVINO, ONNX Runtime and TensorRT, measure which is fastest here, and use it from then on."""
    from ..networks.backends.torch import TorchNetwork
    from ..networks.cache import NETWORKS
    from ..networks.device import choose_device
    from ..networks.loader import find_model
    from ..networks.speed import accelerate

    failures = 0
    models = options.find_models(models_dir)
    place = as_usage(lambda: choose_device(device))
    for name in names:
        with refusing() as refused:
            network = NETWORKS.load(find_model(name, models))
            if not isinstance(network, TorchNetwork):
                raise RefusedError(f"{network.name}: runs with {network.backend} only; wanted a network for PyTorch")
            with show_progress() as bar:
                made = accelerate(network, place, precision, partial(bar, network.name) if bar else None)
            speeds = ", ".join(f"{one.backend} ({one.precision}) {one.seconds:.2f}" for one in made.speeds)
            say(f"{made.name}: {speeds} seconds per megapixel of input; uses {made.chosen}")
            for reason in made.refusals:
                say(f"  {reason}")
        failures += len(refused)
    if failures:
        raise typer.Exit(1)


def doctor_command(as_json: options.Json = False) -> None:
    """Show what hardware and software this machine has, what is used, and why."""
    from ..report.inventory import describe_machine, examine_machine

    report = examine_machine()
    say(json.dumps(report, indent=2) if as_json else describe_machine(report))
