"""The same work on Quix Streams: one dataframe, a row in, rows out, each to the topic that it belongs to.

I/O: Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, TypeAlias

from quixstreams import Application
from quixstreams.models import Deserializer, SerializationContext, Serializer

from loadtest.peers.shared.decide import Decider
from loadtest.peers.shared.wire import Avro, Config

Decided: TypeAlias = tuple[str, str | None, dict[str, Any]]

config = Config.given()
avro, decider = Avro(config.schemas), Decider(config.policy)


class Tasks(Deserializer):
    """Avro behind a frame."""

    def __call__(self, value: bytes, ctx: SerializationContext) -> dict[str, Any]:  # noqa: ARG002  Quix's signature
        return avro.decode(value, "TaskSubmitted")


class Decisions(Serializer):
    """Avro behind a frame, of whatever record was decided."""

    def __call__(self, value: Decided, ctx: SerializationContext) -> bytes:  # noqa: ARG002  Quix's signature
        record, _agent, datum = value
        return avro.encode(record, datum)


def decide(task: dict[str, Any]) -> Iterator[Decided]:
    return decider.decide(task, time.time_ns() // 1000)


def main() -> None:
    app = Application(
        broker_address=config.broker,
        consumer_group=config.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_interval=1.0,
        consumer_extra_config={"fetch.min.bytes": 65_536, "fetch.wait.max.ms": 20, "fetch.queue.backoff.ms": 1},
        producer_extra_config={
            "compression.type": "lz4",
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "batch.num.messages": 20_000,
            "queue.buffering.max.messages": 500_000,
        },
        state_dir=config.state_dir,
        loglevel="WARNING",
    )
    submitted = app.topic(config.submitted, value_deserializer=Tasks())
    topics = {name: app.topic(name, value_serializer=Decisions()) for name in config.outputs}
    rows = app.dataframe(submitted).apply(decide, expand=True)
    rows.to_topic(lambda value, _key, _timestamp, _headers: topics[config.topic_of(value[0], value[1])])
    app.run()


if __name__ == "__main__":
    main()
