"""The Java example is built by Maven and run: its tasks are answered, and its clients agree with those in Python."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import confluent_kafka as ck
import pytest

from schemas.settings import Settings
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from tests.support.console import answering, topology_file

BUILD_TIMEOUT_S = 240
RUN_TIMEOUT_S = 60
TEXTS = ("What was the revenue?", "Où est l'entrepôt?", "x" * 10_000)

needs = pytest.mark.skipif(
    not (shutil.which("mvn") and shutil.which("javac")), reason="the Java example needs Maven and a JDK"
)


@pytest.fixture(scope="module")
def classpath() -> str:
    """Of the built example. Without a network where an earlier run has fetched what the build needs."""
    example = Path(__file__).parents[2] / "docs/examples/java"
    build = ["mvn", "--quiet", "--batch-mode", "compile", "dependency:build-classpath"]
    for command in ([*build, "--offline"], build):
        done = subprocess.run(
            command, cwd=example, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout[-3000:]
    return f"{example / 'target/classes'}:{(example / 'target/classpath').read_text()}"


def java(classpath: str, main: str, *arguments: str) -> list[list[str]]:
    """The words of each line that it prints."""
    command = ["java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp", classpath, f"example.{main}"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
        env={"LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [line.split(" ", 3) for line in done.stdout.splitlines()]


@needs
@pytest.mark.broker
def test_tasks_from_java_are_answered_and_java_reads_the_results(
    classpath: str, broker: str, prefix: str, tmp_path: Path, repository: Path
) -> None:
    with answering(broker, topology_file(repository, tmp_path, prefix)) as topology:
        topics = topology.topics()
        ids = [line[0] for line in java(classpath, "Submit", broker, topics.submitted, *TEXTS)]
        results = java(classpath, "Results", broker, topics.results, f"{prefix}reader", str(len(TEXTS)))
        chosen = partitions_of_keys(broker, topics.submitted, topology.partitions)
        expected = murmur2_random(broker, topics.dead, ids)
    assert sorted(results) == sorted(
        [task_id, "COMPLETED", "{producer=java}", f"echo: {text}"] for task_id, text in zip(ids, TEXTS, strict=True)
    )
    assert chosen == expected


def partitions_of_keys(broker: str, topic: str, partitions: int) -> dict[str, int]:
    """Where the records of each key lie."""
    config = client_config(Settings(broker=broker), None, "consumer")
    with closing(BatchConsumer(config, str, rows_max=1000, bytes_max=2**24, poll_s=0.05)) as consumer:
        marks = consumer.watermarks([(topic, number) for number in range(partitions)])
        starts, ends = ({tp: mark[side] for tp, mark in marks.items()} for side in (0, 1))
        found: dict[str, int] = {}
        for batch in consumer.read_to_end(starts, ends):
            keys = [key.decode() for key in batch.keys if key is not None]
            found |= dict(zip(keys, batch.partitions.tolist(), strict=True))
    return found


def murmur2_random(broker: str, topic: str, keys: list[str]) -> dict[str, int]:
    """Where librdkafka puts these keys, told to do as Java does. The topic has as many partitions as the other."""
    chosen: dict[str, int] = {}

    def delivered(error: object, message: ck.Message) -> None:
        assert error is None
        chosen[(message.key() or b"").decode()] = message.partition()

    producer = ck.Producer({"bootstrap.servers": broker, "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(topic, b"", key=key, on_delivery=delivered)
    producer.flush(30)
    return chosen
