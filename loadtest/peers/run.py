"""One run of one peer: started, warmed up, measured behind the gate, stopped, judged.

I/O: processes, Kafka, /proc, files below the folder that it is given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.peers import cpu, piece
from loadtest.peers.contestants import OURS, Contestant, environment
from loadtest.peers.gate import Stage, Submitted, wait_until
from loadtest.peers.judge import Expected, Judge, Place, Verdict, compare
from loadtest.peers.report import Round
from loadtest.peers.shared.wire import Avro
from schemas.access import group_of
from schemas.settings import Settings
from schemas.topology import Topology

WARM_UP_TIMEOUT_S = 300.0
SECONDS_PER_RECORD_MAX = 0.002
COMMIT_TIMEOUT_S = 30.0
# What is fetched ahead, committed late or still being compiled comes to rest.
SETTLE_S = 3.0
STOP_S = 15.0
LOG_CHARS = 600


@dataclass
class Bench:
    """What all runs share: the broker and its process, the routes, the tasks, what has to become of them.

    Of each partition's records the first `warm_up` are given before the gate, the rest behind it.
    """

    settings: Settings
    broker_pid: int
    topology: Topology
    folder: Path
    warm_up: int
    measured: int
    settle_s: float = SETTLE_S
    _halves: tuple[Submitted, Submitted] = field(default=({}, {}), init=False)
    _avro: Avro | None = field(default=None, init=False)
    _judge: Judge = field(init=False)
    warm_up_outputs: int = field(default=0, init=False)

    def prepare(self) -> None:
        """Makes the tasks, has the broker say in which partition each stands, and the oracle what becomes of them."""
        plain = piece.bench_topology(self.topology, "")
        self._avro = Avro(piece.peer_config(plain, "", "", "")["schemas"])
        self._judge = Judge(plain)
        with Stage(self.settings, piece.bench_topology(self.topology, "source.")) as stage:
            stage.fill(piece.records(plain, self.warm_up + self.measured))
            submitted = stage.submitted()
        share = self.warm_up / (self.warm_up + self.measured)
        cuts = {number: round(len(records) * share) for number, records in submitted.items()}
        self._halves = (
            {number: records[: cuts[number]] for number, records in submitted.items()},
            {number: records[cuts[number] :] for number, records in submitted.items()},
        )
        self._expect(self._halves[0])
        self.warm_up_outputs = sum(map(len, self._judge.expected.values()))
        self._expect(self._halves[1])

    def _expect(self, half: Submitted) -> None:
        for number, records in half.items():
            tasks = ((key or b"", self.decode("TaskSubmitted", value or b"")) for key, value in records)
            self._judge.take(number, tasks)

    def run(self, contestant: Contestant, number: int) -> Round:
        """Measures and judges; a fault of the peer is in the answer, one of the bench is raised."""
        topology = piece.bench_topology(self.topology, f"{contestant.name}-{number}.")
        home = self.folder / f"{contestant.name}-{number}"
        home.mkdir(parents=True)
        with Stage(self.settings, topology) as stage:
            return _Run(self, contestant, topology, home, stage).play()

    @property
    def halves(self) -> tuple[Submitted, Submitted]:
        """What is written before the gate, and behind it."""
        return self._halves

    @property
    def expected(self) -> Mapping[Place, Sequence[Expected]]:
        """All that has to be written, by topics without a prefix."""
        return self._judge.expected

    def decode(self, record: str, value: bytes) -> dict[str, Any]:
        """Raises ValueError for bytes that are no such record."""
        assert self._avro is not None, "prepare first"
        return self._avro.decode(value, record)


@dataclass
class _Run:
    bench: Bench
    contestant: Contestant
    topology: Topology
    home: Path
    stage: Stage

    def play(self) -> Round:
        warm_up, measured = self.bench.halves
        load, began_us = os.getloadavg()[0], time.time_ns() // 1000
        self.stage.copy(warm_up, behind_a_gate=False)
        process = self._start()
        try:
            fault = self._warm_up(process)
            self._halt(process, signal.SIGSTOP)
            open_gate = self.stage.copy(measured, behind_a_gate=True)
            time.sleep(self.bench.settle_s)
            pids = {"peer": process.pid, "broker": self.bench.broker_pid, "judge": os.getpid()}
            if fault is not None or process.poll() is not None:
                return self._round(load, fault or self._last_words("it ended by itself"))
            before, opened_ms = cpu.sample(pids), time.time_ns() // 1_000_000
            open_gate()
            self._halt(process, signal.SIGCONT)
            patience_s = 60.0 + SECONDS_PER_RECORD_MAX * self.bench.measured
            wanted = sum(map(len, self.bench.expected.values()))
            done = wait_until(lambda: self.stage.written() >= wanted, patience_s, lambda: process.poll() is None)
            spent, rss_mib = cpu.sample(pids).since(before), cpu.rss_mib(process.pid) if done else 0.0
            if not done:
                missing = wanted - self.stage.written()
                return self._round(load, self._last_words(f"{missing} of {wanted} records were not written"))
            fault = self._committed()
        finally:
            self._stop(process)
        verdict, last_ms = self._judged(began_us)
        return Round(
            peer=self.contestant.name,
            records=sum(map(len, measured.values())),
            seconds=max(last_ms - opened_ms, 1) / 1000,
            cpu_s=spent.cpu_s["peer"],
            broker_cpu_s=spent.cpu_s["broker"],
            rss_mib=rss_mib,
            foreign_share=spent.foreign_share,
            load_average=load,
            fault=verdict.reason or fault,
        )

    def _round(self, load: float, fault: str) -> Round:
        """Of a peer that did not get to the end."""
        return Round(self.contestant.name, 0, 0.0, 0.0, 0.0, 0.0, 0.0, load, fault)

    def _judged(self, began_us: int) -> tuple[Verdict, int]:
        """What the oracle says, and when the last record was appended (ms)."""
        found, last_ms = self.stage.read_back()
        prefix, names = len(self.topology.prefix), piece.bench_topology(self.topology, "").topics()
        written = {(topic[prefix:], number): records for (topic, number), records in found.items()}

        def decode(topic: str, value: bytes) -> dict[str, Any]:
            return self.bench.decode(names.record_of(topic) or "", value)

        return compare(self.bench.expected, written, decode, began_us, time.time_ns() // 1000), last_ms

    # ------------------------------------------------------------------ the process

    @property
    def _group(self) -> str:
        prefix = self.topology.prefix
        return group_of("worker", prefix) if self.contestant.name == OURS else f"{prefix}peer"

    def _start(self) -> subprocess.Popen[bytes]:
        config, topology = self.home / "config.json", self.home / "topology.yaml"
        broker = self.bench.settings.broker
        config.write_text(json.dumps(piece.peer_config(self.topology, broker, self._group, str(self.home))))
        topology.write_text(self.topology.model_dump_json(indent=2))  # JSON is YAML
        with (self.home / "out").open("wb") as out:
            return subprocess.Popen(
                self.contestant.command(broker, topology),
                env=environment(config),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _warm_up(self, process: subprocess.Popen[bytes]) -> str | None:
        """Until all output of the first records is there; what went wrong, if something did."""
        wanted = self.bench.warm_up_outputs
        if wait_until(lambda: self.stage.written() >= wanted, WARM_UP_TIMEOUT_S, lambda: process.poll() is None):
            return None
        return self._last_words(f"{wanted - self.stage.written()} of {wanted} records of the warm-up were not written")

    def _committed(self) -> str | None:
        """What is wrong with its positions, once it had the time to commit them."""
        if not self.contestant.commits or wait_until(lambda: self.stage.committed(self._group), COMMIT_TIMEOUT_S):
            return None
        return f"its positions were not committed within {COMMIT_TIMEOUT_S:g} s"

    def _halt(self, process: subprocess.Popen[bytes], what: signal.Signals) -> None:
        """Who would look through the closed gate cannot look."""
        if self.contestant.peeks and process.poll() is None:
            process.send_signal(what)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        """It leads a group of its own: no child of its stays."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _last_words(self, what: str) -> str:
        said = " | ".join((self.home / "out").read_text("utf-8", "replace").split("\n")).strip(" |")
        return f"{what}; it said: {shortened(said) or 'nothing'}"


def shortened(text: str) -> str:
    """The beginning and the end of a long text: which of them tells why depends on the language."""
    half = LOG_CHARS // 2
    return text if len(text) <= LOG_CHARS else f"{text[:half]} ... {text[-half:]}"
