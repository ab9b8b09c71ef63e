"""The rights that `topics plan --form acl` prints are enough for every process, and whoever lacks one is told which.

A broker that refuses everything else: topics made by the operator, a task from the producer, its result to the
subscriber, its history in the store, each as a user of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import confluent_kafka as ck
import pytest

from console.cli.failures import ExitCode
from console.local.child import Child
from console.local.ports import free_ports
from schemas.access import PRINCIPALS
from streams.history.queries import History
from tests.support.fleet import READY_S, wait_for
from tests.support.secured import SecuredBroker
from tests.support.waiting import deadline_in

COMMAND = (sys.executable, "-m", "console.cli.main")
PREFIX = "eu."
TOPOLOGY = """
prefix: "eu."
partitions: 2
delivery: exactly_once
agents:
  echo: {run: "agents.builtin.echo:reply", effect: read}
routes:
  anything: {agents: [echo], phrases: [say], fallback: {answer: nothing}}
default_route: anything
"""


class Deployment:
    """One deployment on a secured broker, each of whose principals acts as the user of its own."""

    def __init__(self, broker: SecuredBroker, folder: Path) -> None:
        self._broker, self._folder = broker, folder
        self.topology = folder / "topology.yaml"
        self.topology.write_text(TOPOLOGY)
        (port,) = free_ports(1)
        self.clickhouse = f"http://127.0.0.1:{port}"

    def run(self, principal: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self._environment(principal),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def serve(self, process: str, *arguments: str) -> Child:
        """A process that stays."""
        ready = self._folder / f"{process}.ready"
        command = [*COMMAND, process, "--stop-with-stdin", "--ready-file", str(ready), *arguments]
        child = Child(process, command, self._folder / f"{process}.log", ready, self._environment(process))
        child.start()
        return child

    def count(self, view: str) -> int:
        """Rows of a view of the history."""
        with closing(History(self.clickhouse)) as history:
            return int(history.query(f"select count() from pointsman.{view}").rows[0][0])

    def _environment(self, principal: str) -> dict[str, str]:
        return {
            **os.environ,
            "POINTSMAN_BROKER": self._broker.address,
            "POINTSMAN_KAFKA_CONFIG": str(self._broker.sign_in(f"{PREFIX}pointsman-{principal}")),
            "POINTSMAN_TOPOLOGY": str(self.topology),
            "POINTSMAN_CLICKHOUSE": self.clickhouse,
        }


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    users = [f"{PREFIX}pointsman-{principal}" for principal in PRINCIPALS]
    with SecuredBroker(tmp_path_factory.mktemp("secured"), users) as started:
        yield started


@pytest.mark.broker
def test_each_principal_can_do_its_part_and_nothing_else(broker: SecuredBroker, tmp_path: Path) -> None:
    own = Deployment(broker, tmp_path)
    script = own.run("operator", "topics", "plan", "--form", "acl")
    assert script.returncode == ExitCode.OK, script.stderr
    broker.grant(script.stdout.splitlines())

    # Before the operator has made them, nobody else may.
    for process in ("worker", "host", "store"):
        refused = own.run(process, process, *(("--data", str(tmp_path / "x")) if process == "store" else ()))
        assert refused.returncode == ExitCode.INVALID, refused.stderr
        assert "missing, or hidden from this user" in refused.stderr
        assert "`pointsman topics apply`" in refused.stderr
    denied = own.run("worker", "topics", "apply", "--yes", "-o", "jsonl")
    assert denied.returncode == ExitCode.FAILED, denied.stderr
    reasons = {row["topic"]: row["why"] for row in map(json.loads, denied.stdout.splitlines())}
    assert reasons["eu.tasks.results.v1"] == "this user lacks the right Create on topic eu.tasks.results.v1"

    made = own.run("operator", "topics", "apply", "--yes")
    assert made.returncode == ExitCode.OK, made.stderr
    assert own.run("operator", "topics", "plan", "--check").returncode == ExitCode.OK

    # Somebody without DescribeConfigs is told so, and not that all is well.
    blind = own.run("producer", "topics", "plan")
    assert blind.returncode == ExitCode.INVALID, blind.stderr
    assert "needs DescribeConfigs" in blind.stderr

    serving = [own.serve("store", "--data", str(tmp_path / "history")), own.serve("worker"), own.serve("host")]
    try:
        for child in serving:
            wait_for(lambda child=child: child.ready() is not None, READY_S, child.name)  # type: ignore[misc]
        _one_task(own)
        _one_that_nobody_can_take(broker, own)
        # What a process does that it has done before: it reads back what it wrote.
        for child in serving[1:]:
            child.terminate()
            assert child.wait(deadline_in(15))
        serving[1:] = [own.serve("worker"), own.serve("host")]
        for child in serving[1:]:
            wait_for(lambda child=child: child.ready() is not None, READY_S, child.name)  # type: ignore[misc]
        again = own.run("producer", "submit", "say it again", "--task-id", "second")
        assert again.returncode == ExitCode.OK, again.stderr
        wait_for(lambda: own.count("results") == 2, 60, "the second result")
        listed = own.run("operator", "topics", "list", "-o", "jsonl")
        rows = {row["topic"]: row for row in map(json.loads, listed.stdout.splitlines())}
        assert rows["eu.tasks.submitted.v1"]["records"] == 3
        assert "worker" in rows["eu.tasks.submitted.v1"]["lag"]
        for child in serving:
            child.check()
    finally:
        for child in serving:
            child.terminate()
        for child in serving:
            child.wait(deadline_in(15))
    # Neither a refusal nor a survived error on the way.
    logs = "".join(child.log_path.read_text() for child in serving)
    assert "uthorization" not in logs


def _one_task(own: Deployment) -> None:
    """Submitted by one user, read by another, kept by a third."""
    sent = own.run("producer", "submit", "say hello", "--task-id", "first")
    assert sent.returncode == ExitCode.OK, sent.stderr

    def results() -> list[dict[str, object]]:
        read = own.run("subscriber", "results", "-o", "jsonl")
        assert read.returncode == ExitCode.OK, read.stderr
        return [json.loads(line) for line in read.stdout.splitlines()]

    wait_for(lambda: bool(results()), 60, "the result")
    (result,) = results()
    assert (result["task_id"], result["status"], result["answer"]) == ("first", "COMPLETED", "say hello")
    wait_for(lambda: own.count("results") == 1, 60, "the history")


def _one_that_nobody_can_take(broker: SecuredBroker, own: Deployment) -> None:
    """The worker puts it away, and the store keeps it."""
    properties = broker.sign_in(f"{PREFIX}pointsman-producer").read_text().splitlines()
    producer = ck.Producer({"bootstrap.servers": broker.address, **dict(line.split("=", 1) for line in properties)})
    producer.produce(f"{PREFIX}tasks.submitted.v1", b"garbage", key=b"garbage")
    assert producer.flush(30) == 0
    wait_for(lambda: own.count("dead") == 1, 60, "the dead letter")
