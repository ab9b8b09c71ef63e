"""The loop of every tutorial: poll a record, decode it, decide, encode, produce; positions committed once a second.

I/O: Kafka.
"""

from __future__ import annotations

import signal
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer

from loadtest.peers.shared.decide import Decider
from loadtest.peers.shared.wire import Avro, Config

COMMIT_S = 1.0


def main() -> None:
    config = Config.given()
    avro, decider = Avro(config.schemas), Decider(config.policy)
    consumer = Consumer(
        {
            "bootstrap.servers": config.broker,
            "group.id": config.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {"bootstrap.servers": config.broker, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 5}
    )
    consumer.subscribe([config.submitted])
    commit_at = time.monotonic() + COMMIT_S
    has_news = False
    while True:
        message = consumer.poll(0.1)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            task = avro.decode(message.value(), "TaskSubmitted")
            for record, agent, datum in decider.decide(task, time.time_ns() // 1000):
                topic, value = config.topic_of(record, agent), avro.encode(record, datum)
                _produce(producer, topic, value, message.key(), message.partition())
            producer.poll(0)
            has_news = True
        if has_news and time.monotonic() >= commit_at:
            if producer.flush(30.0):
                raise RuntimeError("the broker does not take the output")
            consumer.commit(asynchronous=False)
            commit_at, has_news = time.monotonic() + COMMIT_S, False


def _produce(producer: Producer, topic: str, value: bytes, key: bytes, partition: int) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition, on_delivery=_delivered)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def _delivered(error: object, _message: object) -> None:
    if error is not None:
        raise RuntimeError(str(error))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
