"""The in-memory broker: topics, producers and their transactions, groups; up, or gone for a while.

Clients reach it through `Wire`, which delays and loses what it carries. Sources: KIP-98, KIP-360, KIP-447. I/O: none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import confluent_kafka as ck

from tests.simulation.groups import Group, Offsets
from tests.simulation.log import FencedError, Partition, ProducerId, Record
from tests.simulation.world import Event, World

SWEEP_S = 1.0
"""How often a broker that was away looks again for transactions whose time is over."""


class BrokerError(Exception):
    """An error code of Kafka's."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(ck.KafkaError(code).str())


@dataclass(slots=True, eq=False)
class Transaction:
    """What a transactional id has under way."""

    producer: ProducerId
    timeout_s: float
    is_open: bool = False
    committed: bool | None = None
    """How the last one ended."""
    partitions: dict[tuple[str, int], Partition] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    sweep: Event | None = None


class Broker:
    """One broker that leads everything. `skew_s` is what its clock is ahead of the world's."""

    def __init__(self, world: World, skew_s: float = 0.0) -> None:
        self.world, self.skew_s = world, skew_s
        self.topics: dict[str, list[Partition]] = {}
        self.configs: dict[str, Mapping[str, str]] = {}
        self.groups: dict[str, Group] = {}
        self.transactions: dict[str, Transaction] = {}
        self.is_up = True
        self.refused: set[str] = set()
        """Topics that take nothing at the moment."""
        self.on_change: list[Callable[[], object]] = []
        self.on_commit: list[Callable[[Collection[tuple[str, int]]], object]] = []
        """Told of each transaction that was committed: where it has written."""
        self._producers = 0

    def now_ms(self) -> int:
        return self.world.now_ms() + int(self.skew_s * 1000)

    def create(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        if topic in self.topics:
            raise BrokerError(ck.KafkaError.TOPIC_ALREADY_EXISTS)
        self.topics[topic] = [Partition(topic, number) for number in range(partitions)]
        self.configs[topic] = {"message.timestamp.type": "CreateTime", **(config or {})}

    def partition(self, topic: str, number: int) -> Partition:
        partitions = self.topics.get(topic, [])
        if not 0 <= number < len(partitions):
            raise BrokerError(ck.KafkaError.UNKNOWN_TOPIC_OR_PART)
        return partitions[number]

    def group(self, name: str) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(
                self.world, name, lambda topic: len(self.topics.get(topic, [])), lambda: self.is_up
            )
        return self.groups[name]

    def stop(self) -> None:
        self.world.note("broker", "DOWN")
        self.is_up = False
        for heard in list(self.on_change):
            heard()

    def start(self) -> None:
        self.world.note("broker", "UP")
        self.is_up = True
        for group in self.groups.values():
            group.see_all()
        for heard in list(self.on_change):
            heard()

    def compact(self) -> None:
        """The log cleaner's round."""
        for topic, config in self.configs.items():
            for partition in self.topics[topic] if config.get("cleanup.policy") == "compact" else ():
                partition.compact()

    # ------------------------------------------------------------------ producing

    def new_producer(self) -> ProducerId:
        self._producers += 1
        return ProducerId(self._producers, 0)

    def append(
        self,
        tp: tuple[str, int],
        records: list[Record],
        producer: ProducerId | None = None,
        sequence: int | None = None,
        transactional_id: str | None = None,
    ) -> None:
        """Raises BrokerError."""
        partition = self.partition(*tp)
        if tp[0] in self.refused:
            raise BrokerError(ck.KafkaError.TOPIC_AUTHORIZATION_FAILED)
        now_ms = self.now_ms()
        for record in records:
            record.timestamp_ms = now_ms
        transaction = None
        if transactional_id is not None and producer is not None:
            transaction = self._of(transactional_id, producer)
        try:
            is_new = partition.append(records, producer, sequence, in_transaction=transaction is not None)
        except LookupError as error:
            raise BrokerError(ck.KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER) from error
        except FencedError as error:
            raise BrokerError(ck.KafkaError.INVALID_PRODUCER_EPOCH) from error
        # What comes again may come after its transaction has ended, and opens none.
        if transaction is not None and is_new:
            self._open(transaction)
            transaction.partitions[tp] = partition

    # ------------------------------------------------------------------ transactions

    def init_transactions(self, transactional_id: str, timeout_s: float) -> ProducerId:
        """A new epoch: the former holder of the id is fenced, and what it left open is aborted."""
        known = self.transactions.get(transactional_id)
        if known is None:
            producer = self.new_producer()
        else:
            if known.is_open:
                self._end(known, commit=False)
            producer = known.producer._replace(epoch=known.producer.epoch + 1)
        self.transactions[transactional_id] = Transaction(producer, timeout_s)
        return producer

    def add_offsets(
        self,
        transactional_id: str,
        producer: ProducerId,
        group_name: str,
        member_id: str,
        generation: int,
        offsets: Offsets,
    ) -> None:
        """Raises BrokerError: for a member that is out of its group, too (KIP-447)."""
        transaction = self._of(transactional_id, producer)
        group = self.group(group_name)
        code = group.refusal(member_id, generation, in_transaction=True)
        if code:
            raise BrokerError(code)
        self._open(transaction)
        transaction.groups[group_name] = group
        group.pending.setdefault(producer.number, {}).update(offsets)

    def end_transaction(self, transactional_id: str, producer: ProducerId, *, commit: bool) -> None:
        """Raises BrokerError."""
        transaction = self._of(transactional_id, producer)
        if transaction.is_open:
            self._end(transaction, commit=commit)
        elif transaction.committed is not commit:  # the same request may come again
            raise BrokerError(ck.KafkaError.INVALID_TXN_STATE)

    def _of(self, transactional_id: str, producer: ProducerId) -> Transaction:
        transaction = self.transactions.get(transactional_id)
        if transaction is None or transaction.producer.number != producer.number:
            raise BrokerError(ck.KafkaError.INVALID_PRODUCER_ID_MAPPING)
        if transaction.producer.epoch != producer.epoch:
            raise BrokerError(ck.KafkaError.INVALID_PRODUCER_EPOCH)
        return transaction

    def _open(self, transaction: Transaction) -> None:
        if not transaction.is_open:
            transaction.is_open, transaction.committed = True, None
            transaction.sweep = self.world.at(transaction.timeout_s, lambda: self._time_out(transaction))

    def _time_out(self, transaction: Transaction) -> None:
        """The sweep aborts, and fences who began it."""
        if not self.is_up:
            transaction.sweep = self.world.at(SWEEP_S, lambda: self._time_out(transaction))
        elif transaction.is_open:
            self._end(transaction, commit=False)
            transaction.producer = transaction.producer._replace(epoch=transaction.producer.epoch + 1)

    def _end(self, transaction: Transaction, *, commit: bool) -> None:
        tps = ", ".join(f"{topic}[{number}]" for topic, number in transaction.partitions)
        self.world.note("broker", f"transaction {'committed' if commit else 'ABORTED'}: {tps}")
        for partition in transaction.partitions.values():
            partition.end_transaction(transaction.producer, commit=commit, now_ms=self.now_ms())
        for group in transaction.groups.values():
            offsets = group.pending.pop(transaction.producer.number, {})
            if commit:
                group.store(offsets)
        written = tuple(transaction.partitions)
        transaction.partitions, transaction.groups, transaction.is_open = {}, {}, False
        transaction.committed = commit
        if transaction.sweep is not None:
            transaction.sweep.cancel()
        for heard in self.on_commit if commit else ():
            heard(written)
