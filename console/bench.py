"""What an event costs each process: the whole pipeline here, a steady rate through it, and the audit afterwards.

`python -m console.bench --tasks-per-second 4600 --seconds 30` is about 20 K events a second. The agents answer by rule
in batches, so that the pipeline is measured and not a model. `--delivery` compares the two modes.
I/O: processes, Kafka, ClickHouse, /proc, stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from console.cli.output import Output
from console.local.ports import Ports
from console.local.services import PIPELINE
from console.local.supervisor import Endpoints, Supervisor
from loadtest.audit import audit_at_rest
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.history.queries import History
from streams.transport.clients import client_config
from streams.transport.consumer import BatchConsumer

WARM_UP_S = 30.0  # a JVM compiles what it runs often for about as long
SETTLE_S = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sample:
    """CPU seconds and memory of each process, and the records appended so far.

    Where a worker writes in transactions offsets tell more than records, so its half is told from the others': a
    dispatch for each agent's event, for the agents here say nothing else, and a result for each task.
    """

    at: float
    cpu_s: Mapping[str, float]
    rss_mib: Mapping[str, float]
    events: int


class Probe:
    """Looks at the processes, and at the ends of the topics that make the lifecycle."""

    def __init__(self, settings: Settings, topology: Topology, pids: Mapping[str, int]) -> None:
        topics = topology.topics()
        self._pids = pids
        self._consumer = BatchConsumer(
            client_config(settings, topology, "consumer", name="pointsman-bench"),
            str,
            rows_max=50_000,
            bytes_max=64 * MIB,
            poll_s=0.05,
        )
        self._tps = self._consumer.partitions_of((topics.submitted, *topics.logs))
        self._results = self._consumer.partitions_of([topics.results])
        self._codec = Codec(FileRegistry.load(), topology.limits.record_bytes_max)

    def sample(self) -> Sample:
        stats = {
            name: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for name, pid in self._pids.items()
        }
        pages = {name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for name, pid in self._pids.items()}
        return Sample(
            time.monotonic(),
            {name: (int(fields[11]) + int(fields[12])) / TICKS for name, fields in stats.items()},
            {name: count * PAGE / MIB for name, count in pages.items()},
            2 * sum(high for _, high in self._consumer.watermarks(self._tps).values()),
        )

    def latencies_ms(self, from_ms: int, to_ms: int) -> Sequence[float]:
        """From the time a task was meant to be sent to the append of its result, of results appended in between."""
        starts = self._consumer.offsets_for_times(dict.fromkeys(self._results, from_ms))
        ends = self._consumer.offsets_for_times(dict.fromkeys(self._results, to_ms))
        found: list[float] = []
        for batch in self._consumer.read_to_end(starts, ends):
            submitted = self._codec.decode(batch.values, "TaskResult").batch.column("submitted_at").to_numpy()
            found += (batch.timestamps_ms - submitted / 1000).tolist()
        return found

    def close(self) -> None:
        self._consumer.close()


def rule_agents(topology: Topology) -> Topology:
    """The same agents and routes, every agent answering by rule in batches."""
    changes = {
        "kind": "batch",
        "run": "agents.builtin.echo:reply_batch",
        "options": {},
        "costly": False,
        "effect": "read",
    }
    agents = {name: agent.model_copy(update=changes) for name, agent in topology.agents.items()}
    return topology.model_copy(update={"agents": agents})


def run(topology: Topology, rate: float, seconds: float, folder: Path, out: Output) -> bool:
    """Prints the measurement; whether the run is sound."""
    path = folder / "topology.yaml"
    path.write_text(topology.model_dump_json(indent=2))  # JSON is YAML
    settings = Settings.resolve({}, {})
    supervisor = Supervisor(
        path.read_bytes(),
        topology,
        folder,
        settings,
        own_broker=True,
        usual=Ports(),
        services=PIPELINE,
        report=out.note,
    )
    with supervisor:
        ends = supervisor.start()
        at = Settings.resolve({"broker": ends.broker, "clickhouse": ends.clickhouse}, {})
        assert supervisor.broker is not None
        pids = {"broker": supervisor.broker.pid or 0} | {n: child.pid or 0 for n, child in supervisor.children.items()}
        with closing(Probe(at, topology, pids)) as probe:
            sent = _measure(probe, ends, path, rate, seconds, out)
        with closing(History(ends.clickhouse)) as history:
            _, report = audit_at_rest(at, topology, history.facts, SETTLE_S)
    for finding in report.findings():
        out.line(f"FOUND: {finding}")
    out.line(f"bench: {report.summary}" + ("" if sent else "; VOID: the driver fell behind"))
    return sent and report.sound


def _measure(probe: Probe, ends: Endpoints, path: Path, rate: float, seconds: float, out: Output) -> bool:
    command = [sys.executable, "-m", "loadtest.driver", "--broker", ends.broker, "--topology", str(path)]
    rates = ["--tasks-per-second", str(rate), "--seconds", str(seconds + WARM_UP_S)]
    driver = subprocess.Popen([*command, *rates], stdout=subprocess.PIPE, text=True)
    time.sleep(WARM_UP_S)
    before, before_ms = probe.sample(), time.time_ns() // 1_000_000
    time.sleep(seconds - 1.0)
    after, after_ms = probe.sample(), time.time_ns() // 1_000_000
    said, _ = driver.communicate()
    _print(before, after, probe.latencies_ms(before_ms, after_ms), out)
    out.line(f"driver: {json.loads(said)}")
    return driver.returncode == 0


def _print(before: Sample, after: Sample, latencies_ms: Sequence[float], out: Output) -> None:
    took_s, events = after.at - before.at, after.events - before.events
    costs = {name: after.cpu_s[name] - before.cpu_s[name] for name in after.cpu_s}
    costs["together"], memory = sum(costs.values()), {**after.rss_mib, "together": sum(after.rss_mib.values())}
    rows = [
        [name, round(cost / events * 1e6, 1), round(cost / took_s, 2), round(memory[name])]
        for name, cost in costs.items()
    ]
    out.table(["process", "cpu_us_per_event", "cores", "rss_mib"], rows, f"{events / took_s:.0f} events/s")
    p50, p99 = np.percentile(latencies_ms, [50, 99]) if latencies_ms else (0.0, 0.0)
    out.line(f"intended send to result appended: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {len(latencies_ms)} results")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m console.bench", description=__doc__)
    parser.add_argument("--tasks-per-second", type=float, default=4600.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--delivery", choices=("at_least_once", "exactly_once"), default=None)
    parser.add_argument("--transaction-interval-ms", type=int, default=None)
    parser.add_argument("--topology", type=Path, default=Path("topology.yaml"))
    given = parser.parse_args(arguments)
    topology = rule_agents(load_topology(given.topology))
    topology = topology.model_copy(
        update={
            "delivery": given.delivery or topology.delivery,
            "limits": topology.limits.model_copy(
                update={
                    "transaction_interval_ms": given.transaction_interval_ms or topology.limits.transaction_interval_ms
                }
            ),
        }
    )
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        is_sound = run(topology, given.tasks_per_second, given.seconds, Path(folder), Output())
    return 0 if is_sound else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
