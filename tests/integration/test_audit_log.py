"""A run read back from real topics, and audited: what is there is found, and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtest.audit import audit
from loadtest.audit_log import Log, LogTail, read_log
from loadtest.invariants import Dispatched, Ended, Outcome, Submission
from schemas.codec import Codec
from schemas.deadletter import Origin, headers
from schemas.reasons import DeadReason
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.transport.admin import ensure_topics
from streams.transport.clients import TransportError, client_config
from streams.transport.producer import Producer
from tests.support.console import topology_file

pytestmark = pytest.mark.broker

AGENT = "revenue_agent"
SLIP = {
    "agent_id": AGENT,
    "attempt": 1,
    "intent": "financial_query",
    "confidence": 0.9,
    "reason": "ROUTED",
    "route_version": "v",
    "attempts": 0,
    "timeout_ms": 1000,
    "deadline_default_ms": 0,
    "routed_at": 1,
}


class Run:
    """Topics of a test's own, and a hand that writes to them."""

    def __init__(self, broker: str, topology: Topology) -> None:
        self.settings, self.topology, self.topics = (
            Settings.resolve({"broker": broker}, {}),
            topology,
            topology.topics(),
        )
        self.codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        ensure_topics(self.settings, self.topics.specs())
        self.producer = Producer(client_config(self.settings, topology, "producer"))

    def write(self, topic: str, record: str, columns: Mapping[str, Any], key: bytes | None = None) -> None:
        [value] = self.codec.encode(table(record, columns, 1), record)
        self.producer.send_one(topic, value, key, 0)

    def submit(self, task_id: str, key: bytes | None = None, **fields: Any) -> None:
        columns = {"task_id": task_id, "text": "x", **fields}
        self.write(self.topics.submitted, "TaskSubmitted", columns, task_id.encode() if key is None else key)

    def dispatch(self, task_id: str, **slip: Any) -> None:
        columns = {"slip": {**SLIP, **slip}, "task": {"task_id": task_id, "text": "x"}}
        self.write(self.topics.inbox(AGENT), "TaskDispatched", columns)

    def event(self, task_id: str, kind: str, event_id: str) -> None:
        task = {"task_id": task_id, "tenant": "default", "submitted_at": 1, "deadline_ms": 2}
        columns = {"event_id": event_id, "kind": kind, "slip": SLIP, "task": task}
        self.write(self.topics.events(AGENT), "AgentEvent", columns)

    def end(self, task_id: str) -> None:
        columns = {"task_id": task_id, "tenant": "default", "status": "COMPLETED", "reason": "ANSWERED"}
        self.write(self.topics.results, "TaskResult", {**columns, "submitted_at": 1, "decided_at": 2})

    def bury(self, topic: str, offset: int) -> None:
        self.producer.send_one(
            self.topics.dead, b"?", b"k", 0, headers(Origin(topic, 0, offset, 1), DeadReason.UNFRAMED, "", "test")
        )

    def read(self) -> Log:
        self.producer.flush(10)
        return read_log(self.settings, self.topology)


@pytest.fixture
def run(repository: Path, tmp_path: Path, prefix: str, broker: str) -> Run:
    return Run(broker, load_topology(topology_file(repository, tmp_path, prefix)))


def view_of(log: Log, **instead: list[Hashable]) -> Mapping[str, list[Hashable]]:
    """A history that shows each fact of the log once, but for the kinds given."""
    return {kind: list(set(facts)) for kind, facts in log.facts().items()} | instead


def test_a_sound_run_is_read_whole(run: Run) -> None:
    run.submit("a")
    run.submit("b", b"talk", conversation_id="talk")
    run.submit("a")
    run.dispatch("a")
    run.dispatch("b", panel=[[AGENT, "sql_agent"]])
    run.event("a", "STARTED", "e1")
    run.event("a", "COMPLETED", "e2")
    run.event("b", "FAILED", "e3")
    run.end("a")
    run.end("b")
    columns = {"event_id": "o1", "kind": "DUPLICATE", "reason": "DUPLICATE", "at": 1}
    run.write(run.topics.orchestrator, "OrchestratorEvent", columns)
    log = run.read()
    assert log.submissions == [
        Submission("default", "a", None, 0, 0),
        Submission("default", "b", "talk", 0, 1),
        Submission("default", "a", None, 0, 2),
    ]
    assert log.dispatches == [
        Dispatched("default", "a", AGENT, 1, "WORK", 0, 0, 0, routed_at=1),
        Dispatched("default", "b", AGENT, 1, "WORK", 2, 0, 1, routed_at=1),
    ]
    assert log.outcomes == [Outcome("default", task, AGENT, 1, "WORK") for task in "ab"]
    assert log.results == [Ended("default", "a"), Ended("default", "b")]
    assert (log.event_ids, log.orchestrator_event_ids) == (["e1", "e2", "e3"], ["o1"])
    assert (log.invalid, log.dead) == (set(), set())
    report = audit(log, view_of(log).__getitem__)
    assert report.sound
    assert report.summary == "2 accepted, 2 results, 0 lost, 0 duplicated, 0 dead-lettered, history complete"


def test_records_that_are_none_must_be_among_the_dead_and_nothing_else(run: Run) -> None:
    submitted = run.topics.submitted
    run.submit("good")
    run.submit("keyless", key=b"")
    run.submit("misplaced", key=b"elsewhere")
    run.producer.send_one(submitted, b"garbage", b"k", 0)
    run.producer.send_one(run.topics.results, None, None, 0)
    run.end("good")
    run.bury(submitted, 1)
    run.bury(submitted, 1)  # twice, as after a crash: one dead letter all the same
    run.bury(submitted, 2)
    run.bury(submitted, 3)
    run.bury(run.topics.results, 0)
    log = run.read()
    assert [submission.task_id for submission in log.submissions] == ["good"]
    assert log.invalid == {(submitted, 0, offset) for offset in (1, 2, 3)} | {(run.topics.results, 0, 0)}
    assert log.dead == log.invalid
    report = audit(log, view_of(log).__getitem__)
    assert report.sound
    assert report.dead == 4

    run.bury(submitted, 0)
    log = run.read()
    report = audit(log, view_of(log).__getitem__)
    assert not report.history_complete
    assert report.findings() == [f"dead topic: 1 surplus of 4: ('{submitted}', 0, 0)"]


def test_what_is_missing_or_twice_is_found(run: Run) -> None:
    run.submit("a")
    run.submit("b")
    run.producer.send_one(run.topics.submitted, b"garbage", b"k", 0)
    run.end("b")
    run.end("b")
    log = run.read()
    view = view_of(log, tasks=[("default", "a")], results=[("default", "b"), ("default", "b")])
    report = audit(log, view.__getitem__)
    assert report.summary == "2 accepted, 2 results, 1 lost, 1 duplicated, 0 dead-lettered, history INCOMPLETE"
    assert report.findings() == [
        "1 lost: ('default', 'a')",
        "1 duplicated: ('default', 'b')",
        f"dead topic: 1 missing of 1: ('{run.topics.submitted}', 0, 2)",
        "tasks: 1 missing of 2: ('default', 'b')",
        "results: 1 repeated of 1: ('default', 'b')",
    ]


def test_a_log_that_is_read_on_is_the_log_read_at_once_and_holds_nothing_twice(run: Run) -> None:
    tail = LogTail(run.settings, run.topology)
    for task in ("a", "b", "c"):
        run.submit(task)
        run.dispatch(task)
        run.event(task, "COMPLETED", f"e-{task}")
        run.end(task)
        run.producer.send_one(run.topics.submitted, b"garbage", b"k", 0)
        whole = run.read()
        assert tail.read_on() == whole
    assert len(whole.submissions) == len(whole.results) == len(whole.invalid) == 3
    assert tail.read_on() == whole, "nothing has come"


def test_a_topic_that_is_not_there(repository: Path, tmp_path: Path, prefix: str, broker: str) -> None:
    topology = load_topology(topology_file(repository, tmp_path, f"{prefix}never."))
    with pytest.raises(TransportError, match="missing"):
        read_log(Settings.resolve({"broker": broker}, {}), topology)
