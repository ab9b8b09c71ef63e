"""A run on a deployment that is somebody else's: tasks of its own among the others, and faults that come from outside.

Signals go to processes of this machine that were named; whoever supervises them starts them again. Nothing of the
deployment's is deleted or changed; what a run adds (tasks of the tenant `chaos`, their results, dead letters) stays.
I/O: Kafka, ClickHouse, /proc, signals.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from console.chaos import evidence as found
from console.chaos.corrupt import Corrupter
from console.chaos.evidence import Evidence
from console.chaos.faults import Fault, Skipped, fault_of
from console.chaos.kinds import KINDS
from console.chaos.load import Load, Tasks
from console.chaos.plan import Plan
from console.chaos.recovery import Injected
from console.chaos.report import Outcome, outcome_of
from console.chaos.schedule import Due, load_s, may_make_zombies, schedule
from console.chaos.watch import Usage
from console.cli.failures import UsageError
from console.cli.history import opened
from loadtest.audit_log import Log, Place
from schemas.codes import ErrorCode
from schemas.settings import Settings
from schemas.topology import Topology
from streams.history.queries import History

TICK_S = 0.05
DELIVERED_S = 60.0
TENANT = "chaos"
SIGNALLED = ("worker", "host", "store")
# A run has nothing to say of these where processes, journal and the rest of the load are not its own.
NOT_ASKED: Mapping[str, str] = {
    "P3": "positions of a deployment at work are on their way",
    "P4": "as P3",
    "P7": "the deployment is not ours to start again",
    "P11": "as P7",
    "E1": "no task goes to an agent that writes",
    "Q1": "others' tasks go on",
    "Q2": "its supervisor knows how its processes ended",
}


@dataclass
class Outside:
    """The processes that may be sent signals, by name (`worker-1`), and what was found of them."""

    pids: Mapping[str, int]

    def kill(self, name: str, down_s: float) -> None:  # noqa: ARG002  its own supervisor decides
        self._send(name, signal.SIGKILL)

    def terminate(self, name: str, down_s: float) -> None:  # noqa: ARG002  as above
        self._send(name, signal.SIGTERM)

    def pause(self, name: str) -> None:
        self._send(name, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        self._send(name, signal.SIGCONT)

    def _send(self, name: str, number: signal.Signals) -> None:
        """Raises Skipped where nobody was named, or it is gone and its number may be another's."""
        pid = self.pids.get(name)
        if pid is None:
            raise Skipped("no process of that name was given with --pid")
        if not is_ours(name.partition("-")[0], pid):
            raise Skipped(f"process {pid} is gone")
        os.kill(pid, number)


def named_pids(words: Sequence[str]) -> dict[str, int]:
    """`worker=123`, each: by name, numbered in their order. Raises UsageError for what is no process of pointsman."""
    pids: dict[str, int] = {}
    for word in words:
        kind, _, number = word.partition("=")
        if kind not in SIGNALLED or not number.isdecimal():
            text = f"--pid {word}: it must be worker=PID, host=PID or store=PID."
            raise UsageError(text, code=ErrorCode.FLAG_VALUE)
        if not is_ours(kind, int(number)):
            text = f"--pid {word}: process {number} of this machine is no `pointsman {kind}`; nothing was done to it."
            raise UsageError(text, code=ErrorCode.FLAG_VALUE)
        count = sum(name.partition("-")[0] == kind for name in pids)
        pids[kind if kind == "store" else f"{kind}-{count + 1}"] = int(number)
    return pids


def is_ours(kind: str, pid: int) -> bool:
    """Whether a process of this machine runs that command of pointsman."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return kind in words and any(word == "console.cli.main" or word.endswith("pointsman") for word in words)


def suited(plan: Plan, pids: Mapping[str, int]) -> Plan:
    """The plan with as many workers and hosts as were named, so that its targets are among them."""
    counts = {kind: sum(name.startswith(kind) for name in pids) for kind in ("worker", "host")}
    return plan.model_copy(update={f"{kind}s": max(1, count) for kind, count in counts.items()})


def harmless_mix(topology: Topology) -> dict[str, float]:
    """Routes on which nobody writes, alike. Raises UsageError where there is none."""
    mix = {
        name: 1.0
        for name, route in topology.routes.items()
        if all(topology.agents[a].effect != "write" for a in route.plan)
    }
    if not mix:
        text = "Every route of this topology has an agent that writes: no task can be sent there for a test."
        raise UsageError(text, code=ErrorCode.FLAGS_CONTRADICT)
    return mix


def announced(
    plan: Plan, dues: Sequence[Due], settings: Settings, topology: Topology, pids: Mapping[str, int]
) -> list[str]:
    """What is about to be done, for whoever has to agree."""
    mix = harmless_mix(topology)
    agents = sorted({agent for name in mix for agent in topology.routes[name].plan})
    tasks = round(plan.rate * load_s(plan, dues))
    able = [due for due in dues if KINDS[due.step.fault].from_outside and _has_target(due, pids)]
    lines = [
        f"On the deployment at {settings.broker} (prefix {topology.prefix!r}):",
        f"  {tasks} tasks of the tenant {TENANT}, {plan.rate:g} a second, to {', '.join(agents)}: real calls;",
    ]
    lines += [f"  at {due.at_s:.0f} s: {due}" for due in able]
    lines += [
        f"  {len(dues) - len(able)} faults of the plan are skipped: they need a deployment of their own, or a --pid."
    ]
    return [*lines, "Nothing of it is deleted or changed. What a run adds stays for as long as the topics keep it."]


def _has_target(due: Due, pids: Mapping[str, int]) -> bool:
    return due.kind in ("corrupt", "rebalance") or due.on in pids


@dataclass
class Stage:
    """One run while it goes on; what faults are done to."""

    settings: Settings
    topology: Topology
    processes: Outside
    corrupter: Corrupter
    report: Callable[[str], None]
    began: float = 0.0
    own: None = None
    injected: list[Injected] = field(default_factory=list)
    skipped: list[tuple[Due, str]] = field(default_factory=list)
    active: list[tuple[float, Fault, Injected]] = field(default_factory=list)

    def inject(self, due: Due) -> None:
        at_s, at_ms, fault = time.monotonic() - self.began, time.time_ns() // 1_000_000, fault_of(due, self)
        try:
            fault.inject()
        except Skipped as why:
            self.skipped.append((due, str(why)))
            return
        self.report(f"{at_s:7.1f} s  {due}")
        self.injected.append(Injected(due, at_ms))
        self.active.append((time.monotonic() + due.for_s, fault, self.injected[-1]))

    def tend(self, *, everything: bool = False) -> None:
        """Takes back what is due."""
        for entry in [each for each in self.active if everything or each[0] <= time.monotonic()]:
            self.active.remove(entry)
            try:
                entry[1].heal()
            except Skipped as why:
                self.report(f"         {entry[2].due} ended by itself: {why}")
            entry[2].healed_ms = time.time_ns() // 1_000_000


def run_on(
    plan: Plan,
    name: str,
    seed: int,
    command: str,
    settings: Settings,
    topology: Topology,
    pids: Mapping[str, int],
    *,
    report: Callable[[str], None],
) -> Outcome:
    """Plays what can be played of the plan on this deployment. Raises UnreachableError, TransportError, UsageError."""
    dues = schedule(plan, name, seed)
    prefix = f"chaos-{name}-{seed}-{time.time_ns() // 1_000_000}-"
    tasks = Tasks(topology, seed, harmless_mix(topology), plan.deadline_s, prefix, TENANT)
    load = Load(settings, topology, tasks, plan.rate, plan.repeats)
    stage = Stage(settings, topology, Outside(pids), Corrupter(settings, topology), report)
    starts = {(tp[0], tp[1]): end for tp, end in found.ends_of(settings, topology).items()}
    usage = Usage()
    try:
        _play(stage, load, dues, load_s(plan, dues), usage)
    finally:
        stage.tend(everything=True)  # nobody's process stays stopped
    seen = _look(stage, load, plan, prefix, starts)
    seen.zombies = may_make_zombies(dues, slots=False)  # nobody knows whether they have
    return outcome_of(plan, name, seed, command, seen, usage, stage.skipped, load)


def _play(stage: Stage, load: Load, dues: Sequence[Due], seconds: float, usage: Usage) -> None:
    stage.began = time.monotonic()
    load.start()
    waiting = list(dues)
    while load.is_alive():
        if not waiting and not stage.active and time.monotonic() - stage.began >= seconds:
            load.enough()
        while waiting and waiting[0].at_s <= time.monotonic() - stage.began:
            stage.inject(waiting.pop(0))
        stage.tend()
        usage.look(stage.processes.pids)
        time.sleep(TICK_S)
    if load.error is not None:
        raise load.error


def _look(stage: Stage, load: Load, plan: Plan, prefix: str, starts: found.Positions) -> Evidence:
    """Waits until what was sent is answered and in the history, and reads back what concerns it."""
    settings, topology = stage.settings, stage.topology
    undelivered = stage.corrupter.finish(DELIVERED_S)
    stage.report(f"the load is over: {load.sent} tasks; waiting for their results")
    acknowledged = {(TENANT, task_id) for task_id in load.acknowledged}

    def ours(log: Log) -> Log:
        return only(log, prefix, stage.corrupter.places)

    def complete(log: Log) -> bool:
        return acknowledged <= {end[:2] for end in log.results}

    with opened(settings) as history:

        def view(kind: str) -> list[Hashable]:
            return facts_of(history, kind, prefix, stage.corrupter.places)

        log, audit = found.at_rest(
            settings, topology, view, stage.corrupter.places, plan.settle_s, stage.tend, complete, starts, ours
        )
        stage.report(f"at rest: {audit.summary}")
    results, ended_ms = found.read_results(settings, topology, starts, prefix)
    return Evidence(
        log=log,
        report=audit,
        results=results,
        acknowledged=acknowledged,
        due_ms=load.deadlines_ms(),
        ended_ms=ended_ms,
        late_ms=int(plan.expect.late_s * 1000),
        calls=[],
        writers=frozenset(),
        positions={},
        unread={},
        topology=topology,
        injected=stage.injected,
        undelivered=undelivered,
        not_asked=NOT_ASKED,
    )


def only(log: Log, prefix: str, corrupted: set[Place]) -> Log:
    """What of a log concerns the tasks whose ids begin so, and these records that are none."""
    return Log(
        submissions=[each for each in log.submissions if each.task_id.startswith(prefix)],
        dispatches=[each for each in log.dispatches if each.task_id.startswith(prefix)],
        outcomes=[each for each in log.outcomes if each.task_id.startswith(prefix)],
        results=[each for each in log.results if each.task_id.startswith(prefix)],
        invalid=log.invalid & corrupted,
        dead=log.dead & corrupted,
    )


# Of the events' views ids alone are identities, and those of others' tasks cannot be told from ours: the rest is asked.
ASKED = frozenset({"tasks", "dispatches", "results"})


def facts_of(history: History, kind: str, prefix: str, corrupted: set[Place]) -> list[Hashable]:
    """What the view of this kind shows of tasks whose ids begin so."""
    if kind == "dead_letters":
        return [each for each in history.facts(kind) if each in corrupted]
    return history.facts(kind, prefix) if kind in ASKED else []
