"""What is wrong with a command line, in words that say how to put it right.

I/O: none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from console.cli.failures import with_code
from schemas.codes import ErrorCode
from schemas.nearest import suggest

# Commands whose text is one argument.
ONE_TEXT = ("submit", "history")
# What scripts say to commands that ask, and by habit to others: a flag that looks like it is not what they mean.
YES = ("--yes", "-y")


def usage_fault(error: Any, words: Sequence[str]) -> str:
    """The lines for an exception of Typer's. No arguments at all, or a group's name alone, get the help text."""
    message = str(error.format_message())
    if message.startswith("Usage:"):
        return message
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "pointsman"
    return f"pointsman: {with_code(_clear(error, message, words), ErrorCode.COMMAND_LINE)}\nTry `{path} --help`."


def _clear(error: Any, message: str, words: Sequence[str]) -> str:
    # Typer says of a choice that the attempt to read it failed, and of what is missing nothing more than its name.
    # The choices for a missing argument come a line each.
    text = re.sub(r"\s*\n\s*", " ", re.sub(r"(?<=: )Value error, ", "", message)).strip().rstrip(".")
    if "No such option" in text and error.option_name in YES:
        return f"{text.partition(' (')[0]}; this command does not ask, so leave it out"
    options = getattr(error, "possibilities", None)
    if "No such option" in text and options:
        return f"{text.partition(' (')[0]}{suggest(error.option_name, options)}"
    if "unexpected extra argument" in text and words[0] in ONE_TEXT:
        return f'{text}; put a text of several words in quotes: pointsman {words[0]} "..."'
    return f"{text}." if text[-1] not in "?!" else text
