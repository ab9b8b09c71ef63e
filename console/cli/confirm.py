"""The question before something is done that somebody should have looked at.

I/O: standard input or what stands for it, stderr.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from console.cli.failures import UsageError
from console.cli.output import Output
from schemas.codes import ErrorCode


def confirm(
    question: str, *, nobody: str, no: str, out: Output, answers: TextIO, show: Callable[[], None] = lambda: None
) -> None:
    """Shows what it is about and asks. Raises UsageError unless somebody says yes.

    `nobody` is said where nobody can be asked, and then nothing is shown; `no` where the answer is no.
    """
    if not answers.isatty():
        raise UsageError(nobody, code=ErrorCode.NOT_CONFIRMED)
    show()
    print(f"{question} [y/N] ", end="", file=out.err, flush=True)
    if answers.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(no, code=ErrorCode.NOT_CONFIRMED)
