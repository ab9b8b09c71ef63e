"""`pointsman dev --reload` under load: the topology and the agents change, well and badly, and no task suffers."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.audit import audit_at_rest
from schemas.settings import Settings
from schemas.topology import Topology, load_topology
from streams.history.queries import History
from tests.support.console import topology_file
from tests.support.dev import Dev, dev, processes_of
from tests.support.fleet import Load

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(900)]

RATE = 25.0
TEXTS = [
    "What was the Q3 revenue for EMEA?",
    "Find the travel policy document",
    "Convert 5 km to miles",
    "opening hours in Lisbon",
]
# Most of the time everybody waits for a process to start: the broker need not answer a hundred times a second then.
IDLE = "kafka: {fetch.min.bytes: 1, fetch.wait.max.ms: 500}\n"
AGENT = """
from agents.contract import Answer
from {helper} import HOURS


async def run(task, context):
    return Answer(HOURS, confidence=0.95, vote_key=HOURS)
"""
WITH_AGENT = """agents:
  hours_agent:
    run: {module}:run
    effect: read
    timeout_ms: 200000
"""
WITH_ROUTE = """routes:
  opening_hours:
    agents: [hours_agent]
    phrases: [opening hours]
    deadline_ms: 300000
    fallback: {answer: Nobody knows.}
"""


@dataclass(frozen=True)
class Deployed:
    """Whom the load is for."""

    settings: Settings
    topology: Topology


def saved(path: Path, text: str) -> None:
    """As an editor saves: another file, renamed."""
    draft = path.with_name(f".{path.name}.swp")
    draft.write_text(text)
    draft.replace(path)


def test_changes_of_all_kinds_are_applied_or_refused_while_tasks_flow(
    broker: str, repository: Path, tmp_path: Path, prefix: str
) -> None:
    # Names of this test's own: the modules are looked up among everything that is installed.
    module, helper = f"hours_{prefix.strip('.')}", f"hours_help_{prefix.strip('.')}"
    code, help_code = tmp_path / f"{module}.py", tmp_path / f"{helper}.py"
    code.write_text(AGENT.format(helper=helper))
    help_code.write_text("HOURS = '9 to 18'\n")
    path = topology_file(repository, tmp_path, prefix)
    plain = re.sub(r"^kafka: {}\n", IDLE, path.read_text(), flags=re.MULTILINE)
    assert IDLE in plain
    path.write_text(plain)
    more = re.sub(r"^agents:\n", WITH_AGENT.format(module=module), plain, flags=re.MULTILINE)
    more = re.sub(r"^routes:\n", WITH_ROUTE, more, flags=re.MULTILINE)
    without = re.sub(r"  sql_agent:\n(    .*\n)+", "", more).replace("revenue_agent, sql_agent,", "revenue_agent,")
    data = tmp_path / "data"
    flags = ("--broker", broker, "--topology", str(path), "--reload")
    with dev(repository, data, *flags, environment={"PYTHONPATH": str(tmp_path)}) as running:
        running.wait_until_ready()
        settings = Settings.resolve({"broker": broker, "clickhouse": running.setting("ClickHouse")}, {})
        load = Load(Deployed(settings, load_topology(path)), TEXTS, 100_000, RATE)
        load.start()

        saved(path, more)
        running.wait_for(
            "saved: agent hours_agent added; route opening_hours added; applied with a new host, registry,"
        )

        path.write_text(more[: len(more) // 3])  # half written, and left so for good
        running.wait_for("topology.yaml saved, and not taken; what was in force stays so:")
        assert re.search(rf"^  {path}:\d+:\d+: \S+: .* \[T\d+\]$", running.said, re.MULTILINE)

        saved(path, more.replace("inflight_tasks_max: 100000", "inflight_tasks_max: 90000"))
        running.wait_for("saved: limits.inflight_tasks_max 100000 -> 90000; applied with a new host, store and worker")

        help_code.write_text("HOURS = '10 to 19'\n")
        running.wait_for(f"{helper}.py; applied with a new host (")

        help_code.write_text("HOURS = (\n")
        running.wait_for(f"{help_code}:1:9: '(' was never closed")
        help_code.write_text("HOURS = '10 to 19'\n")
        running.wait_for(f"{help_code} saved: as it was before, nothing to do")

        saved(path, without)
        running.wait_for(
            "agent sql_agent removed (its topics stay); route financial_query changed: agents; applied with"
        )

        saved(path, without.replace("partitions: 4", "partitions: 8"))
        running.wait_for("partitions cannot be changed from 4 to 8 while it runs: tasks that are under way")

        load.enough()
        load.finish(60)
        assert_sound(settings, load_topology_of(more, tmp_path), load.sent)
        with closing(History(settings.clickhouse)) as history:
            answers = history.query(
                "SELECT DISTINCT answer FROM results WHERE intent = 'opening_hours' ORDER BY answer"
            ).rows
            assert answers == [("10 to 19",), ("9 to 18",)]
        told_nothing_unexpected(running)
        running.stop()
        assert running.process.returncode == 0
    assert processes_of(data) == []


def load_topology_of(text: str, folder: Path) -> Topology:
    path = folder / "all.yaml"
    path.write_text(text)
    return load_topology(path)


def assert_sound(settings: Settings, topology: Topology, count: int) -> None:
    with closing(History(settings.clickhouse)) as history:
        _, report = audit_at_rest(settings, topology, history.facts, 120.0)
    assert report.findings() == []
    assert (report.tasks.accepted, report.tasks.results) == (count, count)


def told_nothing_unexpected(running: Dev) -> None:
    assert "Traceback" not in running.said
    assert "starting it again" not in running.said
    assert running.said.count("and not taken") == 3
