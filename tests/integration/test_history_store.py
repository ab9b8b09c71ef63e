"""The store on the real broker: whatever fails, and whenever, the views hold each fact once in the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest
from prometheus_client import REGISTRY

from console.local.broker import LocalBroker
from console.local.ports import free_ports
from loadtest.audit_log import read_log
from schemas.codec import Codec
from schemas.errors import ConfigurationError, UnreachableError
from schemas.registry import FileRegistry
from schemas.settings import Settings
from streams.history import process
from streams.history.door import Door
from streams.history.engine import Engine
from streams.history.lag import Lag
from streams.history.loader import Loader, StoppedError
from streams.history.migrations import migrate
from streams.history.process import prepare, run_store
from streams.history.queries import History, connect
from streams.history.sink import POLL_BYTES_MAX, Sink
from streams.transport.clients import client_config
from streams.transport.producer import Producer
from streams.transport.requests import commit
from tests.support.history import KINDS, RECORD_BYTES_MAX, T0_US, Deployment, Store, counts, eventually, unique
from tests.support.waiting import PATIENCE, leaving

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(None)
    yield engine
    engine.close()


@pytest.fixture
def door(engine: Engine) -> Iterator[Door]:
    """Stands for a ClickHouse server, without a history yet."""
    with engine.handle() as handle:
        handle.run("DROP DATABASE IF EXISTS pointsman")
    door = Door(engine, 0)
    yield door
    door.close()


@pytest.fixture
def deployment(broker: str, prefix: str, door: Door) -> Iterator[Deployment]:
    deployment = Deployment(broker, prefix, door.url)
    yield deployment
    deployment.close()


@contextmanager
def running(deployment: Deployment) -> Iterator[Store]:
    store = Store(deployment.settings, deployment.topology)
    assert store.is_ready.wait(PATIENCE * 30), store.error
    yield store
    assert store.end() < 4


@contextmanager
def reading(url: str) -> Iterator[History]:
    history = History(url)
    yield history
    history.close()


def committed(deployment: Deployment) -> dict[tuple[str, int], int]:
    """Next offsets of the store's group, where there are any."""
    tps = [
        ck.TopicPartition(spec.name, number) for spec in deployment.topics.specs() for number in range(spec.partitions)
    ]
    with leaving(group_member(deployment)) as consumer:
        found = consumer.committed(tps, timeout=PATIENCE * 10)
    return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}


def rewind(deployment: Deployment) -> None:
    """As if the store had been killed after its inserts and before its first commit."""
    began = dict.fromkeys(committed(deployment), (0, ""))
    assert began
    with leaving(group_member(deployment)) as consumer:
        commit(consumer, began, {"bootstrap.servers": deployment.settings.broker})


def group_member(deployment: Deployment) -> ck.Consumer:
    group = f"{deployment.topology.prefix}pointsman-store"
    return ck.Consumer({"bootstrap.servers": deployment.settings.broker, "group.id": group})


def everything(deployment: Deployment) -> None:
    """Records of every kind; some repeated, some no records at all."""
    topics = deployment.topics
    deployment.life("t1", "t2", "t3")
    deployment.event("t1", "STARTED")
    deployment.note("n1", task_id="t1")
    deployment.note("n2", "BREAKER_CHANGED", agent_id="a")
    deployment.life("t2")  # a repeat of everything
    deployment.note("n1", task_id="t1")
    deployment.raw(
        topics.breakers,
        deployment.one("BreakerState", {"agent_id": "a", "state": "OPEN", "epoch": 1, "reason": "R", "since_ms": 1}),
    )
    deployment.raw(topics.breakers, None, b"a")  # a tombstone
    card = {"agent_id": "a", "version": "1", "kind": "python", "effect": "read", "host_id": "h", "announced_at": T0_US}
    deployment.raw(topics.cards, deployment.one("AgentCard", card))
    health = {"agent_id": "a", "partition": 0, "window_id": 1, "successes": 1, "failures": 0}
    deployment.raw(topics.health, deployment.one("HealthCounts", health), partition=1)
    for topic in (topics.submitted, topics.inbox("a"), topics.events("b"), topics.results, topics.orchestrator):
        deployment.raw(topic, b"no record", b"\xff", 1)
        deployment.raw(topic, None, None, 1)
    deployment.raw(topics.health, b"no record")
    deployment.raw(topics.submitted, deployment.one("TaskSubmitted", {"task_id": "m", "text": "x"}), b"wrong key")
    deployment.raw(topics.results, bytes(10 * RECORD_BYTES_MAX))
    deployment.flush()


# What `everything` holds, less what is the router's to put away.
ALL = {
    "tasks": 3,
    "dispatches": 3,
    "agent_events": 4,
    "results": 3,
    "orchestrator_events": 2,
    "dead_letters": 9,
}


def holds(history: History, kind: str, least: int) -> bool:
    return len(history.facts(kind)) >= least


def matches_the_log(deployment: Deployment, history: History) -> None:
    """The audit's own reading of the topics names the same facts, once the history has caught up."""
    log = read_log(deployment.settings, deployment.topology).facts()
    eventually(lambda: all(set(log[kind]) <= set(history.facts(kind)) for kind in KINDS))
    for kind in KINDS:
        seen = history.facts(kind)
        assert unique(seen), kind
        assert set(seen) == set(log[kind]), kind


def test_records_of_all_kinds_arrive_each_fact_once(deployment: Deployment, door: Door) -> None:
    everything(deployment)
    with running(deployment) as store, reading(door.url) as history:
        assert store.told == {"clickhouse": door.url}
        eventually(lambda: counts(history) == ALL)
        matches_the_log(deployment, history)
        for view in ("breaker_states", "agent_cards", "health_counts"):
            assert history.query(f"SELECT agent_id FROM {view}").rows == [("a",)]
        dead = history.query("SELECT origin_topic, reason, component, key, size FROM dead").rows
        topics = deployment.topics
        assert {row[:4] for row in dead if row[0] == topics.inbox("a")} == {
            (topics.inbox("a"), "UNFRAMED", "history", "0xFF"),
            (topics.inbox("a"), "NULL_VALUE", "history", None),
        }
        assert ("OVERSIZED", "history") in {row[1:3] for row in dead}
        assert topics.submitted not in {row[0] for row in dead}
        assert [row["kind"] for row in history.timeline("t1", "acme")] == [
            *("SUBMITTED", "DISPATCHED", "STARTED", "COMPLETED", "CASCADED", "RESULT")
        ]


def test_a_start_prepares_the_history_once(deployment: Deployment, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Any] = []

    def counted(*given: Any) -> Any:
        prepared.append(given)
        return prepare(*given)

    monkeypatch.setattr(process, "prepare", counted)
    deployment.life("t1")
    deployment.flush()
    with running(deployment), reading(door.url) as history:
        eventually(lambda: counts(history)["results"] == 1)
    assert len(prepared) == 1


def test_dead_letters_of_others_are_stored_too(deployment: Deployment, door: Door) -> None:
    deployment.raw(deployment.topics.dead, b"foreign", b"k", headers=[("who", b"knows")])
    deployment.flush()
    with running(deployment), reading(door.url) as history:
        rows = eventually(lambda: history.query("SELECT origin_topic, size FROM dead").rows)
        assert rows == [(deployment.topics.dead, 7)]
        assert history.facts("dead_letters") == []


def test_the_last_records_of_an_agent_that_left(deployment: Deployment, door: Door) -> None:
    gone = Deployment(deployment.settings.broker, deployment.topology.prefix, door.url, agents=("a", "b", "gone"))
    gone.dispatch("t1", "gone")
    gone.event("t1", agent_id="gone")
    gone.flush()
    gone.close()
    with running(deployment), reading(door.url) as history:
        eventually(lambda: counts(history)["dispatches"] == counts(history)["agent_events"] == 1)
        matches_the_log(deployment, history)  # which the audit reads with the topology of today, too


def test_what_was_inserted_and_not_committed_is_folded(deployment: Deployment, door: Door) -> None:
    everything(deployment)
    with running(deployment), reading(door.url) as history:
        eventually(lambda: counts(history) == ALL)
    for _ in range(2):
        rewind(deployment)
        deployment.life("t3", "t4")
        deployment.flush()
        with running(deployment), reading(door.url) as history:
            eventually(lambda: history.query("SELECT count() FROM results_log").rows[0][0] >= 6)
            eventually(lambda: counts(history) == ALL | {"tasks": 4, "dispatches": 4, "agent_events": 5, "results": 4})
            matches_the_log(deployment, history)


@contextmanager
def sinking(
    deployment: Deployment, client: Callable[[], Any], lag: Lag | None = None
) -> Iterator[tuple[Sink, Callable[[], None]]]:
    """A sink in a thread, and how to stop it; the tables are there."""
    migrate(connect(deployment.settings.clickhouse))
    dead_letters = Producer(client_config(deployment.settings, deployment.topology, "producer"))
    loader = Loader(deployment.topology, Codec(FileRegistry.load(), RECORD_BYTES_MAX), client, dead_letters)
    sink, stopping = Sink(deployment.settings, deployment.topology, loader, lag=lag), threading.Event()
    thread = threading.Thread(target=sink.run, args=(stopping,), daemon=True)
    thread.start()

    def stop() -> None:
        stopping.set()
        thread.join(4)
        assert not thread.is_alive()

    yield sink, stop
    stop()
    dead_letters.close()


def test_a_stop_loads_and_commits_what_was_read(broker: str, prefix: str, door: Door) -> None:
    slow = Deployment(broker, prefix, door.url, history_interval_ms=3_600_000)
    slow.life(*(f"t{number}" for number in range(50)))
    slow.flush()
    with sinking(slow, partial(connect, door.url)) as (sink, stop), reading(door.url) as history:
        eventually(lambda: sink._waiting.rows == 200)
        assert counts(history)["tasks"] == 0
        stop()
        assert counts(history)["tasks"] == counts(history)["results"] == 50
    assert sum(committed(slow).values()) == 200
    slow.close()


def test_clickhouse_away_at_the_start_and_in_mid_flow(broker: str, prefix: str, engine: Engine, door: Door) -> None:
    (port,) = free_ports(1)
    deployment = Deployment(broker, prefix, f"http://127.0.0.1:{port}")
    deployment.life("t0")
    deployment.flush()
    store = Store(deployment.settings, deployment.topology)
    assert not store.is_ready.wait(2.0)
    for spell in range(3):
        server = Door(engine, port)
        assert store.is_ready.wait(PATIENCE * 20)
        with reading(server.url) as history:
            eventually(partial(holds, history, "results", spell * 100 + 1))
        server.close()
        deployment.life(*(f"t{spell}-{number}" for number in range(100)))
        deployment.flush()
        time.sleep(0.5)
    server = Door(engine, port)
    with reading(server.url) as history:
        eventually(lambda: len(history.facts("results")) == 301)
        matches_the_log(deployment, history)
    assert store.end() < 4
    server.close()
    deployment.close()


def history_lag_s() -> float:
    return REGISTRY.get_sample_value("pointsman_history_lag_seconds") or 0.0


def unread(deployment: Deployment) -> tuple[str, dict[str, str]]:
    """The series that tells how much of its results the store has not read."""
    return "pointsman_consumer_lag_records", {"topic": deployment.topics.results, "partition": "0"}


def test_reading_pauses_while_the_history_does_not_answer(broker: str, prefix: str, door: Door) -> None:
    rows, row_bytes = 30_000, 1_000
    bounded = Deployment(broker, prefix, door.url, history_buffer_bytes_max=2_000_000, history_rows_max=5_000)
    body = {"task_id": "x", "tenant": "a", "status": "FAILED", "reason": "R" * row_bytes, "submitted_at": 1}
    value = bounded.one("TaskResult", body | {"decided_at": 1})
    bounded.producer.send(bounded.topics.results, 0, [value] * rows, [b"x"] * rows)
    bounded.flush()
    reachable = threading.Event()

    def client() -> Any:
        if not reachable.is_set():
            raise UnreachableError("ClickHouse", "nowhere", "a test says so", "")
        return connect(door.url)

    lag = Lag()
    with sinking(bounded, client, lag) as (sink, _):
        # What is on its way from one buffer to the next is in neither for a moment.
        eventually(lambda: sink._paused and sink.held_bytes() >= 2_000_000)
        held = sink.held_bytes()
        behind_s = history_lag_s()
        time.sleep(1.0)
        assert 2_000_000 <= sink.held_bytes() == held < 2_000_000 + POLL_BYTES_MAX
        assert history_lag_s() > behind_s  # it grows while nothing moves
        assert lag.seconds > behind_s
        reachable.set()
        eventually(lambda: committed(bounded) == {(bounded.topics.results, 0): rows})
        eventually(lambda: not sink._paused)
        eventually(lambda: history_lag_s() == lag.seconds == 0)
        eventually(lambda: REGISTRY.get_sample_value(*unread(bounded)) == 0)
    bounded.close()


def test_a_loader_told_to_stop_gives_up(deployment: Deployment) -> None:
    def client() -> Any:
        raise UnreachableError("ClickHouse", "nowhere", "a test says so", "")

    loader = Loader(deployment.topology, deployment.codec, client, deployment.producer)
    threading.Timer(0.3, loader.stop).start()
    sink = Sink(deployment.settings, deployment.topology, loader)
    deployment.life("t1")
    deployment.flush()
    stop = threading.Event()
    with pytest.raises(StoppedError):
        sink.run(stop)


def test_a_hanging_clickhouse_does_not_hold_a_stop(broker: str, prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        deployment = Deployment(broker, prefix, f"http://127.0.0.1:{mute.getsockname()[1]}")
        store = Store(deployment.settings, deployment.topology)
        assert not store.is_ready.wait(1.0)
        assert store.end() < 4
        deployment.close()


def test_what_a_person_has_to_change_is_said(deployment: Deployment, tmp_path: Path) -> None:
    remote = Settings(broker=deployment.settings.broker, clickhouse="http://10.0.0.1:8123")
    with pytest.raises(ConfigurationError, match="loopback"):
        run_store(remote, deployment.topology, tmp_path, ready=print, stop=threading.Event())
    nobody = Settings(broker="127.0.0.1:9", clickhouse=deployment.settings.clickhouse)
    with pytest.raises(UnreachableError, match="Kafka"):
        run_store(nobody, deployment.topology, None, ready=print, stop=threading.Event())


# Processes of their own: the embedded engine, and kill -9.

PROGRAM = """
import json, signal, sys, threading
from pathlib import Path
from schemas.settings import Settings
from schemas.topology import Topology
from streams.history.process import run_store
settings, topology, data = Settings(**json.loads(sys.argv[1])), Topology(**json.loads(sys.argv[2])), Path(sys.argv[3])
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
run_store(settings, topology, data, ready=lambda told: print(json.dumps(dict(told)), flush=True), stop=stop)
print("clean", flush=True)
"""


class Child:
    """The store as a process."""

    def __init__(self, deployment: Deployment, data_dir: Path, clickhouse: str = "http://127.0.0.1:0") -> None:
        settings = json.dumps({"broker": deployment.settings.broker, "clickhouse": clickhouse})
        topology = json.dumps(
            {
                "prefix": deployment.topology.prefix,
                "partitions": 2,
                "limits": deployment.topology.limits.model_dump(),
                "agents": {name: {"run": "m:f", "effect": "read"} for name in "ab"},
                "routes": {"all": {"agents": ["a", "b"]}},
                "default_route": "all",
            }
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, settings, topology, str(data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return str(json.loads(line)["clickhouse"])
        raise AssertionError(self.process.communicate()[1][-2000:])

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> str:
        os.kill(self.process.pid, signal.SIGTERM)
        out, err = self.process.communicate(timeout=PATIENCE * 20)
        assert self.process.returncode == 0, err[-2000:]
        return out


def test_a_store_killed_in_mid_flow_completes_after_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    ids = [f"t{number}" for number in range(600)]
    child = Child(deployment, tmp_path)
    with reading(child.url()) as history:
        deployment.life(*ids[:300])
        deployment.raw(deployment.topics.inbox("a"), b"no record")
        deployment.flush()
        deployment.life(*ids[300:])
        eventually(lambda: history.facts("tasks"))
    child.kill()
    deployment.flush()
    child = Child(deployment, tmp_path)
    with reading(child.url()) as history:
        eventually(lambda: len(history.facts("dead_letters")) == 1 and len(history.facts("results")) == len(ids))
        matches_the_log(deployment, history)
    assert child.end().endswith("clean\n")


def test_a_taken_directory_and_a_taken_port_are_said(deployment: Deployment, tmp_path: Path) -> None:
    child = Child(deployment, tmp_path / "data")
    url = child.url()
    second = Child(deployment, tmp_path / "data")
    taken = Child(deployment, tmp_path / "other", url)
    assert "another store" in second.process.communicate(timeout=PATIENCE * 30)[1]
    assert "cannot listen" in taken.process.communicate(timeout=PATIENCE * 30)[1]
    child.end()


def test_two_stores_share_the_partitions(deployment: Deployment, door: Door) -> None:
    with running(deployment), reading(door.url) as history:
        deployment.life(*(f"a{number}" for number in range(100)))
        deployment.flush()
        with running(deployment):
            deployment.life(*(f"b{number}" for number in range(100)))
            deployment.flush()
            eventually(lambda: len(history.facts("results")) == 200)
        deployment.life(*(f"c{number}" for number in range(100)))
        deployment.flush()
        eventually(lambda: len(history.facts("results")) == 300)
        matches_the_log(deployment, history)


@pytest.mark.slow
def test_the_broker_goes_away_comes_back_and_goes_for_good(tmp_path: Path, prefix: str, door: Door) -> None:
    """A stop without a broker is bounded too: what is stored and not committed would be read again, and folded."""
    node = LocalBroker(tmp_path, heap_mib=512)
    node.start()
    try:
        deployment = Deployment(node.address, prefix, door.url)
        with running(deployment), reading(door.url) as history:
            deployment.life("t1")
            deployment.flush()
            eventually(partial(holds, history, "results", 1))
            node.kill()
            time.sleep(1)
            node.start()
            deployment.life("t2")
            deployment.flush()
            eventually(partial(holds, history, "results", 2), 30)
            matches_the_log(deployment, history)
        assert sum(committed(deployment).values()) == 8
        slow = Deployment(node.address, prefix, door.url, history_interval_ms=3_600_000)
        slow.life("t3")
        slow.flush()
        with sinking(slow, partial(connect, door.url)) as (sink, stop), reading(door.url) as history:
            eventually(lambda: sink._waiting.rows == 4)
            node.kill()
            stop()
            assert counts(history)["results"] == 3
        deployment.close()
        slow.close()
    finally:
        node.stop()


def test_two_deployments_in_one_clickhouse_have_a_database_each(broker: str, prefix: str, door: Door) -> None:
    with ExitStack() as held:
        both = {}
        for name in ("usual", "acme"):
            url = door.url if name == "usual" else f"{door.url}/{name}"
            deployment = held.enter_context(closing(Deployment(broker, f"{prefix}{name}.", url)))
            deployment.life("same", name)
            deployment.flush()
            both[name] = deployment, held.enter_context(running(deployment))
        for name, (deployment, store) in both.items():
            assert store.told["clickhouse"] == deployment.settings.clickhouse
            with reading(deployment.settings.clickhouse) as history:
                eventually(partial(holds, history, "results", 2), PATIENCE * 20)
                assert set(history.facts("results")) == {("acme", "same"), ("acme", name)}
                assert {row["tenant"] for row in history.timeline("same")} == {"acme"}
                assert history.answered([("acme", "usual"), ("acme", "acme")]) == {("acme", name)}
