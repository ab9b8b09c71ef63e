"""Whom whole record batches are asked of, and how often, where several brokers lead what is read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streams.transport import fetches as fetches_module
from streams.transport.batch import TopicPartition
from streams.transport.clients import ConnectionWatch, client_config
from streams.transport.fetch_wire import Answer, Fetch
from streams.transport.fetches import Fetches
from streams.transport.gathered import Gathered
from streams.transport.gathering import Gathering
from tests.properties.test_packed import pack
from tests.support.brokers import Settings

QUICK, SLOW = 1, 2
DELAYS_S = {QUICK: 0.001, SLOW: 0.05}


class Two:
    """Brokers that have nothing at once, a quick one, and a slow one; and what the quick one has in the end."""

    forbidden = frozenset[str]()

    def __init__(self, *_: Any) -> None:
        self.asked: Counter[int] = Counter()
        self.delays_s = dict(DELAYS_S)
        self.found = b""

    async def refresh(self, _: Any) -> None:
        pass

    def leader(self, tp: TopicPartition) -> int:
        return tp.partition

    async def send(self, node: int, request: Fetch) -> Answer:
        self.asked[node] += 1
        waits = request._max_wait_ms > 0
        await asyncio.sleep(self.delays_s[node] + (0.1 if waits and self.found else request._max_wait_ms / 1000))
        said = 0, 1, 1, 0, (), -1, self.found if waits and node == QUICK else b""
        return Answer([(topic, [(number, *said) for number, *_ in own]) for topic, own in request._topics])

    def hang_up(self, node: int) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Gathered, Any]]:
    monkeypatch.setattr(fetches_module, "Brokers", Two)
    config = client_config(Settings("localhost:1"), None, "consumer", group="g")
    fetches = Fetches(config, ConnectionWatch("c"), ahead=False)
    fetches.begin({TopicPartition("t", QUICK): 0, TopicPartition("t", SLOW): 0})
    yield Gathered(fetches, Gathering(0.005, 0.5), 100), fetches._brokers
    fetches.close()


def test_a_broker_that_has_nothing_is_not_asked_again_while_another_is_still_to_answer(
    read: tuple[Gathered, Any],
) -> None:
    gathered, brokers = read
    assert gathered.read(0.3) == []
    assert brokers.asked == {QUICK: 2, SLOW: 2}  # at once, and then for as long as it takes


def test_what_one_broker_has_does_not_wait_for_another_that_is_silent(read: tuple[Gathered, Any]) -> None:
    gathered, brokers = read
    brokers.delays_s[SLOW], brokers.found = 60.0, pack([b"v"], [b"k"])
    (found,) = gathered.read(10.0)
    assert found.tp == ("t", QUICK)
    assert brokers.asked == {QUICK: 2, SLOW: 1}


def test_who_reaches_nobody_says_why(read: tuple[Gathered, Any], caplog: pytest.LogCaptureFixture) -> None:
    gathered, brokers = read

    async def refused(_: Any) -> None:
        raise ConnectionRefusedError("nobody listens there")

    brokers.refresh = refused
    assert gathered.read(0.3) == []
    assert [record.getMessage() for record in caplog.records] == [
        "c: no broker can be reached; it keeps trying (nobody listens there)"
    ]


class One(Two):
    """A broker that leads two partitions which both end at 1, and has room for the records of one of them."""

    def leader(self, tp: TopicPartition) -> int:
        return QUICK

    async def send(self, node: int, request: Fetch) -> Answer:
        self.asked[node] += 1
        said = (0, 1, 1, 0, (), -1)
        ((topic, own),) = request._topics
        return Answer([(topic, [(number, *said, self.found if number == 0 else b"") for number, *_ in own])])


def test_a_log_is_at_its_end_where_the_rest_of_it_was_compacted_away_and_not_where_there_was_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetches_module, "Brokers", One)
    config = client_config(Settings("localhost:1"), None, "consumer")
    fetches = Fetches(config, ConnectionWatch("c"), ahead=False)
    first, second = TopicPartition("t", 0), TopicPartition("t", 1)
    brokers: Any = fetches._brokers
    fetches.begin({first: 0, second: 0})
    assert fetches.at_end() == {}, "nothing was heard of them"
    brokers.found = pack([b"v"], [b"k"])
    (found,) = fetches.wait(10.0)
    assert (found.tp, fetches.positions) == (first, {second: 0, first: 1})
    assert fetches.at_end() == {first: 1}
    brokers.found = b""
    assert fetches.wait(10.0) == []
    assert fetches.at_end() == {first: 1, second: 1}
    fetches.close()
