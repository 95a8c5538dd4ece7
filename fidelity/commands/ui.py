"""`fidelity ui`."""

import webbrowser
from typing import Annotated
from urllib.parse import urlencode

import typer

from ..errors import RefusedError
from .terminal import refusing, say_line

_NODE = "FidelityAutoUpscale"


def ui_command(
    server: Annotated[str, typer.Option(metavar="URL", help="URL of the ComfyUI server.")] = "http://127.0.0.1:8188",
    template: Annotated[str, typer.Option(metavar="NAME", help="The workflow to open.")] = "auto",
) -> None:
    """Open a running ComfyUI in the browser, with one of this pack's workflows."""
    from ..comfy.client import ComfyClient

    with refusing() as refused:
        try:
            known = ComfyClient(server).known_nodes()
        except RefusedError as error:
            raise RefusedError(f"{error}; wanted ComfyUI started, or its address with --server") from error
        if _NODE not in known:
            raise RefusedError(f"{server}: has no Fidelity Upscale; install it there from the Manager, and restart ComfyUI")
        pack = str(known[_NODE].get("python_module", "")).rpartition(".")[2]
        address = f"{server.rstrip('/')}/?{urlencode({'template': template, 'source': pack})}"
        say_line(address)
        if not webbrowser.open(address):
            raise RefusedError("no browser found; wanted the address above opened in one")
    if refused:
        raise typer.Exit(1)
