"""The `fidelity` command. Exit codes: 0 success, 1 something was refused, 2 wrong usage, 130 interrupted.

Help and usage errors load no engine: each subcommand imports what it needs when it runs.
"""

import faulthandler
import io
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import Annotated

try:
    import typer

    from .commands.batch import batch_command
    from .commands.classify import classify_command
    from .commands.compare import compare_command
    from .commands.measure import measure_command
    from .commands.models import accelerate_command, doctor_command, models_app
    from .commands.plan import plan_command
    from .commands.queue import queue_command
    from .commands.terminal import lost_output
    from .commands.ui import ui_command
    from .commands.upscale import upscale_command
    from .commands.usage import PlainGroup
    from .commands.video import video_command
except ModuleNotFoundError as error:  # inside ComfyUI, the pack does not install these
    raise SystemExit(
        f"{error.name} is missing; to use the command, run in the pack's folder: pip install '.[standalone]'"
    ) from error
except KeyboardInterrupt:  # while these are imported
    print("interrupted", file=sys.stderr)
    raise SystemExit(130) from None

from . import __version__

app = typer.Typer(
    cls=PlainGroup,
    help="Upscale images and preserve their colors, with measurements to prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples:\n\n"
    "fidelity upscale photo.jpg -o photo-4x.png\n\n"
    "fidelity upscale photos/ -o out/ --preset 4k\n\n"
    "fidelity video clip.mp4 -o clip-2x.mp4\n\n"
    "Run fidelity COMMAND --help for all of its options.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fidelity {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected failure.")] = False,
) -> None:
    if debug:
        logging.basicConfig()
        logging.getLogger("fidelity").setLevel(logging.DEBUG)


app.command("upscale")(upscale_command)
app.command("batch")(batch_command)
app.command("video")(video_command)
app.command("classify")(classify_command)
app.command("measure")(measure_command)
app.command("compare")(compare_command)
app.command("plan")(plan_command)
app.add_typer(models_app, name="models")
app.command("accelerate")(accelerate_command)
app.command("doctor")(doctor_command)
app.command("queue")(queue_command)
app.command("ui")(ui_command)


def _hush_libraries() -> None:
    """Keeps what libraries in C print by themselves, such as libtiff on a damaged file, from the terminal.

    They write to the file descriptor; Python's own stream gets another one. With --debug their messages are shown.
    """
    if "--debug" in sys.argv:
        return
    with suppress(OSError, AttributeError):  # there is no such stream, or it is not a file's
        own = os.dup(sys.stderr.fileno())
        sys.stderr = os.fdopen(own, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, _STDERR)
        os.close(silence)
        faulthandler.enable(sys.stderr)  # a crash is still told


_STDERR = 2


def main() -> None:
    """Runs the command; escapes characters that the terminal cannot show."""
    _hush_libraries()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    try:
        app()
    finally:
        if lost_output:
            raise SystemExit(1)
