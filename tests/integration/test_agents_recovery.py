"""Hosts that are killed, join and leave on the real broker: each dispatch is answered once, no write is repeated."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient

from agents.notes import claims
from console.local.broker import LocalBroker
from schemas.epochs import is_behind
from schemas.errors import DeliveryError
from schemas.records import table
from streams.transport.admin import delete_topics
from streams.transport.batch import TopicPartition
from streams.transport.topic_admin import TopicAdmin
from tests.support.agents_bench import Bench, make_topology, until
from tests.support.agents_sample import CALLS, RUNNING

pytestmark = pytest.mark.broker

SAMPLE = "tests.support.agents_sample"
# The broker's least: a member that was killed is missed sooner.
QUICK = {"session.timeout.ms": 2000, "heartbeat.interval.ms": 500}


def sample(log: str, wait_ms: int, effect: str = "read", **agent: Any) -> dict[str, Any]:
    options = {"log": log, "wait_ms": wait_ms}
    return {"run": f"{SAMPLE}:slow", "effect": effect, "options": options, "timeout_ms": 60_000, **agent}


def calls_in(path: Path) -> Counter[tuple[str, ...]]:
    """How often each agent was called for each task, by all processes that ran in this folder."""
    file = path / "calls"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return Counter(tuple(line.split()) for line in lines)


def writes_in(path: Path) -> int:
    return sum(n for (agent, _), n in calls_in(path).items() if agent == "writer")


def test_a_host_killed_in_mid_work_leaves_one_outcome_for_each_dispatch(
    broker: str, prefix: str, tmp_path: Path
) -> None:
    agents = {
        "reader": sample("reader", 100, concurrency=2),
        "careful": sample("careful", 100, costly=True, concurrency=2),
        "writer": sample("writer", 400, "write", concurrency=4),
    }
    topology = make_topology(prefix, agents, kafka=QUICK, limits={"commit_interval_ms": 300})
    with Bench(broker, topology) as bench:
        first = bench.process(tmp_path)
        for agent_id, n in (("reader", 60), ("careful", 60), ("writer", 40)):
            for partition in (0, 1):
                ids = [f"{agent_id}-{partition}-{i}" for i in range(n // 2)]
                bench.dispatch(agent_id, *({"task_id": each} for each in ids), partition=partition)
        until(lambda: sum(calls_in(tmp_path).values()) > 60)
        written = writes_in(tmp_path)
        until(lambda: writes_in(tmp_path) > written)  # one begins: the kill cuts it off
        first.kill()
        before = calls_in(tmp_path)
        assert any(bench.committed().values()), "a part of the work was committed"
        second = bench.process(tmp_path)
        logs = {name: bench.events(name, n) for name, n in (("reader", 60), ("careful", 60), ("writer", 40))}
        second.kill()
    after = calls_in(tmp_path)
    assert 60 < sum(before.values()) < 160, "it was killed in mid-work"
    for name, events in logs.items():
        outcomes = [e for e in events if e["kind"] != "STARTED"]
        assert {e["task"]["task_id"] for e in outcomes} == {
            f"{name}-{p}-{i}" for p in (0, 1) for i in range(len(outcomes) // 2)
        }
        assert len({e["event_id"] for e in outcomes}) == len(outcomes), "one outcome each"
    writes = {key: n for key, n in after.items() if key[0] == "writer"}
    assert max(writes.values()) == 1, "no write is repeated"
    cut_off = [e["task"]["task_id"] for e in logs["writer"] if e["error_class"] == "UNKNOWN_OUTCOME"]
    assert cut_off, "the kill caught writes"
    # Between its STARTED and its call a write can be cut off, too: it is in doubt, though nobody was called.
    assert any(("writer", task) in before for task in cut_off)
    assert not [e for name in ("reader", "careful") for e in logs[name] if e["kind"] == "FAILED"]
    assert any(n > 1 for key, n in after.items() if key[0] in {"reader", "careful"}), (
        "reads that were cut off ran again"
    )


def test_writes_that_are_logged_are_done_before_their_inboxes_go_to_another_host(broker: str, prefix: str) -> None:
    """They wait to hear whose the inboxes are, from the thread that waits for them to be given up."""
    with Bench(broker, make_topology(prefix, {"writer": sample(prefix, 20, "write", concurrency=16)})) as bench:
        one = bench.host()
        for part in (0, 1):
            bench.dispatch("writer", *({"task_id": f"t{part}-{i}"} for i in range(200)), partition=part)
        until(lambda: len(CALLS[prefix]) > 10)
        two = bench.host()
        outcomes = [e for e in bench.events("writer", 400) if e["kind"] != "STARTED"]
        one.stop()
        two.stop()
    assert len(CALLS[prefix]) == 400
    assert {e["kind"] for e in outcomes} == {"COMPLETED"}, "none is in doubt"


def test_two_hosts_share_the_inboxes_and_take_over_without_doing_anything_twice(broker: str, prefix: str) -> None:
    with Bench(broker, make_topology(prefix, {"reader": sample(prefix, 20, concurrency=4)})) as bench:
        tasks = [{"task_id": f"t{i}", "conversation_id": f"c{i % 4}"} for i in range(120)]
        one = bench.host()
        for part in (0, 1):
            bench.dispatch("reader", *tasks[part::2], partition=part)
        until(lambda: len(CALLS[prefix]) > 10)
        two = bench.host()
        until(lambda: len(CALLS[prefix]) > 60)
        one.stop()
        events = bench.events("reader", 120)
        two.stop()
    assert len({e["event_id"] for e in events}) == len(events) == 120
    assert sorted(CALLS[prefix]) == sorted(task["task_id"] for task in tasks)
    for conversation in range(4):
        expected = [f"t{i}" for i in range(conversation, 120, 4)]
        assert [e["task"]["task_id"] for e in events if e["task"]["conversation_id"] == f"c{conversation}"] == expected


def test_at_its_bound_a_host_stops_reading_and_loses_nothing(broker: str, prefix: str) -> None:
    topology = make_topology(prefix, {"reader": sample(prefix, 5)}, limits={"host_inflight_max": 20})
    with Bench(broker, topology) as bench:
        bench.host()
        bench.dispatch("reader", *({"task_id": f"t{i}"} for i in range(400)))
        events = bench.events("reader", 400)
    assert len({e["event_id"] for e in events}) == len(events) == 400
    assert len(CALLS[prefix]) == 400
    assert max(RUNNING[prefix]) <= 20


def test_an_agent_that_hangs_does_not_keep_others_from_their_work(broker: str, prefix: str) -> None:
    agents = {"hung": sample(f"{prefix}h", 60_000), "quick": sample(f"{prefix}q", 0)}
    topology = make_topology(prefix, agents, limits={"host_inflight_max": 40})
    with Bench(broker, topology) as bench:
        bench.host()
        bench.dispatch("hung", *({"task_id": f"t{i}"} for i in range(200)))
        until(lambda: len(CALLS[f"{prefix}h"]) > 5)
        bench.dispatch("quick", *({"task_id": f"t{i}"} for i in range(30)))
        assert len(bench.events("quick", 30)) == 30


def test_an_event_that_cannot_be_delivered_ends_the_host(broker: str, prefix: str) -> None:
    topology = make_topology(prefix, {"echo": {}}, kafka={"message.timeout.ms": 3000})
    with Bench(broker, topology) as bench:
        host = bench.host()
        delete_topics(bench.settings, [bench.topics.events("echo")])
        until(lambda: bench.topics.events("echo") not in TopicAdmin(bench.settings).listed())  # the broker hears later
        bench.dispatch("echo", {"task_id": "t"})
        until(lambda: host.error is not None)
        with pytest.raises(DeliveryError):
            host.stop()
        assert not any(bench.committed().values()), "what was not delivered is not done"


@contextmanager
def silent(broker: LocalBroker) -> Iterator[None]:
    """A broker that keeps its connections and answers nothing."""
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def test_a_host_ends_in_time_though_agents_hang_and_the_broker_is_silent(
    local_broker: LocalBroker, prefix: str
) -> None:
    topology = make_topology(prefix, {"echo": {}, "hung": sample(prefix, 60_000)})
    with Bench(local_broker.address, topology) as bench:
        host = bench.host()
        bench.dispatch("echo", {"task_id": "t"})
        bench.dispatch("hung", {"task_id": "t"})
        until(lambda: CALLS[prefix] == ["t"])
        bench.events("echo", 1)
        with silent(local_broker):
            assert host.stop() < 5, "four seconds and a little, where tests share the machine"


def test_a_host_that_lost_its_inboxes_takes_them_again_and_repeats_little(
    local_broker: LocalBroker, prefix: str
) -> None:
    topology = make_topology(prefix, {"reader": sample(prefix, 20, concurrency=2)}, kafka=QUICK)
    with Bench(local_broker.address, topology) as bench:
        host = bench.host()
        bench.dispatch("reader", *({"task_id": f"t{i}"} for i in range(200)))
        until(lambda: len(CALLS[prefix]) > 30)
        with silent(local_broker):
            time.sleep(4)  # longer than the session
        events = bench.events("reader", 200)
        host.stop()
    assert len({e["event_id"] for e in events}) == 200
    assert len(CALLS[prefix]) <= 200 + 20, "what was delivered, or was about to be, is not done again"


def test_a_host_that_was_paused_past_its_session_writes_nothing_a_second_time(
    broker: str, prefix: str, tmp_path: Path
) -> None:
    agents = {"writer": sample("writer", 150, "write", concurrency=2)}
    topology = make_topology(prefix, agents, kafka=QUICK, limits={"commit_interval_ms": 300})
    with Bench(broker, topology) as bench:
        first = bench.process(tmp_path)
        for partition in (0, 1):
            ids = [f"{partition}-{i}" for i in range(40)]
            bench.dispatch("writer", *({"task_id": each} for each in ids), partition=partition)
        until(lambda: sum(calls_in(tmp_path).values()) > 10)
        first.signal(signal.SIGSTOP)
        paused_at = sum(calls_in(tmp_path).values())
        second = bench.process(tmp_path)
        until(lambda: sum(calls_in(tmp_path).values()) > paused_at + 10)
        first.signal(signal.SIGCONT)
        # Of a call that the pause cut in two there may be two outcomes: that it is unknown, and then what it was.
        events = bench.read(bench.topics.events("writer"), lambda rows: len(ended(rows)) == 80)
        first.kill()
        second.kill()
    calls = calls_in(tmp_path)
    assert max(calls.values()) == 1, "no write is repeated"
    assert ended(events) == {f"{p}-{i}" for p in (0, 1) for i in range(40)}
    assert {event["error_class"] for event in events if event["kind"] == "FAILED"} <= {"UNKNOWN_OUTCOME"}


def ended(events: list[dict[str, Any]]) -> set[str]:
    """Tasks that have an outcome."""
    return {event["task"]["task_id"] for event in events if event["kind"] in {"COMPLETED", "FAILED"}}


def test_each_owner_claims_the_logs_with_a_higher_epoch_though_the_group_is_forgotten(broker: str, prefix: str) -> None:
    topology = make_topology(prefix, {"echo": {}})
    with Bench(broker, topology) as bench:
        for number in range(2):
            host = bench.host()
            bench.dispatch("echo", {"task_id": f"t{number}"})
            bench.events("echo", number + 1)
            host.stop()
        admin = AdminClient({"bootstrap.servers": broker})
        (deleted,) = admin.delete_consumer_groups([f"{prefix}pointsman-host"]).values()
        deleted.result(20)
        host = bench.host()
        bench.dispatch("echo", {"task_id": "t2"})
        events = bench.events("echo", 3)
        host.stop()
        claimed = bench.claims("echo", 6)
    for partition in (0, 1):
        epochs = [claim["epoch"] for claim in claimed if claim["_partition"] == partition]
        assert epochs == sorted(set(epochs)), "it rises"
    assert [event["epoch"] for event in events] == [claim["epoch"] for claim in claimed if claim["_partition"] == 0]
    assert is_behind(1, events[1]["epoch"]), "the group counted from one again"


def test_a_host_that_comes_back_knows_what_its_successor_has_made_void(broker: str, prefix: str) -> None:
    """What is read back is judged as workers judge it: by who had claimed the log before."""
    agents = {"reader": sample(prefix, 10)}
    topology = make_topology(prefix, agents, kafka=QUICK, limits={"commit_interval_ms": 300})
    with Bench(broker, topology) as bench:
        log = TopicPartition(bench.topics.events("reader"), 0)
        bench.dispatch("reader", {"task_id": "t", "conversation_id": "c"})
        claim = bench.codec.encode(claims(["reader"], {log: 1 << 40}), "AgentEvent")
        zombie = bench.codec.encode(outcome_of("reader", "t", epoch=1), "AgentEvent")
        bench.producer.send(log.topic, 0, [*claim, *zombie])
        bench.producer.flush(10)
        bench.host()
        *_, of_zombie, of_owner = bench.events("reader", 2)
    assert (of_zombie["answer"], of_zombie["epoch"]) == ("by a zombie", 1)
    assert of_owner["epoch"] > 1 << 40, "the void outcome is none: it was asked again"
    assert CALLS[prefix] == ["t"]


def outcome_of(agent_id: str, task_id: str, epoch: int) -> pa.RecordBatch:
    slip = {"agent_id": agent_id, "attempt": 1, "intent": "all", "confidence": 1.0, "attempts": 1}
    slip |= {"reason": "ROUTED", "route_version": "v", "timeout_ms": 1, "deadline_default_ms": 1, "routed_at": 1}
    columns: dict[str, Any] = {
        "event_id": "e",
        "kind": "COMPLETED",
        "slip": slip,
        "answer": "by a zombie",
        "epoch": epoch,
        "task": {"task_id": task_id, "tenant": "default", "submitted_at": 1, "deadline_ms": 1},
    }
    return table("AgentEvent", columns, 1)


def test_what_retention_took_from_an_inbox_does_not_stop_its_host(broker: str, prefix: str) -> None:
    """Offsets that do not exist: the position that was committed is gone, and so is what lay behind it unread."""
    topology = make_topology(prefix, {"reader": sample(prefix, 5)}, limits={"commit_interval_ms": 200})
    with Bench(broker, topology) as bench:
        inbox, log = bench.topics.inbox("reader"), bench.topics.events("reader")
        host = bench.host()
        bench.dispatch("reader", *({"task_id": f"t{number}"} for number in range(6)))
        bench.events("reader", 6)
        host.stop()
        assert bench.committed()[inbox, 0] == 6
        bench.dispatch("reader", *({"task_id": f"lost{number}"} for number in range(4)))
        admin = AdminClient({"bootstrap.servers": broker})
        for place in (ck.TopicPartition(inbox, 0, 10), ck.TopicPartition(log, 0, 4)):
            (deleted,) = admin.delete_records([place]).values()
            deleted.result(20)
        host = bench.host()
        bench.dispatch("reader", {"task_id": "next"}, {"task_id": "last"})
        events = bench.events("reader", 5)
        until(lambda: bench.committed()[inbox, 0] == 12)
        host.stop()
    assert [event["task"]["task_id"] for event in events[-2:]] == ["next", "last"]
    assert CALLS[prefix] == [f"t{number}" for number in range(6)] + ["next", "last"]


def test_offsets_that_no_record_has_do_not_hold_a_position_up(broker: str, prefix: str) -> None:
    """Gaps, as compaction and transactions leave them: none of them is waited for."""
    topology = make_topology(prefix, {"reader": sample(prefix, 5)}, limits={"commit_interval_ms": 200})
    with Bench(broker, topology) as bench:
        inbox = bench.topics.inbox("reader")
        writer = ck.Producer({"bootstrap.servers": broker, "transactional.id": f"{prefix}gaps"})
        writer.init_transactions(20)
        for number in range(3):  # each transaction's marker takes an offset that no record has
            writer.begin_transaction()
            (value,) = bench.dispatches("reader", [{"task_id": f"t{number}"}])
            writer.produce(inbox, value, f"t{number}".encode(), 0)
            writer.commit_transaction(20)
        host = bench.host()
        bench.events("reader", 3)
        # Behind the last record; its marker is passed with the next one.
        until(lambda: bench.committed().get((inbox, 0)) == 5)
        bench.dispatch("reader", {"task_id": "last"})
        until(lambda: bench.committed()[inbox, 0] == 7)
        host.stop()
    assert CALLS[prefix] == ["t0", "t1", "t2", "last"]
