"""`fidelity models` and `fidelity doctor`."""

import json

from . import options


def models_command(models_dir: options.ModelsDir = None, as_json: options.Json = False) -> None:
    """List the installed networks, with details and the domains that use each by default."""
    from ..networks.loader import list_models
    from ..report.inventory import describe_model, inspect_models, report_models

    found = inspect_models(list_models([models_dir] if models_dir else []))
    if as_json:
        print(json.dumps(report_models(found), indent=2))
        return
    for model in found:
        print(describe_model(model), flush=True)


def doctor_command(as_json: options.Json = False) -> None:
    """Show what hardware and software this machine has, what is used, and why."""
    from ..report.inventory import describe_machine, examine_machine

    report = examine_machine()
    print(json.dumps(report, indent=2) if as_json else describe_machine(report))
