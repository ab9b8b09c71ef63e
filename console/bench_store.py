"""What a row of the history costs: topics full of whole lives of tasks, and a real store process that drains them.

`python -m console.bench_store --tasks 400000` is about 1.8 million rows, read as fast as the store can; with `--rate`
as many records a second are sent while it reads. CPU is the store's whole process: consumer, codec, the engine and
its merges, of which some go on after the last row. `--folder` is where data go; it must not exist.
I/O: processes, Kafka, ClickHouse, /proc, files, stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pyarrow.compute as pc

from console.cli.output import Output
from console.load.probe import usage
from console.local.broker import LocalBroker
from console.local.ports import free_ports
from loadtest.lives import Lives, Records
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.runs import by_value
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.history.queries import History
from streams.transport.admin import ensure_topics
from streams.transport.clients import client_config
from streams.transport.producer import Producer

CHUNK_TASKS = 20_000
TICK_S = 0.05
POLL_S = 0.25
READY_TIMEOUT_S = 120.0
STALL_S = 120.0
QUIET_S = 3.0
LOOKUPS = 60
TABLES = ("tasks_log", "dispatches_log", "agent_events_log", "results_log")
ROLL_UPS = {
    "count of tasks": "SELECT count() FROM tasks",
    "count of agent_events": "SELECT count() FROM agent_events",
    "agent_minute": "SELECT count(), any(p99_ms) FROM agent_minute",
    "spend": "SELECT count() FROM spend",
}


@dataclass(frozen=True)
class Measured:
    """CPU in microseconds a row: until the last row was in, and until the merges had ended, too."""

    rows: int
    rows_per_second: float
    cpu_us_per_row: float
    cpu_us_per_row_merged: float
    inserts: int
    rows_per_insert: float
    lag_max_s: float
    rss_max_mib: float
    parts: int
    bytes_per_row: dict[str, float]
    lookup_ms: dict[str, float]
    roll_up_ms: dict[str, float]


class Fill:
    """Sends whole lives into the topics of a deployment."""

    def __init__(self, settings: Settings, topology: Topology, seed: int) -> None:
        self._topology, self._topics = topology, topology.topics()
        self._lives = Lives(topology, seed, time.time_ns() // 1000)
        self._codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)
        self._producer = Producer(client_config(settings, topology, "producer", name="pointsman-bench"))
        self.rows = 0

    def send(self, tasks: int, rate: float | None) -> None:
        """All records of so many tasks; `rate` is in records a second (None: at once)."""
        began = time.monotonic()
        size = CHUNK_TASKS if rate is None else max(1, int(rate * TICK_S / 4))
        for first in range(0, tasks, size):
            for records in self._lives.records(range(first, min(first + size, tasks))):
                self._send(records)
            while rate is not None and self.rows > (time.monotonic() - began) * rate:
                time.sleep(TICK_S / 10)
        self._producer.flush(120)

    def close(self) -> None:
        self._producer.close()

    def _send(self, records: Records) -> None:
        values = np.array(self._codec.encode(records.batch, records.record), object)
        columns = records.batch
        conversations = pc.struct_field(columns["task"], "conversation_id") if "task" in columns.schema.names else None
        keyed = columns["conversation_id"] if conversations is None else conversations
        keys = np.array([key.encode() for key in keyed.to_pylist()], object)
        self.rows += len(values)
        for partition, rows in by_value((records.tasks % self._topology.partitions).astype(np.int32)):
            for topic, places in self._by_topic(records, rows):
                self._producer.send(topic, partition, values[places].tolist(), keys[places].tolist())

    def _by_topic(self, records: Records, rows: Any) -> Iterator[tuple[str, Any]]:
        topics = self._topics
        if len(records.agents) == 0:
            yield (topics.submitted if records.record == "TaskSubmitted" else topics.results), rows
            return
        name = topics.inbox if records.record == "TaskDispatched" else topics.events
        for agent in np.unique(records.agents[rows]).tolist():
            yield name(agent), rows[records.agents[rows] == agent]


class Store:
    """A store process, and what it has cost so far."""

    def __init__(self, settings: Settings, topology: Path, folder: Path, data: Path) -> None:
        self.url = settings.clickhouse
        (self._metrics,) = free_ports(1)
        self._ready = folder / "ready.json"
        self._log = (folder / "store.log").open("wb")
        where = ["--topology", str(topology), "--broker", settings.broker, "--clickhouse", self.url]
        own = ["--data", str(data), "--metrics-port", str(self._metrics), "--ready-file", str(self._ready)]
        command = [sys.executable, "-m", "console.cli.main", "store", *where, *own, "--stop-with-stdin"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log)
        self.lag_max_s = self.rss_max_mib = 0.0

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._ready.exists():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"the store did not get ready; its log is {self._log.name}")
            time.sleep(0.01)

    def cpu_s(self) -> float:
        return self._usage()[0]

    def _usage(self) -> tuple[float, float]:
        used = usage(self.process.pid)
        if used is None:
            raise SystemExit(f"the store has ended; its log is {self._log.name}")
        return used

    def rows(self) -> int:
        """Rows inserted so far; notes lag and memory in passing."""
        metrics = self.metrics()
        self.lag_max_s = max(self.lag_max_s, metrics.get("pointsman_history_lag_seconds", 0.0))
        self.rss_max_mib = max(self.rss_max_mib, self._usage()[1])
        return int(sum(metrics.get(f'pointsman_history_rows_total{{table="{table}"}}', 0.0) for table in TABLES))

    def inserts(self) -> int:
        name = "pointsman_history_insert_duration_seconds_count"
        metrics = self.metrics()
        return int(sum(metrics.get(f'{name}{{table="{table}"}}', 0.0) for table in TABLES))

    def metrics(self) -> dict[str, float]:
        with urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=30) as answer:
            lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self._log.close()


@contextmanager
def started(settings: Settings, topology: Path, folder: Path, data: Path) -> Iterator[Store]:
    store = Store(settings, topology, folder, data)
    try:
        store.wait_until_ready()
        yield store
    finally:
        store.stop()


def measure(topology: Topology, tasks: int, rate: float | None, folder: Path, out: Output) -> Measured:
    """One run in an empty folder. Raises SystemExit where the store gets stuck."""
    path = folder / "topology.yaml"
    path.write_text(topology.model_dump_json(indent=2))  # JSON is YAML
    (port,) = free_ports(1)
    with LocalBroker(folder / "broker") as broker:
        settings = Settings(broker=broker.address, clickhouse=f"http://127.0.0.1:{port}")
        ensure_topics(settings, topology.topics().specs())
        with closing(Fill(settings, topology, 1)) as fill:
            if rate is None:
                fill.send(tasks, None)
                out.note(f"{fill.rows} records are in the topics")
            with started(settings, path, folder, folder / "history") as store:
                cpu_s, began = store.cpu_s(), time.monotonic()
                if rate is not None:
                    fill.send(tasks, rate)
                _drained(store, fill.rows)
                took_s, loaded_s = time.monotonic() - began, store.cpu_s() - cpu_s
                inserts = store.inserts()
                out.note("all rows are in; waiting for the merges")
                with closing(History(store.url)) as history:
                    _merged(history)
                    costs = loaded_s, store.cpu_s() - cpu_s
                    return _measured(store, history, fill.rows, took_s, costs, inserts)


def _drained(store: Store, rows: int) -> None:
    seen, moved_at = 0, time.monotonic()
    while (now := store.rows()) < rows:
        if now > seen:
            seen, moved_at = now, time.monotonic()
        elif time.monotonic() - moved_at > STALL_S:
            raise SystemExit(f"the store is stuck at {seen} of {rows} rows")
        time.sleep(POLL_S)


def _merged(history: History) -> None:
    """Until nothing has been merged for QUIET_S."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S:
        if history.query("SELECT count() FROM system.merges").rows[0][0]:
            quiet_since = time.monotonic()
        time.sleep(POLL_S)


def _measured(
    store: Store, history: History, rows: int, took_s: float, costs: tuple[float, float], inserts: int
) -> Measured:
    sizes = history.query(
        "SELECT table, count(), sum(bytes_on_disk) / sum(rows) FROM system.parts"
        " WHERE active AND database = currentDatabase() AND table IN {tables:Array(String)} GROUP BY table",
        {"tables": list(TABLES)},
    ).rows
    loaded, merged = (round(cost / rows * 1e6, 2) for cost in costs)
    return Measured(
        rows=rows,
        rows_per_second=round(rows / took_s),
        cpu_us_per_row=loaded,
        cpu_us_per_row_merged=merged,
        inserts=inserts,
        rows_per_insert=round(rows / inserts),
        lag_max_s=round(store.lag_max_s, 2),
        rss_max_mib=round(store.rss_max_mib),
        parts=sum(count for _, count, _ in sizes),
        bytes_per_row={table: round(size, 1) for table, _, size in sorted(sizes)},
        lookup_ms=_lookups(history),
        roll_up_ms={name: round(_took_ms(history, sql), 1) for name, sql in ROLL_UPS.items()},
    )


def _lookups(history: History) -> dict[str, float]:
    """How long the life of one task takes to read, as `pointsman task show` reads it."""
    ids = [row[0] for row in history.query(f"SELECT task_id FROM tasks_log ORDER BY rand() LIMIT {LOOKUPS}").rows]  # noqa: S608 - a constant
    found: dict[str, float] = {}
    for name, tenant in (("with tenant", "default"), ("without", None)):
        took = []
        for task_id in ids:
            began = time.perf_counter()
            assert history.timeline(task_id, tenant)
            took.append((time.perf_counter() - began) * 1000)
        found |= {f"{name} p50": round(float(np.percentile(took, 50)), 1)}
        found |= {f"{name} p99": round(float(np.percentile(took, 99)), 1)}
    return found


def _took_ms(history: History, sql: str) -> float:
    began = time.perf_counter()
    history.query(sql)
    return (time.perf_counter() - began) * 1000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.bench_store", description=__doc__)
    parser.add_argument("--tasks", type=int, default=400_000)
    parser.add_argument("--rate", type=float, default=None, help="records a second; left out: topics are filled first")
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    parser.add_argument("--folder", type=Path, default=None, help="where data go; left out: a folder that is removed")
    parser.add_argument("--json", type=Path, default=None, help="a file for the figures")
    given = parser.parse_args(arguments)
    out, topology = Output(), load_topology(given.topology)
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=given.folder is None)
        measured = measure(topology, given.tasks, given.rate, folder, out)
    if given.json is not None:
        given.json.write_text(json.dumps(asdict(measured), indent=2) + "\n")
    rows = [(name, value) for name, value in asdict(measured).items() if not isinstance(value, dict)]
    parts = {"bytes a row": measured.bytes_per_row, "task show, ms": measured.lookup_ms, "ms": measured.roll_up_ms}
    rows += [(f"{name}, {title}", value) for title, group in parts.items() for name, value in group.items()]
    out.table(["figure", "value"], rows, "the store")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
