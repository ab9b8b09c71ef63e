"""The facts that the logs of a run hold, as the invariants want them. I/O: none."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from loadtest.audit_log import OUTCOMES
from loadtest.invariants import Dispatched, Ended, Outcome, Submission
from schemas.deadletter import parse
from tests.simulation.evidence import Evidence, Row, key_of

Found = Iterator[tuple[str, Sequence[Hashable]]]
"""Names of invariants, each with what breaks it."""


class Facts:
    """The facts that the logs hold, as the invariants want them."""

    def __init__(self, evidence: Evidence) -> None:
        topics = evidence.topics
        self.submitted = evidence.all(topics.submitted)
        self.submissions = [
            Submission(*key_of(row), row.fields["conversation_id"], number, row.offset)
            for number, row in self.submitted
        ]
        self.dispatched = [(row, dispatched_of(number, row)) for number, row in evidence.all(*topics.inboxes)]
        outcomes = [(row, outcome_of(row)) for _, row in evidence.all(*topics.logs) if row.fields["kind"] in OUTCOMES]
        self.outcomes = [outcome for _, outcome in outcomes]
        self.valid = [pair for pair in outcomes if not pair[0].is_void]
        self.void = [row for row, _ in outcomes if row.is_void]
        self.ended = [(row, Ended(*key_of(row))) for _, row in evidence.all(topics.results)]
        numbers = range(evidence.topology.partitions)
        self.invalid = {number: evidence.invalid(topics.submitted, number) for number in numbers}
        self.buried = [
            (number, record.offset, parse(record.headers).origin)
            for number in numbers
            for record in evidence.records(topics.dead, number)
        ]


def dispatched_of(number: int, row: Row) -> Dispatched:
    slip, task = row.fields["slip"], row.fields["task"]
    return Dispatched(
        task["tenant"],
        task["task_id"],
        slip["agent_id"],
        slip["attempt"],
        slip["stage"],
        len(slip["panel"]),
        number,
        row.offset,
        slip["routed_at"],
    )


def outcome_of(row: Row) -> Outcome:
    slip, task = row.fields["slip"], row.fields["task"]
    return Outcome(task["tenant"], task["task_id"], slip["agent_id"], slip["attempt"], slip["stage"])
