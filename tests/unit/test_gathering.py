"""How long readers gather, and that what they gather is one assignment's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streams.transport import consumer as consumer_module
from streams.transport.consumer import BatchConsumer
from streams.transport.gathering import BUSY_ROWS_PER_S, SHORTEST_S, Gathering

LONGEST_S = 0.1


def after(rows_per_s: float, seconds: float = 2.0) -> float:
    """What a reader waits that has read so many rows a second for so long."""
    gathering, now_s, step_s = Gathering(LONGEST_S), 100.0, 0.02
    for _ in range(int(seconds / step_s)):
        now_s += step_s
        gathering.saw(int(rows_per_s * step_s), now_s)
    return gathering.wait_s


def test_who_has_read_nothing_hardly_waits() -> None:
    assert Gathering(LONGEST_S).wait_s == SHORTEST_S


def test_the_wait_grows_with_the_rate_up_to_its_bound() -> None:
    assert after(500) == SHORTEST_S
    assert after(BUSY_ROWS_PER_S / 2) == pytest.approx(LONGEST_S / 2, rel=0.05)
    assert after(BUSY_ROWS_PER_S * 10) == LONGEST_S


def test_the_wait_never_exceeds_what_was_allowed() -> None:
    assert Gathering(SHORTEST_S / 5).wait_s == SHORTEST_S / 5


class Message:
    """Of topic t, partition 0."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return b"value"

    def key(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def error(self) -> None:
        return None

    def __len__(self) -> int:
        return 5


class Client:
    """A librdkafka consumer that gives what it is told, call by call; a call may serve a rebalance first."""

    def __init__(self, calls: list[tuple[bool, list[int]]]) -> None:
        self._calls = iter(calls)
        self._on_revoke: Callable[[Any, list[Any]], None] | None = None

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        del topics, on_assign, on_lost
        self._on_revoke = on_revoke

    def resume(self, partitions: list[Any]) -> None:
        del partitions

    def consume(self, count: int, timeout: float) -> list[Message]:
        del timeout
        rebalances, offsets = next(self._calls)
        if rebalances:
            assert self._on_revoke is not None
            self._on_revoke(self, [])
        assert len(offsets) <= count
        return list(map(Message, offsets))


def polled(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[bool, list[int]]]) -> list[int]:
    client = Client(calls)
    monkeypatch.setattr(consumer_module, "opened", lambda *_: client)
    reader = BatchConsumer({}, str, rows_max=10, bytes_max=1000, poll_s=1.0, gathering=Gathering(LONGEST_S))
    reader.subscribe(["t"])
    return [offset for batch in reader.poll() for offset in batch.offsets.tolist()]


def test_the_first_record_and_its_company_are_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [7]), (False, [8, 9])]) == [7, 8, 9]


def test_nothing_is_gathered_where_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [])]) == []


def test_what_was_read_before_a_rebalance_is_not_taken_for_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    assert polled(monkeypatch, [(False, [7]), (True, [3, 4])]) == [3, 4]
