"""The same loop, batched by hand: records by the thousand, one plan and one encoded slip for all tasks alike.

What a good engineer makes of the plain loop in an afternoon, with the same two libraries: `consume` and `produce_batch`
take many records at a call; a task's bytes are copied into its dispatches, never encoded again; what tasks of the same
intent, confidence and tier have in common is worked out once a batch. I/O: Kafka.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import defaultdict
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer

from loadtest.peers.shared.decide import Decider, Plan
from loadtest.peers.shared.wire import FRAME_BYTES, Avro, Config

ROWS_MAX = 10_000
WAIT_S = 0.05
COMMIT_S = 1.0


class Batch:
    """Decides one batch: all of it at one time of the clock, so that equal plans have equal slips."""

    def __init__(self, config: Config, avro: Avro, decider: Decider) -> None:
        self._config, self._avro, self._decider = config, avro, decider
        self._now_us = time.time_ns() // 1000
        self._plans: dict[tuple[str, float, str], tuple[Plan, list[tuple[str, bytes]]]] = {}
        self.output: defaultdict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)

    def take(self, value: bytes, key: bytes, partition: int) -> None:
        task = self._avro.decode(value, "TaskSubmitted")
        plan, heads = self._plan(self._decider.route(task))
        body = value[FRAME_BYTES:]
        for topic, head in heads:
            self.output[topic, partition].append({"value": head + body, "key": key})
        if plan.escalates:
            note = self._decider.note(plan, task, self._now_us)
            self._append("OrchestratorEvent", note, key, partition)
        if plan.status is not None:
            self._append("TaskResult", self._decider.result(plan, task, self._now_us), key, partition)

    def _plan(self, route: tuple[str, float, str]) -> tuple[Plan, list[tuple[str, bytes]]]:
        """The plan, and for each dispatch its topic and all that goes before the task's own bytes."""
        known = self._plans.get(route)
        if known is None:
            plan, frame = self._decider.plan(*route), self._avro.frame("TaskDispatched")
            heads = []
            for slip in plan.slips:
                encoded = self._avro.encode("Slip", self._decider.timed(slip, plan, self._now_us))[FRAME_BYTES:]
                heads.append((self._config.inboxes[slip["agent_id"]], frame + encoded))
            known = self._plans[route] = (plan, heads)
        return known

    def _append(self, record: str, datum: dict[str, Any], key: bytes, partition: int) -> None:
        topic = self._config.topic_of(record, None)
        self.output[topic, partition].append({"value": self._avro.encode(record, datum), "key": key})


def main() -> None:
    config = Config.given()
    avro, decider = Avro(config.schemas), Decider(config.policy)
    consumer = Consumer(
        {
            "bootstrap.servers": config.broker,
            "group.id": config.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.min.bytes": 65_536,
            "fetch.wait.max.ms": 20,
            "fetch.queue.backoff.ms": 1,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": config.broker,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "batch.num.messages": 20_000,
            "queue.buffering.max.messages": 500_000,
            "delivery.report.only.error": True,
            "on_delivery": _delivered,
        }
    )
    consumer.subscribe([config.submitted])
    commit_at = time.monotonic() + COMMIT_S
    has_news = False
    while True:
        messages = consumer.consume(ROWS_MAX, WAIT_S)
        batch = Batch(config, avro, decider)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            batch.take(message.value(), message.key(), message.partition())
        for (topic, partition), rows in batch.output.items():
            _produce(producer, topic, partition, rows)
        has_news = has_news or bool(batch.output)
        if has_news and time.monotonic() >= commit_at:
            if producer.flush(30.0):
                raise RuntimeError("the broker does not take the output")
            consumer.commit(asynchronous=False)
            commit_at, has_news = time.monotonic() + COMMIT_S, False


def _produce(producer: Producer, topic: str, partition: int, rows: list[dict[str, Any]]) -> None:
    """`produce_batch` takes what its queue has room for and marks the rest."""
    while rows:
        producer.produce_batch(topic, rows, partition)
        rows = [row for row in rows if row.pop("_error", None) is not None]
        producer.poll(0.1 if rows else 0)


def _delivered(error: object, _message: object) -> None:
    if error is not None:
        raise RuntimeError(str(error))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
