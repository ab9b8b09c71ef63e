"""Redriving dead letters: who may go back, and the marker on the dead topic that says that one went.

A marker is a record without key and value in the partition of its letter, behind it: retention takes it later than the
letter, never earlier. Letter and marker are told apart by their headers. I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.deadletter import (
    ATTEMPT,
    OFFSET,
    PARTITION,
    TOPIC,
    DeadLetter,
    Headers,
    Origin,
    carried_headers,
    number_of,
    origin_of,
    texts_of,
)
from schemas.topics import Kind, Topics, TopicSpec

AT_MS = "pointsman.redriven.at_ms"
LETTER_OFFSET = "pointsman.redriven.letter_offset"
TO_OFFSET = "pointsman.redriven.to_offset"
CHANGED = "pointsman.redriven.changed"

DEADLINE = "deadline_ms"

# What is a state or a count of a moment that is over: written again, it would undo what came after it.
NOT_REPEATABLE: frozenset[Kind] = frozenset(
    {"breakers", "cards", "health", "dead", "pauses", "memory", "spilled", "snapshots"}
)


class Refusal(StrEnum):
    """Why a dead letter is not redriven."""

    NO_ORIGIN = "NO_ORIGIN"
    FOREIGN_TOPIC = "FOREIGN_TOPIC"
    NO_PARTITION = "NO_PARTITION"
    OUTDATED = "OUTDATED"
    LEFT_OUT = "LEFT_OUT"
    REDRIVEN = "REDRIVEN"
    LOOP = "LOOP"
    STILL_INVALID = "STILL_INVALID"
    HAS_RESULT = "HAS_RESULT"


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a marker says: the record of `origin`, put away `attempt` times, stands at `to_offset` there again.

    `to_offset` is -1 where the marker does not say. `changed` names the field of the record that is not as it was.
    """

    origin: Origin
    letter_offset: int
    to_offset: int
    attempt: int
    at_ms: int
    changed: str = ""


def marker_headers(redriven: Redriven) -> Headers:
    """Headers of the marker of a letter."""
    origin = redriven.origin
    texts = (
        (TOPIC, origin.topic),
        (PARTITION, str(origin.partition)),
        (OFFSET, str(origin.offset)),
        (AT_MS, str(redriven.at_ms)),
        (LETTER_OFFSET, str(redriven.letter_offset)),
        (TO_OFFSET, str(redriven.to_offset)),
        (ATTEMPT, str(redriven.attempt)),
        (CHANGED, redriven.changed),
    )
    return [(name, text.encode("utf-8", "replace")) for name, text in texts]


def parse_marker(given: Iterable[tuple[str, bytes | None]]) -> Redriven | None:
    """What a marker says; None where the record is no marker. Never raises, for anybody can write to the topic."""
    texts = texts_of(given)
    at_ms, origin = number_of(texts, AT_MS), origin_of(texts)
    if at_ms is None or origin is None:
        return None
    letter, to, attempt = (number_of(texts, name) for name in (LETTER_OFFSET, TO_OFFSET, ATTEMPT))
    return Redriven(
        origin._replace(appended_ms=-1),
        -1 if letter is None else letter,
        -1 if to is None else to,
        1 if attempt is None else attempt,
        at_ms,
        texts.get(CHANGED, ""),
    )


def is_marker(given: Iterable[tuple[str, bytes | None]]) -> bool:
    """Whether a record on the dead topic is a marker and no letter."""
    return parse_marker(given) is not None


def redriven_headers(own: Iterable[tuple[str, bytes | None]], attempt: int) -> Headers:
    """Headers of the record that goes back: its own, and how often it was put away."""
    return [*carried_headers(own), (ATTEMPT, str(attempt).encode())]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of letters that go back. `redrives_max`: how often one may come back and be sent again."""

    specs: Mapping[str, TopicSpec]
    redrives_max: int
    force: bool = False
    again: bool = False

    @classmethod
    def of(cls, topics: Topics, redrives_max: int, *, force: bool = False, again: bool = False) -> Rules:
        return cls({spec.name: spec for spec in topics.specs()}, redrives_max, force, again)

    def refusal(self, letter: DeadLetter, *, is_redriven: bool) -> tuple[Refusal, str] | None:
        """Why this letter does not go back, with words for a person; None where nothing speaks against it.

        `force` overrules the loop guard alone, `again` that it went back before.
        """
        origin = letter.origin
        if origin is None:
            return Refusal.NO_ORIGIN, "its headers name no origin: somebody else wrote it to the dead topic"
        if is_redriven and not self.again:
            return Refusal.REDRIVEN, "it was redriven before"
        return self._of_place(origin) or self._of_record(letter)

    def _of_place(self, origin: Origin) -> tuple[Refusal, str] | None:
        spec = self.specs.get(origin.topic)
        if spec is None:
            return Refusal.FOREIGN_TOPIC, f"{origin.topic} is no topic of this topology"
        if spec.kind in NOT_REPEATABLE:
            return Refusal.OUTDATED, f"records of {origin.topic} say how things were: written again, they would undo"
        if not 0 <= origin.partition < spec.partitions:
            return Refusal.NO_PARTITION, f"{origin.topic} has {spec.partitions} partitions, and no {origin.partition}"
        return None

    def _of_record(self, letter: DeadLetter) -> tuple[Refusal, str] | None:
        if letter.left_out:
            what = " and ".join(sorted(letter.left_out))
            return Refusal.LEFT_OUT, f"its {what} was too large to be put away, and is at its origin alone"
        came_back = letter.attempt - 1
        if came_back >= self.redrives_max and not self.force:
            return Refusal.LOOP, f"it was redriven {came_back} times and came back each time"
        return None
