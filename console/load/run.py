"""`pointsman load run`: a scenario from its first process to its report.

I/O: processes, Kafka, ClickHouse, /proc, files, stdout, stderr.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Output
from console.load import machine
from console.load.audit import Audited, Auditor
from console.load.generator import Generator, Order
from console.load.html import write_html
from console.load.pipeline import Attached, OwnPipeline, Pipeline, harmless_routes
from console.load.probe import LagMeter, Sample
from console.load.report import report
from console.load.seen import Run
from console.load.text import print_report
from console.load.watch import OWN, Meter, Outages, settle, watch
from console.local.child import ProcessEndedError
from console.local.interrupts import interruptible
from loadtest.driver import Sent
from loadtest.fleet import fleet
from loadtest.scenario import Scenario
from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

START_IN_US = 1_500_000
PROGRESS_S = 10.0


@dataclass(frozen=True)
class Wishes:
    """What the command line asks beyond the scenario. `settle_s`: longest wait for the last results and rows."""

    own_broker: bool = True
    own_clickhouse: bool = True
    attach: bool = False
    delivery: str | None = None
    seed: int = 1
    settle_s: float = 120.0
    json_file: Path | None = None
    html_file: Path | None = None
    command: str = ""


def run_load(name: str, scenario: Scenario, deployment: Deployment, wishes: Wishes, out: Output) -> ExitCode:
    """BREACHED where a threshold is, FAILED where the run is void or not sound, else OK.

    Raises ConfigurationError, UnreachableError, ProcessEndedError.
    """
    if wishes.attach and (scenario.drain or scenario.outages):
        text = "A deployment that is attached to is not filled beforehand, and none of its processes is taken away."
        raise ConfigurationError(f"{text} Run {name} without --attach.", code=ErrorCode.SCENARIO)
    facts = _facts(wishes)
    with interruptible(), _pipeline(scenario, deployment, wishes, out) as pipeline:
        facts["config_hash"] = machine.config_hash(pipeline.topology.model_copy(update={"prefix": ""}), scenario, {})
        facts["delivery"] = pipeline.topology.delivery
        document = report(_Runner(name, scenario, pipeline, wishes, facts, out).run())
    if wishes.json_file is not None:
        wishes.json_file.write_text(_json(document))
    if wishes.html_file is not None:
        write_html(document, wishes.html_file)
    print_report(document, out)
    return verdict(document)


def verdict(document: Mapping[str, Any]) -> ExitCode:
    """Of a report: a void run has no number to be held against anything."""
    if document["void"]:
        return ExitCode.FAILED
    if any(not each["ok"] for each in document["thresholds"]):
        return ExitCode.BREACHED
    return ExitCode.OK if document["sound"] else ExitCode.FAILED


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"


def _facts(wishes: Wishes) -> dict[str, Any]:
    return {
        "machine": machine.machine(),
        "versions": machine.versions(own_broker=wishes.own_broker and not wishes.attach),
        "commit": machine.commit(),
        "seed": wishes.seed,
        "command": wishes.command,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _pipeline(scenario: Scenario, deployment: Deployment, wishes: Wishes, out: Output) -> Pipeline:
    if wishes.attach:
        return Attached(deployment)
    topology = fleet(deployment.topology, scenario)
    if wishes.delivery is not None:
        topology = topology.model_copy(update={"delivery": wishes.delivery})
    return OwnPipeline(
        deployment, topology, own_broker=wishes.own_broker, own_clickhouse=wishes.own_clickhouse, note=out.note
    )


class _Runner:
    """One run on a pipeline that serves."""

    def __init__(
        self, name: str, scenario: Scenario, pipeline: Pipeline, wishes: Wishes, facts: Mapping[str, Any], out: Output
    ) -> None:
        self._name, self._scenario, self._pipeline, self._wishes = name, scenario, pipeline, wishes
        self._facts, self._out = facts, out
        # The ids of a run that is alone in its history are the same each time.
        self._run = f"s{wishes.seed}" if pipeline.own_history and pipeline.own_broker else f"l{token_hex(4)}"
        self._faults: list[str] = []
        self._told_at = 0.0

    def run(self) -> Run:
        with closing(LagMeter(self._pipeline.settings, self._pipeline.topology)) as lag:
            meter = Meter(self._pipeline, lag)
            if self._scenario.drain:
                self._pipeline.take_away("worker", "stop")
            with self._generator() as generator:
                meter.extra = {"generator": generator.pid, OWN: os.getpid()}
                generator.await_ready()
                samples, sent = self._send(generator, meter)
            if self._scenario.drain:
                samples = self._drain(meter)
            self._out.note(f"{sent.tasks} tasks sent; waiting for the last of them")
            settled, settled_us = self._settle(meter)
            audited = self._audit(sent, lag)
        return Run(
            self._name,
            self._scenario,
            self._facts,
            sent,
            samples,
            settled,
            settled_us,
            audited,
            self._faults,
        )

    def _generator(self) -> Generator:
        scenario, pipeline = self._scenario, self._pipeline
        routes = None
        if isinstance(pipeline, Attached):
            routes = harmless_routes(pipeline.topology)
            if not routes:
                text = "Each route of this deployment has an agent that writes: made-up tasks would change the world."
                raise ConfigurationError(text, code=ErrorCode.SCENARIO)
        order = Order(
            scenario.schedule(),
            scenario.mix,
            self._wishes.seed,
            self._run,
            routes,
            0.0 if scenario.drain else scenario.warm_up_s,
            at_once=scenario.drain,
        )
        log = pipeline.folder / "generator.log"
        return Generator(order, pipeline.settings.broker, pipeline.topology_path, pipeline.environment(), log)

    def _send(self, generator: Generator, meter: Meter) -> tuple[Sequence[Sample], Sent]:
        schedule = self._scenario.schedule()
        began_us = time.time_ns() // 1000 + START_IN_US
        generator.begin(began_us)
        self._out.note(f"sending {schedule.tasks} tasks in {schedule.seconds:g} s, the warm-up included")
        outages = Outages(self._pipeline, self._scenario.outages, self._out.note)
        time.sleep(max(0.0, began_us / 1e6 - time.time()))
        samples = watch(self._scenario, generator, meter, outages, began_us, self._progress)
        sent = generator.sent()
        outages.tend(float("inf"))
        return samples, sent

    def _drain(self, meter: Meter) -> list[Sample]:
        """Samples from the start of the worker until everything is decided."""
        self._pipeline.bring_back("worker", "stop")
        samples = [meter.sample()]
        until = time.monotonic() + max(self._wishes.settle_s, 10 * self._scenario.duration_s)
        while time.monotonic() < until:
            time.sleep(0.5)
            self._pipeline.check()
            samples.append(meter.sample())
            lag = samples[-1].lag
            if lag and not lag["worker"] and not lag["host"]:
                break
        return samples

    def _settle(self, meter: Meter) -> tuple[bool, int | None]:
        """A deployment that others use, too, never comes to rest: there the audit waits for this run's results."""
        if isinstance(self._pipeline, Attached):
            return True, None
        return settle(meter, self._wishes.settle_s, self._pipeline.check)

    def _audit(self, sent: Sent, lag: LagMeter) -> Audited:
        # Where all is the run's own, what its processes wrote when they started is in the history, too.
        starts = {} if self._pipeline.own_history else lag.starts
        auditor = Auditor(self._pipeline, self._run, sent.tasks, starts)
        return auditor.audit(self._wishes.settle_s, self._check, self._out.note)

    def _check(self) -> None:
        """A process that ends during the audit makes the run void; what is in the topics is audited all the same."""
        try:
            self._pipeline.check()
        except ProcessEndedError as error:
            if error.headline not in self._faults:
                self._faults.append(error.headline)

    def _progress(self, elapsed_s: float, sample: Sample) -> None:
        if elapsed_s - self._told_at >= PROGRESS_S:
            self._told_at = elapsed_s
            lag = ", ".join(f"{group} {count}" for group, count in sample.lag.items())
            self._out.note(f"{elapsed_s:.0f} s of {self._scenario.schedule().seconds:g}; behind: {lag or 'unknown'}")
