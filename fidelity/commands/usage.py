"""Usage errors, and interruptions, in one line."""

import re
import sys
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

_WANTED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
}
"""What is wanted of a value, by pydantic's names of errors and with their details."""


_ALIASES = {("--domain", "anime"): "anime_sd"}
"""Values of options that people try, with what they are taken for."""


class PlainGroup(TyperGroup):
    """Subcommands whose options are refused in the words of this command, not in those of the library that checks them.

    Where a command does not say that it was interrupted, as while it imports the engine, this does.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments; see `_ALIASES`."""
        for place, (before, after) in enumerate(pairwise(["", *args])):
            option, equals, value = after.partition("=")
            args[place] = _ALIASES.get((before, after), after)
            if (option, value) in _ALIASES:
                args[place] = f"{option}{equals}{_ALIASES[option, value]}"
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the subcommand."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            reword(error)
            raise
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            raise typer.Exit(130) from None


def reword(error: Any) -> None:
    """Says of a refused option what was seen and what was wanted; leaves what other versions of Typer say as it is."""
    failure: Any = error.__cause__
    if error.param is None or not hasattr(failure, "errors"):
        return
    first = failure.errors()[0]
    wanted = _WANTED.get(first["type"], "").format(**first.get("ctx", {})) or _list_choices(first["msg"])
    if wanted:
        seen = first["input"] if first["type"].endswith("_equal") else repr(first["input"])
        error.message = f"{max(error.param.opts, key=len)} is {seen}; wanted {wanted}"
        error.param = error.param_hint = None


def _list_choices(message: str) -> str:
    """The choices that a message names, as in "'x' is not one of 'a', 'b'."; empty if it names none."""
    _, found, choices = message.partition(" is not one of ")
    return ", ".join(re.findall(r"'([^']*)'", choices)) if found else ""
