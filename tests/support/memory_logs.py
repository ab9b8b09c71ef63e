"""What agents' logs hold of a memory, read as a host reads them. I/O: Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agents.logrecall import LogRecall, only
from agents.memory.model import Interaction, Key
from agents.memory.ports import Remembered
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from tests.support.agents_bench import Bench


@contextmanager
def logs_of(bench: Bench) -> Iterator[LogRecall]:
    consumer = BatchConsumer(
        client_config(bench.settings, bench.topology, "consumer"),
        lambda name: name,
        rows_max=10_000,
        bytes_max=1 << 26,
        poll_s=0.05,
    )
    try:
        yield LogRecall(bench.topology, bench.codec, consumer)
    finally:
        consumer.close()


def remembered(bench: Bench, key: Key, partition: int = 0) -> Remembered:
    """All that the log has of a memory."""
    with logs_of(bench) as logs:
        return logs.read(key.agent_id, partition, only([key])).memories[key]


def logged(bench: Bench, key: Key, partition: int = 0) -> list[Interaction]:
    """All interactions of a memory, in order."""
    return sorted(remembered(bench, key, partition).interactions, key=lambda each: each.ordinal)
