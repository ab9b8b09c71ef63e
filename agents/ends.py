"""The end of attempts: timed and counted, told to the agent's memory, and written to its log. I/O: the wall clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import Counter

from agents.calls import wall_us
from agents.context import Contexts
from agents.conversation import Conversation
from agents.dispatches import Attempt
from agents.event_columns import Block
from agents.event_log import EventLog
from agents.outcome import OUTCOMES, Outcome
from agents.outcome_columns import Given
from agents.rows import Rows
from agents.work import Room
from streams.transport.telemetry import HOST_ATTEMPT_DURATION, HOST_ATTEMPTS


class Ends:
    """Of one agent's attempts. `taken` are those that have been counted in and have not ended."""

    def __init__(self, agent_id: str, events: EventLog, contexts: Contexts, room: Room) -> None:
        self._events, self._contexts, self._room = events, contexts, room
        self.taken = 0
        self._durations = HOST_ATTEMPT_DURATION.labels(agent=agent_id)
        self._counters: dict[str, Counter] = {
            kind: HOST_ATTEMPTS.labels(agent=agent_id, outcome=kind) for kind in OUTCOMES
        }

    def end(
        self,
        attempts: Sequence[Attempt],
        outcomes: Sequence[Outcome],
        started_us: int,
        shown: frozenset[Conversation] = frozenset(),
    ) -> None:
        """`shown`: conversations of which the agent was asked; what it was not asked is no part of them."""
        finished_us = wall_us()
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            self._counters[outcome.kind].inc()
            attempt.inbox.known.ended(attempt.id, finished_us)
            conversation = attempt.conversation if attempt.conversation in shown else None
            ordinal = outcome.ordinal if conversation is None else self._contexts.next_of(conversation)
            timed = outcome._replace(started_at=started_us, finished_at=finished_us, ordinal=ordinal)
            if conversation is not None:
                timed = self._contexts.note(conversation, attempt, timed)
            self._events.write(attempt, timed)
        if attempts:
            self._durations.observe((finished_us - started_us) / 1e6)
            self.count(-len(attempts))

    def end_rows(self, rows: Rows, given: Given, started_us: int) -> None:
        """As `end`. No batch agent is shown what was said before. They are counted when it is known what they are."""
        finished_us = wall_us()
        rows.ended(finished_us)
        self._events.write_rows(Block(rows, given, started_us, finished_us, self._count_kinds))
        self._durations.observe((finished_us - started_us) / 1e6)
        self.count(-len(rows))

    def _count_kinds(self, counts: Mapping[str, int]) -> None:
        for kind, n in counts.items():
            self._counters[kind].inc(n)

    def count(self, n: int) -> None:
        self.taken += n
        self._room.take(n)
