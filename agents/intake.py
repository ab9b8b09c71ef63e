"""What is read from inboxes: decoded, taken note of, recognised; what is no dispatch goes to the dead topic.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from agents.context import Contexts
from agents.contract import Interaction
from agents.dispatches import Attempt, Dispatched, attempts
from agents.inbox import IN_HAND, Inbox
from agents.outcome import STARTED
from schemas.codec import Codec
from schemas.tenants import TenantDefaults
from schemas.topology import Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.deadletters import SendsOne, bury

COMPONENT = "host"


class Intake:
    """`inboxes` are those that the host owns, kept by the host."""

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        producer: SendsOne,
        contexts: Contexts,
        inboxes: Mapping[TopicPartition, Inbox],
    ) -> None:
        self._codec, self._producer, self._contexts, self._inboxes = codec, producer, contexts, inboxes
        self._topics, self._defaults = topology.topics(), TenantDefaults(topology)
        self._batches_read = 0

    def take(self, batch: Batch) -> dict[str, list[Attempt]]:
        """The attempts that agents have to be called for, by agent, in the order in which they were read.

        A batch holds dispatches of many agents: decoding costs a call, whoever its records are for.
        """
        batch, owners = self._owned(batch)
        if not owners:
            return {}
        decoded = self._codec.decode(batch.values, "TaskDispatched")
        offsets = batch.offsets.tolist()
        _take(owners, offsets, batch.timestamps_ms.tolist())
        bury(self._producer, self._topics, batch, decoded.faults, COMPONENT)
        for fault in decoded.faults:
            owners[fault.row].tracker.finish(offsets[fault.row])
        rows = decoded.rows.tolist()
        self._batches_read += 1
        source = Dispatched.of(self._batches_read, decoded.batch, [batch.keys[row] for row in rows])
        inboxes, places = [owners[row] for row in rows], [offsets[row] for row in rows]
        read = attempts(source, inboxes, places, self._defaults)
        new: dict[str, list[Attempt]] = {}
        for attempt in read:
            if self._is_new(attempt):
                new.setdefault(attempt.inbox.agent_id, []).append(attempt)
        return new

    def _owned(self, batch: Batch) -> tuple[Batch, list[Inbox]]:
        """The records of inboxes that are this host's, with the inbox of each. One poll may read and hand over."""
        tps = map(TopicPartition, batch.topics, batch.partitions.tolist())
        owners = [self._inboxes.get(tp) for tp in tps]
        if None in owners:
            batch = batch.take(np.flatnonzero([owner is not None for owner in owners]))
        return batch, [owner for owner in owners if owner is not None]

    def _is_new(self, attempt: Attempt) -> bool:
        """Whether the agent has to be called for it; what is known of it already is done with, or remembered."""
        known = attempt.inbox.meet(attempt.id)
        if known is None:
            return True
        if known.kind == STARTED:
            attempt.began_before = True
            return True
        if known is not IN_HAND:
            self._contexts.fold(
                attempt.conversation,
                Interaction(attempt.id.task_id, attempt.text, known.answer, known.kind, known.at),
            )
        attempt.inbox.tracker.finish(attempt.offset)
        return False


def _take(owners: list[Inbox], offsets: list[int], appended_ms: list[int]) -> None:
    """Tell each inbox what was read of it."""
    first: dict[Inbox, int] = {}
    read: dict[Inbox, list[int]] = {}
    for inbox, offset, at in zip(owners, offsets, appended_ms, strict=True):
        first.setdefault(inbox, at)
        read.setdefault(inbox, []).append(offset)
    for inbox, some in read.items():
        inbox.take(some, first[inbox])
