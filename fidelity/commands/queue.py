"""`fidelity queue`."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import RefusedError
from .terminal import refusing, say_line, show_progress

if TYPE_CHECKING:
    from ..comfy.client import Result


def queue_command(
    workflow: Annotated[
        Path, typer.Argument(metavar="WORKFLOW.json", help="A workflow as the editor saves it, or in API format.")
    ],
    server: Annotated[
        list[str], typer.Option(metavar="URL", help="URL of the ComfyUI server; with --each, several share the pictures.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")],
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Image to upload; each goes to the next image-loading node, in order of node number."),
    ] = None,
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="SOURCE", help="Run the workflow once for each picture: of a folder, a pattern, an archive."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE.INPUT=VALUE", help="Set an input; the node by number, title or type."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds to wait for the workflow.", show_default="no limit", min=0.1)
    ] = None,
) -> None:
    """Run a workflow on a ComfyUI server and download its results; with --each, on every picture of a batch."""
    if each and image:
        raise typer.BadParameter("--each and --image were given; wanted one of them", param_hint="--each")
    if each:
        _queue_each(workflow, server, out, each, change or [], timeout)
        return
    if len(server) > 1:
        raise typer.BadParameter(f"{len(server)} servers for one run; wanted one, or --each", param_hint="--server")
    from ..comfy.client import ComfyClient, ServerError
    from ..comfy.graphs import set_input, set_pictures, to_prompt
    from ..files.paths import check_folder

    failures = 0
    with refusing(workflow) as refused, show_progress() as progress:
        check_folder(out / "result.png")
        client = ComfyClient(server[0])
        prompt = to_prompt(_read(workflow), client.known_nodes())
        for one in change or ():
            set_input(prompt, one)
        set_pictures(prompt, [client.upload(path) for path in image or ()])
        queued = client.queue(prompt)
        try:
            results = client.wait(queued, prompt, progress, timeout)
        except KeyboardInterrupt:
            with suppress(ServerError):  # a server that does not answer is a usual reason for Ctrl-C
                client.cancel(queued)
            say_line("interrupted; the run is canceled")
            raise typer.Exit(130) from None
        for result in _choose(results):
            with refusing() as lost:
                say_line(str(client.download(result, out)))
            failures += len(lost)
    if refused or failures:
        raise typer.Exit(1)


def _queue_each(
    workflow: Path, servers: list[str], out: Path, each: list[str], changes: list[str], timeout: float | None
) -> None:
    from ..batch.pages import write_page
    from ..batch.servers import Flow, run_on_servers
    from ..batch.sources import find_items
    from ..files.paths import check_folder
    from .batch import tell_each_minute, tell_failure

    tally = None
    with refusing(workflow) as refused, show_progress() as bar, tell_each_minute(quiet=False) as line:
        check_folder(out / "result.png")
        found, progress = find_items(each, None, ".png", out), bar or line
        try:
            tally = run_on_servers(found.items, Flow(_read(workflow), changes, timeout), servers, out, progress, tell_failure)
        except KeyboardInterrupt:
            say_line(f"interrupted; what is finished is in {out}, and the same command resumes")
            raise typer.Exit(130) from None
    if tally:
        tally.other_files = found.other_files
        page = write_page(out, tally)
        say_line(f"{tally.summarize()}; report: {page}")
    if refused or (tally and tally.failed):
        raise typer.Exit(1)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RefusedError(f"{path}: no such file") from error
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RefusedError(f"{path}: is not JSON; wanted a ComfyUI workflow") from error


def _choose(results: "list[Result]") -> "list[Result]":
    """Returns the saved files, or the previews if nothing was saved.

    Raises:
        RefusedError: If there are no files at all.
    """
    saved = [result for result in results if result.kind == "output"]
    if not (saved or results):
        raise RefusedError("the workflow produced no files; wanted a node that saves or previews them")
    return saved or results
