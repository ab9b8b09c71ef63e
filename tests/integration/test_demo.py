"""The demo from end to end, as `make demo` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from console.cli.failures import ExitCode
from console.demo.workload import plan, tasks
from schemas.codec import Codec
from schemas.reasons import DeadReason
from schemas.registry import FileRegistry
from streams.client import Client
from tests.support.console import pointsman
from tests.support.waiting import PATIENCE

LAST_LINE = re.compile(
    r"demo: (\d+) accepted, (\d+) results, 0 lost, 0 duplicated, (\d+) dead-lettered, history complete"
)
TITLES = (
    "What became of the tasks",
    "From submission to decision",
    "Why agents were asked",
    "Cascades: ",
    "Panels",
    "Dead letters: ",
    "Duplicate submissions",
    "One task's life ",
    "One question ",
)


def demo(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "console.cli.main", "demo", *arguments],
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=PATIENCE * 120,
        check=False,
    )


def processes_that_name(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


@pytest.mark.slow
@pytest.mark.broker
def test_the_demo(repository: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    said = demo(repository, "--keep", str(kept))
    assert said.returncode == ExitCode.OK, said.stdout + said.stderr
    last = LAST_LINE.fullmatch(said.stdout.splitlines()[-1])
    assert last is not None, said.stdout
    accepted, results, dead = map(int, last.groups())
    assert accepted == results >= 200
    assert dead == len(DeadReason)
    for title in TITLES:
        assert f"\n{title}" in said.stdout
    for reason in DeadReason:
        assert re.search(rf"^{reason} +tasks\.submitted\.v1 ", said.stdout, re.MULTILINE)
    for code in ("ANSWERED", "CONSENSUS", "RULE", "LOW_CONFIDENCE", "FALLBACK_ANSWER", "UNKNOWN_INTENT", "DEADLINE"):
        assert re.search(rf"^\S+ +[A-Z]+ +{code} +\d+$", said.stdout, re.MULTILINE), code
    for agent in ("pint_agent", "clock_agent"):  # another interpreter, with packages of its own, and Node.js
        answered = re.search(rf"^{agent} +\d+ +(\d+) ", said.stdout, re.MULTILINE)
        assert answered is not None, agent
        assert int(answered[1]) > 0, agent
    assert "FOUND" not in said.stdout
    assert "Traceback" not in said.stderr
    assert processes_that_name(kept) == []
    assert (kept / "logs" / "worker.log").exists()


@pytest.mark.slow
@pytest.mark.broker
def test_on_the_broker_of_somebody_else_nothing_is_left_behind(repository: Path, broker: str) -> None:
    before = set(AdminClient({"bootstrap.servers": broker}).list_topics(timeout=PATIENCE * 10).topics)
    said = demo(repository, "--broker", broker)
    assert said.returncode == ExitCode.OK, said.stdout + said.stderr
    assert LAST_LINE.fullmatch(said.stdout.splitlines()[-1])
    after = set(AdminClient({"bootstrap.servers": broker}).list_topics(timeout=PATIENCE * 10).topics)
    assert after - before <= {"__consumer_offsets", "__transaction_state"}


def test_without_java_it_says_what_to_install_or_to_pass(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = pointsman(capsys, "demo")
    assert (said.code, said.out) == (ExitCode.INVALID, "")
    for words in ("Java 17", "apt-get install", "--broker HOST:PORT"):
        assert words in said.err
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    assert "Java 17" in pointsman(capsys, "demo").err


def test_a_folder_that_holds_something_is_not_taken(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    (tmp_path / "mine").write_text("precious")
    said = pointsman(capsys, "demo", "--keep", str(tmp_path))
    assert said.code == ExitCode.INVALID
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_the_workload_is_what_it_says() -> None:
    requests = tasks()
    assert len({request.task_id for request in requests}) == len(requests) >= 200
    codec = Codec(FileRegistry.load(), 262_144)
    sends = list(plan(requests, Client("nobody"), codec))
    known = [send for send in sends if send.task is not None]
    assert {send.task for send in known} >= {(request.tenant, request.task_id) for request in requests}
    assert len(known) - len({send.task for send in known}) >= 20  # submitted again
    assert len(sends) - len(known) == len(DeadReason) >= 6
    assert codec.decode([value for send in known for value in send.record.values], "TaskSubmitted").faults == []
