"""What the console's tests share: a command run in this process, and a pipeline that answers without agents."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from console.cli.main import run
from schemas.codec import Codec
from schemas.records import table
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import Producer


@dataclass(frozen=True)
class Said:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


def pointsman(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """Runs one command line in this process."""
    capsys.readouterr()
    code = run(arguments)
    captured = capsys.readouterr()
    return Said(int(code), captured.out, captured.err)


def topology_file(repository: Path, directory: Path, prefix: str, delivery: str = "at_least_once") -> Path:
    """The shipped topology under a prefix of its own."""
    text = (repository / "topology.yaml").read_text()
    for shipped, own in (('prefix: ""', f'prefix: "{prefix}"'), ("delivery: at_least_once", f"delivery: {delivery}")):
        assert shipped in text
        text = text.replace(shipped, own)
    path = directory / "topology.yaml"
    path.write_text(text)
    return path


@contextmanager
def answering(broker: str, path: Path, *, silent_about: str | None = None) -> Iterator[Topology]:
    """Topics of this topology, and somebody who answers every task in them, but for the one with this text."""
    settings, topology = Settings.resolve({"broker": broker}, {}), load_topology(path)
    ensure_topics(settings, topology.topics().specs())
    stop = threading.Event()
    thread = threading.Thread(target=_answer, args=(settings, topology, silent_about, stop))
    thread.start()
    try:
        yield topology
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive()


def _answer(settings: Settings, topology: Topology, silent_about: str | None, stop: threading.Event) -> None:
    topics, codec = topology.topics(), Codec(FileRegistry.load(), topology.limits.record_bytes_max)
    consumer = BatchConsumer(
        client_config(settings, topology, "consumer"), str, rows_max=1000, bytes_max=2**20, poll_s=0.02
    )
    producer = Producer(client_config(settings, topology, "producer"))
    consumer.assign(dict.fromkeys(consumer.partitions_of([topics.submitted]), 0))
    while not stop.is_set():
        for batch in consumer.poll():
            for number, part in batch.by_partition().items():
                tasks = codec.decode(part.values, "TaskSubmitted").batch
                rows = [row for row in tasks.to_pylist() if row["text"] != silent_about]
                producer.send(topics.results, number, codec.encode(results(rows), "TaskResult"))
    producer.close()
    consumer.close()


def results(tasks: list[dict[str, Any]]) -> pa.RecordBatch:
    """A result for each, as an echo of its text."""
    now_us = time.time_ns() // 1000
    return table(
        "TaskResult",
        {
            "task_id": [task["task_id"] for task in tasks],
            "tenant": [task["tenant"] for task in tasks],
            "conversation_id": [task["conversation_id"] for task in tasks],
            "labels": pa.array([task["labels"] for task in tasks], pa.map_(pa.string(), pa.string())),
            "status": "COMPLETED",
            "reason": "ANSWERED",
            "intent": "financial_query",
            "answer": [f"echo: {task['text']}" for task in tasks],
            "confidence": 0.9,
            "agents": [["revenue_agent"]] * len(tasks),
            "attempts": 1,
            "submitted_at": [task["submitted_at"] for task in tasks],
            "decided_at": now_us,
        },
        len(tasks),
    )
