"""What was given up, or noted as a repeat, and whether that was right: T1, A5. I/O: none."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from loadtest import invariants
from loadtest.invariants import GivenUp, TaskKey
from schemas.ids import fact_id
from tests.simulation.facts import Facts, Found

if TYPE_CHECKING:
    from tests.simulation.run import Run

HOSTS_OWN = frozenset({"TIMEOUT", "UNKNOWN_OUTCOME"})
"""Error classes by which the host itself says that an attempt is over."""

OVERDUE = frozenset({("CASCADED", "TIMED_OUT"), ("ESCALATED", "WRITE_UNCERTAIN")})
FOR_WANT = frozenset({"NO_QUORUM", "FALLBACK_ANSWER", "CHAIN_EXHAUSTED"})
"""Reasons of results that had to do without an answer, or with one too few."""


def of_times(run: Run, facts: Facts) -> Found:
    topics, evidence = run.evidence.topics, run.evidence
    came_ms: dict[tuple[TaskKey, int], list[int]] = {}
    for row, outcome in facts.valid:
        if row.fields["error_class"] not in HOSTS_OWN:
            came_ms.setdefault((outcome[:2], outcome.attempt), []).append(row.at_ms)
    notes = evidence.all(topics.orchestrator)
    given_up, handed_on = [], set()
    for _, row in notes:
        handed_on.add(((row.fields["tenant"], row.fields["task_id"]), row.fields["attempt"]))
        if (row.fields["kind"], row.fields["reason"]) in OVERDUE:
            key = row.fields["tenant"], row.fields["task_id"]
            given_up.append(
                GivenUp(*key, row.fields["at"] // 1000, tuple(came_ms.get((key, row.fields["attempt"]), ())))
            )
    asked: dict[TaskKey, set[int]] = {}
    for _, dispatch in facts.dispatched:
        asked.setdefault(dispatch[:2], set()).add(dispatch.attempt)
    for row, end in facts.ended:
        attempts = asked.get(end[:2], set())
        if row.fields["status"] == "EXPIRED" and all((end[:2], each) in came_ms for each in attempts):
            came = tuple(at for each in attempts for at in came_ms[end[:2], each])
            given_up.append(GivenUp(*end, row.fields["decided_at"] // 1000, came))
    given_up += _left_out(run, facts, handed_on)
    yield "T1", invariants.unread(given_up, int(run.scenario.reading_s * 1000))
    noted = [row.fields["event_id"] for _, row in notes if row.fields["kind"] == "DUPLICATE"]
    yield "A5", invariants.own_repeats(noted, set(_repeats(facts)))


def _left_out(run: Run, facts: Facts, handed_on: Container[tuple[TaskKey, int]]) -> Iterator[GivenUp]:
    """Answers that came in time, and are in no result that says that there were not enough. An attempt that was handed
    on before is judged by the note that says so."""
    skew_ms, confidence_min = int(run.scenario.skew_s * 1000), run.scenario.topology.answers.confidence_min
    results = {end[:2]: row for row, end in facts.ended if not row.is_zombie and row.fields["reason"] in FOR_WANT}
    attempts = {(end[:2], end.attempt): row for row, end in facts.dispatched if not row.is_zombie}
    for row, outcome in facts.valid:
        fields = row.fields
        result, asked = results.get(outcome[:2]), attempts.get((outcome[:2], outcome.attempt))
        if result is None or asked is None or fields["kind"] != "COMPLETED":
            continue
        if (outcome[:2], outcome.attempt) in handed_on:
            continue
        slip = asked.fields["slip"]
        in_time = row.at_ms + 2 * skew_ms <= slip["routed_at"] // 1000 + slip["timeout_ms"]
        good = (fields["confidence"] is None or fields["confidence"] >= confidence_min) and slip["stage"] == "WORK"
        voices = {vote["agent_id"] for vote in result.fields["votes"]} | set(result.fields["agents"])
        if in_time and good and outcome.agent_id not in voices:
            yield GivenUp(*outcome[:2], result.fields["decided_at"] // 1000, (row.at_ms,))


def _repeats(facts: Facts) -> Iterator[str]:
    """Ids of the notes that may say of a submission that it is a repeat."""
    known: set[TaskKey] = set()
    for each in sorted(facts.submissions, key=lambda each: each.offset):
        if each[:2] in known:
            yield fact_id(*each[:2], "DUPLICATE", each.partition, each.offset)
        known.add(each[:2])
