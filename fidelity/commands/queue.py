"""`fidelity queue`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RefusedError
from .terminal import refusing, show_progress

if TYPE_CHECKING:
    from ..comfy.client import Result


def queue_command(
    workflow: Annotated[Path, typer.Argument(metavar="WORKFLOW.json", help="As the editor saves it, or exported for the API.")],
    server: Annotated[str, typer.Option(metavar="URL", help="Where ComfyUI listens.")],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where results go.")],
    image: Annotated[
        list[Path] | None, typer.Option(help="Uploaded and put into the nodes that load one, in order of their numbers.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE.INPUT=VALUE", help="The node by number, title or kind."),
    ] = None,
) -> None:
    """Run a workflow on a ComfyUI server and fetch what it makes."""
    from ..comfy.client import ComfyClient
    from ..comfy.graphs import set_input, set_pictures, to_prompt

    with refusing(workflow) as refused, show_progress() as progress:
        client = ComfyClient(server)
        prompt = to_prompt(_read(workflow), client.known_nodes())
        for one in change or ():
            set_input(prompt, one)
        set_pictures(prompt, [client.upload(path) for path in image or ()])
        queued = client.queue(prompt)
        try:
            results = client.wait(queued, prompt, progress)
        except KeyboardInterrupt:
            client.cancel(queued)
            raise RefusedError("was cancelled") from None
        for result in _choose(results):
            print(client.download(result, out))
    if refused:
        raise typer.Exit(1)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RefusedError(f"{path}: no such file") from error
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RefusedError(f"{path}: is no JSON; wanted a ComfyUI workflow") from error


def _choose(results: "list[Result]") -> "list[Result]":
    """What was saved; what was only shown if nothing was.

    Raises:
        RefusedError: If there is neither.
    """
    saved = [result for result in results if result.kind == "output"]
    if not (saved or results):
        raise RefusedError("made no files; wanted a node that saves or shows some")
    return saved or results
