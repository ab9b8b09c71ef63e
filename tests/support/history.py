"""A deployment for tests of the history: topics of its own, records of every kind, and where they must end up.

I/O: Kafka.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from schemas.codec import Codec
from schemas.ids import agent_event_id
from schemas.records import record, table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Agent, Limits, Route, Topology
from streams.history.process import run_store
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.producer import Producer
from tests.support.waiting import deadline_in

T0_US = 1_700_000_000_000_000
RECORD_BYTES_MAX = 4096
KINDS = ("tasks", "dispatches", "agent_events", "results", "orchestrator_events", "dead_letters")


def slip(agent_id: str = "a", attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "agent_id": agent_id,
        "attempt": attempt,
        "intent": "all",
        "confidence": 0.9,
        "reason": "ROUTED",
        "route_version": "v1",
        "attempts": attempt,
        "timeout_ms": 1_000,
        "deadline_default_ms": T0_US // 1000 + 30_000,
        "routed_at": T0_US + 1_000,
        **fields,
    }


def task(task_id: str, **fields: Any) -> dict[str, Any]:
    return {"task_id": task_id, "tenant": "acme", "text": f"do {task_id}", "submitted_at": T0_US, **fields}


class Deployment:
    """Agents on one route, and a producer whose every record lies on partition 0 unless told otherwise."""

    def __init__(
        self, broker: str, prefix: str, clickhouse: str, agents: Sequence[str] = ("a", "b"), **limits: int
    ) -> None:
        self.settings = Settings(broker=broker, clickhouse=clickhouse)
        self.topology = Topology(
            prefix=prefix,
            partitions=2,
            limits=Limits(**{"history_interval_ms": 100, "record_bytes_max": RECORD_BYTES_MAX, **limits}),
            agents={name: Agent(run="m:f", effect="read") for name in agents},
            routes={"all": Route(agents=tuple(agents))},
            default_route="all",
        )
        self.topics = self.topology.topics()
        ensure_topics(self.settings, self.topics.specs())
        self.producer = Producer(client_config(self.settings, self.topology, "producer"))
        self.codec = Codec(FileRegistry.load(), self.topology.limits.record_bytes_max)

    def close(self) -> None:
        self.producer.close()

    def raw(self, topic: str, value: bytes | None, key: bytes | None = b"k", partition: int = 0, **more: Any) -> None:
        self.producer.send_one(topic, value, key, partition, **more)

    def one(self, name: str, fields: dict[str, Any]) -> bytes:
        """One record's value."""
        columns = {key: _column(name, key, value) for key, value in fields.items()}
        return self.codec.encode(table(name, columns, 1), name)[0]

    def submit(self, *ids: str, **fields: Any) -> None:
        for task_id in ids:
            self.raw(self.topics.submitted, self.one("TaskSubmitted", task(task_id, **fields)), task_id.encode())

    def dispatch(self, task_id: str, agent_id: str = "a", attempt: int = 1, **fields: Any) -> None:
        value = self.one("TaskDispatched", {"slip": slip(agent_id, attempt, **fields), "task": task(task_id)})
        self.raw(self.topics.inbox(agent_id), value, task_id.encode())

    def event(self, task_id: str, kind: str = "COMPLETED", agent_id: str = "a", attempt: int = 1, **fields: Any) -> str:
        event_id = agent_event_id("acme", task_id, agent_id, attempt, "WORK", kind)
        identity = {"task_id": task_id, "tenant": "acme", "submitted_at": T0_US, "deadline_ms": T0_US // 1000 + 30_000}
        times = {"started_at": T0_US + 2_000, "finished_at": 0 if kind == "STARTED" else T0_US + 3_000}
        body = {
            "event_id": event_id,
            "kind": kind,
            "slip": slip(agent_id, attempt),
            "task": identity,
            **times,
            **fields,
        }
        self.raw(self.topics.events(agent_id), self.one("AgentEvent", body), task_id.encode())
        return event_id

    def result(self, task_id: str, **fields: Any) -> None:
        body = {
            "task_id": task_id,
            "tenant": "acme",
            "status": "COMPLETED",
            "reason": "ANSWERED",
            "submitted_at": T0_US,
        }
        body |= {"decided_at": T0_US + 9_000, "attempts": 1, **fields}
        self.raw(self.topics.results, self.one("TaskResult", body), task_id.encode())

    def note(self, event_id: str, kind: str = "CASCADED", task_id: str | None = None, **fields: Any) -> None:
        body = {"event_id": event_id, "kind": kind, "reason": "FAILED", "at": T0_US + 4_000, "task_id": task_id}
        body |= {"tenant": "acme" if task_id else None, **fields}
        self.raw(self.topics.orchestrator, self.one("OrchestratorEvent", body), (task_id or "a").encode())

    def life(self, *ids: str) -> None:
        """One whole life each: submitted, dispatched, answered, ended."""
        for task_id in ids:
            self.submit(task_id)
            self.dispatch(task_id)
            self.event(task_id)
            self.result(task_id)

    def flush(self) -> None:
        self.producer.flush(10)


def _column(name: str, field: str, value: Any) -> Any:
    """One value as a column of one row."""
    kind = record(name).arrow.field(field).type
    if isinstance(value, dict) and pa.types.is_struct(kind):
        return {key: pa.array([each], kind.field(key).type) for key, each in value.items()}
    return pa.array([value], kind)


class Store:
    """`run_store` in a thread, over a ClickHouse that is there."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self.stop, self.is_ready = threading.Event(), threading.Event()
        self.told: dict[str, Any] = {}
        self.error: BaseException | None = None
        self._arguments = settings, topology, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            run_store(*self._arguments, ready=self._ready, stop=self.stop)
        except BaseException as error:  # noqa: BLE001 - shown by `end`
            self.error = error

    def _ready(self, told: Any) -> None:
        self.told = dict(told)
        self.is_ready.set()

    def end(self) -> float:
        """Seconds that a clean stop took."""
        started = time.monotonic()
        self.stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return time.monotonic() - started


def eventually(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """What `condition` gives once it is true; fails with the last it gave."""
    deadline = deadline_in(timeout_s)
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s; last seen: {seen!r}")
        time.sleep(0.05)
    return seen


def counts(history: Any) -> dict[str, int]:
    """How many facts of each kind the views show."""
    return {kind: len(history.facts(kind)) for kind in KINDS}


def unique(facts: Sequence[Any]) -> bool:
    return len(set(facts)) == len(facts)
