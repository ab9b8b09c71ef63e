"""Broken builds of the producer of turns: each takes away one thing that makes a record arrive, once and in order.

That what was given up leaves an epoch behind it (`Parcels.drop_all`) no seed shows: a worker that has given up what may
still arrive is not assigned anything again. tests/contract/test_turn_producer.py holds it on the real broker.

I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch

from streams.transport.parcels import Parcel, Parcels
from streams.transport.sender import Sender
from streams.transport.turn_producer import TurnProducer
from tests.simulation.mutant import TWICE, Mutant

_request, _opened = Sender._request, Parcels._opened


def _numbered_anew(self: Parcels, parcels: Sequence[Parcel]) -> None:
    """What is sent again is another batch to the broker."""
    for parcel in parcels:
        if self.is_under_way(parcel):
            again = Parcel(parcel.tp, self._bytes_max, self._compression, parcel.since)
            for record in DefaultRecordBatch(parcel._data):
                again.fill([record.value], [record.key], 0, record.headers)
            del self._under_way[parcel.tp]
            self._waiting[parcel.tp].appendleft(again)
            self._unsent += again.rows


def _put_back_nowhere(self: Parcels, parcels: Sequence[Parcel]) -> None:
    """Of what was cut off nobody speaks again."""
    for parcel in parcels:
        if self.is_under_way(parcel):
            del self._under_way[parcel.tp]
            self._forget(parcel)
            self._next[parcel.tp], self._epochs[parcel.tp] = 0, self._epochs.get(parcel.tp, 0) + 1
    self.wake()


def _remainder_dropped(self: Parcels, queue: deque[Parcel], tp: Any, now: float) -> Parcel:
    """What a parcel has no room for goes into one that nobody sends."""
    return _opened(self, queue if not queue or queue[-1].first is not None else deque(), tp, now)


def _good_for_all(self: Sender, parcels: list[Parcel], answer: Any) -> None:
    """The answer for one topic-partition is taken for that of all."""
    self._parcels.delivered(parcels)


async def _acknowledged_ahead(self: Sender, brokers: Any, node: int, parcels: list[Parcel]) -> None:
    """What is sent counts as delivered before any broker has it."""
    request = _request(self, brokers, node, parcels)
    self._parcels._rows -= sum(parcel.rows for parcel in parcels)
    self._parcels.wake()
    try:
        await request
    finally:
        self._parcels._rows += sum(parcel.rows for parcel in parcels)


def _failure_forgotten(self: TurnProducer) -> None:
    """A broker that says no is not heard; what it has not taken is let go."""
    if self._failure is not None:
        self._sender.failure = None
        self._parcels.drop_all()


def _always_drained(self: TurnProducer, timeout_s: float = 0.0) -> bool:
    self._sender.hurry()
    self._raise_failure()
    return True


def _not_waited_for(self: TurnProducer, timeout_s: float = 0.0) -> int:
    return self._parcels.drop_unsent() + self._parcels.drop_all()


LOST = frozenset({"P1", "P3", "P7", "Q1", "T1", "A1"})

TURNS: Mapping[str, Mutant] = {
    "a turn that is sent again has numbers of its own": Mutant(
        "streams.transport.parcels.Parcels.put_back", _numbered_anew, TWICE, "turns"
    ),
    "a turn that was cut off is not sent again": Mutant(
        "streams.transport.parcels.Parcels.put_back", _put_back_nowhere, LOST, "turns"
    ),
    "what a parcel has no room for is dropped": Mutant(
        "streams.transport.parcels.Parcels._opened", _remainder_dropped, LOST, "turns"
    ),
    "the answer for one topic-partition counts for all of a turn": Mutant(
        "streams.transport.sender.Sender._settle", _good_for_all, LOST, "turns"
    ),
    "a turn is acknowledged before it is in the log": Mutant(
        "streams.transport.sender.Sender._request", _acknowledged_ahead, LOST, "turns"
    ),
    "a turn that failed is forgotten": Mutant(
        "streams.transport.turn_producer.TurnProducer._raise_failure", _failure_forgotten, LOST, "turns"
    ),
    "a cut does not wait for turns": Mutant(
        "streams.transport.turn_producer.TurnProducer.drained", _always_drained, frozenset({"P3"}), "turns"
    ),
    "turns on their way are given up unheard when partitions go": Mutant(
        "streams.transport.turn_producer.TurnProducer.withdraw", _not_waited_for, frozenset({"P1", "A2"}), "late"
    ),
}
