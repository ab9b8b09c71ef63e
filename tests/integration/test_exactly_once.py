"""Kafka's own shape of an exactly-once test: workers are restarted and killed, the broker too, and a reader looks on.

Seeded tasks go in while each of three workers is ended time and again, cleanly and by SIGKILL, and the broker is
stopped and killed in between. Whoever reads committed results must see the set of task ids that was sent, each once.
Source of the shape: the system test of transactions in Apache Kafka. Real processes, a broker of their own.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from console.load.audit import keys_of
from console.local.broker import LocalBroker
from loadtest.column_audit import audit_columns
from loadtest.column_log import ColumnReader, DeadReader, read_batches
from loadtest.driver import Driver
from loadtest.fleet import fleet as served_by_rule
from loadtest.scenario import Mix, Scenario
from loadtest.schedule import Schedule, Stage
from loadtest.workload import Workload
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topology import load_topology
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer
from tests.support.fleet import Deployed, Fleet, wait_for
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(1_200)]

WORKERS = ("worker-1", "worker-2", "worker-3")
SEED, RUN = 20, "eos"
HOW = {True: "stopped", False: "killed"}
BEGINS, ENDS = 0.2, 0.85
"""The share of the tasks that have their results when the first worker is ended, and when the last is."""


class Size(NamedTuple):
    """`rounds`: how often each worker is ended. `restarts`: after how many of these ends the broker is restarted, and
    whether cleanly."""

    tasks: int
    rate: float
    rounds: int
    restarts: Mapping[int, bool]


FULL = bool(os.environ.get("POINTSMAN_FULL_LOAD"))
SIZE = Size(100_000, 1_000.0, 3, {3: True, 6: False}) if FULL else Size(3_000, 120.0, 1, {2: False})
DELIVERY = ["exactly_once", "at_least_once"] if FULL else ["exactly_once"]


def codec_of(deployed: Deployed) -> Codec:
    return Codec(FileRegistry.load(), deployed.topology.limits.record_bytes_max)


@dataclass
class Reader:
    """Reads results as any subscriber does, committed ones alone: how often each task came, and when."""

    times: Counter[str] = field(default_factory=Counter)
    arrivals: dict[int, list[float]] = field(default_factory=dict)

    def run(self, deployed: Deployed, stop: threading.Event) -> None:
        topology, results = deployed.topology, deployed.topology.topics().results
        codec, config = codec_of(deployed), client_config(deployed.settings, topology, "consumer")
        assert config["isolation.level"] == "read_committed"
        with closing(BatchConsumer(config, str, rows_max=10_000, bytes_max=1 << 24, poll_s=0.05)) as source:
            source.assign(dict.fromkeys(source.partitions_of([results]), 0))
            while not stop.is_set():
                for batch in source.poll():
                    self.times.update(codec.decode(batch.values, "TaskResult").batch.column("task_id").to_pylist())
                    for number in set(batch.partitions.tolist()):
                        self.arrivals.setdefault(number, []).append(time.monotonic())

    def silence_s(self, since: float, until: float) -> float:
        """The longest time in which a partition gave nothing, of those that began within these times."""
        gaps = [
            later - earlier
            for each in self.arrivals.values()
            for earlier, later in pairwise(each)
            if since <= earlier <= until
        ]
        return max(gaps, default=0.0)


@contextmanager
def reading(deployed: Deployed) -> Iterator[Reader]:
    reader, stop = Reader(), threading.Event()
    thread = threading.Thread(target=reader.run, args=(deployed, stop), name="reader", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def sending(deployed: Deployed, size: Size) -> Iterator[None]:
    """Seeded tasks of all kinds, many of one conversation, at a steady rate; all are delivered when it ends."""
    workload = Workload(deployed.topology, codec_of(deployed), SEED, mix=Mix(conversations=size.tasks // 20), run=RUN)
    driver = Driver(
        deployed.settings, deployed.topology, workload, Schedule([Stage(size.tasks / size.rate, size.rate)])
    )
    failed: list[Exception] = []

    def drive() -> None:
        try:
            driver.drive(time.time_ns() // 1000)
        except Exception as error:  # noqa: BLE001  raised below, in the test's own thread
            failed.append(error)

    thread = threading.Thread(target=drive, name="sender", daemon=True)
    thread.start()
    try:
        yield
        thread.join(600)
        assert not thread.is_alive(), "the sender did not end"
        if failed:
            raise failed[0]
    finally:
        driver.stop()
        driver.close()


def struck(fleet: Fleet, broker: LocalBroker, reader: Reader, size: Size) -> Iterator[tuple[str, float, float]]:
    """Ends everyone in turn, as results come; gives what was done, when, and how long it took to serve again."""
    rng = random.Random(SEED)
    moments = [(name, number) for number in range(size.rounds) for name in rng.sample(WORKERS, len(WORKERS))]
    for place, (name, number) in enumerate(moments):
        due = int(size.tasks * (BEGINS + (ENDS - BEGINS) * place / len(moments)))
        wait_for(lambda due=due: len(reader.times) >= due, 120, f"{due} results")  # type: ignore[misc]
        cleanly = (number + WORKERS.index(name)) % 2 == 0
        began = time.monotonic()
        if cleanly:
            assert fleet.stop(name), f"{name} did not end by itself"
        else:
            fleet.kill(name)
        fleet.start(name)
        yield f"{name} {HOW[cleanly]}", began, time.monotonic() - began
        if (softly := size.restarts.get(place + 1)) is not None:
            began = time.monotonic()
            (broker.stop if softly else broker.kill)()
            broker.start(PATIENCE * 60.0)
            yield f"broker {HOW[softly]}", began, time.monotonic() - began


def by_rule(repository: Path, directory: Path, delivery: str) -> Path:
    """The shipped topology, its agents by rule; some fail, and some are slow."""
    topology = served_by_rule(
        load_topology(repository / "topology.yaml"), Scenario(about=RUN, rate=SIZE.rate, duration_s=1)
    ).model_dump(mode="json", exclude_unset=True)
    path = directory / "topology.yaml"
    # The broker's least: a member that was killed is missed sooner.
    sessions = {} if FULL else {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 500}
    path.write_text(json.dumps({**topology, "delivery": delivery, "kafka": sessions}))
    return path


@pytest.mark.parametrize("delivery", DELIVERY)
def test_whoever_is_ended_how_a_reader_of_committed_results_sees_each_task_once(
    tmp_path: Path, repository: Path, delivery: str
) -> None:
    """With POINTSMAN_FULL_LOAD set: 100,000 tasks, each worker ended three times, in both delivery modes."""
    path = by_rule(repository, tmp_path, delivery)
    with (
        LocalBroker(tmp_path / "broker", heap_mib=1024 if FULL else 512, short_lived=not FULL) as broker,
        Fleet(broker.address, tmp_path, path, slots=True) as fleet,
        reading(fleet) as reader,
    ):
        fleet.start("host", *WORKERS)
        began = time.monotonic()
        with sending(fleet, SIZE):
            strikes = list(struck(fleet, broker, reader, SIZE))
        wait_for(lambda: len(reader.times) >= SIZE.tasks, 120, "every task to have its result")
        took_s = time.monotonic() - began
        time.sleep(1.0)  # a second result would come behind the first
        topics, graves = fleet.topology.topics(), DeadReader()
        columns = ColumnReader(topics, codec_of(fleet))
        read_batches(fleet.settings, fleet.topology, columns.topics, columns.take, {})
        read_batches(fleet.settings, fleet.topology, [topics.dead], graves.take, {}, with_headers=True)
    sent = keys_of(RUN, SIZE.tasks)
    audit = audit_columns(columns.log(graves.places), sent["key"])
    print(f"{delivery}: {SIZE.tasks} tasks in {took_s:.1f} s, {SIZE.tasks / took_s:.0f} a second")
    for what, at, again_s in strikes:
        print(
            f"{what}: serves again after {again_s:.1f} s, longest silence {reader.silence_s(at - 0.5, at + 10):.1f} s"
        )
    copies = sum(reader.times.values()) - len(reader.times)
    print(f"{copies} extra copies of results")
    assert set(reader.times) == set(sent["task_id"].to_list())
    assert audit.accepted == SIZE.tasks
    assert audit.results == SIZE.tasks + copies
    found = {name for name, breach in audit.breaches.items() if breach.count}
    if delivery == "exactly_once":
        assert (found, copies) == (set(), 0), audit.findings({})
    else:  # what was on its way when its sender's partitions went may stand beside what their next owner wrote
        assert found <= {"duplicated", "asked_twice"}, audit.findings({})
        assert max(reader.times.values()) <= len(WORKERS)
