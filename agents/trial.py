"""One agent of a topology, asked as a host asks it: the same code from dispatch to log, with a list for a broker.

I/O: the wall clock, and what the agent does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from agents.calls import Caller, wall_us
from agents.context import Contexts
from agents.event_log import EventLog
from agents.inbox import Inbox
from agents.intake import Intake
from agents.outcome import OUTCOMES
from agents.recollection import Recollection
from agents.registry import Target
from agents.runners.make import make_runner
from agents.service import Service
from agents.wire import unknown_fields
from agents.work import Room
from schemas.codec import Codec
from schemas.records import Column, table
from schemas.registry import FileRegistry
from schemas.topology import Topology
from streams.transport.batch import Batch, Headers, TopicPartition

PARTITION = 0


@dataclass(frozen=True)
class Tried:
    """What came of the last task: its AgentEvents in the order of the log, and what of the response nobody reads."""

    events: pa.RecordBatch
    passed_over: tuple[str, ...]


@dataclass
class _Log:
    """Stands for the producer: what is handed over counts as delivered."""

    codec: Codec
    events: list[pa.RecordBatch] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def send(
        self, topic: str, partition: int, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
    ) -> None:
        del topic, partition, keys  # there is one agent, and one log
        batch = self.codec.decode(values, "AgentEvent").batch
        self.events.append(batch)
        if not OUTCOMES.isdisjoint(batch.column("kind").to_pylist()):
            self.ended.set()

    def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        del value, key, partition
        raise AssertionError(f"a dispatch of our own was not taken: {topic} {headers}")

    def drained(self, timeout_s: float = 0.0) -> bool:
        del timeout_s
        return True


async def _nobody_else() -> None:
    """There is no other host that could have the inbox."""


async def try_agent(
    topology: Topology, agent_id: str, target: Target, tasks: Mapping[str, Column], count: int, intent: str
) -> Tried:
    """Asks the agent for each of `count` tasks (columns of TaskSubmitted), one after the other; gives the last one's.

    Tasks of one conversation know of the earlier ones. Each has the agent's timeout, and no more than its deadline.
    """
    codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
    log, memory = _Log(codec), Recollection(Contexts(topology), None)
    topic = topology.topics().inbox(agent_id)
    inboxes = {TopicPartition(topic, PARTITION): Inbox(agent_id, topic, PARTITION)}
    intake = Intake(topology, codec, log, inboxes)
    agent, heard = topology.agents[agent_id], list[Mapping[str, Any]]()
    runner = make_runner(agent_id, agent, target, heard.append)
    events = EventLog(topology, codec, log)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    service = Service(
        agent_id,
        agent,
        Caller(runner, writes=agent.effect == "write"),
        events,
        memory,
        Room(topology.limits.host_inflight_max),
        _nobody_else,
        failed.set_exception,
    )
    writing = asyncio.ensure_future(events.run())
    try:
        for number in range(count):
            log.events.clear()
            log.ended.clear()
            heard.clear()
            batch = _dispatched(topology, agent_id, codec, tasks, number, intent)
            for _, attempts in intake.take(batch):
                service.take(attempts)
            ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(log.ended.wait()), writing, failed]
            for end in (await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED))[0]:
                end.result()
    finally:
        writing.cancel()
        await service.close()
    passed_over = tuple(name for response in heard for name in unknown_fields(response))
    return Tried(pa.Table.from_batches(log.events).combine_chunks().to_batches()[0], passed_over)


def _dispatched(
    topology: Topology, agent_id: str, codec: Codec, tasks: Mapping[str, Column], number: int, intent: str
) -> Batch:
    """The dispatch of one task, as an inbox would hold it."""
    now_us = wall_us()
    one = {name: [column[number]] if isinstance(column, list) else column for name, column in tasks.items()}
    task = table("TaskSubmitted", one, 1)
    (row,) = task.to_pylist()
    deadline_ms = now_us // 1000 + topology.defaults_of(row["tenant"]).deadline_ms
    left_ms = max((row["deadline_ms"] or deadline_ms) - now_us // 1000, 1)
    slip: dict[str, Column] = {
        "agent_id": agent_id,
        "attempt": 1,
        "intent": intent,
        "confidence": 1.0,
        "reason": "ROUTED",
        "route_version": topology.version,
        "attempts": 1,
        "timeout_ms": min(topology.agents[agent_id].timeout_ms, left_ms),
        "deadline_default_ms": deadline_ms,
        "routed_at": now_us,
    }
    columns = {"slip": slip, "task": pa.StructArray.from_arrays(task.columns, fields=list(task.schema))}
    topic = topology.topics().inbox(agent_id)
    return Batch(
        channel="dispatches",
        values=list(codec.encode(table("TaskDispatched", columns, 1), "TaskDispatched")),
        keys=[(row["conversation_id"] or row["task_id"]).encode()],
        topics=[topic],
        partitions=np.array([PARTITION], np.int32),
        offsets=np.array([number], np.int64),
        timestamps_ms=np.array([now_us // 1000], np.int64),
        headers=None,
        ends={(topic, PARTITION): number},
    )
