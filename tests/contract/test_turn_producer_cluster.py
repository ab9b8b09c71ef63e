"""A producer of turns and three brokers: leaders move and nodes die in the midst of turns; each record arrives once.

It takes a minute, and is asked for: POINTSMAN_FULL_LOAD=1.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.transport.clients import client_config
from streams.transport.turn_producer import TurnProducer
from tests.support.brokers import Settings
from tests.support.cluster import NODES, Cluster
from tests.support.waiting import until
from tests.support.wire import read_topic

pytestmark = [
    pytest.mark.broker,
    pytest.mark.timeout(600),
    pytest.mark.skipif("POINTSMAN_FULL_LOAD" not in os.environ, reason="three brokers take a minute"),
]

WAIT_S = 120.0
PARTITIONS = 6


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        until(lambda: len(admin(cluster).list_topics(timeout=10).brokers) == NODES, WAIT_S)
        yield cluster


def admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.address})


def leaders(cluster: Cluster, topic: str) -> dict[int, int]:
    partitions = admin(cluster).list_topics(topic, timeout=10).topics[topic].partitions
    return {number: each.leader for number, each in partitions.items()}


def in_sync(cluster: Cluster, topic: str) -> bool:
    partitions = admin(cluster).list_topics(topic, timeout=10).topics[topic].partitions
    return len(partitions) == PARTITIONS and all(len(each.isrs) == NODES for each in partitions.values())


def created(cluster: Cluster, topic: str) -> None:
    client = admin(cluster)  # kept: its futures fail with it
    made = client.create_topics([NewTopic(topic, PARTITIONS, NODES, config={"min.insync.replicas": "2"})])
    made[topic].result(60)
    until(lambda: in_sync(cluster, topic), WAIT_S)
    # Each node hears of it in its own time, and any of them may be asked.
    until(lambda: set(leaders(cluster, topic).values()) == set(range(1, NODES + 1)), WAIT_S)


def played(cluster: Cluster, topic: str, turns: int, troubles: dict[int, Callable[[], object]]) -> None:
    """Sends turns to all topic-partitions, with what happens after some of them; then each record is there once, and
    in order."""
    values = {number: [b"%d-%05d" % (number, place) for place in range(5 * turns)] for number in range(PARTITIONS)}
    with closing(TurnProducer(client_config(Settings(cluster.address), None, "producer"))) as to:
        for turn in range(turns):
            for number, each in values.items():
                to.send(topic, number, each[5 * turn : 5 * turn + 5])
            to.poll()
            if turn in troubles:
                troubles[turn]()
            time.sleep(0.02)
        to.flush(WAIT_S)
    found: dict[int, list[bytes | None]] = {number: [] for number in range(PARTITIONS)}
    for message in read_topic(cluster.address, topic):
        number = message.partition()
        assert number is not None
        found[number].append(message.value())
    assert found == values


def test_a_node_that_is_killed_in_the_midst_of_turns_loses_and_repeats_nothing(cluster: Cluster) -> None:
    created(cluster, "killed")
    node = cluster.nodes[leaders(cluster, "killed")[0]]
    played(cluster, "killed", 300, {60: node.kill, 200: node.start})
    until(lambda: in_sync(cluster, "killed"), WAIT_S)


def test_each_node_is_killed_and_comes_back_one_after_the_other(cluster: Cluster) -> None:
    created(cluster, "each")
    troubles: dict[int, Callable[[], object]] = {}
    for place, node in enumerate(cluster.nodes.values()):

        def back(node: object = node) -> None:
            node.start()  # type: ignore[attr-defined]
            until(lambda: in_sync(cluster, "each"), WAIT_S)

        troubles |= {60 + 150 * place: node.kill, 150 + 150 * place: back}
    played(cluster, "each", 480, troubles)


def test_with_one_replica_alone_nothing_is_taken_and_nothing_is_lost(cluster: Cluster) -> None:
    """What one node has and cannot pass on it has to take again (NOT_ENOUGH_REPLICAS_AFTER_APPEND, or no leader)."""
    created(cluster, "alone")
    first, second, _ = cluster.nodes.values()

    def back() -> None:
        time.sleep(4.0)
        first.start()

    def whole() -> None:
        second.start()
        until(lambda: in_sync(cluster, "alone"), WAIT_S)

    def both() -> None:
        first.kill()
        second.kill()

    played(cluster, "alone", 200, {50: both, 100: back, 150: whole})


def test_leaders_that_move_by_election_and_by_silence(cluster: Cluster) -> None:
    created(cluster, "moved")
    first = leaders(cluster, "moved")[0]
    node, own = cluster.nodes[first], [number for number, each in leaders(cluster, "moved").items() if each == first]

    def silent() -> None:
        assert node.pid is not None
        os.kill(node.pid, signal.SIGSTOP)
        until(lambda: leaders_without(cluster, "moved", node.port), WAIT_S)

    def heard() -> None:
        assert node.pid is not None
        os.kill(node.pid, signal.SIGCONT)
        until(lambda: in_sync(cluster, "moved"), WAIT_S)

    def preferred() -> None:
        tps = [TopicPartition("moved", number) for number in own]
        client = admin(cluster)
        client.elect_leaders(ElectionType.PREFERRED, tps).result(60)
        until(lambda: all(leaders(cluster, "moved")[number] == first for number in own), WAIT_S)

    try:
        played(cluster, "moved", 300, {60: silent, 140: heard, 200: preferred})
    finally:
        if node.pid is not None:
            os.kill(node.pid, signal.SIGCONT)


def leaders_without(cluster: Cluster, topic: str, port: int) -> bool:
    """Asked of the others: who is silent says nothing."""
    others = ",".join(node.address for node in cluster.nodes.values() if node.port != port)
    found = AdminClient({"bootstrap.servers": others}).list_topics(topic, timeout=20)
    gone = {each.id for each in found.brokers.values() if each.port == port}
    return all(each.leader > 0 and each.leader not in gone for each in found.topics[topic].partitions.values())
