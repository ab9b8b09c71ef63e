"""The same work on Bytewax: a flow of three steps, positions in its recovery store (it does not commit to Kafka).

I/O: Kafka, the recovery store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from loadtest.peers.shared.decide import Decider
from loadtest.peers.shared.wire import Avro, Config

SNAPSHOT = timedelta(seconds=1)

config = Config.given()
avro, decider = Avro(config.schemas), Decider(config.policy)

Raw = KafkaSourceMessage[bytes, bytes]
Out = KafkaSinkMessage[bytes, bytes]


def decide(message: Raw) -> Iterator[Out]:
    task = avro.decode(message.value, "TaskSubmitted")
    for record, agent, datum in decider.decide(task, time.time_ns() // 1000):
        yield KafkaSinkMessage(message.key, avro.encode(record, datum), topic=config.topic_of(record, agent))


brokers = [config.broker]
flow = Dataflow("peer")
reading = {"fetch.min.bytes": "65536", "fetch.wait.max.ms": "20", "fetch.queue.backoff.ms": "1"}
writing = {"enable.idempotence": "true", "partitioner": "murmur2_random", "compression.type": "lz4"}
submitted = op.input("submitted", flow, KafkaSource(brokers, [config.submitted], add_config=reading, batch_size=10_000))
decided = op.flat_map("decide", submitted, decide)
kop.output("written", decided, brokers=brokers, topic=None, add_config=writing)


if __name__ == "__main__":
    store = Path(config.state_dir) / "recovery"
    store.mkdir(exist_ok=True)
    init_db_dir(store, 1)
    cli_main(flow, epoch_interval=SNAPSHOT, recovery_config=RecoveryConfig(str(store)))
