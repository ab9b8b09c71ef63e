"""A consumer's half of the group protocol: heartbeats and joining in the background, callbacks where it polls.

Eager rebalancing with the classic protocol, as the transport configures it. I/O: none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import confluent_kafka as ck

from tests.simulation.broker import BrokerError
from tests.simulation.groups import NO_GENERATION
from tests.simulation.wire import Message

if TYPE_CHECKING:
    from tests.simulation.consumer import Consumer

Callback = Callable[..., None]
JOIN_AGAIN_S = 1.0
_ANOTHER_IS_COMING = int(ck.KafkaError.REBALANCE_IN_PROGRESS)


class Membership:
    """Of one consumer. Before it subscribes it is no member, and commits as one that is alone."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        config = consumer.config
        self.group = str(config.get("group.id", ""))
        self.session_s = consumer.seconds("session.timeout.ms", 45_000)
        self._instance = str(config.get("group.instance.id", ""))
        self._heartbeat_s = consumer.seconds("heartbeat.interval.ms", 3_000)
        self._max_poll_s = consumer.seconds("max.poll.interval.ms", 300_000)
        self.member_id, self.generation = "", NO_GENERATION
        self._pending_id = ""
        self.was_assigned = False
        self._topics: tuple[str, ...] = ()
        self._callbacks: tuple[Callback | None, Callback | None, Callback | None] = (None, None, None)
        self._held: list[tuple[str, int]] = []
        self._ops: deque[Callable[[], None]] = deque()
        self._is_stable, self._is_rebalancing, self._has_left = False, False, False
        self._join_number = 0
        self._polled_at = 0.0

    def subscribe(
        self, topics: list[str], on_assign: Callback | None, on_revoke: Callback | None, on_lost: Callback | None
    ) -> None:
        self._topics, self._callbacks = tuple(topics), (on_assign, on_revoke, on_lost)
        self._polled_at = self._consumer.world.now
        self._join()
        self._beat()
        self._watch_polls()

    def polled(self) -> None:
        self._polled_at = self._consumer.world.now
        if self._topics and self._has_left and not self._ops and not self._held:
            self._has_left = False
            self._join()

    def serve(self) -> None:
        """Callbacks that are due, in the thread that polls."""
        while self._ops:
            self._ops.popleft()()

    def leave(self) -> None:
        """Gives the partitions up, and leaves."""
        consumer = self._consumer
        if not self._topics:
            return
        self.serve()
        self._topics, self._is_stable = (), False  # first, for whoever closes does not join again
        if self._held:
            self._revoke(lost=False)
        if self._instance:
            return  # as librdkafka: who is expected back does not leave
        member_id, group = self.member_id, consumer.broker.group(self.group)
        if member_id:
            consumer.connection.send(lambda: group.leave(member_id), lambda _: None)

    # ------------------------------------------------------------------ in the background

    def _join(self) -> None:
        self._is_stable = False
        self._join_number += 1
        number, consumer = self._join_number, self._consumer
        if not self._topics or consumer.is_closed:
            return
        group, topics = consumer.broker.group(self.group), self._topics

        def request() -> None:
            if number != self._join_number:
                return
            # A request that comes again is the same member's: its id was made for this one client.
            self._pending_id = group.join(
                self.member_id or self._pending_id,
                consumer.process.name,
                topics,
                self.session_s,
                self._max_poll_s,
                lambda generation, tps: consumer.connection.reply(
                    lambda _: self._joined(number, self._pending_id, generation, tps), None
                ),
                self._instance,
            )

        consumer.connection.send(request, lambda _: None)
        consumer.process.later(JOIN_AGAIN_S, lambda: self._join_again(number))

    def _join_again(self, number: int) -> None:
        """The answer may be lost, or the broker gone; while the group only waits for others, asking again is free."""
        if number == self._join_number and not self._is_stable and not self._is_rebalancing and not self._has_left:
            self._join()

    def _joined(self, number: int, member_id: str, generation: int, tps: list[tuple[str, int]]) -> None:
        if number != self._join_number or not self._topics:
            return
        self.member_id, self.generation = member_id, generation
        if wait_s := self._consumer.cluster.dealt_late_s():
            self._consumer.process.later(wait_s, lambda: self._synced(number, member_id, generation, tps))
        else:
            self._synced(number, member_id, generation, tps)

    def _synced(self, number: int, member_id: str, generation: int, tps: list[tuple[str, int]]) -> None:
        if number != self._join_number or not self._topics:
            return
        if self._consumer.broker.group(self.group).heartbeat(member_id, generation) == _ANOTHER_IS_COMING:
            self._join()  # what it was to have in this generation, in which others are at work by now, it never hears
            return
        self._is_stable = True
        self._ops.append(lambda: self._assign(list(tps)))
        self._consumer.came.set()

    def _beat(self) -> None:
        consumer = self._consumer
        if not self._topics or consumer.is_closed:
            return
        if self._is_stable or self._is_rebalancing:
            member_id, generation = self.member_id, self.generation
            group = consumer.broker.group(self.group)
            consumer.connection.send(
                lambda: group.heartbeat(member_id, generation), lambda code: self._beaten(generation, code)
            )
        consumer.process.later(self._heartbeat_s, self._beat)

    def _beaten(self, generation: int, code: Any) -> None:
        if isinstance(code, BrokerError) or code == 0 or not self._is_stable or generation != self.generation:
            return
        if code == ck.KafkaError.REBALANCE_IN_PROGRESS:
            self._give_up(lost=False)
        elif code == ck.KafkaError.FENCED_INSTANCE_ID:
            self._is_stable = False
            self._consumer.tell(Message("", -1, -1, error=ck.KafkaError(ck.KafkaError._FATAL, "fenced")))
        else:
            self.member_id = self._pending_id = ""
            self._give_up(lost=True)

    def _give_up(self, *, lost: bool) -> None:
        if self._is_rebalancing:
            return
        self._is_stable = False
        # librdkafka calls nobody about the end of an assignment without partitions.
        if self._held or self._ops:
            self._is_rebalancing = True
            self._ops.append(lambda: self._revoke(lost=lost))
            self._consumer.came.set()
        else:
            self._join()

    def _watch_polls(self) -> None:
        consumer = self._consumer
        if not self._topics or consumer.is_closed:
            return
        if consumer.world.now - self._polled_at > self._max_poll_s and not self._has_left:
            self._has_left, self._is_stable = True, False
            member_id, group = self.member_id, consumer.broker.group(self.group)
            consumer.connection.send(lambda: group.leave(member_id), lambda _: None)
            error = ck.KafkaError(ck.KafkaError._MAX_POLL_EXCEEDED, "max.poll.interval.ms exceeded")
            consumer.tell(Message("", -1, -1, error=error))
            if self._held:
                self._ops.append(lambda: self._revoke(lost=True))
        consumer.process.later(1.0, self._watch_polls)

    # ------------------------------------------------------------------ in the thread that polls

    def _assign(self, tps: list[tuple[str, int]]) -> None:
        self._held = tps
        places = [ck.TopicPartition(*tp) for tp in tps]
        self.was_assigned = False
        if self._callbacks[0] is not None:
            self._callbacks[0](self._consumer, places)
        if not self.was_assigned:
            self._consumer.assign(places)

    def _revoke(self, *, lost: bool) -> None:
        places = [ck.TopicPartition(*tp) for tp in self._held]
        _, on_revoke, on_lost = self._callbacks
        callback = (on_lost or on_revoke) if lost else on_revoke
        if callback is not None and places:
            callback(self._consumer, places)
        self._held = []
        self._consumer.assign([])
        self._is_rebalancing = False
        if self._topics and not self._has_left:
            self._join()
