"""Which dead letters are meant: the flags of `pointsman dlq`, read and checked. I/O: the clock, through its callers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from console.cli.failures import NotFoundError, UsageError
from schemas.codes import ErrorCode
from schemas.nearest import suggest
from schemas.reasons import DeadReason
from streams.transport.dead_topic import Letter

_ID = re.compile(r"(\d{1,9}):(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of a letter; empty and None ask nothing. Times and offsets are those of the dead topic."""

    topics: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    tenant: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    partition: int | None = None
    offset_from: int | None = None
    offset_to: int | None = None
    redriven: bool | None = None

    @property
    def asks_nothing(self) -> bool:
        return self == Selection(redriven=self.redriven)

    def starts(self, starts: dict[int, int]) -> dict[int, int]:
        """Where reading begins, of what is there."""
        wanted = starts if self.partition is None else {n: at for n, at in starts.items() if n == self.partition}
        return wanted if self.offset_from is None else {n: max(at, self.offset_from) for n, at in wanted.items()}

    def takes(self, letter: Letter, *, is_redriven: bool) -> bool:
        """Whether the letter is meant, but for its tenant, for which it has to be decoded."""
        origin = letter.said.origin
        return (
            (not self.topics or (origin is not None and origin.topic in self.topics))
            and (not self.reasons or letter.said.reason in self.reasons)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
            and (self.offset_from is None or letter.offset >= self.offset_from)
            and (self.offset_to is None or letter.offset <= self.offset_to)
            and (self.redriven is None or self.redriven == is_redriven)
        )


def id_of(text: str) -> tuple[int, int]:
    """Partition and offset of a letter. Raises UsageError."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{text} is no id of a dead letter: it is PARTITION:OFFSET, as `pointsman dlq list` prints it.",
            code=ErrorCode.COMMAND_LINE,
        )
    return int(found[1]), int(found[2])


def topics_of(given: Sequence[str], prefix: str, known: Sequence[str]) -> frozenset[str]:
    """Topics by their names, with or without the prefix; one that left the topology is taken as it is written."""
    return frozenset(f"{prefix}{name}" if f"{prefix}{name}" in known else name for name in given)


def reasons_of(given: Sequence[str]) -> frozenset[str]:
    """Reasons in any case. Raises UsageError for one that nothing is put away for."""
    known = [reason.value for reason in DeadReason]
    for text in given:
        if text.upper() not in known:
            raise UsageError(f"--reason {text} is none{suggest(text.upper(), known)}", code=ErrorCode.FLAG_VALUE)
    return frozenset(text.upper() for text in given)


def no_letter(text: str, name: str) -> NotFoundError:
    return NotFoundError(
        f"{name} holds no dead letter {text}. It may have outlived its retention; `pointsman dlq list` shows the ids "
        "that there are.",
        code=ErrorCode.NO_LETTER,
    )
