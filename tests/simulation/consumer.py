"""The in-memory broker's stand-in for confluent_kafka.Consumer.

It fetches ahead, as librdkafka does; rebalance callbacks and errors are served inside of `consume`. I/O: none.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import confluent_kafka as ck

from tests.simulation.broker import BrokerError
from tests.simulation.log import Partition, Record
from tests.simulation.membership import Membership
from tests.simulation.wire import Client, Cluster, Listing, Message, Parked, Place, exception

FETCH_ROWS_MAX = 50
INVALID = -1001
_EARLIEST, _LATEST, _END, _BEGINNING = -2, -1, -1, -2


class Slot:
    """One assigned partition: `position` is what the application reads next, `fetch_at` what the client fetches."""

    def __init__(self, topic: str, partition: int, position: int) -> None:
        self.topic, self.partition, self.position, self.fetch_at = topic, partition, position, position
        self.queue: deque[Message] = deque()
        self.is_paused, self.is_fetching, self.is_failed = False, False, False
        self.high, self.told_end, self.read_any = -1, -1, False
        self.version = 0

    def restart(self) -> None:
        """What was fetched ahead is thrown away, and an answer that is on its way is of no interest."""
        if self.position < 0:
            return  # nothing is fetched yet: it is being asked where to begin
        self.queue.clear()
        self.fetch_at, self.is_fetching, self.told_end = self.position, False, -1
        self.version += 1


class Consumer(Client):
    """As confluent_kafka's, of the cluster `cluster`."""

    def __init__(self, cluster: Cluster, config: Mapping[str, Any]) -> None:
        super().__init__(cluster, config)
        self._committed_only = config.get("isolation.level", "read_committed") == "read_committed"
        self._tells_end = bool(config.get("enable.partition.eof", False))
        self._reset = str(config.get("auto.offset.reset", "latest"))
        self._slots: dict[tuple[str, int], Slot] = {}
        self._paused: set[tuple[str, int]] = set()  # as librdkafka does it, over all assignments until they are resumed
        self._messages: deque[Message] = deque()
        self._found: list[Message] = []
        self.membership = Membership(self)

    # ------------------------------------------------------------------ groups

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callable[..., None] | None = None,
        on_revoke: Callable[..., None] | None = None,
        on_lost: Callable[..., None] | None = None,
    ) -> None:
        self.membership.subscribe(topics, on_assign, on_revoke, on_lost)

    def unsubscribe(self) -> None:
        self.membership.leave()

    def consumer_group_metadata(self) -> bytes:
        """As librdkafka writes them down: generation, group, member, and that there is no group instance."""
        names = f"{self.membership.group}\0{self.membership.member_id}\0".encode()
        return b"CGMDv2:" + self.membership.generation.to_bytes(4, sys.byteorder, signed=True) + names + b"\1"

    def commit(self, offsets: Sequence[ck.TopicPartition] = (), asynchronous: bool = True) -> list[Place]:
        self.point("commit")
        assert not asynchronous, "the transport waits for its commits"
        wanted = {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in offsets}
        membership = self.membership
        # As librdkafka: with whatever member and generation it has when the request is made.
        member, generation = membership.member_id, membership.generation
        code = self.call(
            lambda: self.broker.group(membership.group).commit(member, generation, wanted), membership.session_s
        )
        self.point("committed")
        if code:
            raise exception(code)
        return [Place(*tp, offset) for tp, (offset, _) in wanted.items()]

    def committed(self, partitions: Sequence[Any], timeout: float = -1) -> list[Place]:
        self.point("ask")
        group = self.broker.group(self.membership.group)

        def request() -> list[Place]:
            asked = [(tp.topic, tp.partition) for tp in partitions]
            if any(tp in pending for pending in group.pending.values() for tp in asked):
                raise BrokerError(ck.KafkaError.UNSTABLE_OFFSET_COMMIT)
            return [Place(*tp, *group.offsets.get(tp, (INVALID, ""))) for tp in asked]

        found: list[Place] = self.call(request, timeout)
        return found

    # ------------------------------------------------------------------ reading

    def assign(self, partitions: Sequence[Any]) -> None:
        self.membership.was_assigned = True
        self._slots = {(tp.topic, tp.partition): Slot(tp.topic, tp.partition, tp.offset) for tp in partitions}
        self._messages.clear()
        # As librdkafka does it: what a call has gathered before it served a rebalance is outdated.
        self._found.clear()
        for slot in self._slots.values():
            slot.is_paused = (slot.topic, slot.partition) in self._paused
            self._begin(slot)

    def unassign(self) -> None:
        self.assign([])

    def assignment(self) -> list[ck.TopicPartition]:
        return [ck.TopicPartition(*tp) for tp in self._slots]

    def position(self, partitions: Sequence[Any]) -> list[Place]:
        slots = [self._slots.get((tp.topic, tp.partition)) for tp in partitions]
        return [Place(s.topic, s.partition, s.position if s.read_any else INVALID) for s in slots if s is not None]

    def get_watermark_offsets(self, partition: Any, timeout: float = -1, cached: bool = False) -> tuple[int, int]:
        assert cached, "the others come from offsets_for_times"
        slot = self._slots.get((partition.topic, partition.partition))
        return (0, INVALID) if slot is None or slot.high < 0 else (0, slot.high)

    def pause(self, partitions: Sequence[Any]) -> None:
        for slot in self._known(partitions):
            slot.is_paused = True
            self._paused.add((slot.topic, slot.partition))
            slot.restart()

    def resume(self, partitions: Sequence[Any]) -> None:
        for slot in self._known(partitions):
            slot.is_paused = False
            self._paused.discard((slot.topic, slot.partition))
            self._fetch(slot)

    def _known(self, partitions: Sequence[Any]) -> list[Slot]:
        return [self._slots[tp.topic, tp.partition] for tp in partitions if (tp.topic, tp.partition) in self._slots]

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        assert timeout >= 0, "P11: a wait without an end"
        self.point("poll")
        self.membership.polled()
        until = self.world.now + timeout
        found = self._found = []
        while True:
            self.serve_errors()
            self.membership.serve()
            found += self._take(num_messages - len(found))
            if len(found) >= num_messages or self.world.now >= until:
                break
            self.world.block(self.came, until - self.world.now)
        self.point("polled")
        if found and self.cluster.on_read is not None:
            self.cluster.on_read(self.process, found)
        return found

    def tell(self, message: Message) -> None:
        """Something that `consume` will give."""
        self._messages.append(message)
        self.came.set()

    def _take(self, most: int) -> list[Message]:
        found: list[Message] = []
        while self._messages and len(found) < most:
            found.append(self._messages.popleft())
        slots = [slot for slot in self._slots.values() if slot.queue]
        if not slots:
            return found
        if len(slots) > 1:
            self.world.rng.shuffle(slots)
        for slot in slots:
            while slot.queue and len(found) < most:
                message = slot.queue.popleft()
                if message.error() is None:
                    slot.position, slot.read_any = message.offset() + 1, True
                found.append(message)
            self._fetch(slot)
        return found

    # ------------------------------------------------------------------ fetching

    def _begin(self, slot: Slot) -> None:
        if slot.position >= 0:
            self._fetch(slot)
            return
        group = self.broker.group(self.membership.group)
        tp = (slot.topic, slot.partition)
        self._ask(slot, lambda _: group.offsets.get(tp, (INVALID, ""))[0], lambda offset: self._place(slot, offset))

    def _place(self, slot: Slot, offset: int) -> None:
        if offset >= 0:
            slot.position = slot.fetch_at = offset
            self._fetch(slot)
        else:
            self._jump(slot)

    def _jump(self, slot: Slot) -> None:
        """As `auto.offset.reset` says."""
        if self._reset == "error":
            slot.is_failed = True
            error = ck.KafkaError(ck.KafkaError._AUTO_OFFSET_RESET, "no previously committed offset, or out of range")
            self.tell(Message(slot.topic, slot.partition, slot.position, error=error))
            return
        earliest = self._reset in ("earliest", "smallest", "beginning")
        self._ask(slot, lambda p: p.start if earliest else p.end, lambda offset: self._place(slot, offset))

    def _ask(self, slot: Slot, request: Callable[[Partition], Any], told: Callable[[Any], None]) -> None:
        """Asks the partition's leader, until it answers."""
        version = slot.version
        slot.is_fetching = True

        def answered(answer: Any) -> None:
            if slot.version == version and self._slots.get((slot.topic, slot.partition)) is slot:
                slot.is_fetching = False
                slot.version += 1  # a second answer is of no interest
                if isinstance(answer, BrokerError):
                    self.process.later(0.1, lambda: self._begin(slot))
                else:
                    told(answer)

        def again() -> None:
            if slot.version == version and self._slots.get((slot.topic, slot.partition)) is slot:
                self._ask_once(slot, request, answered)
                self.process.later(1.0, again)

        again()

    def _ask_once(self, slot: Slot, request: Callable[[Partition], Any], answered: Callable[[Any], None]) -> None:
        self.connection.send(lambda: request(self.broker.partition(slot.topic, slot.partition)), answered)

    def _fetch(self, slot: Slot) -> None:
        if (
            slot.is_fetching
            or slot.is_paused
            or slot.is_failed
            or slot.position < 0
            or len(slot.queue) > FETCH_ROWS_MAX
        ):
            return
        slot.is_fetching = True
        version = slot.version
        self.connection.send(
            lambda: self._read(slot, version), lambda answer: self._fetched(slot, version, answer), loses=False
        )

    def _read(self, slot: Slot, version: int) -> tuple[list[Record], int, int] | None:
        """At the broker; where there is nothing to say, the answer waits until there is."""
        partition = self.broker.partition(slot.topic, slot.partition)
        if not partition.start <= slot.fetch_at <= partition.end:
            return None
        rows = self.world.rng.randint(1, FETCH_ROWS_MAX)
        records, next_at = partition.read(slot.fetch_at, rows, committed=self._committed_only)
        end = partition.stable_end if self._committed_only else partition.end
        if next_at == slot.fetch_at and (not self._tells_end or slot.told_end == next_at):
            partition.waiting.append(lambda: self._answer_late(slot, version))
            raise Parked
        return records, next_at, end

    def _answer_late(self, slot: Slot, version: int) -> None:
        if slot.version == version and self.process.is_alive:
            with suppress(Parked):
                found = self._read(slot, version)
                self.connection.reply(lambda answer: self._fetched(slot, version, answer), found)

    def _fetched(self, slot: Slot, version: int, answer: Any) -> None:
        if slot.version != version:
            return
        slot.is_fetching = False
        if isinstance(answer, BrokerError):
            self.process.later(0.1, lambda: self._fetch(slot))
            return
        if answer is None:
            self._jump(slot)
            return
        records, slot.fetch_at, slot.high = answer
        slot.queue.extend(
            Message(slot.topic, slot.partition, r.offset, r.key, r.value, r.headers, r.timestamp_ms) for r in records
        )
        if self._tells_end and slot.fetch_at == slot.high and slot.told_end != slot.high:
            slot.told_end = slot.high
            end = ck.KafkaError(ck.KafkaError._PARTITION_EOF)
            slot.queue.append(Message(slot.topic, slot.partition, slot.high, error=end))
        self.came.set()
        self._fetch(slot)

    def reconnected(self) -> None:
        for slot in self._slots.values():
            slot.is_fetching = False
            slot.version += 1
            self._begin(slot)

    # ------------------------------------------------------------------ questions

    def offsets_for_times(self, partitions: Sequence[Any], timeout: float = -1) -> list[Place]:
        assert timeout >= 0, "P11: a wait without an end"
        self.point("ask")
        found: list[Place] = self.call(lambda: [self._offset_at(tp) for tp in partitions], timeout)
        return found

    def _offset_at(self, tp: Any) -> Place:
        try:
            partition = self.broker.partition(tp.topic, tp.partition)
        except BrokerError as error:
            return Place(tp.topic, tp.partition, error=ck.KafkaError(error.code))
        if tp.offset == _EARLIEST:
            return Place(tp.topic, tp.partition, partition.start)
        if tp.offset == _LATEST:
            return Place(tp.topic, tp.partition, partition.stable_end if self._committed_only else partition.end)
        offset = partition.at_or_after(tp.offset)
        return Place(tp.topic, tp.partition, _END if offset is None else offset)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Listing:
        assert timeout >= 0, "P11: a wait without an end"
        self.point("ask")
        found: Listing = self.call(lambda: Listing(self.broker), timeout)
        return found

    def close(self) -> None:
        if self.is_closed:
            raise RuntimeError("Consumer closed")
        self.membership.leave()
        self.assign([])
        self.forget()
