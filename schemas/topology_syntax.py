"""What a YAML parser's complaint means to a person, and where it is best mended.

I/O: none.
"""

from __future__ import annotations

from typing import NamedTuple

from ruamel.yaml.error import MarkedYAMLError, YAMLError

from schemas.codes import FaultCode
from schemas.errors import Fault


class _Advice(NamedTuple):
    """What to say of a problem, and whether the place to mend is where its context began, not where it was noticed."""

    problem: str
    hint: str
    at_context: bool = False


_ADVICE = (
    _Advice("mapping values are not allowed here", "is it indented right, and is text with a colon in quotes?"),
    _Advice(r"found character '\t'", "indent with spaces, not with tabs"),
    _Advice("that cannot start any token", "put text that starts with it in quotes"),
    _Advice("could not find expected ':'", "a colon and a space belong behind a key", at_context=True),
    _Advice("expected <block end>", "it is indented unlike its neighbours"),
    _Advice("expected ',' or", "the bracket that opened before it is not closed"),
    _Advice("found unexpected end of stream", "the quote that opens here is not closed", at_context=True),
    _Advice("but found '<stream end>'", "the file ends too early: is a bracket not closed?"),
    _Advice("unknown escape character", r"write \\ for a backslash, or use single quotes"),
)


def syntax_fault(error: YAMLError, text: str) -> Fault:
    """The fault of a text that is no YAML, without quoting it: its line may hold a secret."""
    if isinstance(error, MarkedYAMLError):
        problem = str(error.problem or error.context)
        advice = next((each for each in _ADVICE if each.problem in problem), None)
        marks = (error.problem_mark, error.context_mark)
        mark = next((each for each in (reversed(marks) if advice and advice.at_context else marks) if each), None)
        said = f"is not YAML: {problem}{f'; {advice.hint}' if advice else ''}"
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return Fault(FaultCode.NOT_YAML, "", said, *place)
    position = getattr(error, "position", None)
    if isinstance(position, int):
        character = getattr(error, "character", 0)
        code = ord(character) if isinstance(character, str) else int(character)
        return Fault(
            FaultCode.NOT_YAML, "", f"is not YAML: it holds the character U+{code:04X}", *place_of(text, position)
        )
    return Fault(FaultCode.NOT_YAML, "", f"is not YAML: {' '.join(str(error).split())}")


def place_of(text: str, position: int) -> tuple[int, int]:
    """Line and column, from 1, of the character at `position`, from 0."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
