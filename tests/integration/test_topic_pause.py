"""A schema mistake pauses its topic, for the whole fleet and through restarts, in real processes that are killed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import confluent_kafka as ck
import pytest

from console.cli.failures import ExitCode
from schemas.deadletter import parse
from schemas.settings import Settings
from schemas.topics import Topics
from schemas.topology import load_topology
from streams.client import Client
from streams.history.queries import History
from streams.transport.admin import ensure_topics
from tests.support.console import Said, pointsman, topology_file
from tests.support.contract import breaches, promises
from tests.support.fleet import Fleet, wait_for
from tests.support.waiting import deadline_in
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

Say = Callable[..., Said]
BAD, WAIT_S = 1_500, 120.0


@pytest.fixture
def path(repository: Path, tmp_path: Path, prefix: str) -> Path:
    """Batches are small, so that a pause has something to hold back."""
    path = topology_file(repository, tmp_path, prefix)
    path.write_text(path.read_text().replace("limits:\n", "limits:\n  batch_rows_max: 250\n"))
    return path


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], path: Path, broker: str, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("POINTSMAN_BROKER", broker)
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    return lambda *arguments: pointsman(capsys, "topics", *arguments)


def test_by_hand_and_what_is_printed_keeps_the_promises_of_the_page(say: Say, broker: str, path: Path) -> None:
    topology = load_topology(path)
    topic = topology.topics().submitted
    assert say("pause", "tasks.submitted.v1").code == ExitCode.UNREACHABLE
    ensure_topics(Settings(broker=broker), topology.topics().specs())
    for command, paused in (("pause", True), ("resume", False)):
        said = [json.loads(say(command, "tasks.submitted.v1", "-o", form).out) for form in ("json", "jsonl")]
        promised = promises()["pointsman topics pause"] if paused else promises()["pointsman topics resume"]
        assert breaches(said, promised) == []
        assert said[0] == said[1]  # the second changes nothing
        assert (said[0]["topic"], said[0]["paused"]) == (topic, paused)
        listed = say("list", "-o", "jsonl")
        assert [row["topic"] for row in listed.rows if row["paused"]] == ([topic] if paused else [])
        assert (f"{topic} is paused" in listed.err) == paused
    assert breaches(listed.rows, promises()["pointsman topics list"]) == []
    assert len(read_topic(broker, topology.topics().orchestrator)) == 2
    assert say("pause", "tasks.results.v1").code == say("pause", "nothing").code == ExitCode.NOT_FOUND


@pytest.mark.slow
def test_a_schema_mistake_pauses_its_topic_for_all_and_nothing_is_lost(
    say: Say, broker: str, path: Path, tmp_path: Path
) -> None:
    with Fleet(broker, tmp_path, path) as fleet:
        fleet.start("store", "worker-1", "worker-2", "host")
        topics = fleet.topology.topics()
        storm(broker, topics.submitted, BAD)
        with Client.of(fleet.settings, fleet.topology) as client:
            ids = [f"t-{number}" for number in range(40)]
            client.send([client.prepare_columns({"task_id": ids, "text": ["What was the Q3 revenue?"] * len(ids)})])
        wait_for(lambda: paused(say) == [topics.submitted], WAIT_S, "the pause")
        for name in ("worker-1", "worker-2"):
            wait_for(lambda name=name: "paused" in fleet.said(name), WAIT_S, f"{name} to hear of it")  # type: ignore[misc]
        put_away = settled(lambda: letters(broker, topics, topics.submitted))
        assert 200 <= put_away < BAD
        # Another agent's inbox is read, bad records and all: nothing else is paused.
        inbox = topics.inbox("sql_agent")
        storm(broker, inbox, 10)
        wait_for(lambda: letters(broker, topics, inbox) >= 10, WAIT_S, "the host to go on")
        # Through a crash of one and a clean restart of the other nothing more is read of it.
        fleet.kill("worker-1")
        assert fleet.stop("worker-2")
        fleet.start("worker-1", "worker-2")
        time.sleep(2)
        assert letters(broker, topics, topics.submitted) == put_away
        assert paused(say) == [topics.submitted]
        assert say("resume", "tasks.submitted.v1").code == ExitCode.OK
        # What waits there is still bad: paused again and again until all of it is put away.
        deadline = deadline_in(WAIT_S)
        while len(set(answered(broker, topics.results))) < 40:
            assert time.monotonic() < deadline
            if paused(say):
                say("resume", "tasks.submitted.v1")
            time.sleep(0.5)
        report = fleet.report(WAIT_S)
        assert (report.tasks.accepted, report.tasks.results, report.findings()) == (40, 40, [])
        with closing(History(fleet.clickhouse)) as history:
            told = history.query("SELECT reason, paused FROM pause_states ORDER BY offset LIMIT 2").rows
            noted = history.query("SELECT reason FROM orchestrator_events WHERE kind = 'PAUSE_CHANGED'").rows
        assert told[0] == ("DEAD_SHARE", True)
        assert {reason for (reason,) in noted} == {"DEAD_SHARE", "RESUMED_BY_HAND"}


@pytest.mark.slow
def test_a_host_pauses_an_inbox_alone(say: Say, broker: str, path: Path, tmp_path: Path) -> None:
    with Fleet(broker, tmp_path, path) as fleet:
        topics = fleet.topology.topics()
        fleet.start("host", "worker")
        storm(broker, topics.inbox("sql_agent"), BAD)
        wait_for(lambda: paused(say) == [topics.inbox("sql_agent")], WAIT_S, "the pause")
        assert 200 <= settled(lambda: letters(broker, topics, topics.inbox("sql_agent"))) < BAD
        with Client.of(fleet.settings, fleet.topology) as client:
            client.send([client.prepare_columns({"task_id": ["t"], "text": ["find the travel policy document"]})])
        wait_for(lambda: answered(broker, topics.results) == [b"t"], WAIT_S, "another agent's answer")
        assert say("resume", topics.inbox("sql_agent")).code == ExitCode.OK
        wait_for(lambda: "reading goes on" in fleet.said("host"), WAIT_S, "the host to go on")


def storm(broker: str, topic: str, count: int) -> None:
    """Records that nobody can take, all over the partitions."""
    producer = ck.Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    for number in range(count):
        producer.produce(topic, b"what is this?", key=f"bad-{number}")
    assert producer.flush(60) == 0


def paused(say: Say) -> list[str]:
    return [row["topic"] for row in say("list", "-o", "jsonl").rows if row["paused"]]


def letters(broker: str, topics: Topics, origin: str) -> int:
    """How many records of the topic were put away; one that host and store both cannot take counts once."""
    found = (parse(message.headers() or []).origin for message in read_topic(broker, topics.dead))
    return len({place for place in found if place is not None and place.topic == origin})


def answered(broker: str, topic: str) -> list[bytes | None]:
    return [message.key() for message in read_topic(broker, topic)]


def settled(count: Callable[[], int]) -> int:
    """A count that does not change any more."""
    before = -1
    while (now := count()) != before:
        before = now
        time.sleep(1.5)
    return now
