"""One run: a plan and a seed played on real processes, and what is to be said of it.

I/O: processes, Kafka, ClickHouse, files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from console.chaos import evidence as found
from console.chaos.corrupt import Corrupter
from console.chaos.evidence import Evidence
from console.chaos.faults import Fault, Postponed, Skipped, fault_of
from console.chaos.fleet import Fleet
from console.chaos.kinds import KINDS
from console.chaos.load import Load, Tasks
from console.chaos.plan import Plan
from console.chaos.recovery import HISTORY, Injected
from console.chaos.report import Outcome, outcome_of
from console.chaos.schedule import Due, load_s, may_make_zombies, schedule
from console.chaos.watch import CatchUp, HistoryWatch, Usage
from console.local.child import ProcessEndedError
from loadtest.audit_log import Log, read_log
from schemas.errors import PointsmanError
from schemas.settings import Settings
from schemas.topology import Topology
from streams.history.queries import History
from streams.transport.garbage import calm_collector

TICK_S = 0.05
TENANT = "chaos"
DELIVERED_S = 60.0
# What a restart of everything at rest would add to the logs, it adds within this.
REPLAY_S = 4.0

Report = Callable[[str], None]


@dataclass
class Stage:
    """One run while it goes on; what faults are done to."""

    plan: Plan
    own: Fleet
    corrupter: Corrupter
    watch: HistoryWatch
    usage: Usage
    report: Report
    began: float = 0.0
    injected: list[Injected] = field(default_factory=list)
    skipped: list[tuple[Due, str]] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    catching_up: list[tuple[Injected, CatchUp]] = field(default_factory=list)
    active: list[tuple[float, Fault, Injected]] = field(default_factory=list)

    @property
    def fleet(self) -> Fleet:
        return self.own

    @property
    def processes(self) -> Fleet:
        return self.own

    @property
    def settings(self) -> Settings:
        return self.own.settings

    @property
    def topology(self) -> Topology:
        return self.own.topology

    def tend(self) -> None:
        """Whatever is due, but new faults."""
        now = time.monotonic()
        for entry in [each for each in self.active if each[0] <= now and not each[1].lasts]:
            self.active.remove(entry)
            self._heal(entry[1], entry[2])
        self.fleet.tend()
        self.usage.look(self.fleet.pids())
        if self.fleet.broker_answers:
            self.watch.look()

    def inject(self, due: Due) -> bool:
        """Whether it is done, or cannot be; it is to be tried again where not."""
        fault, at_ms, at = fault_of(due, self), _now_ms(), self._at()
        try:
            fault.inject()
        except Postponed:
            return False
        except Skipped as why:
            self.skipped.append((due, str(why)))
            self.report(f"{at}  {due}: skipped, {why}")
            return True
        done = Injected(due, at_ms)
        self.injected.append(done)
        self.report(f"{at}  {due}")
        if KINDS[due.step.fault].since_start:
            self._follow(done)
        self.active.append((time.monotonic() + due.for_s, fault, done))
        return True

    def _heal(self, fault: Fault, done: Injected) -> None:
        fault.heal()
        done.healed_ms = _now_ms()
        self.outages.append((time.monotonic() - (done.healed_ms - done.injected_ms) / 1000, time.monotonic()))
        if not KINDS[done.due.step.fault].since_start:
            self._follow(done)

    def _follow(self, done: Injected) -> None:
        if done.due.on in HISTORY and self.fleet.broker_answers and (follower := self.watch.begin()) is not None:
            self.catching_up.append((done, follower))

    def _at(self) -> str:
        return f"{time.monotonic() - self.began:7.1f} s"


def run(
    plan: Plan,
    name: str,
    seed: int,
    directory: Path,
    command: str,
    *,
    report: Report,
    code: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Plays the plan in `directory`, which keeps logs and data. `command` repeats it. `code` is as of `Fleet`.

    Raises ConfigurationError (no Java), UnreachableError and ProcessEndedError where the fleet does not come up.
    """
    dues = schedule(plan, name, seed)
    seconds = load_s(plan, dues)
    report(f"plan {name}, seed {seed}: {len(dues)} faults, {plan.rate:g} tasks a second for {seconds:.0f} s")
    with Fleet(plan, directory, seed, code=code, report=report) as fleet:
        began = time.monotonic()
        fleet.start()
        report(f"everything serves ({time.monotonic() - began:.1f} s)")
        prefix = f"{name}-{seed}-"
        tasks = Tasks(fleet.topology, seed, plan.mix, plan.deadline_s, prefix, TENANT)
        load = Load(fleet.settings_of("client"), fleet.topology, tasks, plan.rate, plan.repeats)
        corrupter = Corrupter(fleet.settings, fleet.topology)
        with closing(HistoryWatch(fleet.settings, fleet.topology)) as watch:
            stage = Stage(plan, fleet, corrupter, watch, Usage(), report)
            _play(stage, load, dues, seconds)
            seen = _look(stage, load, plan, dues)
    return outcome_of(plan, name, seed, command, seen, stage.usage, stage.skipped, load)


def _play(stage: Stage, load: Load, dues: Sequence[Due], seconds: float) -> None:
    """Each fault at its time; load for so long at least, and until the last fault has been over for the plan's tail."""
    stage.began = time.monotonic()
    load.start()
    waiting, quiet_since = list(dues), time.monotonic()
    while load.is_alive():
        now = time.monotonic() - stage.began
        if waiting or stage.active:
            quiet_since = time.monotonic()
        elif now >= seconds and time.monotonic() - quiet_since >= stage.plan.tail_s:
            load.enough()
        ready = [due for due in waiting if due.at_s <= now]
        waiting = [due for due in waiting if due.at_s > now] + [due for due in ready if not stage.inject(due)]
        stage.tend()
        time.sleep(TICK_S)
    if load.error is not None:
        raise load.error


def _look(stage: Stage, load: Load, plan: Plan, dues: Sequence[Due]) -> Evidence:
    """Waits until all is at rest, and reads back what there is."""
    fleet = stage.fleet
    undelivered = stage.corrupter.finish(DELIVERED_S)
    stage.report(f"the load is over: {load.sent} tasks; waiting for everything to come to rest")
    acknowledged = {(TENANT, task_id) for task_id in load.acknowledged}

    def complete(log: Log) -> bool:
        return acknowledged <= {end[:2] for end in log.results}

    calm_collector()  # millions of records are read, and none of them goes
    with closing(_history(fleet)) as history:
        rested = time.monotonic()
        # Read before the log is: what lies below a position then must have left its traces by the time the log is read.
        positions, unread = _settled_positions(stage)
        settings, topology = fleet.settings, fleet.topology
        log, audit = found.at_rest(
            settings, topology, history.facts, stage.corrupter.places, plan.settle_s, stage.tend, complete
        )
        stage.report(f"at rest after {time.monotonic() - rested:.1f} s: {audit.summary}")
        _await_catching_up(stage)
        calls = found.read_journal(fleet.journal)
        changed = _replayed(stage, log, calls)
        results, ended_ms = found.read_results(settings, topology)
    deaf = fleet.stop()
    for done, follower in stage.catching_up:
        done.history_s = follower.took_s
    return Evidence(
        log=log,
        report=audit,
        results=results,
        acknowledged=acknowledged,
        due_ms=load.deadlines_ms(),
        ended_ms=ended_ms,
        late_ms=int(plan.expect.late_s * 1000),
        calls=calls,
        writers=frozenset(name for name, agent in topology.agents.items() if agent.effect == "write"),
        positions=positions,
        unread=unread,
        topology=topology,
        injected=stage.injected,
        ended=fleet.ended,
        outages=stage.outages,
        changed=changed,
        deaf=tuple(deaf),
        undelivered=undelivered,
        zombies=may_make_zombies(dues, slots=plan.slots),
    )


def _history(fleet: Fleet) -> History:
    deadline = time.monotonic() + DELIVERED_S
    while True:
        try:
            return History(fleet.clickhouse)
        except PointsmanError:
            if time.monotonic() > deadline:
                raise
            fleet.tend()
            time.sleep(TICK_S)


def _await_catching_up(stage: Stage) -> None:
    until = time.monotonic() + DELIVERED_S
    while any(follower.took_s is None for _, follower in stage.catching_up) and time.monotonic() < until:
        stage.tend()
        time.sleep(TICK_S)


def _replayed(stage: Stage, log: Log, calls: Sequence[object]) -> tuple[str, ...]:
    """P7: everything is killed at rest and started again; what that adds to the logs, and which agents it calls."""
    fleet = stage.fleet
    names = [name for name in fleet.posts if fleet.posts[name].kind in ("worker", "host")]
    before = found.ends_of(fleet.settings, fleet.topology)
    for name in names:
        fleet.kill(name, 0.0)
    with suppress(ProcessEndedError):
        fleet.tend()
        fleet.await_ready(names)
    until = time.monotonic() + REPLAY_S
    while time.monotonic() < until:
        stage.tend()
        time.sleep(TICK_S)
    changed = [
        f"{name}: {len(log_calls) - len(calls)} more runs"
        for name, log_calls in [("an agent that writes", found.read_journal(fleet.journal))]
        if len(log_calls) > len(calls)
    ]
    if found.ends_of(fleet.settings, fleet.topology) != before:
        now, then = found.sizes(read_log(fleet.settings, fleet.topology)), found.sizes(log)
        changed += [f"{now[kind] - count} more {kind}" for kind, count in then.items() if now[kind] != count]
    return tuple(changed)


def _settled_positions(stage: Stage) -> tuple[Mapping[str, found.Positions], Mapping[str, int]]:
    """Q1: positions, once nothing is unread, or time is up."""
    until = time.monotonic() + stage.plan.settle_s
    ask = partial(found.read_positions, stage.fleet.settings, stage.fleet.topology)
    while True:
        positions, unread = ask()
        if not any(unread.values()) or time.monotonic() > until:
            return positions, unread
        stage.tend()
        time.sleep(1.0)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def drop(directory: Path) -> None:
    """What a run that went well has left."""
    shutil.rmtree(directory, ignore_errors=True)
