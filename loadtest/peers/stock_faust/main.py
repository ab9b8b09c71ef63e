"""The same work on stock Faust: one agent, its own aiokafka driver, values decoded by a codec of its own kind.

Settings and style are those that gave most here: buffers of 131,072 events, the repaired Cython paths, uvloop, producer
batches of 1 MiB with a linger of 20 ms, no CRC check, no web, no leader topic, events taken by the thousand.
I/O: Kafka.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import faust
import mode.loop

from loadtest.peers.shared.decide import Decider
from loadtest.peers.shared.wire import Avro, Config

mode.loop.use("uvloop")

config = Config.given()
avro, decider = Avro(config.schemas), Decider(config.policy)


class Tasks(faust.Codec):
    """Avro behind a frame, as a codec of Faust's own kind."""

    def _loads(self, value: bytes) -> Any:
        return avro.decode(value, "TaskSubmitted")


app = faust.App(
    config.group,
    broker=f"kafka://{config.broker}",
    web_enabled=False,
    topic_allow_declare=False,
    topic_disable_leader=True,
    cython_optimizations=True,
    stream_buffer_maxsize=131_072,
    broker_max_poll_records=10_000,
    broker_check_crcs=False,
    producer_linger=0.02,
    producer_max_batch_size=1024 * 1024,
    producer_compression_type="lz4",
    datadir=config.state_dir,
)
submitted = app.topic(config.submitted, key_serializer="raw", value_serializer=Tasks())
topics = {name: app.topic(name, key_serializer="raw", value_serializer="raw") for name in config.outputs}


@app.agent(submitted)
async def route(tasks: faust.Stream[Any]) -> None:
    async for events in tasks.take_events(1_000, within=0.1):
        for event in events:
            key, partition = event.key, event.message.partition
            for record, agent, datum in decider.decide(event.value, time.time_ns() // 1000):
                topic = topics[config.topic_of(record, agent)]
                await topic.send(key=key, value=avro.encode(record, datum), partition=partition)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--loglevel", "warn"]
    app.main()
