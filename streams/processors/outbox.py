"""What the cells decide becomes records: encoded in columns, sent to the partition that it came from.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Protocol

import pyarrow as pa

from schemas.codec import Codec, DecodeFault
from schemas.ids import fact_id
from schemas.reasons import DispatchReason, ResultReason
from schemas.records import RECORDS, table
from schemas.topology import Topology
from streams.core.effects import Dispatch, Effects, Note, Result
from streams.core.task import Identity, Slip, TaskKey
from streams.transport.batch import Batch
from streams.transport.deadletters import SendsOne, bury
from streams.transport.telemetry import (
    CASCADE_DEPTH,
    DECISION_DURATION,
    DISPATCHES,
    DUPLICATES,
    LATE_VOTES,
    RESULTS,
)

US = 1_000_000
VOTE_CHARS_MAX = 1_000


class Sender(SendsOne, Protocol):
    """The part of streams.transport.producer.Producer that is used here; both raise DeliveryError."""

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None: ...


class Outbox:
    """Encodes and hands over; it waits only while the producer's queue is full. All methods raise DeliveryError."""

    def __init__(self, topology: Topology, codec: Codec, producer: Sender) -> None:
        self._topics, self._version = topology.topics(), topology.version
        self._codec, self._producer = codec, producer
        _count_from_zero(topology)

    def emit(self, decided: Mapping[int, Effects]) -> None:
        """What cells decided, by partition; each topic's records of a partition in the order of decision."""
        dispatches = {number: each.dispatches for number, each in decided.items() if each.dispatches}
        notes = {number: each.notes for number, each in decided.items() if each.notes}
        results = {number: each.results for number, each in decided.items() if each.results}
        if dispatches:
            self._dispatch(dispatches)
        if notes:
            self._note(notes)
        if results:
            self._answer(results)

    def bury(self, batch: Batch, faults: Iterable[DecodeFault], component: str) -> None:
        """Rows of a batch that cannot be taken go to the dead topic."""
        bury(self._producer, self._topics, batch, faults, component)

    def _dispatch(self, decided: Mapping[int, list[Dispatch]]) -> None:
        # Equal slips of a turn are one object, so a batch has few distinct ones: each is encoded once.
        distinct = {id(each.slip): each.slip for dispatches in decided.values() for each in dispatches}
        encoded = dict(zip(distinct, self._codec.encode_slips(slip_table(list(distinct.values()))), strict=True))
        times: Counter[int] = Counter()
        for partition, dispatches in decided.items():
            by_agent: dict[str, tuple[list[bytes | None], list[bytes | None]]] = {}
            for slip, key, frame, datum in dispatches:
                group = by_agent.get(slip.agent_id)
                if group is None:
                    group = by_agent[slip.agent_id] = ([], [])
                group[0].append(frame + encoded[id(slip)] + datum)
                group[1].append(key)
            for agent_id, (values, keys) in by_agent.items():
                self._producer.send(self._topics.inbox(agent_id), partition, values, keys)
            times.update([id(dispatch.slip) for dispatch in dispatches])
        for slip_id, count in times.items():
            slip = distinct[slip_id]
            DISPATCHES.labels(agent=slip.agent_id, reason=slip.reason).inc(count)

    def _answer(self, decided: Mapping[int, list[Result]]) -> None:
        results = list(chain.from_iterable(decided.values()))
        values = iter(self._codec.encode(result_table(results, self._version), "TaskResult"))
        for partition, own in decided.items():
            keys = [result.key for result in own]
            self._producer.send(self._topics.results, partition, list(islice(values, len(own))), keys)
        for (status, reason), count in Counter((result.status, result.reason) for result in results).items():
            RESULTS.labels(status=status, reason=reason).inc(count)
        CASCADE_DEPTH.observe([result.failed_agents for result in results])
        stated = [result for result in results if result.identity.submitted_at]
        DECISION_DURATION.observe([max(result.decided_at - result.identity.submitted_at, 0) / US for result in stated])

    def _note(self, decided: Mapping[int, list[Note]]) -> None:
        notes = list(chain.from_iterable(decided.values()))
        values = iter(self._codec.encode(note_table(notes, self._version), "OrchestratorEvent"))
        for partition, own in decided.items():
            keys = [note.key for note in own]
            self._producer.send(self._topics.orchestrator, partition, list(islice(values, len(own))), keys)
        kinds = Counter(note.kind for note in notes)
        DUPLICATES.inc(kinds["DUPLICATE"])
        LATE_VOTES.inc(kinds["LATE_VOTE"])


def _count_from_zero(topology: Topology) -> None:
    """A rate sees nothing of the value with which a series begins, so every series begins before its first event."""
    for reason in ResultReason:
        for status in RECORDS["TaskResult"].enums["status"]:
            RESULTS.labels(status=status, reason=reason.value)
    for why in DispatchReason:
        for agent_id in topology.agents:
            DISPATCHES.labels(agent=agent_id, reason=why.value)


def slip_table(slips: Sequence[Slip]) -> pa.RecordBatch:
    """Columns of the record Slip."""
    columns: dict[str, Any] = dict(zip(Slip._fields, map(list, zip(*slips, strict=True)), strict=True))
    return table("Slip", columns, len(slips))


def shown(vote: str) -> str:
    """What a result shows of a vote: a long one by its beginning and a hash, equal where the votes are equal.

    Voters answer in up to a quarter of a MiB each; all of them together would be more than a broker takes.
    """
    if len(vote) <= VOTE_CHARS_MAX:
        return vote
    return f"{vote[: VOTE_CHARS_MAX - 34]}… {fact_id(vote)}"


def result_table(results: Sequence[Result], route_version: str) -> pa.RecordBatch:
    """Columns of the record TaskResult."""
    votes = [
        [
            {"agent_id": v.agent_id, "vote": shown(v.key), "confidence": v.confidence, "weight": v.weight}
            for v in result.votes
        ]
        for result in results
    ]
    plain = ("status", "reason", "intent", "answer", "payload", "confidence", "attempts", "cost_microusd", "tokens")
    columns: dict[str, Any] = {name: [getattr(result, name) for result in results] for name in (*plain, "decided_at")}
    columns |= {name: [list(getattr(result, name)) for result in results] for name in ("agents", "dissent")}
    identities = [result.identity for result in results]
    columns |= _ids([result.id for result in results], identities)
    columns |= {"votes": votes, "labels": [list(identity.labels) for identity in identities]}
    columns |= {"traceparent": [identity.traceparent for identity in identities], "route_version": route_version}
    return table("TaskResult", columns, len(results))


def note_table(notes: Sequence[Note], route_version: str) -> pa.RecordBatch:
    """Columns of the record OrchestratorEvent."""
    plain = ("event_id", "kind", "reason", "agent_id", "attempt", "seat", "stage", "intent", "at")
    columns: dict[str, Any] = {name: [getattr(note, name) for note in notes] for name in plain}
    columns |= _ids([note.id for note in notes], [note.identity for note in notes])
    columns |= {"root_id": [note.identity.root_id for note in notes], "route_version": route_version}
    return table("OrchestratorEvent", columns, len(notes))


def _ids(ids: Sequence[TaskKey], identities: Sequence[Identity]) -> dict[str, Any]:
    """The columns that name a task."""
    return {
        "tenant": [tenant for tenant, _ in ids],
        "task_id": [task_id for _, task_id in ids],
        "conversation_id": [identity.conversation_id for identity in identities],
        "submitted_at": [identity.submitted_at for identity in identities],
    }
