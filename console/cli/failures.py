"""What an error means to the caller of a command: its exit code and its words.

I/O: none.
"""

from __future__ import annotations

import errno
from enum import IntEnum

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, InvalidTasksError, PointsmanError, TopologyError, UnreachableError

# What a person has to put right before it can work: no such folder, a file in its place, no right to write there.
WRONG_PLACES = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS),
        *(errno.ENAMETOOLONG, errno.ELOOP),
    }
)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ExitCode(IntEnum):
    """Documented in docs/commands.md; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    INVALID = 5
    BREACHED = 99
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


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether somebody pressed Ctrl-C. Python 3.11 gives a RuntimeError where that fell into the making of a class."""
    return isinstance(error, KeyboardInterrupt) or (error is not None and _is_interrupt(error.__cause__))


def exit_code(error: BaseException) -> ExitCode:
    """The code for an error that reached the top."""
    if _is_interrupt(error):
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
    if isinstance(error, OSError) and error.errno in WRONG_PLACES:
        return ExitCode.INVALID
    return ExitCode.FAILED


def explain(error: BaseException) -> str:
    """What failed, in words meant for a person, and the code that `pointsman explain` takes.

    Ours say the reason and the next command themselves.
    """
    if isinstance(error, TopologyError):
        return str(error)  # each of its lines has a code of its own
    if isinstance(error, PointsmanError):
        return with_code(str(error), error.error_code)
    if _is_interrupt(error):
        return "Interrupted."
    if isinstance(error, OSError) and error.filename is not None:
        return _of_a_file(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return with_code(f"Cannot write: {error.strerror}.", ErrorCode.NO_ROOM)
    name, text = type(error).__name__, str(error).strip()
    said = f"Unexpected {name}: {text or 'no details'}. Run it again with `pointsman --debug ...` to see where."
    return with_code(said, ErrorCode.UNEXPECTED)


def with_code(text: str, code: ErrorCode) -> str:
    """The code at the end of a line; below a text of several lines, whose last one may be of a log."""
    return f"{text}\n[{code}]" if "\n" in text else f"{text} [{code}]"


def _of_a_file(error: OSError) -> str:
    """A file or a folder that cannot be used as it must be."""
    said = f"Cannot use {error.filename}: {error.strerror}."
    if error.errno in FULL:
        return with_code(f"{said} Make room there, or name another place.", ErrorCode.NO_ROOM)
    code = ErrorCode.PLACE if error.errno in WRONG_PLACES else ErrorCode.UNEXPECTED
    return with_code(f"{said} Name another place, or put this one right.", code)
