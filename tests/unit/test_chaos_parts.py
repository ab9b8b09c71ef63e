"""The parts of a chaos run: switched agents, broken records, clocks, and what may be done to others."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from functools import partial
from io import StringIO
from pathlib import Path
from subprocess import Popen, run
from types import SimpleNamespace

import pyarrow as pa
import pytest

from agents.builtin.switched import Behaviour, Switch, book, reply, reply_batch, write_switch
from agents.contract import EMPTY_CONTEXT, AgentFailed, Task
from console.chaos.clock import Skew, jump
from console.chaos.corrupt import mutated
from console.chaos.evidence import read_journal
from console.chaos.faults import Postponed, Skipped, fault_of
from console.chaos.load import Tasks
from console.chaos.members import read_by
from console.chaos.plan import parse_plan
from console.chaos.proxy import SOUND, Mode, Trouble
from console.chaos.schedule import schedule
from console.chaos.target import Outside, announced, harmless_mix, is_ours, named_pids, suited
from console.cli.chaos import _ask as ask
from console.cli.failures import UsageError
from console.cli.output import Output
from schemas.settings import Settings
from schemas.topology import load_topology
from tests.support.console import pointsman
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SHIPPED = load_topology(ROOT / "topology.yaml")


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    path = tmp_path / "switch.json"
    write_switch(path, {})
    return path


def rows(count: int) -> pa.RecordBatch:
    ids = [f"t{number}" for number in range(count)]
    return pa.RecordBatch.from_pydict({"task_id": ids, "text": [f"text of {each}" for each in ids]})


def test_a_share_of_the_tasks_is_that_share_and_always_the_same_ones() -> None:
    behaviour = Behaviour(fail=0.3, wrong=0.2)
    kinds = [behaviour.of("an_agent", f"t{number}") for number in range(4_000)]
    assert 0.26 < kinds.count("fail") / 4_000 < 0.34
    assert 0.17 < kinds.count("wrong") / 4_000 < 0.23
    assert kinds == [behaviour.of("an_agent", f"t{number}") for number in range(4_000)]
    assert kinds != [behaviour.of("another", f"t{number}") for number in range(4_000)]


def test_a_switch_is_heeded_while_it_runs_and_one_that_is_gone_changes_nothing(switch: Path) -> None:
    now = [0.0]
    heard = Switch(switch, clock=lambda: now[0])
    assert heard.of("an_agent") == Behaviour()
    write_switch(switch, {"an_agent": Behaviour(slow_ms=5)})
    now[0] += 1
    assert heard.of("an_agent") == Behaviour(slow_ms=5)
    assert heard.of("another") == Behaviour()
    switch.write_text("{")
    now[0] += 1
    assert heard.of("an_agent") == Behaviour(slow_ms=5)
    switch.unlink()
    now[0] += 1
    assert heard.of("an_agent") == Behaviour(slow_ms=5)


def test_a_batch_is_answered_row_by_row_as_the_switch_says(tmp_path: Path) -> None:
    for number, (behaviour, wanted) in enumerate[tuple[Behaviour, dict[str, object]]](
        [
            (Behaviour(), {"answer": "text of t0", "vote_key": "text of t0", "confidence": 0.92}),
            (Behaviour(unsure=1.0), {"answer": "text of t0", "confidence": 0.4}),
            (Behaviour(wrong=1.0), {"vote_key": "made up by x", "confidence": 0.92}),
            (Behaviour(fail=1.0), {"answer": None, "error_class": "INTERNAL"}),
        ]
    ):
        path = tmp_path / f"{number}.json"
        write_switch(path, {"x": behaviour})
        first = reply_batch(rows(3), switch=str(path), name="x").to_pylist()[0]
        assert {name: first[name] for name in wanted} == wanted


async def test_one_task_likewise(switch: Path) -> None:
    answer = await reply(Task("t1", "hello"), EMPTY_CONTEXT, switch=str(switch), name="x")
    assert (answer.text, answer.vote_key, answer.citations) == ("hello", "hello", ("the request",))
    failing = switch.with_name("failing.json")
    write_switch(failing, {"x": Behaviour(fail=1.0)})
    with pytest.raises(AgentFailed):
        await reply(Task("t1", "hello"), EMPTY_CONTEXT, switch=str(failing), name="x")


async def test_who_writes_leaves_a_line_each_time(switch: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    assert read_journal(journal) == []
    for _ in range(2):
        await book(Task("t1", "x", "acme"), EMPTY_CONTEXT, switch=str(switch), name="b", journal=str(journal))
    assert read_journal(journal) == [("b", ("acme", "t1"))] * 2


def test_records_are_broken_in_many_ways_by_the_seed() -> None:
    value = b"\0\0\0\0\7" + b"a real record of some length"
    broken = [mutated(value, random.Random(seed)) for seed in range(200)]
    assert broken == [mutated(value, random.Random(seed)) for seed in range(200)]
    assert {None, b""} <= set(broken)
    assert sum(each is not None and len(each) == len(value) and each != value for each in broken) > 10
    assert sum(each is not None and each != b"" and value.startswith(each) for each in broken) > 5


def test_tasks_are_the_same_for_a_seed_and_stay_within_their_mix() -> None:
    def columns(seed: int, numbers: range) -> dict[str, list[object]]:
        tasks = Tasks(SHIPPED, seed, {"financial_query": 1.0, "customer_data": 1.0}, 20.0, "p-", "acme")
        return tasks.columns(numbers, [1_000_000] * len(numbers))

    assert columns(1, range(20)) == columns(1, range(20))
    assert columns(1, range(20)) != columns(2, range(20))
    assert columns(1, range(10, 20))["intent"] == columns(1, range(20))["intent"][10:]
    assert set(columns(1, range(100))["intent"]) == {"financial_query", "customer_data"}
    assert set(columns(1, range(9))["deadline_ms"]) == {21_000}


def test_members_of_a_storm_read_what_their_group_reads() -> None:
    topics = SHIPPED.topics()
    assert set(read_by("worker", topics)) == {topics.submitted, topics.health, *topics.logs}
    assert set(read_by("host", topics)) == {*topics.inboxes}
    assert set(read_by("store", topics)) == {spec.name for spec in topics.specs()} - {topics.spilled, topics.snapshots}


def test_a_clock_jumps_as_its_file_says_and_back(tmp_path: Path) -> None:
    path, now = tmp_path / "worker-1.clock", [0.0]
    skew = Skew(path, clock=lambda: now[0])
    assert skew.ns() == 0
    for by_s in (-3600.0, 2.5, 0.0):
        jump(path, by_s)
        now[0] += 1
        assert skew.ns() == int(by_s * 1e9)


def test_a_process_reads_its_wall_clock_by_the_file_and_no_other_clock(tmp_path: Path) -> None:
    path = tmp_path / "own.clock"
    jump(path, 7200.0)
    script = (
        "import sys, time, pathlib; from console.chaos.clock import Skew, install; before = time.monotonic();"
        "install(Skew(pathlib.Path(sys.argv[1])));"
        "print(time.time(), time.time_ns() / 1e9, time.monotonic() - before)"
    )
    said = run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
    wall, wall_ns, took = map(float, said.stdout.split())
    assert abs(wall - time.time() - 7200) < 600
    assert abs(wall_ns - time.time() - 7200) < 600
    assert took < 600


# On a deployment of somebody else's.

OUTSIDE = parse_plan(
    "description: x\norder: listed\nfaults:\n  - {fault: kill, on: worker, at_s: 1}\n"
    "  - {fault: cut, on: worker, at_s: 2}\n  - {fault: corrupt, at_s: 3}\n",
    "outside",
)


def test_no_task_goes_where_somebody_writes() -> None:
    assert set(harmless_mix(SHIPPED)) == {"financial_query", "document_search", "customer_data"}
    writing = SHIPPED.model_copy(update={"routes": {"operations": SHIPPED.routes["operations"]}})
    with pytest.raises(UsageError, match="has an agent that writes"):
        harmless_mix(writing)


@pytest.mark.parametrize("word", ["worker", "broker=1", "worker=x", "worker=0", "worker=OURS"])
def test_only_processes_of_pointsman_are_sent_signals(word: str) -> None:
    with pytest.raises(UsageError):
        named_pids([word.replace("OURS", str(os.getpid()))])


def test_processes_are_numbered_and_one_that_is_gone_is_let_alone() -> None:
    # Words of a command line are all that can be told from outside.
    script = "import sys; sys.stdin.read()"
    started = [Popen([sys.executable, "-c", script, "console.cli.main", "worker"], stdin=-1) for _ in range(2)]
    try:
        until = time.monotonic() + PATIENCE_S
        while not all(is_ours("worker", process.pid) for process in started) and time.monotonic() < until:
            time.sleep(0.01)  # between fork and exec a process has no words
        pids = named_pids([f"worker={process.pid}" for process in started])
        assert pids == {"worker-1": started[0].pid, "worker-2": started[1].pid}
        assert suited(OUTSIDE, pids).workers == 2
        outside = Outside(pids)
        outside.kill("worker-1", 0.0)
        assert started[0].wait(PATIENCE * 20) == -9
        with pytest.raises(Skipped, match="is gone"):
            outside.pause("worker-1")
        with pytest.raises(Skipped, match="no process of that name"):
            outside.kill("host-1", 0.0)
    finally:
        for process in started:
            process.kill()
            process.wait(PATIENCE * 20)
            assert process.stdin is not None
            process.stdin.close()


def test_what_is_not_ours_to_touch_is_skipped() -> None:
    class Ground:
        own = None

    (cut,) = (due for due in schedule(OUTSIDE, "x", 1) if due.kind == "cut")
    with pytest.raises(Skipped, match="a deployment of its own"):
        fault_of(cut, Ground()).inject()  # type: ignore[arg-type]


def test_what_will_be_done_is_said_before_and_nothing_is_done_without_a_yes() -> None:
    plan = OUTSIDE
    said = "\n".join(announced(plan, schedule(plan, "x", 1), Settings.resolve({}, {}), SHIPPED, {"worker-1": 7}))
    assert "revenue_agent" in said
    assert "runbook_agent" not in said
    assert "kill on worker-1" in said
    assert "cut on worker-1" not in said
    assert "1 faults of the plan are skipped" in said
    with pytest.raises(UsageError, match="--yes"):
        ask(Output(StringIO(), StringIO()), StringIO("y\n"))


def test_flags_of_a_running_deployment_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    said = pointsman(capsys, "chaos", "run", "smoke", "--pid", "worker=1")
    assert said.code == 2
    assert "add --target" in said.err


def test_the_switch_is_json_that_a_person_can_read(switch: Path) -> None:
    write_switch(switch, {"x": Behaviour(slow_ms=5)})
    assert json.loads(switch.read_text())["x"]["slow_ms"] == 5


# What each fault asks of a fleet, and takes back.


class Recorder:
    """A fleet that only remembers what was asked of it."""

    def __init__(self, *, broker_answers: bool = True) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.broker_answers = broker_answers
        self.link = {name: SimpleNamespace(set=partial(self._called, "link", name)) for name in LINKS_OF_A_FLEET}

    def _called(self, *words: object) -> None:
        self.calls.append(words)

    def stop_broker(self, down_s: float, *, clean: bool) -> None:
        self.calls.append(("stop_broker", down_s, clean))

    def __getattr__(self, name: str) -> object:
        return partial(self._called, name)


LINKS_OF_A_FLEET = ("worker-1", "host-1", "store", "client", "clickhouse", "service")


def done_by(
    kind: str, on: str, keys: dict[str, object] | None = None, *, broker_answers: bool = True
) -> list[tuple[object, ...]]:
    """What the fault did at its injection, then `healed`, then what it did to take it back."""
    fleet = Recorder(broker_answers=broker_answers)
    words = ", ".join(f"{key}: {value}" for key, value in {"fault": kind, "on": on, "at_s": 1, **(keys or {})}.items())
    plan = parse_plan(f"description: x\nfaults:\n  - {{{words}}}\n", "test")
    ground = SimpleNamespace(
        own=fleet,
        processes=fleet,
        corrupter=SimpleNamespace(send=lambda count, _draw: fleet.calls.append(("corrupt", count))),
        settings=None,
        topology=None,
    )
    fault = fault_of(schedule(plan, "test", 1)[0], ground)
    fault.inject()
    fleet.calls.append(("healed",))
    fault.heal()
    return fleet.calls


HEALED = ("healed",)
SILENT, NO_ANSWERS = Trouble(Mode.SILENT), Trouble(Mode.NO_ANSWERS)


@pytest.mark.parametrize(
    ("kind", "on", "keys", "wanted"),
    [
        ("kill", "worker", {"for_s": 3}, [("kill", "worker-1", 3.0), HEALED]),
        ("stop", "host", {}, [("terminate", "host-1", 0.0), HEALED]),
        ("pause", "store", {}, [("pause", "store"), HEALED, ("go_on", "store")]),
        ("cut", "client", {}, [("link", "client", Trouble(Mode.CUT)), HEALED, ("link", "client", SOUND)]),
        ("half-open", "worker", {}, [("link", "worker-1", SILENT), HEALED, ("link", "worker-1", SOUND)]),
        ("errors", "service", {}, [("link", "service", Trouble(Mode.ERRORS)), HEALED, ("link", "service", SOUND)]),
        ("lost-answers", "clickhouse", {}, [("link", "clickhouse", NO_ANSWERS), HEALED, ("link", "clickhouse", SOUND)]),
        (
            "delay",
            "host",
            {"delay_ms": 40},
            [("link", "host-1", Trouble(Mode.OPEN, 40.0, 20.0)), HEALED, ("link", "host-1", SOUND)],
        ),
        (
            "agent-slow",
            "first_agent",
            {"slow_ms": 7},
            [("behave", "first_agent", Behaviour(slow_ms=7.0)), HEALED, ("behave", "first_agent", Behaviour())],
        ),
        (
            "agent-wrong",
            "api_agent",
            {"share": 0.25},
            [("behave", "api_agent", Behaviour(wrong=0.25)), HEALED, ("behave", "api_agent", Behaviour())],
        ),
        ("corrupt", "topics", {"records": 4}, [("corrupt", 4), HEALED]),
        (
            "clock-jump",
            "worker",
            {"by_s": -60},
            [("set_clock", "worker-1", -60.0), HEALED, ("set_clock", "worker-1", 0.0)],
        ),
    ],
)
def test_a_fault_is_done_and_taken_back(
    kind: str, on: str, keys: dict[str, object], wanted: list[tuple[object, ...]]
) -> None:
    assert done_by(kind, on, keys) == wanted


def test_a_broker_is_stopped_cleanly_or_killed() -> None:
    fleet = Recorder()
    for kind, clean in (("broker-restart", True), ("broker-kill", False)):
        plan = parse_plan(f"description: x\nfaults:\n  - {{fault: {kind}, at_s: 1, for_s: 2}}\n", "test")
        fault = fault_of(schedule(plan, "test", 1)[0], SimpleNamespace(own=fleet))
        fault.inject()
        assert not fault.lasts
        fleet.broker_answers = False
        assert fault.lasts, "until it listens again"
        fleet.broker_answers = True
        assert fleet.calls[-1] == ("stop_broker", 2.0, clean)


def test_what_needs_a_broker_waits_for_it() -> None:
    for kind, on in (("broker-kill", "broker"), ("corrupt", "topics")):
        with pytest.raises(Postponed):
            done_by(kind, on, broker_answers=False)


def test_an_outage_of_an_api_takes_one_of_three_shapes_by_the_seed() -> None:
    shapes = set()
    for seed in range(30):
        fleet = Recorder()
        plan = parse_plan("description: x\nfaults:\n  - {fault: api-outage, at_s: 1}\n", "test")
        fault_of(schedule(plan, "test", seed)[0], SimpleNamespace(own=fleet)).inject()
        shapes.add(fleet.calls[0][2])
    assert shapes == {Trouble(Mode.CUT), SILENT, Trouble(Mode.ERRORS)}
