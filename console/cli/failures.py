"""What an error means to the caller of a command: its exit code and its words.

I/O: none.
"""

from __future__ import annotations

from enum import IntEnum

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, InvalidTasksError, PointsmanError, TopologyError, UnreachableError


class ExitCode(IntEnum):
    """Documented in the README; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    INVALID = 5
    INTERRUPTED = 130


class UsageError(PointsmanError):
    """The command line asks for something that cannot be meant."""

    error_code = ErrorCode.COMMAND_LINE


class NotFoundError(PointsmanError):
    """What was asked for does not exist."""

    error_code = ErrorCode.NOT_FOUND


class InvalidInputError(PointsmanError):
    """A file of the user's does not say what it should."""

    error_code = ErrorCode.TASK_FILE


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that reached the top."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    for kind, code in (
        (UsageError, ExitCode.USAGE),
        (UnreachableError, ExitCode.UNREACHABLE),
        (NotFoundError, ExitCode.NOT_FOUND),
        (ConfigurationError, ExitCode.INVALID),
        (InvalidInputError, ExitCode.INVALID),
        (InvalidTasksError, ExitCode.INVALID),
    ):
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def explain(error: BaseException) -> str:
    """What failed, in words meant for a person, and the code that `pointsman explain` takes.

    Ours say the reason and the next command themselves.
    """
    if isinstance(error, TopologyError):
        return str(error)  # each of its lines has a code of its own
    if isinstance(error, PointsmanError):
        return with_code(str(error), error.error_code)
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    name, text = type(error).__name__, str(error).strip()
    said = f"Unexpected {name}: {text or 'no details'}. Run it again with `pointsman --debug ...` to see where."
    return with_code(said, ErrorCode.UNEXPECTED)


def with_code(text: str, code: ErrorCode) -> str:
    """The code at the end of a line; below a text of several lines, whose last one may be of a log."""
    return f"{text}\n[{code}]" if "\n" in text else f"{text} [{code}]"
