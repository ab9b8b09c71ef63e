"""A process that ends cleanly leaves its slot, and the others have its partitions at once; on a real broker."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from console.local.broker import LocalBroker
from schemas.settings import Settings as StoreSettings
from schemas.topics import TopicSpec
from schemas.topology import load_topology
from streams.history.sink import member_of
from streams.transport.admin import ensure_topics
from streams.transport.batch import TopicPartition
from streams.transport.clients import TransportError, client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.packed_consumer import PackedConsumer
from streams.transport.slots import instance_of
from streams.transport.vacating import vacate
from tests.support.brokers import Settings
from tests.support.waiting import PATIENCE, deadline_in

pytestmark = [pytest.mark.broker, pytest.mark.timeout(PATIENCE * 90)]

SESSION_S = 60.0


def test_its_partitions_go_to_the_others_long_before_its_session_is_over(
    local_broker: LocalBroker, prefix: str
) -> None:
    topic, settings = f"{prefix}slots", Settings(local_broker.address)
    ensure_topics(settings, [TopicSpec(topic, None, 2, "delete", 3_600_000)])
    configs = [_member(settings, f"{prefix}group", slot, topic) for slot in ("a", "b")]
    with closing(_reader(configs[0])) as gone, closing(_reader(configs[1])) as left:
        gone.subscribe([topic])
        left.subscribe([topic])
        _poll_until(lambda: len(gone.assignment()) == len(left.assignment()) == 1, gone, left)
        gone.close()
        began = time.monotonic()
        vacate(configs[0], SESSION_S / 2)
        _poll_until(lambda: set(left.assignment()) == {TopicPartition(topic, 0), TopicPartition(topic, 1)}, left)
        assert time.monotonic() - began < SESSION_S, "a session of its former self later they come by themselves"


def test_a_store_that_is_started_again_in_its_slot_reads_on_at_once_and_ends_its_former_self(
    local_broker: LocalBroker, prefix: str, repository: Path
) -> None:
    topology = load_topology(repository / "topology.yaml").model_copy(update={"prefix": prefix})
    settings = StoreSettings.resolve({"broker": local_broker.address, "store_slot": "only"}, {})
    ensure_topics(settings, topology.topics().specs(), topology)
    names = [topology.topics().submitted, topology.topics().results]
    config = {**member_of(settings, topology, names), "session.timeout.ms": int(SESSION_S * 1000)}
    first, again = (PackedConsumer(config, str, frozenset(), rows_max=10, poll_s=0.05) for _ in range(2))
    with ExitStack() as ends:
        ends.callback(first.close, 5.0)
        ends.callback(again.close, 5.0)
        first.subscribe(names)
        _poll_until(lambda: len(first.assignment()) == 2 * topology.partitions, first)
        began = time.monotonic()
        again.subscribe(names)
        _poll_until(lambda: len(again.assignment()) == 2 * topology.partitions, again)
        with pytest.raises(TransportError, match="fenced"):
            _poll_until(lambda: False, first)
        assert time.monotonic() - began < SESSION_S, "it did not wait for the session of its former self"


def test_a_store_of_other_topics_is_another_member(repository: Path) -> None:
    settings, topology = StoreSettings.resolve({"store_slot": "only"}, {}), load_topology(repository / "topology.yaml")
    one, other = (member_of(settings, topology, names)["group.instance.id"] for names in (["a", "b"], ["a"]))
    assert one != other
    assert one.startswith("only-")
    assert "group.instance.id" not in member_of(StoreSettings.resolve({}, {}), topology, ["a"])


def test_who_has_no_slot_or_no_broker_is_done_at_once() -> None:
    nowhere = Settings("127.0.0.1:1")
    vacate(client_config(nowhere, None, "consumer", group="g", name="test"))
    vacate(_member(nowhere, "g", "a", "t"), 0.5)


def _member(settings: Settings, group: str, slot: str, topic: str) -> dict[str, Any]:
    config = client_config(settings, None, "consumer", group=group, instance=instance_of(slot, [topic]), name="test")
    return {**config, "session.timeout.ms": int(SESSION_S * 1000)}


def _reader(config: dict[str, Any]) -> BatchConsumer:
    return BatchConsumer(config, str, rows_max=10, bytes_max=1 << 20, poll_s=0.05)


def _poll_until(holds: Any, *readers: BatchConsumer | PackedConsumer) -> None:
    deadline = deadline_in(12)
    while not holds():
        assert time.monotonic() < deadline, "they did not come"
        for reader in readers:
            reader.poll()
