"""The Python client against a real broker: what is sent arrives where it belongs, and each result is given once."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import pytest

from schemas.codec import Codec
from schemas.errors import DeliveryError, UnreachableError
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topics import Topics
from schemas.topology import load_topology
from streams.client import Client, InvalidTasksError, Result
from streams.client import client as client_module
from streams.client.results import Results
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.producer import Producer
from tests.support.console import topology_file
from tests.support.wire import read_topic

pytestmark = pytest.mark.broker

PARTITIONS = 4
JOIN_S = 30.0  # a group takes some seconds to form
QUIET_S = 0.5  # once it has: nothing more comes


class Deployment:
    """Topics without a worker, and a hand that writes results."""

    def __init__(self, broker: str, prefix: str) -> None:
        self.broker, self.prefix = broker, prefix
        self.topics = Topics(agents=(), partitions=PARTITIONS, prefix=prefix)
        names = (self.topics.submitted, self.topics.results, self.topics.dead)
        ensure_topics(Settings(broker=broker), [spec for spec in self.topics.specs() if spec.name in names])
        self.codec = Codec(FileRegistry.load(), 262_144)
        self.producer = Producer(client_config(Settings(broker=broker), None, "producer"))

    def client(self, **more: Any) -> Client:
        return Client(self.broker, prefix=self.prefix, **more)

    def answer(self, task_ids: Sequence[str], tenant: str = "default", answer: str = "yes") -> None:
        for task_id in task_ids:
            columns = {"task_id": task_id, "tenant": tenant, "status": "COMPLETED", "reason": "ANSWERED"}
            times = {"submitted_at": 1, "decided_at": 2}
            [value] = self.codec.encode(table("TaskResult", {**columns, **times, "answer": answer}, 1), "TaskResult")
            self.producer.send_one(self.topics.results, value, task_id.encode())
        self.producer.flush(30)


@pytest.fixture
def deployment(broker: str, prefix: str) -> Iterator[Deployment]:
    found = Deployment(broker, prefix)
    yield found
    found.producer.close()


@pytest.fixture
def group() -> str:
    return f"test-{uuid.uuid4()}"


def taken(results: Results, expected: int) -> list[Result]:
    """So many results, and any that come right behind them."""
    found = list(islice(results, expected))
    results._timeout_s = QUIET_S
    return [*found, *results]


# ------------------------------------------------------------------ tasks in


def test_one_task_is_there_when_submit_returns(deployment: Deployment) -> None:
    with deployment.client() as client:
        task_id = client.submit("hello", tenant="acme", labels={"team": "ops"}, conversation_id="c1")
        [message] = read_topic(deployment.broker, deployment.topics.submitted)
    [task] = deployment.codec.decode([message.value()], "TaskSubmitted").batch.to_pylist()
    assert (task["task_id"], task["tenant"], dict(task["labels"])) == (task_id, "acme", {"team": "ops"})
    assert message.key() == b"c1"


def test_many_tasks_lie_where_a_plain_producer_would_put_them(deployment: Deployment) -> None:
    """Batches go another way through librdkafka than single records: the partitioner must be the same."""
    ids = [f"t{number}" for number in range(500)]
    with deployment.client() as client:
        assert client.submit_many({"text": "x", "task_id": task_id} for task_id in ids) == ids
    plain = ck.Producer({"bootstrap.servers": deployment.broker, "partitioner": "murmur2_random"})
    for task_id in ids:
        plain.produce(deployment.topics.dead, key=task_id)
    assert plain.flush(30) == 0
    ours, theirs = (
        {message.key(): message.partition() for message in read_topic(deployment.broker, topic)}
        for topic in (deployment.topics.submitted, deployment.topics.dead)
    )
    assert ours == theirs
    assert set(ours.values()) == set(range(PARTITIONS))


def test_a_faulty_task_of_a_list_stops_all_of_a_stream_its_batch(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "BATCH_ROWS", 10)
    tasks: list[dict[str, Any]] = [{"text": "x", "task_id": f"t{number}"} for number in range(25)]
    tasks[17] = {"text": "x", "task_id": "bad", "confidence": 7}
    with deployment.client() as client:
        with pytest.raises(InvalidTasksError, match="bad: confidence"):
            client.submit_many(tasks)
        assert read_topic(deployment.broker, deployment.topics.submitted) == []
        with pytest.raises(InvalidTasksError, match="bad: confidence"):
            client.submit_many(iter(tasks))
    assert len(read_topic(deployment.broker, deployment.topics.submitted)) == 10


def test_after_a_delivery_that_failed_the_client_goes_on(deployment: Deployment) -> None:
    """The broker takes a megabyte or so; the producer of a deployment with a larger limit is told so by it."""
    with deployment.client(record_bytes_max=2**22) as client:
        with pytest.raises(DeliveryError):
            client.submit("x" * 2**21)
        assert client.submit("small", task_id="t1") == "t1"
    assert [message.key() for message in read_topic(deployment.broker, deployment.topics.submitted)] == [b"t1"]


def test_a_deployment_that_is_not_there_is_named(broker: str, prefix: str) -> None:
    with Client(broker, prefix=prefix) as client:
        for attempt in (lambda: client.submit("x"), client.results, lambda: client.results(group="g")):
            with pytest.raises(UnreachableError, match=rf"{prefix}tasks\.\w+\.v1.*prefix"):
                attempt()


def test_settings_and_topology_say_where(
    broker: str, prefix: str, repository: Path, tmp_path: Path, deployment: Deployment
) -> None:
    topology = load_topology(topology_file(repository, tmp_path, prefix))
    with Client.of(Settings(broker=broker), topology) as client:
        client.submit("x", task_id="t1")
    assert [message.key() for message in read_topic(broker, deployment.topics.submitted)] == [b"t1"]


# ------------------------------------------------------------------ results out


def test_results_from_the_end_miss_nothing_that_comes_after_they_are_opened(deployment: Deployment) -> None:
    deployment.answer(["before"])
    with deployment.client() as client:
        results = client.results(timeout_s=10)
        deployment.answer(["after"])
        assert next(results).task_id == "after"
        assert [each.task_id for each in client.results(start="beginning", timeout_s=1)].count("before") == 1


def test_the_second_result_of_a_task_is_dropped_but_not_that_of_another_tenant(deployment: Deployment) -> None:
    for tenant, answer in (("default", "first"), ("default", "second"), ("acme", "theirs")):
        deployment.answer(["t1"], tenant, answer)
    with deployment.client() as client:
        results = client.results(start="beginning", timeout_s=1)
        assert [(each.tenant, each.answer) for each in results] == [("default", "first"), ("acme", "theirs")]
        assert results.repeats == 1
        held = client.results().held()
        assert sorted((each.tenant, each.answer) for each in held) == [("acme", "theirs"), ("default", "first")]


def test_what_is_known_of_repeats_is_bounded(deployment: Deployment) -> None:
    deployment.answer(["a", "b", "c", "c", "a"])
    config = client_config(Settings(broker=deployment.broker), None, "consumer")
    # Which come first depends on the partitions; that an id is forgotten once two others came does not.
    topic, codec = deployment.topics.results, deployment.codec
    with Results(config, topic, codec, group=False, start="beginning", timeout_s=1, repeats_known_max=2) as results:
        given = Counter(each.task_id for each in results)
        assert len(results._known) == 2
    assert given.keys() == {"a", "b", "c"}
    assert given["c"] == 1  # the two stand side by side


def test_what_is_no_result_is_passed_over_and_counted(deployment: Deployment, group: str) -> None:
    deployment.answer(["t1"])
    deployment.producer.send_one(deployment.topics.results, b"garbage", b"t1")
    deployment.producer.flush(30)
    with deployment.client() as client, client.results(group=group, timeout_s=JOIN_S) as results:
        assert [each.task_id for each in taken(results, 1)] == ["t1"]
        assert results.undecodable == 1
    deployment.answer(["t2"])
    with deployment.client() as client, client.results(group=group, timeout_s=JOIN_S) as results:
        assert [each.task_id for each in taken(results, 1)] == ["t2"]
        assert results.undecodable == 0  # its position was committed too


def test_a_group_goes_on_where_it_left_off(deployment: Deployment, group: str) -> None:
    ids = [f"t{number}" for number in range(40)]
    deployment.answer(ids)
    seen: list[str] = []
    with deployment.client() as client:
        for result in client.results(group=group, timeout_s=JOIN_S):
            seen.append(result.task_id)
            if len(seen) == 25:
                break
    with deployment.client() as client:
        seen += [each.task_id for each in taken(client.results(group=group, timeout_s=JOIN_S), 15)]
    assert sorted(seen) == sorted(ids)


def test_what_its_taker_failed_on_comes_again_and_nothing_else(deployment: Deployment, group: str) -> None:
    ids = [f"t{number}" for number in range(20)]
    deployment.answer(ids)
    seen: list[str] = []

    def work() -> None:
        with deployment.client() as client:
            for result in client.results(group=group, timeout_s=JOIN_S):
                seen.append(result.task_id)
                if len(seen) == 12:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    with deployment.client() as client:
        seen += [each.task_id for each in taken(client.results(group=group, timeout_s=JOIN_S), 9)]
    assert Counter(seen) == Counter([*ids, seen[11]])


MEMBER = """
import sys, time
from streams.client import Client

broker, prefix, group = sys.argv[1:]
results = Client(broker, prefix=prefix).results(group=group)
for _ in range(5):
    print(next(results).task_id, flush=True)
time.sleep(600)
"""


def test_a_member_that_is_killed_loses_nothing(deployment: Deployment, group: str) -> None:
    """What it had committed does not come again, all else does, once its session is over."""
    ids = [f"t{number}" for number in range(20)]
    deployment.answer(ids)
    command = [sys.executable, "-c", MEMBER, deployment.broker, deployment.prefix, group]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
        assert member.stdout is not None
        first = [member.stdout.readline().strip() for _ in range(5)]
        member.kill()
    with deployment.client() as other:
        rest = [each.task_id for each in taken(other.results(group=group, timeout_s=JOIN_S), 20)]
    assert set(first) <= set(rest)  # it died within half a second, before its first commit
    assert Counter(rest) == Counter(ids)


def test_two_members_share_and_a_leaver_hands_over(deployment: Deployment, group: str) -> None:
    ids = [f"t{number}" for number in range(60)]
    deployment.answer(ids[:20])
    seen: list[str] = []
    with deployment.client() as stays, deployment.client() as leaves:
        first = stays.results(group=group, timeout_s=1)
        while len(seen) < 20:
            seen += [each.task_id for each in first]
        second = leaves.results(group=group, timeout_s=1)
        turns = 0
        while not (first._owned and second._owned):  # the group forms anew while both poll
            seen += [each.task_id for each in (*first, *second)]
            turns += 1
            assert turns < 30
        assert first._owned.isdisjoint(second._owned)
        deployment.answer(ids[20:])
        while len(set(seen)) < 60:
            before = len(seen)
            seen += [each.task_id for each in second]
            second.close()
            seen += [each.task_id for each in first]
            assert len(seen) > before or turns < 30
            turns += 1
    assert Counter(seen) == Counter(ids)


def test_a_group_that_begins_at_the_end_stays_begun(deployment: Deployment, group: str) -> None:
    """Even where its first member died before it had taken anything."""
    deployment.answer(["before"])
    with deployment.client() as client:
        results = client.results(group=group, start="end", timeout_s=JOIN_S)
        deployment.answer(["after"])
        assert next(results).task_id == "after"
        results.close(taken=False)
    with deployment.client() as client:
        again = client.results(group=group, start="end", timeout_s=JOIN_S)
        assert [each.task_id for each in taken(again, 1)] == ["after"]


def test_a_group_cannot_be_polled_as_if_it_were_none(deployment: Deployment, group: str) -> None:
    with deployment.client() as client, client.results(group=group) as results:
        for call in (results.poll, results.held):
            with pytest.raises(RuntimeError, match="iterate"):
                call()
