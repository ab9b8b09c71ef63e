"""PackedConsumer where nobody answers: it goes on asking, and keeps what it was assigned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from streams.transport.batch import TopicPartition
from streams.transport.clients import NotYetError, TransportError, client_config
from streams.transport.packed_consumer import PackedConsumer
from streams.transport.requests import NO_OFFSET
from tests.properties.test_packed import pack
from tests.support.brokers import Settings

TP = TopicPartition("events", 0)


@pytest.fixture
def consumer() -> Iterator[PackedConsumer]:
    config = client_config(Settings("127.0.0.1:1"), None, "consumer", group="g")
    made = PackedConsumer(config, str, frozenset({"events"}), rows_max=10, poll_s=0.01)
    with closing(Closed(made)):
        yield made


class Closed:
    def __init__(self, consumer: PackedConsumer) -> None:
        self._consumer = consumer

    def close(self) -> None:
        self._consumer.close(1.0)


def silent(*_: Any) -> Any:
    raise NotYetError("the broker did not answer for committed positions")


def test_positions_that_nobody_tells_are_asked_for_again(
    consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = consumer._group
    monkeypatch.setattr(group, "committed", silent)
    consumer._unplaced = [TP]
    assert consumer.poll() == []
    assert consumer.assignment() == [TP]
    monkeypatch.setattr(group, "committed", lambda _: {TP: (NO_OFFSET, "")})
    monkeypatch.setattr(group, "watermarks", silent)
    assert consumer.poll() == []
    monkeypatch.setattr(group, "watermarks", lambda tps: dict.fromkeys(tps, (7, 9)))
    assert consumer.poll() == []
    assert consumer._fetches.positions == {TP: 7}
    assert consumer.assignment() == [TP]


def test_what_cannot_be_read_ends_it_and_says_where_it_stands(consumer: PackedConsumer) -> None:
    old = bytearray(pack([b"a"], [b"k"]))
    old[16] = 1
    consumer._fetches.begin({TP: 0})
    with pytest.raises(TransportError, match=r"events\[0\] holds a record batch of format 1"):
        consumer._fetches._unpacked(TP, bytes(old), ())


class Answer(NamedTuple):
    topics: list[tuple[str, list[tuple[Any, ...]]]]


def answered(code: int, data: bytes = b"") -> Answer:
    """As aiokafka has a fetch's answer of the eleventh version."""
    return Answer([(TP.topic, [(TP.partition, code, 9, 9, 0, None, -1, data)])])


@pytest.mark.parametrize("code", [-1, 2, 3, 5, 6, 9, 56, 78, 100])
def test_what_may_pass_is_asked_for_again_with_what_the_brokers_then_say(consumer: PackedConsumer, code: int) -> None:
    """Also what aiokafka does not know by name, as it does 78, OFFSET_NOT_AVAILABLE."""
    fetches = consumer._fetches
    fetches.begin({TP: 0})
    fetches._is_stale = False
    assert fetches._taken({TP: 0}, answered(code)) == []
    assert fetches._is_stale
    assert fetches.positions == {TP: 0}


def test_who_may_not_read_a_topic_is_told_so(consumer: PackedConsumer) -> None:
    consumer._fetches.begin({TP: 0})
    with pytest.raises(TransportError, match="events: TOPIC_AUTHORIZATION_FAILED"):
        consumer._fetches._taken({TP: 0}, answered(29))


def test_the_next_answer_is_asked_for_before_this_one_is_decoded(
    consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches, asked = consumer._fetches, []

    async def send(node: int, request: Any) -> Answer:
        del node
        asked.append(request.topics[0][1][0][1])
        if len(asked) > 1:
            await asyncio.sleep(60)
        return answered(0, pack([b"a"], [b"k"]))

    monkeypatch.setattr(fetches._brokers, "leader", lambda _: 0)
    monkeypatch.setattr(fetches._brokers, "send", send)
    fetches.begin({TP: 0})
    fetches._is_stale = False
    assert [each.rows for each in fetches.wait(1.0)] == [1]
    assert asked == [0, 1]
    assert fetches.wait(0.0) == []  # it is under way, and not asked again
    assert asked == [0, 1]


def test_an_answer_for_where_nobody_reads_any_more_is_not_taken(consumer: PackedConsumer) -> None:
    fetches = consumer._fetches
    data = pack([b"a"], [b"k"])
    for change in (fetches.drop_all, lambda: fetches.begin({TP: 5}), lambda: consumer.pause([TP])):
        fetches.drop_all()
        fetches.begin({TP: 0})
        change()
        assert fetches._taken({TP: 0}, answered(0, data)) == []
    fetches.drop_all()
    fetches.begin({TP: 0})
    assert [each.rows for each in fetches._taken({TP: 0}, answered(0, data))] == [1]
    assert fetches.positions == {TP: 1}
    assert consumer.lag() == {TP: 8}


def led(consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch, leader: int | None = 0) -> list[float]:
    """Brokers that say who leads it; gives when they were asked."""
    fetches, asked = consumer._fetches, []

    async def refresh(_topics: Any) -> None:
        asked.append(time.monotonic())

    monkeypatch.setattr(fetches._brokers, "refresh", refresh)
    monkeypatch.setattr(fetches._brokers, "leader", lambda _: leader)
    fetches.begin({TP: 0})
    return asked


def test_a_topic_that_may_not_be_seen_any_more_is_told(
    consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    led(consumer, monkeypatch)
    monkeypatch.setattr(type(consumer._fetches._brokers), "forbidden", frozenset({TP.topic}))
    with pytest.raises(TransportError, match="events: TOPIC_AUTHORIZATION_FAILED"):
        consumer._fetches.wait(0.01)


def test_who_leads_what_is_not_asked_without_a_pause(consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = led(consumer, monkeypatch, leader=None)
    for _ in range(20):
        assert consumer._fetches.wait(0.01) == []
    assert len(asked) > 1
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 0.05


@pytest.mark.parametrize("change", ["drop", "resume"])
def test_nobody_waits_for_an_answer_that_is_no_longer_what_is_wanted(
    consumer: PackedConsumer, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A broker that has nothing takes its time, and answers one request after the other."""
    fetches, other = consumer._fetches, TopicPartition(TP.topic, 1)
    led(consumer, monkeypatch)
    fetches.begin({other: 0})
    asked: list[list[int]] = []
    hung_up: list[int] = []

    async def send(_node: int, request: Any) -> Answer:
        asked.append([each[0] for _, partitions in request.topics for each in partitions])
        if len(asked) == 1:
            await asyncio.sleep(60)
        return answered(0, pack([b"a"], [b"k"]))

    monkeypatch.setattr(fetches._brokers, "send", send)
    monkeypatch.setattr(fetches._brokers, "hang_up", hung_up.append)
    consumer.pause([other])
    assert fetches.wait(0.01) == []
    consumer.pause([other])  # which changes nothing
    assert hung_up == []
    if change == "drop":
        fetches.drop_all()
        fetches.begin({TP: 0, other: 0})
    else:
        consumer.resume([other])
    assert hung_up == [0]
    assert [each.rows for each in fetches.wait(5.0)] == [1]
    assert asked[:2] == [[0], [0, 1]]
