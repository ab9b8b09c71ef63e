"""Broken builds of exactly_once: each takes away one thing that makes a cut one transaction. I/O: none."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import confluent_kafka as ck

from streams.processors.cuts import InTransaction
from streams.transport.clients import _BY_ROLE
from streams.transport.transactions import TransactionalProducer, TransactionLostError
from tests.simulation.mutant import Mutant

_commit, _add = TransactionalProducer.commit, TransactionalProducer._add
NOBODY = b"CGMDv2:" + (-1).to_bytes(4, sys.byteorder, signed=True) + b"pointsman-worker\0\0\1"
"""The group's metadata of a member that does not say which one it is."""


async def _positions_first(self: InTransaction, positions: Mapping[tuple[str, int], tuple[int, str]]) -> None:
    await self._driver.commit(positions)  # type: ignore[attr-defined]
    await self._producer.commit(positions, self._driver.membership(positions))


def _output_alone(self: TransactionalProducer, offsets: list[ck.TopicPartition], membership: Any) -> None:
    self._producer.commit_transaction(self._timeout_s)
    self._producer.begin_transaction()
    self._producer.send_offsets_to_transaction(offsets, membership, self._timeout_s)
    self._producer.commit_transaction(self._timeout_s)
    self._producer.begin_transaction()


async def _kept(
    self: TransactionalProducer, positions: Mapping[tuple[str, int], tuple[int, str]], membership: Any
) -> None:
    """What came of a commit is not asked: the same producer goes on."""
    try:
        await _commit(self, positions, membership)
    except TransactionLostError:
        self._lost, self._is_committing = None, False
        self._producer.abort_transaction(self._timeout_s)
        self._producer.begin_transaction()


async def _anonymous(self: InTransaction, positions: Mapping[tuple[str, int], tuple[int, str]]) -> None:
    self._driver.membership(positions)
    await self._producer.commit(positions, NOBODY)


def _not_kept_back(self: TransactionalProducer, send: Any) -> None:
    """What is sent during a commit joins the transaction that ends."""
    was, self._is_committing = self._is_committing, False
    try:
        _add(self, send)
    finally:
        self._is_committing = was


def _kept_when_lost(self: TransactionalProducer) -> None:
    pass


READS_ALL = {**_BY_ROLE, "consumer": {**_BY_ROLE["consumer"], "isolation.level": "read_uncommitted"}}
"""Settings of clients, of which consumers read what is not committed, and what never will be."""

DOUBLED = frozenset({"P1", "A2", "P4"})

TRANSACTIONS: Mapping[str, Mutant] = {
    "positions are committed before the transaction, not in it": Mutant(
        "streams.processors.cuts.InTransaction.commit", _positions_first, frozenset({"P3", "P1"}), "crashes"
    ),
    "output is committed in one transaction, its positions in the next": Mutant(
        "streams.transport.transactions.TransactionalProducer._end", _output_alone, DOUBLED, "crashes"
    ),
    "a producer is kept after an outcome that is not known": Mutant(
        "streams.transport.transactions.TransactionalProducer.commit", _kept, DOUBLED | {"P3", "P7"}, "outages"
    ),
    "a transaction does not say whose it is": Mutant(
        "streams.processors.cuts.InTransaction.commit", _anonymous, DOUBLED | {"P5"}, "takeovers"
    ),
    "what is sent during a commit joins the transaction that ends": Mutant(
        "streams.transport.transactions.TransactionalProducer._add", _not_kept_back, DOUBLED, "crashes"
    ),
    "output of lost partitions is kept for the next transaction": Mutant(
        "streams.transport.transactions.TransactionalProducer.abandon", _kept_when_lost, DOUBLED, "takeovers"
    ),
    "readers do not wait for what is committed": Mutant(
        "streams.transport.clients._BY_ROLE", READS_ALL, DOUBLED | {"A1", "T1", "P7"}, "crashes"
    ),
}
