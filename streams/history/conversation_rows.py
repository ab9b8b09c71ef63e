"""Rows of conversations as the history has them, and how those of one conversation are told apart. I/O: none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.epochs import EPOCH_MAX

NOTE = "NOTE"
"""The kind of a claim, or of what a model made, among outcomes."""

ConversationKey = tuple[str, str, str]
"""Tenant, agent, conversation."""


class Row(NamedTuple):
    """An outcome, a claim, or what a model made: its `ordinal` is negative, the last that it stands for (0017).

    `submitted_at` is that of the task; 0 where its producer states none, or nobody copied the row
    since there is such a column.
    """

    tenant: str
    agent_id: str
    conversation_id: str
    ordinal: int
    event_id: str
    task_id: str
    attempt: int
    stage: str
    kind: str
    epoch: int
    answer: str | None
    tool_calls: str | None
    facts: Sequence[str]
    error: str | None
    cause_id: str | None
    started_at: int
    finished_at: int
    tokens_in: int
    tokens_out: int
    cost_microusd: int
    agent_version: str
    topic: str
    partition: int
    offset: int
    summary: str | None
    submitted_at: int

    @property
    def key(self) -> ConversationKey:
        return self[:3]


_TIMES = ("started_at", "finished_at", "submitted_at")
COLUMNS = tuple(f"toUnixTimestamp64Micro({name})" if name in _TIMES else name for name in Row._fields)
"""What a statement asks for, to make a `Row` of it."""


class StoredOutcome(NamedTuple):
    """A row of the history: an outcome, and what was asked. `asked` is None where the submission is not stored yet, or
    no more. Times are in microseconds since the epoch, costs in millionths of a dollar."""

    ordinal: int
    event_id: str
    task_id: str
    attempt: int
    stage: str
    kind: str
    epoch: int
    answer: str | None
    tool_calls: str | None
    facts: Sequence[str]
    error: str | None
    cause_id: str | None
    started_at: int
    finished_at: int
    tokens_in: int
    tokens_out: int
    cost_microusd: int
    agent_version: str
    topic: str
    partition: int
    offset: int
    asked: str | None
    labels: Mapping[str, str]

    @classmethod
    def of(cls, row: Row, asked: str | None, labels: Mapping[str, str]) -> StoredOutcome:
        return cls(*row[3:-2], asked, labels)


class StoredFacts(NamedTuple):
    """The facts of an older answer, and where it stands."""

    ordinal: int
    task_id: str
    attempt: int
    stage: str
    at: int
    facts: tuple[str, ...]
    epoch: int
    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, row: Row) -> StoredFacts:
        return cls(
            *(row.ordinal, row.task_id, row.attempt, row.stage, row.finished_at),
            *(tuple(row.facts), row.epoch, row.topic, row.partition, row.offset),
        )


class StoredModel(NamedTuple):
    """What a model made of interactions, as the note in the agent's log has it."""

    epoch: int
    summary: str
    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, row: Row) -> StoredModel:
        return cls(row.epoch, row.summary or "", row.topic, row.partition, row.offset)


class Found(NamedTuple):
    """`outcomes` by place, with copies that hosts of other epochs wrote; `facts` of those before, oldest first, with
    copies, too; `models` of the same interactions as `outcomes`."""

    outcomes: tuple[StoredOutcome, ...]
    facts: tuple[StoredFacts, ...] = ()
    models: tuple[StoredModel, ...] = ()


@dataclass(slots=True)
class Parted:
    """Rows of one conversation: outcomes by place, each once; what models made, with copies."""

    outcomes: list[Row] = field(default_factory=list)
    models: list[Row] = field(default_factory=list)

    def tidy(self) -> None:
        """Copies fold, the earliest stays: of two at one place the one that says when its task was submitted.

        Where a task id comes again, the ids of both events may be the same; the numbers are not.
        """
        self.outcomes.sort(key=lambda each: (each.ordinal, each.epoch, each.offset, -each.submitted_at))
        first: dict[tuple[int, str, int], Row] = {}
        for each in self.outcomes:
            first.setdefault((each.ordinal, each.event_id, each.epoch), each)
        self.outcomes = list(first.values())

    def take_older(self, last: int, facts_max: int) -> tuple[StoredFacts, ...]:
        """Leaves of a whole conversation what is less than `last` before its end. Of the rest up to `facts_max` answers
        that have facts, oldest first. What bears nobody's epoch moves no end and pins nothing."""
        end = max(max((each.ordinal for each in self.outcomes if each.epoch <= EPOCH_MAX), default=0) - last, 0)
        facts = sorted(
            StoredFacts.of(each)
            for each in self.outcomes
            if each.facts and each.ordinal <= end and each.epoch <= EPOCH_MAX
        )
        self.outcomes = [each for each in self.outcomes if each.ordinal > end]
        self.models = [each for each in self.models if -each.ordinal > end]
        return tuple(facts[max(len(facts) - facts_max, 0) :])

    def made(self) -> tuple[StoredModel, ...]:
        return tuple(sorted(set(map(StoredModel.of, self.models)), key=lambda each: (each.topic, each.offset)))


def parted(rows: Iterable[Sequence[Any]]) -> tuple[dict[ConversationKey, Parted], dict[str, set[tuple[int, int]]]]:
    """By conversation; and the claims, offset and epoch, by topic."""
    found: defaultdict[ConversationKey, Parted] = defaultdict(Parted)
    claims: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for each in map(Row._make, rows):
        if each.kind != NOTE:
            found[each.key].outcomes.append(each)
        elif each.summary is None:
            claims[each.topic].add((each.offset, each.epoch))
        else:
            found[each.key].models.append(each)
    for conversation in found.values():
        conversation.tidy()
    return found, claims
