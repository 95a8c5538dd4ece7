"""Shared by the subcommands: one-line refusals, usage errors, and a progress bar."""

import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import category

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..errors import RefusedError
from ..files.paths import FileRefusedError
from ..progress import describe_left

_errors = Console(stderr=True, highlight=False, soft_wrap=True)
_log = logging.getLogger("fidelity")

StageProgress = Callable[[str, int, int], None]
"""See `fidelity.session.StageProgress`, which is too slow to import here."""


def as_usage(make: Any) -> Any:
    """Turns the refusal of an option into a usage error, exit code 2."""
    try:
        return make()
    except RefusedError as error:
        raise typer.BadParameter(str(error)) from error


def say(text: str) -> None:
    """Prints text that may contain words of a file or its name: what would control the terminal is shown escaped."""
    try:
        print(_escape(text), flush=True)
    except OSError as error:  # the work goes on; what reads the output has ended, or its disk is full
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 until the process ends
        if not isinstance(error, BrokenPipeError):
            _refuse(f"standard output: cannot be written ({error.strerror})", lost_output)


def open_result(path: Path) -> None:
    """Opens a file or a folder with the system's program for it; without one, a line says so."""
    if typer.launch(str(path)) != 0:
        say_line(f"{path}: no program was found to open it with")


lost_output: list[str] = []
"""What was printed about output that could not be written."""


def say_line(text: str) -> None:
    """Prints text as one line, whatever the names of files in it contain."""
    say(text.replace("\n", "\\n"))


def _escape(text: str) -> str:
    return "".join(one if _is_safe(one) else one.encode("unicode_escape").decode() for one in text)


def _is_safe(character: str) -> bool:
    return character in "\n\t" or not (category(character) in _CONTROLS or character in _TURNING)


_CONTROLS = "Cc", "Cs"
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
"""Characters that reverse the text after them or end the line."""


@contextmanager
def refusing(source: Path | None = None) -> Generator[list[str], None, None]:
    """Prints a refusal as one line on stderr and collects it, so that the next image still runs."""
    refused: list[str] = []
    try:
        yield refused
    except (typer.Exit, typer.Abort, typer.BadParameter):  # not a failure: the command ends, and says why
        raise
    except RefusedError as error:
        line = str(error) or type(error).__name__
        names_file = isinstance(error, FileRefusedError)  # such as one that cannot be written
        if source is not None and not names_file and str(source) not in line:
            line = f"{source}: {line}"
        _refuse(line, refused)
    except Exception as error:  # a bug that one image triggers must not stop the others
        _log.debug("unexpected", exc_info=True)
        known = "" if _log.isEnabledFor(logging.DEBUG) else "; run fidelity --debug to see where"
        _refuse(f"{source or 'fidelity'}: failed unexpectedly ({type(error).__name__}: {error}){known}", refused)


def _refuse(message: str, refused: list[str]) -> None:
    refused.append(_escape(" ".join(message.split())))
    _errors.print(refused[-1], markup=False, emoji=False)


class _TimeLeft(ProgressColumn):
    """The time that the work may still take, unless what is done says so itself."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """As in "0:01:20 left"; empty as long as it is unknown."""
        seconds = task.time_remaining
        if task.finished or seconds is None or "left" in task.description:
            return Text()
        return Text(f"about {describe_left(seconds)}")


@contextmanager
def show_progress(first: str = "reading") -> Generator[StageProgress | None, None, None]:
    """A progress bar on a terminal, nothing in a pipe.

    Args:
        first: The stage that is shown until the work tells its own. One whose total is 0 shows no share and no time.
    """
    if not _errors.is_terminal:
        yield None
        return
    shown = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        _TimeLeft(),
    )
    with Progress(*shown, console=_errors, transient=True, redirect_stdout=False) as bars:
        bar = bars.add_task(first, total=None)
        task = bars.tasks[0]

        def show(stage: str, done: int, total: int) -> None:
            bars.update(bar, description=_escape(stage), completed=done, total=total or None)
            if not total:
                task.total = None  # which `update` leaves as it is

        yield show
