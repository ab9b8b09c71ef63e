"""`pointsman chaos run` on real processes: a sound deployment passes, and one that was sabotaged does not."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from console.cli.chaos import Wishes, run_chaos, run_on_target
from console.cli.deployment import Deployment
from console.cli.failures import ExitCode
from console.cli.output import Output
from streams.client import Client
from streams.client.client import Prepared
from tests.support.console import pointsman, topology_file
from tests.support.contract import breaches, promised_report, promises
from tests.support.fleet import TEXTS, Fleet, Load

SHORT = """
description: One fault, and little load.
rate: 60
warm_up_s: 2
duration_s: 8
tail_s: 2
settle_s: 20
faults:
  - {fault: agent-slow, on: first_agent, at_s: 2, for_s: 1}
"""
SABOTAGED = dict.fromkeys(("store", "worker", "host"), ("-m", "tests.support.sabotaged"))


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_sound_deployment_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = pointsman(capsys, "chaos", "run", "smoke", "--json", str(tmp_path / "report.json"))
    assert said.code == 0, said.out + said.err
    assert said.out.splitlines()[-1].startswith("chaos: smoke seed 1: 5 faults, ")
    assert said.out.splitlines()[-1].endswith(", passed")
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    (run,) = report.pop("runs")
    assert breaches([report], promised_report()[0]) == []
    assert run["faults_injected"] == {
        "total": 5,
        "by_kind": {"agent-fails": 1, "corrupt": 1, "kill": 2, "lost-answers": 1},
    }
    assert run["accepted"] >= 360  # twice as many where the machine is quiet
    assert [run[name] for name in ("lost", "duplicated", "history_missing", "history_duplicated")] == [0, 0, 0, 0]
    measured = {fault["fault"]: fault["recovery_s"] for fault in run["faults"]}
    assert measured["kill"] is not None
    assert measured["corrupt"] is None
    verdicts = {each["name"]: each["verdict"] for each in run["invariants"]}
    assert "broken" not in verdicts.values()
    assert {name for name, verdict in verdicts.items() if verdict == "holds"} >= {"P1", "P3", "P7", "P8", "E1", "A4"}
    assert {each["process"] for each in run["usage"]} >= {"worker-1", "host-1", "store", "clickhouse"}


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_sabotaged_deployment_fails_and_each_broken_invariant_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store drops a block, the worker writes a result twice, the host runs a writer twice, the client loses one."""
    plan = tmp_path / "short.yaml"
    plan.write_text(SHORT)
    forgetful(monkeypatch)
    out = Output(StringIO(), StringIO())
    wishes = Wishes(str(plan), json=tmp_path / "report.json", keep=tmp_path / "kept")
    assert run_chaos(wishes, out, code=SABOTAGED) is ExitCode.FAILED
    (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    broken = {each["name"]: each["found"] for each in run["invariants"] if each["verdict"] == "broken"}
    assert set(broken) >= {"P1", "P5", "P8", "E1"}
    assert (run["lost"], run["duplicated"]) == (1, 1)
    assert run["history_missing"] > 0
    assert {found.partition(":")[0] for found in broken["P1"]} == {"lost", "duplicated"}
    assert "E1" in out.out.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert f"to repeat it: pointsman chaos run {plan} --seed 1" in out.err.getvalue()  # type: ignore[attr-defined]
    assert (tmp_path / "kept" / "seed-1" / "logs" / "worker-1.1.log").exists()


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says of one task that the broker has it, and never sent it."""
    hand_over, lost = Client.hand_over, [False]

    def loses_one(client: Client, batch: Prepared) -> None:
        if not lost[0] and len(batch.values) and batch.keys[0] is not None:
            lost[0] = True
            batch = Prepared(batch.task_ids[1:], batch.keys[1:], batch.values[1:])
        hand_over(client, batch)

    monkeypatch.setattr(Client, "hand_over", loses_one)


def test_the_plans_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    said = pointsman(capsys, "chaos", "plans", "-o", "jsonl")
    assert breaches(said.rows, promises()["pointsman chaos plans"]) == []
    assert "readiness" in {row["plan"] for row in said.rows}


OUTSIDE = """
description: What can be done from outside.
rate: 40
warm_up_s: 1
duration_s: 6
tail_s: 2
settle_s: 60
faults:
  - {fault: pause, on: worker, at_s: 1, for_s: 1}
  - {fault: corrupt, at_s: 2, records: 1}
  - {fault: rebalance, on: host, at_s: 3, for_s: 1}
  - {fault: cut, on: worker, at_s: 3}
  - {fault: kill, on: host, at_s: 4}
"""


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_deployment_that_runs_is_tried_from_outside_among_tasks_of_others(
    broker: str, tmp_path: Path, repository: Path, prefix: str
) -> None:
    with Fleet(broker, tmp_path, topology_file(repository, tmp_path, prefix)) as fleet:
        fleet.start("store", "host", "worker")
        others = Load(fleet, TEXTS, 200, 50, "theirs-")
        others.start()
        (tmp_path / "outside.yaml").write_text(OUTSIDE)
        out = Output(StringIO(), StringIO())
        settings = fleet.settings.model_copy(update={"clickhouse": fleet.clickhouse})
        code = run_on_target(
            Wishes(str(tmp_path / "outside.yaml"), json=tmp_path / "report.json"),
            Deployment(settings, fleet.topology, tmp_path / "topology.yaml"),
            [f"worker={fleet.children['worker'].pid}"],
            yes=True,
            out=out,
        )
        others.finish(60)
        said = out.out.getvalue() + out.err.getvalue()  # type: ignore[attr-defined]
        assert code is ExitCode.OK, said
        (run,) = json.loads((tmp_path / "report.json").read_text())["runs"]
        assert run["faults_injected"]["by_kind"] == {"corrupt": 1, "pause": 1, "rebalance": 1}
        assert len(run["faults_skipped"]) == 2
        sent = [each.task_id for each in fleet.log().submissions if each.tenant == "chaos"]
        assert run["accepted"] == len(set(sent)) >= 180, "none of the others', and as many as a busy machine sends"
        assert {each["name"] for each in run["invariants"] if each["verdict"] == "holds"} >= {"P1", "P8", "A1", "A4"}
        assert all(child.running for child in fleet.children.values())
        agents = {each.agent_id for each in fleet.log().dispatches if each.tenant == "chaos"}
        assert agents
        assert all(fleet.topology.agents[agent].effect != "write" for agent in agents)
