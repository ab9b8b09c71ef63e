"""The compose file's own commands and environment, as plain processes on a real broker: they serve, and are watched.

No container engine is needed: what differs is where broker and history are, and that the history is embedded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from console.local.child import Child
from console.local.ports import free_ports
from tests.support.console import topology_file
from tests.support.fleet import READY_S, wait_for
from tests.support.operations import environment, expressions, ours
from tests.support.waiting import PATIENCE, deadline_in
from tests.unit.test_docs import page
from tests.unit.test_ops_monitoring import selectors

COMMAND = (sys.executable, "-m", "console.cli.main")
# Counted by kind of trouble: they have no series before the first trouble.
TROUBLE = {"pointsman_errors_total", "pointsman_dead_letters_total", "pointsman_topic_paused"}

pytestmark = pytest.mark.broker


class Composed:
    """The services of the compose file that run our image, by name, each with a port of its own."""

    def __init__(self, broker: str, topology: Path, folder: Path) -> None:
        names = [name for name in ours() if name != "topics"]
        clickhouse, *metrics = free_ports(1 + len(names))
        self.ports = dict(zip(names, metrics, strict=True))
        self._folder, self._here = (
            folder,
            {
                "POINTSMAN_BROKER": broker,
                "POINTSMAN_CLICKHOUSE": f"http://127.0.0.1:{clickhouse}",
                "POINTSMAN_TOPOLOGY": str(topology),
            },
        )

    def environment(self, name: str) -> dict[str, str]:
        given = environment(ours()[name], CLICKHOUSE_PASSWORD="p4ss")
        port = {"POINTSMAN_METRICS_PORT": str(self.ports[name])} if name in self.ports else {}
        outside = {key: value for key, value in os.environ.items() if not key.startswith("POINTSMAN_")}
        return {**outside, **given, **self._here, **port}

    def start(self, name: str) -> Child:
        embedded = ["--data", str(self._folder / "history")] if name == "store" else []
        command = [*COMMAND, *ours()[name]["command"], *embedded, "--stop-with-stdin"]
        child = Child(
            name, command, self._folder / f"{name}.log", self._folder / f"{name}.ready", self.environment(name)
        )
        child.start()
        return child

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=self.environment(name), capture_output=True, text=True, timeout=90, check=False
        )

    def get(self, name: str, path: str) -> str | None:
        """What the process answers; None where it does not, or not well."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=PATIENCE * 10) as answer:
                text: str = answer.read().decode()
                return text
        except (urllib.error.URLError, ConnectionError):
            return None

    def series(self, name: str) -> dict[str, list[tuple[dict[str, str], float]]]:
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(self.get(name, "/metrics") or ""):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found


@pytest.fixture
def composed(broker: str, repository: Path, tmp_path: Path, prefix: str) -> Iterator[Composed]:
    composed = Composed(broker, topology_file(repository, tmp_path, prefix), tmp_path)
    made = composed.run("topics", *ours()["topics"]["command"])
    assert made.returncode == 0, made.stderr
    with ExitStack() as stack:
        children = [composed.start(name) for name in composed.ports]
        for child in children:
            stack.callback(child.wait, deadline_in(60))
            stack.callback(child.terminate)
        for child in children:

            def serves(child: Child = child) -> bool:
                child.check()
                return composed.get(child.name, "/ready") is not None

            wait_for(serves, READY_S, f"{child.name} to be healthy")
        yield composed


def wanted() -> set[str]:
    """Every series that an alert or a panel asks for, less what Prometheus adds."""
    return {name for each in expressions().values() for name, _ in selectors(each)} - {"up"} - TROUBLE


def asked_in_the_runbook() -> list[str]:
    """The SQL that the runbook tells people to run."""
    return re.findall(r'`pointsman history "([^"]+)"`', page("docs/runbook.md"))


def test_the_services_serve_and_show_all_that_is_asked_of_them(composed: Composed) -> None:
    # A rate sees nothing of the value with which a series begins.
    for name, counter in (
        ("worker", "results"),
        ("worker", "dispatches"),
        ("worker", "outcomes"),
        ("store", "history_rows"),
    ):
        begun = composed.series(name)[f"pointsman_{counter}_total"]
        assert begun
        assert name == "store" or {value for _, value in begun} == {0.0}

    done = composed.run("worker", "submit", "find the Q3 revenue for EMEA", "--wait", "-o", "jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "COMPLETED"

    def stored() -> bool:
        return sum(value for _, value in composed.series("store").get("pointsman_history_rows_total", [])) > 4

    wait_for(stored, 60, "the history")
    for name in composed.ports:
        wait_for(lambda name=name: "pointsman_consumer_lag_records" in composed.series(name), 30, f"the lag of {name}")  # type: ignore[misc]
    shown = {name: composed.series(name) for name in composed.ports}
    assert wanted() - {series for each in shown.values() for series in each} == set()
    for name in ("worker", "host", "store"):
        lags = shown[name]["pointsman_consumer_lag_records"]
        assert lags
        assert all(value >= 0 for _, value in lags)
        assert shown[name]["pointsman_ready"] == [({}, 1.0)]
    assert shown["store"]["pointsman_history_lag_seconds"][0][1] < 60
    states = {labels["agent"]: value for labels, value in shown["worker"]["pointsman_breaker_state"]}
    assert set(states.values()) == {0.0}
    assert len(states) == 12
    asked = composed.run("store", "history", "select count() as n from results", "-o", "jsonl")
    assert json.loads(asked.stdout)["n"] in (1, "1"), asked.stderr
    assert len(asked_in_the_runbook()) >= 3
    for sql in asked_in_the_runbook():
        answer = composed.run("store", "history", sql)
        assert answer.returncode == 0, answer.stderr
