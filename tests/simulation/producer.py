"""The in-memory broker's stand-in for confluent_kafka.Producer, transactions included.

What is handed over leaves after a while, each partition by itself and in order; a producer that is not idempotent
writes twice what it sends twice. I/O: none.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import confluent_kafka as ck

from streams.transport.partitioner import partition_of
from streams.transport.producer import IN_FLIGHT_S
from tests.simulation.broker import BrokerError
from tests.simulation.log import ProducerId, Record
from tests.simulation.wire import Client, Cluster, Listing, Message, Parked, exception
from tests.simulation.world import Event

BATCH_ROWS_MAX = 40
"""Few, so that a turn's output reaches the log piece by piece."""

RESEND_S = 0.4
_FATAL = frozenset({ck.KafkaError.INVALID_PRODUCER_EPOCH, ck.KafkaError.INVALID_PRODUCER_ID_MAPPING})


def refused(code: int, reason: str | None = None) -> Exception:
    """Typed: confluent_kafka's own exception is not."""
    error: Exception = exception(code, reason)
    return error


class Pending:
    """One record that was handed over. `purged_at`: when its sender began to give up what is not delivered, while this
    was on its way; `is_given_up`: it has given up this, too."""

    __slots__ = ("is_given_up", "purged_at", "record", "until")

    def __init__(self, record: Record, until: float) -> None:
        self.record, self.until = record, until
        self.purged_at: float | None = None
        self.is_given_up = False

    def copy(self, now: float) -> Record:
        """What is sent again is another record, unless the broker knows that it is not. What was waited for, in vain,
        may be one too many when it comes."""
        record = _copy(self.record)
        if self.is_given_up and self.purged_at is not None and now - self.purged_at > IN_FLIGHT_S:
            record.is_zombie = True
        return record


class Lane:
    """What waits for one partition; `sending` is on its way, and stays first until it is acknowledged."""

    def __init__(self, tp: tuple[str, int]) -> None:
        self.tp = tp
        self.queue: deque[Pending] = deque()
        self.sending: list[Pending] = []
        self.sequence = 0
        self.producer: ProducerId | None = None
        self.attempt = 0
        self.due: Event | None = None


class Producer(Client):
    """As confluent_kafka's, of the cluster `cluster`."""

    def __init__(self, cluster: Cluster, config: Mapping[str, Any]) -> None:
        super().__init__(cluster, config)
        self._on_delivery = config.get("on_delivery", lambda _error, _message: None)
        self._only_errors = bool(config.get("delivery.report.only.error", False))
        self._rows_max = int(config.get("queue.buffering.max.messages", 100_000))
        self._linger_s = self.seconds("linger.ms", 5)
        self._timeout_s = self.seconds("message.timeout.ms", 300_000)
        self._transactional_id: str | None = config.get("transactional.id")
        self._id: ProducerId | None = None
        if config.get("enable.idempotence", self._transactional_id is not None) and self._transactional_id is None:
            self._id = self.broker.new_producer()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._count = 0
        self._reports: deque[Callable[[], None]] = deque()
        self._doomed: int | None = None
        self._spoilt: int | None = None
        """Why the transaction under way can only be aborted."""

    def __len__(self) -> int:
        return self._count + len(self._reports)

    # ------------------------------------------------------------------ handing over

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        headers: Any = None,
        **_: Any,
    ) -> None:
        self.point("produce")
        error = self._refuse(value, key)
        if error is not None:
            raise error
        self._queue(topic, partition, value, key, list(headers or []))
        self.point("produced")

    def produce_batch(self, topic: str, messages: Sequence[dict[str, Any]], partition: int = -1, **_: Any) -> int:
        """How many were taken; the others are marked, as librdkafka's binding does it."""
        self.point("produce")
        # What the agent's own name is the key of is a claim of its log, and tells of no task.
        first = (messages[0].get("key") or b"").decode(errors="replace")
        self.point(f"{'claim' if first and f'.{first}.' in topic else 'produce'} {topic}")
        taken, room = 0, len(messages)
        if self.cluster.weather.full_share and self.world.rng.random() < self.cluster.weather.full_share:
            room = self.world.rng.randrange(len(messages))
        for place, row in enumerate(messages):
            error = (
                BufferError("Local: Queue full") if place >= room else self._refuse(row.get("value"), row.get("key"))
            )
            if error is None:
                self._queue(topic, partition, row.get("value"), row.get("key"), [])
                taken += 1
            else:
                full = isinstance(error, BufferError)
                row["_error"] = ck.KafkaError(ck.KafkaError._QUEUE_FULL) if full else error.args[0]
        self.point("produced")
        return taken

    def _refuse(self, value: bytes | None, key: bytes | None) -> Exception | None:
        if self._doomed is not None:
            return refused(self._doomed)
        if len(value or b"") + len(key or b"") > int(self.setting("message.max.bytes", 1_000_000)):
            return refused(ck.KafkaError.MSG_SIZE_TOO_LARGE, "Broker: Message size too large")
        return BufferError("Local: Queue full") if self._count >= self._rows_max else None

    def _queue(self, topic: str, partition: int, value: bytes | None, key: bytes | None, headers: Any) -> None:
        if partition < 0:
            count = len(self.broker.topics.get(topic, [])) or 1
            partition = self.world.rng.randrange(count) if key is None else partition_of(key, count)
        lane = self._lanes.setdefault((topic, partition), Lane((topic, partition)))
        record = Record(-1, -1, key, value, headers, writer=self.process.name)
        self.cluster.handed_over(self.process, lane.tp, record)
        lane.queue.append(Pending(record, self.world.now + self._timeout_s))
        self._count += 1
        self._schedule(lane, self._linger_s)

    # ------------------------------------------------------------------ in the background

    def _schedule(self, lane: Lane, delay_s: float) -> None:
        if lane.due is None:
            lane.due = self.process.later(delay_s + self.cluster.delay_s(), lambda: self._send(lane))

    def _send(self, lane: Lane) -> None:
        lane.due = None
        if lane.sending or self.is_closed:
            return
        self._expire(lane)
        while lane.queue and len(lane.sending) < BATCH_ROWS_MAX:
            lane.sending.append(lane.queue.popleft())
        if lane.sending:
            lane.producer = lane.producer or self._id
            self._transmit(lane)

    def _transmit(self, lane: Lane) -> None:
        lane.attempt += 1
        attempt, stuck_s = lane.attempt, self.cluster.stuck_s()
        if stuck_s:
            self.process.later(stuck_s, lambda: self._transmit_now(lane, attempt))
        else:
            self._transmit_now(lane, attempt)

    def _transmit_now(self, lane: Lane, attempt: int) -> None:
        if lane.attempt != attempt or self.is_closed:
            return
        sequence, batch = lane.sequence, list(lane.sending)
        producer, transactional_id = lane.producer, self._transactional_id

        def append() -> None:
            records = [pending.copy(self.world.now) for pending in batch]
            self.cluster.written(self.process, lane.tp, records)
            self.broker.append(lane.tp, records, producer, sequence if producer else None, transactional_id)
            self.process.told("appended")

        def append_late() -> None:
            if self.broker.is_up:
                try:
                    append()
                except BrokerError as error:
                    self.connection.reply(answered, error)
                else:
                    self.connection.reply(answered, None)

        def request() -> None:
            late_s = self.cluster.late_s(lane.tp)
            if late_s:
                self.world.at(late_s, append_late)
                raise Parked
            append()

        def answered(answer: Any) -> None:
            self._acknowledged(lane, attempt, answer)

        self.connection.send(request, answered)
        self.process.later(RESEND_S, lambda: self._send_again(lane, attempt))

    def _send_again(self, lane: Lane, attempt: int) -> None:
        if lane.attempt == attempt and lane.sending and not self.is_closed:
            if lane.sending[0].until <= self.world.now:
                self._done(lane, ck.KafkaError(ck.KafkaError._MSG_TIMED_OUT, "Local: Message timed out"))
            else:
                self._transmit(lane)

    def _acknowledged(self, lane: Lane, attempt: int, answer: Any) -> None:
        if lane.attempt != attempt or not lane.sending:
            return
        if not isinstance(answer, BrokerError):
            self._done(lane, None)
            self.process.told("acknowledged")
            return
        if answer.code in _FATAL:
            self._doomed = answer.code
            self.fail(ck.KafkaError._FENCED)
        elif answer.code == ck.KafkaError.UNKNOWN_TOPIC_OR_PART:
            patience_s = self.seconds("topic.metadata.propagation.max.ms", 30_000)
            if lane.sending[0].until - self._timeout_s + patience_s > self.world.now:
                return  # it is sent again
        self._done(lane, ck.KafkaError(answer.code))

    def _done(self, lane: Lane, error: ck.KafkaError | None) -> None:
        batch, lane.sending = lane.sending, []
        lane.attempt += 1
        if error is None:
            lane.sequence += len(batch)
        else:
            self._leave_a_gap(lane)
        self._report(lane, batch, error)
        if lane.queue:
            self._schedule(lane, 0.0)

    def _report(self, lane: Lane, batch: Sequence[Pending], error: ck.KafkaError | None) -> None:
        self._count -= len(batch)
        if error is not None and batch and self._transactional_id is not None:
            self._spoilt = error.code()
        if error is not None or not self._only_errors:
            for pending in batch:
                message = Message(*lane.tp, pending.record.offset, pending.record.key, pending.record.value)
                self._reports.append(lambda message=message: self._on_delivery(error, message))  # type: ignore[misc]
        self.came.set()

    def _expire(self, lane: Lane) -> None:
        late = [pending for pending in lane.queue if pending.until <= self.world.now]
        if late:
            lane.queue = deque(pending for pending in lane.queue if pending.until > self.world.now)
            self._report(lane, late, ck.KafkaError(ck.KafkaError._MSG_TIMED_OUT, "Local: Message timed out"))

    # ------------------------------------------------------------------ waiting

    def poll(self, timeout: float = 0) -> int:
        self.point("produce-poll")
        until = self.world.now + timeout
        while True:
            self.serve_errors()
            served = len(self._reports)
            while self._reports:
                self._reports.popleft()()
            if served or self.world.now >= until:
                return served
            self.world.block(self.came, until - self.world.now)

    def flush(self, timeout: float = -1) -> int:
        assert timeout >= 0, "P11: a wait without an end"
        until = self.world.now + timeout
        for lane in self._lanes.values():
            # Nobody lingers any more.
            if lane.due is not None and lane.due.when > self.world.now + self._linger_s / 2:
                lane.due.cancel()
                lane.due = None
                self._schedule(lane, 0.0)
        self.poll(0)
        while len(self) and self.world.now < until:
            self.world.block(self.came, until - self.world.now)
            self.poll(0)
        return len(self)

    def purge(self, in_queue: bool = True, in_flight: bool = True, **_: Any) -> None:
        for lane in self._lanes.values():
            if in_queue:
                batch, lane.queue = list(lane.queue), deque()
                self._report(lane, batch, ck.KafkaError(ck.KafkaError._PURGE_QUEUE))
            for pending in lane.sending:
                pending.purged_at = self.world.now if pending.purged_at is None else pending.purged_at
            if in_flight and lane.sending:
                batch, lane.sending = lane.sending, []
                for pending in batch:
                    pending.is_given_up = True
                lane.attempt += 1
                self._leave_a_gap(lane)
                self._report(lane, batch, ck.KafkaError(ck.KafkaError._PURGE_INFLIGHT))

    def _leave_a_gap(self, lane: Lane) -> None:
        """What follows has an id of its own. Other partitions keep theirs, for what they have sent."""
        lane.sequence = 0
        if self._transactional_id is None and self._id is not None:
            lane.producer = self._id = self.broker.new_producer()

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Listing:
        assert timeout >= 0, "P11: a wait without an end"
        found: Listing = self.call(lambda: Listing(self.broker), timeout)
        return found

    # ------------------------------------------------------------------ transactions

    def init_transactions(self, timeout: float) -> None:
        assert self._transactional_id is not None
        name, timeout_s = self._transactional_id, self.seconds("transaction.timeout.ms", 60_000)
        self._id = self._asked(lambda: self.broker.init_transactions(name, timeout_s), timeout)

    def begin_transaction(self) -> None:
        self.point("begin")
        self._spoilt = None

    def send_offsets_to_transaction(self, positions: Sequence[Any], group_metadata: bytes, timeout: float) -> None:
        group, member = (name.decode() for name in group_metadata[11:].split(b"\0")[:2])
        generation = int.from_bytes(group_metadata[7:11], sys.byteorder, signed=True)
        offsets = {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in positions}
        name, producer = self._holder()
        self._asked(lambda: self.broker.add_offsets(name, producer, group, member, generation, offsets), timeout)

    def commit_transaction(self, timeout: float) -> None:
        self._end(timeout, commit=True)

    def abort_transaction(self, timeout: float) -> None:
        self.purge()
        self._reports.clear()
        self._end(timeout, commit=False)

    def _end(self, timeout: float, *, commit: bool) -> None:
        until = self.world.now + timeout
        if commit and self.flush(timeout):
            raise exception(ck.KafkaError._TIMED_OUT)
        if commit and self._spoilt is not None:
            raise ck.KafkaException(ck.KafkaError(self._spoilt, None, txn_requires_abort=True))
        name, producer = self._holder()
        transaction = self.broker.transactions.get(name)
        if transaction is None or (transaction.producer == producer and not transaction.is_open):
            return  # nothing was sent in it
        self._asked(
            lambda: self.broker.end_transaction(name, producer, commit=commit), max(0.0, until - self.world.now)
        )
        if not commit:
            # What was on its way when it was aborted belongs to no later transaction: a new epoch sees to that.
            self._lanes.clear()
            self.init_transactions(max(0.0, until - self.world.now))

    def _holder(self) -> tuple[str, ProducerId]:
        assert self._transactional_id is not None
        assert self._id is not None, "call init_transactions first"
        return self._transactional_id, self._id

    def _asked(self, request: Callable[[], Any], timeout: float) -> Any:
        """Raises KafkaException: fatal where another holder has fenced this one, else abortable."""
        self.point("transaction")
        try:
            found = self.call(request, timeout)
        except ck.KafkaException as raised:
            code = raised.args[0].code()
            if code in _FATAL:
                self._doomed = code
                error = ck.KafkaError(ck.KafkaError._FENCED, "the producer was fenced", fatal=True)
            else:
                error = ck.KafkaError(code, None, txn_requires_abort=code != ck.KafkaError._TIMED_OUT)
            raise ck.KafkaException(error) from raised
        self.point("transacted")
        return found


def _copy(record: Record) -> Record:
    zombie = record.is_zombie
    return Record(-1, -1, record.key, record.value, record.headers, writer=record.writer, is_zombie=zombie)
