"""`pointsman chaos run` on real processes: a sound deployment passes, and one that was sabotaged does not."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from console.cli.chaos import Wishes, run_chaos
from console.cli.failures import ExitCode
from console.cli.output import Output
from streams.client import Client
from streams.client.client import Prepared
from tests.support.console import pointsman
from tests.support.contract import breaches, promised_report, promises

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
    assert run["accepted"] == 720
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
