"""What is read from inboxes: decoded, taken note of, recognised; what is no dispatch goes to the dead topic.

I/O: Kafka, through the producer that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from agents.calls import wall_us
from agents.dispatches import Attempt, Dispatched, attempts
from agents.inbox import Inbox
from agents.outcome import STARTED
from agents.rows import Rows, Span
from schemas.codec import Codec
from schemas.tenants import TenantDefaults
from schemas.topology import Agent, Topology
from streams.transport.batch import Batch, TopicPartition
from streams.transport.deadletters import bury
from streams.transport.pauses import TopicPauses
from streams.transport.producer import SendsOne

if TYPE_CHECKING:
    import numpy.typing as npt

COMPONENT = "host"


class _Run(NamedTuple):
    """Rows `start` to `stop` of a batch, all of one inbox."""

    inbox: Inbox
    start: int
    stop: int


def _is_shown(topology: Topology, agent: Agent) -> bool:
    """Whether it is shown its conversations."""
    return agent.remembers and topology.limits.context_interactions > 0


class Intake:
    """`inboxes` are those that the host owns, kept by the host."""

    def __init__(
        self,
        topology: Topology,
        codec: Codec,
        producer: SendsOne,
        inboxes: Mapping[TopicPartition, Inbox],
        pauses: TopicPauses | None = None,
        clock: Callable[[], int] = wall_us,
    ) -> None:
        self._codec, self._producer, self._inboxes = codec, producer, inboxes
        self._clock, self._wait_max_ms = clock, topology.limits.dispatch_wait_ms
        self._topics, self._defaults, self._pauses = topology.topics(), TenantDefaults(topology), pauses
        self._in_columns = frozenset(
            name
            for name, agent in topology.agents.items()
            if agent.kind == "batch" and not (agent.logs_start or _is_shown(topology, agent))
        )
        self._batches_read = 0

    def take(self, batch: Batch) -> list[tuple[str, list[Attempt] | Rows]]:
        """What agents have to be called for, each agent's in the order in which it was read.

        A batch holds dispatches of many agents: decoding costs a call, whoever its records are for. Those to batch
        agents stay columns, unless any of them is known already.
        """
        runs = self._runs(batch)
        if any(run.inbox is None for run in runs):  # one poll may read and hand over
            kept = [np.arange(run.start, run.stop) for run in runs if run.inbox is not None]
            if not kept:
                return []
            batch = batch.take(np.concatenate(kept))
            runs = self._runs(batch)
        decoded = self._codec.decode(batch.values, "TaskDispatched")
        offsets = batch.offsets.tolist()
        for run in runs:
            run.inbox.tracker.take(offsets[run.start : run.stop], int(batch.timestamps_ms[run.start]))
        bury(self._producer, self._topics, batch, decoded.faults, COMPONENT)
        if self._pauses is not None:
            self._pauses.saw(batch, [fault.row for fault in decoded.faults])
        for fault in decoded.faults:
            owner = next(run.inbox for run in runs if run.start <= fault.row < run.stop)
            owner.tracker.finish(offsets[fault.row])
        if decoded.faults:
            rows = decoded.rows.tolist()
            offsets, keys = [offsets[row] for row in rows], [batch.keys[row] for row in rows]
            edges = np.searchsorted(decoded.rows, [[run.start, run.stop] for run in runs]).tolist()
            runs = [_Run(run.inbox, *edge) for run, edge in zip(runs, edges, strict=True)]
        else:
            keys = batch.keys
        number, read_ms = self._next_number(), self._clock() // 1000
        source = Dispatched.of(number, decoded.batch, keys, read_ms, self._wait_max_ms)
        return self._sorted_out(source, runs, offsets)

    def _sorted_out(
        self, source: Dispatched, runs: Sequence[_Run], offsets: Sequence[int]
    ) -> list[tuple[str, list[Attempt] | Rows]]:
        new: list[tuple[str, list[Attempt] | Rows]] = []
        columns: dict[str, list[Span]] = {}
        one_by_one: dict[str, list[Attempt]] = {}
        runs = [run for run in runs if run.start < run.stop]
        in_columns = any(run.inbox.agent_id in self._in_columns for run in runs)
        keys = source.attempt_keys() if in_columns else []
        ends = _ends(source.expires_ms(), runs) if in_columns else repeat((0, 0), len(runs))
        for run, expires_ms in zip(runs, ends, strict=True):
            inbox, start, stop = run
            if inbox.agent_id in self._in_columns:
                met = inbox.known.meet_all(keys[start:stop], offsets[start])
                if met is not None:
                    span = Span(inbox, start, stop, met, offsets[start:stop], expires_ms)
                    columns.setdefault(inbox.agent_id, []).append(span)
                    continue
                if inbox.agent_id in columns:  # what comes one by one comes behind what is there already
                    new.append((inbox.agent_id, self._rows(source, columns.pop(inbox.agent_id))))
                    one_by_one.pop(inbox.agent_id, None)
            found = [each for each in self._attempts(source, run, offsets) if self._is_new(each)]
            if not found:
                continue
            if inbox.agent_id not in one_by_one:
                one_by_one[inbox.agent_id] = []
                new.append((inbox.agent_id, one_by_one[inbox.agent_id]))
            one_by_one[inbox.agent_id] += found
        new += [(agent_id, self._rows(source, spans)) for agent_id, spans in columns.items()]
        return new

    def _rows(self, source: Dispatched, spans: Sequence[Span]) -> Rows:
        first, last = zip(*(span.expires_ms for span in spans), strict=True)
        return Rows(source, spans, (min(first), max(last)), self._expanded)

    def _attempts(self, source: Dispatched, run: _Run, offsets: Sequence[int]) -> Iterator[Attempt]:
        part = source.slice(self._next_number(), run.start, run.stop)
        return attempts(part, repeat(run.inbox, len(part.keys)), offsets[run.start : run.stop], self._defaults)

    def _expanded(self, rows: Rows) -> list[Attempt]:
        found: list[Attempt] = []
        for inbox, start, stop, _, offsets, _ in rows.spans:
            part = rows.source.slice(self._next_number(), start, stop)
            found += attempts(part, repeat(inbox, stop - start), offsets, self._defaults)
        return found

    def _next_number(self) -> int:
        self._batches_read += 1
        return self._batches_read

    def _runs(self, batch: Batch) -> list[_Run]:
        """Where the records of each topic-partition follow each other, as fetches bring them."""
        codes: dict[str, int] = {topic: code for code, topic in enumerate(dict.fromkeys(batch.topics))}
        topics = np.fromiter(map(codes.__getitem__, batch.topics), np.int64, len(batch))
        places = topics << 32 | batch.partitions
        edges = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(batch)]
        found = []
        for start, stop in pairwise(edges):
            owner = self._inboxes.get(TopicPartition(batch.topics[start], int(batch.partitions[start])))
            found.append(_Run(owner, start, stop))  # type: ignore[arg-type]
        return found

    def _is_new(self, attempt: Attempt) -> bool:
        """Whether the agent has to be called for it; what is known of it already is done with."""
        known = attempt.inbox.known.meet(attempt.id, attempt.offset, attempt.routed_at)
        if known is None:
            return True
        if known.kind == STARTED:
            attempt.began_before = True
            return True
        attempt.inbox.tracker.finish(attempt.offset)
        return False


def _ends(expires_ms: npt.NDArray[np.int64], runs: Sequence[_Run]) -> Iterator[tuple[int, int]]:
    """When the first and when the last of each run are overdue; the runs follow each other, and none is empty."""
    starts = [run.start for run in runs]
    return zip(*(each.reduceat(expires_ms, starts).tolist() for each in (np.minimum, np.maximum)), strict=True)
